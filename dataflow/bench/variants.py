"""A flow made anew with something changed: its batch size, or a stop-watch around each of its stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from time import perf_counter
from typing import Any

from dataflow.executors.calls import collates
from dataflow.expr.flow import Flow
from dataflow.expr.nodes import Combine
from dataflow.expr.stage import Stage, qualified_name, short_name
from dataflow.expr.walk import postorder

AnyFlow = Flow[Any, Any]


def rebuilt(flow: AnyFlow, change: Callable[[AnyFlow], AnyFlow]) -> AnyFlow:
    """Return a flow with what `change` makes of each of its nodes, children first; equal nodes are changed once."""
    made: dict[int, AnyFlow] = {}
    changed: dict[AnyFlow, AnyFlow] = {}
    for node in postorder(flow):
        again = node.kind.make(tuple(made[id(child)] for child in node.children), *node.spec())
        if again not in changed:
            changed[again] = change(again)
        made[id(node)] = changed[again]
    return made[id(flow)]


def batch_sizes(flow: AnyFlow) -> tuple[int, ...]:
    """Return the batch sizes of a flow's batched stages, each once, ascending.

    Examples
    --------
    >>> batch_sizes(df.stage(list, batch=8) >> abs >> df.stage(list, batch=2))
    (2, 8)
    """
    stages = (node for node in postorder(flow) if isinstance(node, Stage))
    return tuple(sorted({stage.options.batch for stage in stages if stage.options.batch is not None}))


def with_batch(flow: AnyFlow, size: int) -> AnyFlow:
    """Return a flow all of whose batched stages take batches of up to `size`.

    Examples
    --------
    >>> batch_sizes(with_batch(df.stage(list, batch=8) >> abs, 32))
    (32,)
    """

    def change(node: AnyFlow) -> AnyFlow:
        if not isinstance(node, Stage) or node.options.batch is None:
            return node
        fn, _, constructed, args, kwargs, origin = node.spec()
        options = dataclasses.replace(node.options, batch=size)
        return Stage(fn, options, constructed=constructed, args=args, kwargs=kwargs, origin=origin)

    return rebuilt(flow, change)


class StopWatch:
    """Counts the seconds inside the user's functions.

    Attributes
    ----------
    taken : dict of str to list of float
        The seconds of every call, by the stage's name; in the order in which the flow has the stages.
    """

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = {}

    def around(self, flow: AnyFlow) -> AnyFlow:
        """Return a flow that does the same, the calls of its stages and combining functions timed.

        Examples
        --------
        >>> watch = StopWatch()
        >>> watch.around(df.stage(abs) >> str)(-3), {name: len(calls) for name, calls in watch.taken.items()}
        ('3', {'abs': 1, 'str': 1})
        """
        return rebuilt(flow, self._timed)

    def clear(self) -> None:
        """Forget what has been counted."""
        for calls in self.taken.values():
            calls.clear()

    def _timed(self, node: AnyFlow) -> AnyFlow:
        if isinstance(node, Stage):
            name = short_name(node.name)
            fn: Any = _Maker(node.fn, self._calls(name)) if node.constructed else _timed(node.fn, self._calls(name))
            options = dataclasses.replace(node.options, name=node.name)
            _, _, constructed, args, kwargs, origin = node.spec()
            return Stage(fn, options, constructed=constructed, args=args, kwargs=kwargs, origin=origin)
        if isinstance(node, Combine) and node.fn is not None:
            name = f"combine({short_name(qualified_name(node.fn))})"
            return Combine(_timed(node.fn, self._calls(name)), node.quorum, node.within, node.origin)
        return node

    def _calls(self, name: str) -> list[float]:
        return self.taken.setdefault(name, [])


class _Timed:
    """A callable with a stop-watch; adding to a list is safe in any thread."""

    def __init__(self, inner: Any, calls: list[float]) -> None:
        self._inner = inner
        self._calls = calls
        self.__qualname__ = qualified_name(inner)  # in explanations and errors it goes by the name of what it times

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._in_time(self._inner, *args, **kwargs)

    def _in_time(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        start = perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            self._calls.append(perf_counter() - start)


class _TimedCollating(_Timed):
    """One that hands on whole batches, as what it times does."""

    @property
    def space(self) -> Hashable:
        space: Hashable = self._inner.space
        return space

    def collate(self, items: list[Any]) -> Any:
        return self._in_time(self._inner.collate, items)

    def forward(self, batch: Any, *, keep: bool) -> Any:
        return self._in_time(self._inner.forward, batch, keep=keep)

    def size(self, batch: Any) -> int:
        size: int = self._inner.size(batch)
        return size

    def split(self, batch: Any, size: int) -> Sequence[Any]:
        parts: Sequence[Any] = self._in_time(self._inner.split, batch, size)
        return parts


def _timed(target: Any, calls: list[float]) -> _Timed:
    return _TimedCollating(target, calls) if collates(target) else _Timed(target, calls)


class _Maker:
    """Stands for a class whose instances are to be timed."""

    def __init__(self, cls: Callable[..., Any], calls: list[float]) -> None:
        self._cls = cls
        self._calls = calls

    def __call__(self, *args: Any, **kwargs: Any) -> _Timed:
        return _timed(self._cls(*args, **kwargs), self._calls)


def cost_of_timing(calls: int = 20_000) -> float:
    """Return the seconds by which a stop-watch makes a call longer."""

    def nothing(x: Any) -> Any:
        return x

    def seconds(function: Callable[[Any], Any]) -> float:
        start = perf_counter()
        for _ in range(calls):
            function(None)
        return (perf_counter() - start) / calls

    return max(0.0, min(seconds(_Timed(nothing, [])) - seconds(nothing) for _ in range(3)))
