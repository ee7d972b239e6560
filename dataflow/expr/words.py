"""The words of the language: the functions with which a user writes an expression."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Protocol, Unpack, overload

from dataflow.errors import CompositionError, OptionError
from dataflow.expr import options as checks
from dataflow.expr.flow import Flow
from dataflow.expr.join import is_stage_class, lift, make_stage, make_stage_class, refuse_async
from dataflow.expr.nodes import Combine, Each, Fanout, Identity, Race, Switch
from dataflow.expr.options import Options
from dataflow.expr.origin import caller
from dataflow.expr.stage import Stage, StageClass, short_repr
from dataflow.expr.typed import (
    A,
    B,
    BatchLambda,
    C,
    Class,
    D,
    E,
    Lambda,
    Loose1,
    Loose2,
    Loose3,
    Part1,
    Part2,
    Part3,
    Part4,
    StageOptions,
    T,
)

identity = Identity()


class _Item(Protocol):
    """What ``@stage(...)`` without a batch gives: a decorator of functions and classes that take one item."""

    @overload  # a class is callable too, which is why it comes first
    def __call__(self, fn: Class, /) -> StageClass[Class, None]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, fn: Callable[[A], B] | Lambda, /) -> Stage[A, B]: ...


class _Batched(Protocol):
    """What ``@stage(batch=n)`` gives: a decorator of functions and classes that take a list of items."""

    @overload
    def __call__(self, fn: Class, /) -> StageClass[Class, int]: ...
    @overload
    def __call__(self, fn: Callable[[list[A]], Iterable[B]] | BatchLambda, /) -> Stage[A, B]: ...


@overload
def stage(  # type: ignore[overload-overlap]
    fn: Class, /, *, batch: None = None, **options: Unpack[StageOptions]
) -> StageClass[Class, None]: ...
@overload
def stage(fn: Class, /, *, batch: int, **options: Unpack[StageOptions]) -> StageClass[Class, int]: ...
@overload
def stage(fn: Callable[[A], B] | Lambda, /, *, batch: None = None, **options: Unpack[StageOptions]) -> Stage[A, B]: ...
@overload
def stage(
    fn: Callable[[list[A]], Iterable[B]] | BatchLambda, /, *, batch: int, **options: Unpack[StageOptions]
) -> Stage[A, B]: ...
@overload
def stage(*, batch: None = None, **options: Unpack[StageOptions]) -> _Item: ...
@overload
def stage(*, batch: int, **options: Unpack[StageOptions]) -> _Batched: ...
def stage(
    fn: Any = None,
    /,
    *,
    name: str | None = None,
    batch: int | None = None,
    max_wait: float = 0.002,
    device: str = "cpu",
    pure: bool = True,
    replicas: int | tuple[int, int] = 1,
    cpus: float | None = None,
    gpus: float | None = None,
    memory: int | None = None,
    placement: str | None = None,
) -> Any:
    """Make a stage of a function, a class or any callable: the unit of work of a flow.

    Parameters
    ----------
    fn : callable or class
        Called with one item; with `batch`, with a list of items. A class whose instances are callable becomes a
        factory: calling it with the constructor's arguments gives the flow, and the class is constructed once per
        replica, where it runs. Left out, `stage` is a decorator with these options.
    name : str, optional
        In graphs, errors and metrics; the callable's qualified name by default.
    batch : int, optional
        The most items a call. The callable then gets a list of 1 to `batch` items and returns as many results, in
        order.
    max_wait : float
        Seconds a first item may wait for its batch when items come one by one; never waited in ``map``.
    device : str
        ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; anything but the CPU makes a GPU stage.
    pure : bool
        Whether the same input gives the same result and running it twice does no harm. This is what allows merging
        equal stages, retrying, splitting a failed batch and racing.
    replicas : int or (int, int)
        How many instances, or the range to scale in.
    cpus, gpus : float, optional
        Cores and GPUs a replica; fractions allowed.
    memory : int, optional
        Bytes a replica.
    placement : str, optional
        Stages of one placement share a process. CPU stages share one by default; each GPU stage has its own.

    Returns
    -------
    Flow, or a factory of flows for a class, or a decorator where `fn` is left out

    Raises
    ------
    CompositionError
        Where the callable cannot take exactly one argument, or an option is out of range.

    Examples
    --------
    >>> import dataflow as df
    >>> @df.stage
    ... def clean(text):
    ...     return text.strip()
    >>> @df.stage(batch=8)
    ... class Scorer:
    ...     def __init__(self, weight):
    ...         self.weight = weight
    ...     def __call__(self, texts):
    ...         return [len(text) * self.weight for text in texts]
    >>> (clean >> Scorer(10))("  abc ")
    30
    """
    options = Options(name, batch, max_wait, device, pure, replicas, cpus, gpus, memory, placement)
    if fn is None:
        return lambda decorated: _stage(decorated, options)
    return _stage(fn, options)


def _stage(fn: Any, options: Options) -> Any:
    if isinstance(fn, (Flow, StageClass)):
        raise CompositionError(
            f"stage was given {fn!r}, which is one already ({caller()}): give its options where it is made"
        )
    if not callable(fn):
        raise CompositionError(f"stage was given {short_repr(fn)} ({caller()}): it takes a callable or a class")
    if is_stage_class(fn):
        return make_stage_class(fn, options)
    return make_stage(fn, options)


@overload
def fanout(first: Callable[[A], B] | Lambda, /) -> Flow[A, tuple[B]]: ...
@overload
def fanout(first: Callable[[A], B] | Lambda, second: Callable[[A], C] | Lambda, /) -> Flow[A, tuple[B, C]]: ...
@overload
def fanout(
    first: Callable[[A], B] | Lambda, second: Callable[[A], C] | Lambda, third: Callable[[A], D] | Lambda, /
) -> Flow[A, tuple[B, C, D]]: ...
@overload
def fanout(
    first: Callable[[A], B] | Lambda,
    second: Callable[[A], C] | Lambda,
    third: Callable[[A], D] | Lambda,
    fourth: Callable[[A], E] | Lambda,
    /,
) -> Flow[A, tuple[B, C, D, E]]: ...
@overload
def fanout(*flows: Callable[[A], Any] | Lambda) -> Flow[A, tuple[Any, ...]]: ...
@overload
def fanout(**named: Callable[[A], Any] | Lambda) -> Flow[A, Any]: ...
def fanout(*flows: Any, **named: Any) -> Any:
    """Run several flows over one input, as a group of its own.

    Parameters
    ----------
    *flows : Flow or callable
        The branches; the result is the tuple of their results.
    **named : Flow or callable
        Named branches; the result is the dict of their results. Either kind, not both.

    Returns
    -------
    Flow
        Unlike ``f | g``, which takes in a further ``| h``, the group stays one branch.

    Examples
    --------
    >>> import dataflow as df
    >>> df.fanout(min, max)([3, 1, 2])
    (1, 3)
    >>> df.fanout(low=min, high=max)([3, 1, 2])
    {'low': 1, 'high': 3}
    """
    if bool(flows) == bool(named):
        raise CompositionError(
            f"fanout takes branches, all positional or all named ({caller()}): "
            f"it was given {len(flows)} positional and {len(named)} named"
        )
    parts = flows or tuple(named.values())
    return Fanout(tuple(lift(part, "fanout") for part in parts), tuple(named) if named else None)


@overload
def combine() -> Identity: ...
@overload
def combine(fn: partial[T], /) -> Flow[Any, T]: ...
@overload
def combine(fn: Loose1[T], /) -> Flow[Any, T]: ...
@overload
def combine(fn: Loose2[T], /) -> Flow[Any, T]: ...
@overload
def combine(fn: Loose3[T], /) -> Flow[Any, T]: ...
@overload
def combine(fn: Callable[[Part1], E], /) -> Flow[tuple[Part1], E]: ...
@overload
def combine(fn: Callable[[Part1, Part2], E], /) -> Flow[tuple[Part1, Part2], E]: ...
@overload
def combine(fn: Callable[[Part1, Part2, Part3], E], /) -> Flow[tuple[Part1, Part2, Part3], E]: ...
@overload
def combine(fn: Callable[[Part1, Part2, Part3, Part4], E], /) -> Flow[tuple[Part1, Part2, Part3, Part4], E]: ...
@overload
def combine(fn: Callable[..., T], /, *, quorum: int | None = None, within: float | None = None) -> Flow[Any, T]: ...
@overload
def combine(*, quorum: int, within: float | None = None) -> Flow[Any, Any]: ...
def combine(fn: Any = None, /, *, quorum: int | None = None, within: float | None = None) -> Any:
    """Gather the branches of the fan-out before it.

    Parameters
    ----------
    fn : callable, optional
        Called with the parts as positional arguments, or by name after a named fan-out. None gives the parts
        themselves.
    quorum : int, optional
        How many branches must succeed; None means all. `fn` then gets the survivors, in branch order.
    within : float, optional
        Seconds after which `quorum` successes suffice, even if other branches are still running. None waits until all
        are done.

    Returns
    -------
    Flow

    Raises
    ------
    CompositionError
        Where what comes before it is no fan-out, or its branches cannot fit `fn`; raised when they are joined.

    Examples
    --------
    >>> import dataflow as df
    >>> spread = (df.stage(min) | max) >> df.combine(lambda low, high: high - low)
    >>> spread([3, 1, 2])
    2
    """
    if fn is not None:
        if isinstance(fn, (Flow, StageClass)) or not callable(fn):
            raise CompositionError(
                f"combine was given {short_repr(fn)} ({caller()}): it takes a function that is called with the parts"
            )
        refuse_async(fn)
    if quorum is not None:
        checks.whole_number("combine", "quorum", quorum, 1)
    if within is not None:
        if quorum is None:
            raise OptionError(f"combine: within says when a quorum suffices, so it needs quorum=k ({caller()})")
        within = checks.duration("combine", "within", within, zero=True)
    return Combine(fn, quorum, within)


def switch(
    key: Callable[[A], Any],
    cases: Mapping[Any, Callable[[A], B]],
    default: Callable[[A], B] | None = None,
) -> Flow[A, B]:
    """Route each item by its data: only the chosen branch runs.

    Parameters
    ----------
    key : callable or Flow
        Gives an item's key.
    cases : mapping
        The branch of each key. Keys match as a dict's do.
    default : Flow or callable, optional
        The branch of items whose key is in no case.

    Returns
    -------
    Flow
        ``cases[key(x)](x)``. Where no case matches and there is no default, the item fails with `RoutingError`.

    Examples
    --------
    >>> import dataflow as df
    >>> parity = df.switch(lambda n: n % 2, {0: lambda n: "even", 1: lambda n: "odd"})
    >>> parity(7)
    'odd'
    """
    if not isinstance(cases, Mapping) or (not cases and default is None):  # type: ignore[redundant-expr]
        raise CompositionError(
            f"switch takes a mapping of at least one key to a branch ({caller()}), not {short_repr(cases)}"
        )
    arms = tuple(lift(arm, f"switch, for the key {short_repr(value)},") for value, arm in cases.items())
    other = None if default is None else lift(default, "switch, as its default,")
    return Switch(lift(key, "switch, as its key,"), tuple(cases), arms, other)


def each(flow: Callable[[A], B] | Lambda) -> Flow[Iterable[A], list[B]]:
    """Run a flow over every element of an item.

    Parameters
    ----------
    flow : Flow or callable
        What is done with each element. The elements of many items share batches.

    Returns
    -------
    Flow
        ``[flow(e) for e in x]``; one failing element fails its item.

    Examples
    --------
    >>> import dataflow as df
    >>> df.each(str.upper)(["a", "b"])
    ['A', 'B']
    """
    return Each(lift(flow, "each"))


@overload
def race(first: Callable[[A], B], second: Callable[[A], C], /) -> Flow[A, B | C]: ...
@overload
def race(first: Callable[[A], B], second: Callable[[A], C], third: Callable[[A], D], /) -> Flow[A, B | C | D]: ...
@overload
def race(*flows: Callable[[A], B]) -> Flow[A, B]: ...
def race(*flows: Any) -> Any:
    """Run several flows over one input and take the first success.

    Parameters
    ----------
    *flows : Flow or callable
        The competitors, at least one.

    Returns
    -------
    Flow
        Fails only where all do, with the last failure. The losers are cancelled, or their results dropped.

    Examples
    --------
    >>> import dataflow as df
    >>> df.race(int, float)("2.5")
    2.5
    """
    if not flows:
        raise CompositionError(f"race takes at least one flow ({caller()})")
    return Race(tuple(lift(flow, "race") for flow in flows))
