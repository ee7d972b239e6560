"""The oracle: what a flow means, read off the table of the design as plainly as Python can say it.

It shares nothing with the graph, the passes, the plan or the executors, knows no time, no threads and no optimizer, and
runs everything one after another. What an executor gives must be what it gives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import Any, Literal, TypeVar

from dataflow.errors import BatchSizeError, RoutingError
from dataflow.expr.flow import Flow
from dataflow.expr.nodes import (
    Chain,
    Combine,
    Each,
    Fallback,
    Fanout,
    Identity,
    Named,
    Race,
    Retry,
    Switch,
    Timeout,
)
from dataflow.expr.stage import Stage

A = TypeVar("A")
B = TypeVar("B")


def reference(flow: Flow[A, B], item: A) -> B:
    """Return what a flow means for one item, or raise the error that it means.

    Parameters
    ----------
    flow : Flow
        What to read. Time is not part of the reading: a timeout never passes, a backoff is not waited, and a quorum
        waits until all branches are done.
    item : object
        The item.

    Returns
    -------
    object
        The result. Where several of a flow's stages fail, the error is that of the first in reading order; an executor
        may give another one's.

    Examples
    --------
    >>> import dataflow as df
    >>> from dataflow.testing import reference
    >>> spread = (df.stage(min) | max) >> df.combine(lambda low, high: high - low)
    >>> reference(spread, [3, 1, 2])
    2
    """
    result: B = Reading().run(flow, item)
    return result


@dataclasses.dataclass(frozen=True, eq=False)  # items are users' data, never compared
class Failed:
    """What `reference_map` gives in the place of an item that failed, under ``on_error="record"``.

    Parameters
    ----------
    index : int
        The item's number, from 0.
    item : object
        The item.
    stage : str, optional
        The name of the stage that failed; None where it was no stage, but a combine or a switch, say.
    error : Exception
        What it raised.
    """

    index: int
    item: Any
    stage: str | None
    error: Exception


def reference_map(
    flow: Flow[A, B], items: Iterable[A], *, on_error: Literal["raise", "record", "skip"] = "raise"
) -> Iterator[Any]:
    """Yield what a flow means for many items: what ``flow.map(items)`` must give, on any executor.

    Parameters
    ----------
    flow : Flow
        What to read, as in `reference`.
    items : iterable
        May be infinite; each is read when its result is taken. One that raises does so after what came before it.
    on_error : {"raise", "record", "skip"}
        What a failed item does: end the job with its error, give a `Failed` in its place, or be left out.

    Yields
    ------
    object
        The outcomes, in the order of the items.

    Examples
    --------
    >>> import dataflow as df
    >>> list(reference_map(df.stage(int), ["1", "x", "3"], on_error="skip"))
    [1, 3]
    """
    if on_error not in ("raise", "record", "skip"):
        raise ValueError(f"on_error is 'raise', 'record' or 'skip', not {on_error!r}")
    reading = Reading()
    for index, item in enumerate(items):
        try:
            result = reading.run(flow, item)
        except Exception as error:
            if on_error == "raise":
                raise
            if on_error == "record":
                yield Failed(index, item, reading.blamed(error), error)
        else:
            yield result


class Reading:
    """One reading of a flow: each class stage is constructed once in it, equal pure ones together."""

    def __init__(self) -> None:
        self._instances: dict[Flow[Any, Any] | int, Callable[[Any], Any]] = {}
        self._failed: tuple[Exception, Stage[Any, Any]] | None = None

    def run(self, flow: Flow[Any, Any], x: Any) -> Any:
        """Return ``flow(x)``."""
        match flow:
            case Identity():
                return x
            case Stage():
                return self.stage(flow, x)
            case Chain():
                return self._chain(flow, x)
            case Fanout():
                return gather(flow.names, [self.run(part, x) for part in flow.children])
            case Combine():
                return spread(flow, x)
            case Switch():
                return self.run(choose(flow, self.run(flow.key, x)), x)
            case Each():
                return [self.run(flow.body, element) for element in x]
            case Race():
                return self._race(flow, x)
            case Retry():
                return self._retry(flow, x)
            case Fallback():
                try:
                    return self.run(flow.body, x)
                except flow.on:
                    return self.run(flow.handler, x)
            case Timeout() | Named():
                return self.run(flow.body, x)
        raise NotImplementedError(f"no meaning for {type(flow).__name__}")

    def stage(self, stage: Stage[Any, Any], x: Any, fn: Callable[[Any], Any] | None = None) -> Any:
        """Return what a stage, or `fn` in its place, gives for one item; a batched one gets a batch of it alone."""
        try:
            fn = fn or self.callable(stage)
            return call(fn, x) if stage.options.batch is None else only(stage, call(fn, [x]))
        except Exception as error:
            self._failed = error, stage
            raise

    def blamed(self, error: Exception) -> str | None:
        """Return the name of the stage that raised this error last."""
        return self._failed[1].name if self._failed is not None and self._failed[0] is error else None

    def callable(self, stage: Stage[Any, Any]) -> Callable[[Any], Any]:
        if not stage.constructed:
            return stage.fn
        key = stage if stage.options.pure else id(stage)
        if key not in self._instances:
            self._instances[key] = call(stage.fn, *stage.args, **stage.kwargs)
        return self._instances[key]

    def _chain(self, flow: Chain[Any, Any], x: Any) -> Any:
        parts = list(flow.children)
        while parts:
            part, after = bare(parts.pop(0)), bare(parts[0]) if parts else None
            if isinstance(part, Fanout) and isinstance(after, Combine) and after.quorum is not None:
                parts.pop(0)
                x = spread(after, self._survivors(part, after.quorum, x))
            else:
                x = self.run(part, x)
        return x

    def _survivors(self, fan: Fanout[Any, Any], quorum: int, x: Any) -> Any:
        done: dict[int, Any] = {}
        failures: list[Exception] = []
        for index, part in enumerate(fan.children):
            try:
                done[index] = self.run(part, x)
            except Exception as error:
                failures.append(error)
        if len(done) < quorum:
            raise failures[0]
        names = None if fan.names is None else tuple(fan.names[index] for index in done)
        return gather(names, list(done.values()))

    def _race(self, flow: Race[Any, Any], x: Any) -> Any:
        *others, last = flow.bodies
        for body in others:
            try:
                return self.run(body, x)
            except Exception:
                continue
        return self.run(last, x)

    def _retry(self, flow: Retry[Any, Any], x: Any) -> Any:
        for _ in range(flow.times):
            try:
                return self.run(flow.body, x)
            except flow.on:
                continue
        return self.run(flow.body, x)


def call(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call what the user wrote. A ``StopIteration`` that it lets out would end somebody's loop."""
    try:
        return fn(*args, **kwargs)
    except StopIteration as error:
        raise RuntimeError(f"{fn!r} raised StopIteration") from error


