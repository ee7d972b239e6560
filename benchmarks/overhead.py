"""One item through ten trivial stages: what the glue costs."""

from __future__ import annotations

from benchmarks import effort
from benchmarks.peers import adapters
from dataflow.bench import Contestant, Findings, Goal, Run, Task, compare, ready


def f0(x: int) -> int:
    return x + 1


def f1(x: int) -> int:
    return x + 2


def f2(x: int) -> int:
    return x + 3


def f3(x: int) -> int:
    return x + 4


def f4(x: int) -> int:
    return x + 5


def f5(x: int) -> int:
    return x + 6


def f6(x: int) -> int:
    return x + 7


def f7(x: int) -> int:
    return x + 8


def f8(x: int) -> int:
    return x + 9


def f9(x: int) -> int:
    return x + 10


FUNCTIONS = (f0, f1, f2, f3, f4, f5, f6, f7, f8, f9)


def hand(x: int) -> int:
    """Do it as one would by hand."""
    return f9(f8(f7(f6(f5(f4(f3(f2(f1(f0(x))))))))))


def ours() -> Run:
    """Do it as a flow."""
    import dataflow as df

    return df.stage(f0) >> f1 >> f2 >> f3 >> f4 >> f5 >> f6 >> f7 >> f8 >> f9


def findings(quick: bool = False) -> Findings:
    """Measure."""
    items = tuple(range(25))
    task = Task(items=lambda: items, right=lambda x, y: bool(y == hand(x)))
    table = compare(
        "one item through 10 trivial stages",
        [
            Contestant("hand-nested calls", ready(hand), task),
            Contestant("dataflow", ours, task),
            *adapters("chain", FUNCTIONS, task=task),
        ],
        effort=effort(quick),
    )
    ratio = table.slowness("dataflow")
    return Findings((table,), (Goal("overhead of ten stages", ratio, 1.3),))
