"""What the constructs do with one item: retry, fallback, timeout, race, quorum, routing.

Each function here gives the one-item callable of a construct, from those of its bodies. ``race``, and a ``quorum`` with
a time limit, run their branches aside, because the first success, or those in time, cannot be known otherwise; so does
``timeout``. The others need no thread.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from dataflow.errors import DeadlineExceeded, RoutingError
from dataflow.executors.aside import Aside, Task, go_on
from dataflow.executors.clock import Clock
from dataflow.expr.origin import Origin
from dataflow.expr.stage import short_repr
from dataflow.graph import ops

One = Callable[[Any], Any]
Enough = Callable[[list[Task[Any]]], float | None]


def as_raised(error: Exception) -> Exception:
    """Return the error as it leaves a stage: StopIteration would end a loop in silence, so it is a RuntimeError."""
    if not isinstance(error, StopIteration):
        return error
    converted = RuntimeError("a stage raised StopIteration")
    converted.__cause__ = error
    return converted


def caught(error: Exception, on: tuple[type[Exception], ...]) -> bool:
    """Return whether a construct that watches for `on` catches this error."""
    return isinstance(as_raised(error), on)


def retry(op: ops.Retry, body: One, clock: Clock) -> One:
    """Return the one-item callable of a retry."""

    def run(item: Any) -> Any:
        for attempt in range(op.times):
            try:
                return body(item)
            except Exception as error:
                if not caught(error, op.on):
                    raise
            back_off(op, attempt, clock)
        return body(item)

    return run


def back_off(op: ops.Retry, attempt: int, clock: Clock) -> None:
    """Wait as long as a retry does after its attempt of this number, from 0; it makes no other once it is given up."""
    go_on()
    if op.backoff:
        clock.sleep(op.backoff * 2**attempt)
        go_on()


def fallback(op: ops.Fallback, body: One, handler: One) -> One:
    """Return the one-item callable of a fallback."""

    def run(item: Any) -> Any:
        try:
            return body(item)
        except Exception as error:
            if not caught(error, op.on):
                raise
        go_on()
        return handler(item)

    return run


def timeout(op: ops.Timeout, body: One, aside: Aside, renew: Callable[[], None]) -> One:
    """Return the one-item callable of a timeout."""

    def run(item: Any) -> Any:
        task = within(op.seconds, functools.partial(body, item), aside)
        if not task.left:
            return task.result()
        renew()
        raise deadline_exceeded(op)

    return run


def within(seconds: float, work: Callable[[], Any], aside: Aside) -> Task[Any]:
    """Do something aside, and return its task once it is done or that many seconds have passed."""
    deadline = aside.clock.now() + seconds

    def enough(tasks: list[Task[Any]]) -> float | None:
        left = deadline - aside.clock.now()
        return None if tasks[0].done or left <= 0 else left

    return aside.run([work], enough)[0]


def deadline_exceeded(op: ops.Timeout) -> DeadlineExceeded:
    """Return the error of an item whose time was up."""
    return DeadlineExceeded(f"not done within {op.seconds:g} s, the timeout set at {op.origin}")


def race(bodies: Sequence[One], aside: Aside, renew: Callable[[], None]) -> One:
    """Return the one-item callable of a race."""
    if len(bodies) == 1:
        return bodies[0]

    def enough(tasks: list[Task[Any]]) -> float | None:
        return None if any(task.won for task in tasks) or all(task.done for task in tasks) else math.inf

    def run(item: Any) -> Any:
        tasks = aside.run([functools.partial(body, item) for body in bodies], enough)
        if any(task.left for task in tasks):
            renew()
        return next((task for task in tasks if task.won), tasks[-1]).result()

    return run


def quorum(op: ops.Quorum, bodies: Sequence[One], aside: Aside, renew: Callable[[], None]) -> One:
    """Return the one-item callable of a combine with a quorum."""
    spare = len(bodies) - op.quorum

    def in_turn(item: Any) -> Any:
        parts: dict[int, Any] = {}
        first: Exception | None = None
        for index, body in enumerate(bodies):
            try:
                parts[index] = body(item)
            except Exception as error:
                first = error if first is None else first
            if first is not None and index + 1 - len(parts) > spare:
                try:
                    raise first
                finally:
                    first = None  # its frames lead to this one, which must not lead back to it
        first = None
        return gather(op, parts)

    def in_time(item: Any) -> Any:
        deadline = aside.clock.now() + (op.within or 0.0)
        tasks = aside.run(
            [functools.partial(body, item) for body in bodies],
            lambda tasks: enough_of(op, tasks, deadline - aside.clock.now()),
        )
        if any(task.left for task in tasks):
            renew()
        parts = {index: task.value for index, task in enumerate(tasks) if task.won}
        if len(parts) < op.quorum:
            next(task for task in tasks if not task.left and not task.won).result()
        return gather(op, parts)

    return in_turn if op.within is None else in_time


def enough_of(op: ops.Quorum, tasks: Sequence[Task[Any]], left: float) -> float | None:
    """Return how long a quorum goes on waiting, with this much of its time left; None where it does not."""
    ended = [task for task in tasks if task.done]
    won = sum(task.won for task in ended)
    lost = len(ended) - won
    if won + lost == len(tasks) or lost > len(tasks) - op.quorum:
        return None
    if left <= 0:
        return None if won >= op.quorum else math.inf
    return left


def gather(op: ops.Quorum, parts: dict[int, Any]) -> Any:
    """Return what a combine makes of the branches that succeeded, in branch order."""
    order = sorted(parts)
    if op.names is not None:
        named = {op.names[index]: parts[index] for index in order}
        return named if op.fn is None else op.fn(**named)
    survivors = tuple(parts[index] for index in order)
    return survivors if op.fn is None else op.fn(*survivors)


def spread(op: ops.Spread) -> One:
    """Return the callable of a combine on a value that holds the parts."""
    fn = op.fn

    def run(parts: Any) -> Any:
        if fn is None:
            return parts
        if isinstance(parts, tuple):
            return fn(*parts)
        if isinstance(parts, dict):
            return fn(**parts)
        raise TypeError(
            f"{op.label()} ({op.origin}) takes the tuple or dict that a fan-out gives, and got a "
            f"{type(parts).__name__}: put a fan-out before it"
        )

    return run


def route(op: ops.Route) -> Callable[[Any], int]:
    """Return the callable that gives the number of the branch for a key."""
    numbers = {key: index for index, key in enumerate(op.keys)}
    other = len(op.keys) if op.default else None
    origin: Origin | None = op.origin

    def run(key: Any) -> int:
        try:
            number = numbers.get(key, other)
        except TypeError:  # an unhashable key matches nothing
            number = other
        if number is None:
            known = ", ".join(short_repr(each) for each in op.keys)
            raise RoutingError(
                f"the key {short_repr(key)}, of type {type(key).__name__}, is none of those of the switch at {origin}, "
                f"which are {known}, and it has no default: add a case, or default=..."
            )
        return number

    return run