def only(stage: Stage[Any, Any], results: Any) -> Any:
    """Return the one result of a batch of one, or raise `BatchSizeError`."""
    try:
        size = None if isinstance(results, (str, bytes, Set, Mapping)) else len(results)
    except TypeError:
        size = None
    if size == 1:
        return next(iter(results))
    given = f"{size} results" if size is not None else f"no sequence but {type(results).__name__}"
    raise BatchSizeError(f"{stage!r} was given 1 item and gave {given}")


def gather(names: tuple[str, ...] | None, parts: list[Any]) -> Any:
    """Return the parts of a fan-out put together."""
    return tuple(parts) if names is None else dict(zip(names, parts, strict=True))


def spread(flow: Combine[Any, Any], parts: Any) -> Any:
    """Return what a combine makes of the parts: a tuple as arguments, a dict by name."""
    if flow.fn is None:
        return parts
    if not isinstance(parts, (tuple, dict)):
        raise TypeError(f"{flow!r} takes the tuple or dict that a fan-out gives, not a {type(parts).__name__}")
    return call(flow.fn, **parts) if isinstance(parts, dict) else call(flow.fn, *parts)


def choose(flow: Switch[Any, Any], key: Any) -> Flow[Any, Any]:
    """Return the branch of a key, or raise `RoutingError`."""
    try:
        arm = dict(zip(flow.keys, flow.arms, strict=True)).get(key, flow.default)
    except TypeError:  # unhashable: it is no case's key
        arm = flow.default
    if arm is None:
        raise RoutingError(f"no case for the key {key!r}; the known keys are {', '.join(map(repr, flow.keys))}")
    return arm


def bare(flow: Flow[Any, Any]) -> Flow[Any, Any]:
    """Return a flow without the names that it was given."""
    while isinstance(flow, Named):
        flow = flow.body
    return flow
