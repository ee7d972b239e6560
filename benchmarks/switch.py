"""A two-way switch: what the glue costs."""

from __future__ import annotations

from benchmarks import effort
from benchmarks.peers import adapters
from dataflow.bench import Contestant, Findings, Goal, Run, Task, compare, ready


def is_even(x: int) -> bool:
    return x % 2 == 0


def f(x: int) -> int:
    return x + 1


def g(x: int) -> int:
    return x * 2


def hand(x: int) -> int:
    """Do it as one would by hand."""
    if is_even(x):
        return f(x)
    return g(x)


def ours() -> Run:
    """Do it as a flow."""
    import dataflow as df

    return df.switch(is_even, {True: f, False: g})


def findings(quick: bool = False) -> Findings:
    """Measure; the items take the branches in turn."""
    items = tuple(range(25))
    task = Task(items=lambda: items, right=lambda x, y: bool(y == hand(x)))
    table = compare(
        "one item through a two-way switch",
        [
            Contestant("hand-written if", ready(hand), task),
            Contestant("dataflow", ours, task),
            *adapters("switch", is_even, f, g, task=task),
        ],
        effort=effort(quick),
    )
    ratio = table.slowness("dataflow")
    return Findings((table,), (Goal("overhead of a two-way switch", ratio, 1.5),))
