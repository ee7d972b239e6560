"""A two-way switch: what the glue costs."""

from __future__ import annotations

from benchmarks.measure import Competitor, Goal, Report, Run, Task, compare
from benchmarks.peers import adapters


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


def report() -> Report:
    """Measure; the items take the branches in turn."""
    items = tuple(range(100))
    task = Task(items=lambda: items, right=lambda x, y: bool(y == hand(x)))
    table = compare(
        "one item through a two-way switch",
        [
            Competitor("hand-written if", lambda: hand, task),
            Competitor("dataflow", ours, task),
            *adapters("switch", is_even, f, g, task=task),
        ],
    )
    ratio = table.row("dataflow").ratio
    return Report((table,), (Goal("overhead of a two-way switch", ratio, 1.5),))
