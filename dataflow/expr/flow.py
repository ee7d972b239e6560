"""`Flow`: what every expression is, how expressions are joined, and the doorway to running them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NoReturn, Unpack, cast, overload

from dataflow.errors import CompositionError
from dataflow.expr import walk
from dataflow.expr.origin import Origin, caller
from dataflow.expr.typed import Errors, In, MapOptions, OnError, OnlyResults, Out, T, Ts

if TYPE_CHECKING:
    import networkx

    from dataflow.expr.nodes import Fanout

_set = object.__setattr__


class Flow(Generic[In, Out]):
    """A lazy pipeline that maps one item to one result.

    Flows are made with `stage`, `identity`, `fanout`, `combine`, `switch`, `each` and `race`, and joined with ``>>``
    and ``|``. They are immutable, equal and hashable by structure, and picklable where their functions are.

    See Also
    --------
    dataflow.stage : make a flow of a function or class.

    Examples
    --------
    >>> import dataflow as df
    >>> flow = df.stage(str.strip) >> str.upper
    >>> flow("  hello ")
    'HELLO'
    """

    __slots__ = ("__weakref__", "_hash", "_program", "origin")

    origin: Origin
    _hash: int | None
    _program: Any

    # numpy must leave ``array >> flow`` to us, instead of broadcasting over the array
    __array_ufunc__: ClassVar[None] = None

    def __init__(self, origin: Origin | None = None) -> None:
        _set(self, "origin", caller() if origin is None else origin)
        _set(self, "_hash", None)
        _set(self, "_program", None)

    # -- what a node is made of ------------------------------------------------------------------------------------

    @property
    def children(self) -> tuple[Flow[Any, Any], ...]:
        """The flows inside this one, in order."""
        return ()

    def params(self) -> Hashable:
        """Return a key of all that makes this node what it is, but its children."""
        return ()

    def spec(self) -> tuple[Any, ...]:
        """Return what `make` needs besides the children: the node as data, for pickling."""
        return (self.origin,)

    @classmethod
    def make(cls, children: tuple[Flow[Any, Any], ...], *spec: Any) -> Flow[Any, Any]:
        """Return the node of these children and this `spec`."""
        return cls(*children, *spec)  # type: ignore[arg-type]  # the constructors of the nodes differ

    def pieces(self) -> Iterator[str | Flow[Any, Any]]:
        """Yield the parts of the node's ``repr``: text, and flows to be shown in their places."""
        raise NotImplementedError

    # -- composition -----------------------------------------------------------------------------------------------

    def __rshift__(self, other: Callable[[Out], T]) -> Flow[In, T]:
        from dataflow.expr.join import chain, lift

        return chain(self, lift(other, ">>"))

    def __rrshift__(self, other: Callable[[T], In]) -> Flow[T, Out]:
        from dataflow.expr.join import chain, lift

        return chain(lift(other, ">>"), self)

    @overload
    def __or__(self, other: Fanout[In, *Ts]) -> Fanout[In, Out, *Ts]: ...
    @overload
    def __or__(self, other: Callable[[In], T]) -> Fanout[In, Out, T]: ...
    def __or__(self, other: Any) -> Any:
        from dataflow.expr.join import branch, lift

        return branch(self, lift(other, "|"))

    def __ror__(self, other: Callable[[In], T]) -> Fanout[In, T, Out]:
        from dataflow.expr.join import branch, lift

        return branch(lift(other, "|"), self)

    def retry(self, times: int, on: Errors = Exception, backoff: float = 0.0) -> Flow[In, Out]:
        """Return this flow, tried again where it fails.

        Parameters
        ----------
        times : int
            The most further attempts, at least 1.
        on : exception type or tuple of them
            The failures that are tried again; others pass through at once.
        backoff : float
            Seconds before the first further attempt, doubled before each next one.

        Returns
        -------
        Flow
            A flow that fails only where the last attempt does, with that attempt's error.

        Examples
        --------
        >>> import dataflow as df
        >>> attempts = []
        >>> @df.stage
        ... def flaky(x):
        ...     attempts.append(x)
        ...     if len(attempts) < 3:
        ...         raise OSError("not yet")
        ...     return x
        >>> flaky.retry(2)(5)
        5
        """
        from dataflow.expr.nodes import Retry

        return Retry(self, times, on, backoff)

    def timeout(self, seconds: float) -> Flow[In, Out]:
        """Return this flow with a limit on its time.

        Parameters
        ----------
        seconds : float
            Seconds from when the input is ready; waiting in a queue counts.

        Returns
        -------
        Flow
            A flow that fails with `DeadlineExceeded` where the result is not there in time.

        Examples
        --------
        >>> import dataflow as df
        >>> df.stage(abs).timeout(1.5)(-3)
        3
        """
        from dataflow.expr.nodes import Timeout

        return Timeout(self, seconds)

    def fallback(self, other: Callable[[In], T], on: Errors = Exception) -> Flow[In, Out | T]:
        """Return this flow, with another one that takes over for the items on which it fails.

        Parameters
        ----------
        other : Flow or callable
            Run on the same input where this flow fails.
        on : exception type or tuple of them
            The failures that are handed over; others pass through.

        Returns
        -------
        Flow
            A flow that fails only where `other` does, or with an error that is not `on`.

        Examples
        --------
        >>> import dataflow as df
        >>> parse = df.stage(int).fallback(lambda text: -1, on=ValueError)
        >>> parse("12"), parse("twelve")
        (12, -1)
        """
        from dataflow.expr.join import lift
        from dataflow.expr.nodes import Fallback

        return Fallback(self, lift(other, "fallback"), on)

    def named(self, name: str) -> Flow[In, Out]:
        """Return this flow under a name of its own in graphs, errors and metrics.

        Parameters
        ----------
        name : str
            A stage is renamed; anything larger becomes a group, and its stages show as ``name/stage``.

        Returns
        -------
        Flow
            The same flow under that name.

        Examples
        --------
        >>> import dataflow as df
        >>> df.stage(abs).named("magnitude")
        magnitude
        """
        if not isinstance(name, str) or not name:  # type: ignore[redundant-expr]
            raise CompositionError(f"a name is a non-empty string, not {name!r} ({caller()})")
        from dataflow.expr import join

        return join.name(self, name)

    # -- running: the doorway to what lies downstream ----------------------------------------------------------------

    def __call__(self, item: In) -> Out:
        from dataflow.expr import run

        return cast("Out", run.first_call(self, item))

    @overload
    def map(
        self, items: Iterable[In], executor: Any = None, *, on_error: OnlyResults = ..., **options: Unpack[MapOptions]
    ) -> Iterator[Out]: ...
    @overload
    def map(
        self, items: Iterable[In], executor: Any = None, *, on_error: OnError, **options: Unpack[MapOptions]
    ) -> Iterator[Any]: ...
    def map(
        self,
        items: Iterable[In],
        executor: Any = None,
        *,
        ordered: bool = True,
        on_error: OnError = "raise",
        max_in_flight: int | None = None,
        progress: bool | None = None,
    ) -> Iterator[Any]:
        """Run the flow over many items, lazily: a batch job.

        Parameters
        ----------
        items : iterable
            May be infinite, may block, may raise: what it yielded before it raised is delivered first.
        executor : executor or str, optional
            What runs it: ``"threads"`` (the default), ``"inline"``, or a `Threads` or `Inline` with settings.
        ordered : bool
            Whether results come in the order of the items.
        on_error : {"raise", "record", "skip"}
            What a failed item does: end the job with its error, yield a `Failure` in its place, or be left out.
        max_in_flight : int, optional
            The most items read from `items` whose results have not been taken yet.
        progress : bool, optional
            Show a bar; None shows one on a terminal only, where tqdm is installed.

        Returns
        -------
        iterator
            The results. Iterating a finished one again is an error.

        Examples
        --------
        >>> import dataflow as df
        >>> double = df.stage(batch=2)(lambda xs: [x * 2 for x in xs])
        >>> list(double.map([1, 2, 3]))
        [2, 4, 6]
        """
        from dataflow.expr import run

        return run.map_items(
            self,
            items,
            executor,
            ordered=ordered,
            on_error=on_error,
            max_in_flight=max_in_flight,
            progress=progress,
        )

    def open(self, executor: Any = None) -> Any:
        """Open a session: the flow held ready on an executor.

        Parameters
        ----------
        executor : executor or str, optional
            What runs it: ``"threads"`` (the default), ``"inline"``, or a `Threads` or `Inline` with settings.

        Returns
        -------
        Session
            A context manager with ``run``, ``submit``, ``map``, ``arun``, ``amap``, ``stats`` and ``close``.

        Examples
        --------
        >>> import dataflow as df
        >>> with df.stage(abs).open() as session:
        ...     session.run(-2)
        2
        """
        from dataflow.expr import run

        return run.open_session(self, executor)

    def graph(self, optimized: bool = False) -> networkx.MultiDiGraph[int]:
        """Return the flow as a networkx graph: one op a node (``graph.nodes[n]["op"]``), one port an edge.

        Parameters
        ----------
        optimized : bool
            Whether the default passes have been over it.

        Returns
        -------
        networkx.MultiDiGraph
            Frozen; ``graph.copy()`` may be changed.

        Examples
        --------
        >>> import dataflow as df
        >>> (df.stage(abs) >> str).graph().number_of_nodes()
        4
        """
        from dataflow.expr import run

        return cast("networkx.MultiDiGraph[int]", run.graph_of(self, optimized))

    def optimize(self, passes: Any = None) -> Any:
        """Return the plan that the passes make of this flow.

        Parameters
        ----------
        passes : iterable of str or Pass, or str, optional
            The passes by name, in order; ``"-fuse"`` alone leaves one out of the defaults; None means the defaults.

        Returns
        -------
        Plan
            What an executor would run.

        Examples
        --------
        >>> import dataflow as df
        >>> len((df.stage(abs) >> str).optimize().steps)
        1
        >>> len((df.stage(abs) >> str).optimize(passes=()).steps)
        2
        """
        from dataflow.expr import run

        return run.plan_of(self, passes)

    def explain(self, executor: Any = None, format: Literal["text", "mermaid", "dot", "json"] = "text") -> str:
        """Say what will run, and why: the expression, the plan, its steps, and each optimizer decision.

        Parameters
        ----------
        executor : executor or str, optional
            The executor whose plan is explained; that of `map` and `open` by default.
        format : {"text", "mermaid", "dot", "json"}
            Text for people, a diagram, or JSON for programs.

        Returns
        -------
        str
            The explanation.

        Examples
        --------
        >>> import dataflow as df
        >>> "fuse" in (df.stage(abs) >> str).explain()
        True
        """
        from dataflow.expr import run

        return run.explanation(self, executor, format)

    def visualize(self, path: str | None = None) -> Any:
        """Draw the plan.

        Parameters
        ----------
        path : str, optional
            A ``.png`` or ``.svg`` file to write; None returns the picture without writing it.

        Returns
        -------
        object
            The path written, or the picture, which notebooks display.
        """
        from dataflow.expr import run

        return run.picture(self, path)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        from dataflow.expr import run

        return run.notebook(self)

    # -- identity --------------------------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Flow):
            return NotImplemented
        return walk.same(self, other)

    def __hash__(self) -> int:
        if self._hash is None:
            for node in walk.postorder(self, skip=lambda node: node._hash is not None):
                _set(node, "_hash", hash((node.kind, node.params(), tuple(c._hash for c in node.children))))
        return cast("int", self._hash)

    @property
    def kind(self) -> type[Flow[Any, Any]]:
        """The node's class as written here: a flow that has been called may belong to a compiled subclass of it."""
        return next(cls for cls in type(self).__mro__ if cls.__module__.startswith("dataflow.expr."))

    def __repr__(self) -> str:
        return walk.render(self)

    def __reduce__(self) -> tuple[Any, ...]:
        from dataflow.expr import pickling

        return pickling.reduce(self)

    def __copy__(self) -> Flow[In, Out]:
        return self

    def __deepcopy__(self, memo: object) -> Flow[In, Out]:
        return self

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a flow is immutable: {name!r} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a flow is immutable: {name!r} cannot be deleted")

    def __bool__(self) -> NoReturn:
        raise CompositionError(
            f"a flow has no truth value ({caller()}): `and`, `or`, `not` and `if` would silently drop one side; "
            "compose with >> and |, and route by the data with switch()"
        )

    def __iter__(self) -> NoReturn:
        raise CompositionError(
            f"a flow cannot be iterated or unpacked ({caller()}): call flow.map(items) to run it over items"
        )
