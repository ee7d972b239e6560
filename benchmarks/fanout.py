"""A fan-out of three and its combine: what the glue costs."""

from __future__ import annotations

from benchmarks import effort
from benchmarks.peers import adapters
from dataflow.bench import Contestant, Findings, Goal, Run, Task, compare, ready


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


def findings(quick: bool = False) -> Findings:
    """Measure."""
    items = tuple(range(25))
    task = Task(items=lambda: items, right=lambda x, y: bool(y == hand(x)))
    table = compare(
        "one item through a fan-out of 3 and a combine",
        [
            Contestant("hand-written", ready(hand), task),
            Contestant("dataflow", ours, task),
            *adapters("fan_out", (f, g, h), join, task=task),
        ],
        effort=effort(quick),
    )
    ratio = table.slowness("dataflow")
    return Findings((table,), (Goal("overhead of a fan-out of 3", ratio, 1.5),))
