"""A fan-out of three and its combine: what the glue costs."""

from __future__ import annotations

from benchmarks.measure import Competitor, Goal, Report, Run, Task, compare
from benchmarks.peers import adapters


def f(x: int) -> int:
    return x + 1


def g(x: int) -> int:
    return x * 2


def h(x: int) -> int:
    return x - 3


def join(a: int, b: int, c: int) -> int:
    return a + b - c


def hand(x: int) -> int:
    """Do it as one would by hand."""
    return join(f(x), g(x), h(x))


def ours() -> Run:
    """Do it as a flow."""
    import dataflow as df

    return (df.stage(f) | g | h) >> df.combine(join)


def report() -> Report:
    """Measure."""
    items = tuple(range(100))
    task = Task(items=lambda: items, right=lambda x, y: bool(y == hand(x)))
    table = compare(
        "one item through a fan-out of 3 and a combine",
        [
            Competitor("hand-written", lambda: hand, task),
            Competitor("dataflow", ours, task),
            *adapters("fan_out", (f, g, h), join, task=task),
        ],
    )
    ratio = table.row("dataflow").ratio
    return Report((table,), (Goal("overhead of a fan-out of 3", ratio, 1.5),))
