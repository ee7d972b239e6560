"""Many items through ten trivial stages: what a batch job's glue costs where there is next to nothing to do."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks import effort, job
from benchmarks.overhead import f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, hand, ours
from dataflow.bench import Contestant, Findings, Goal, Table, Task, compare, ready

ITEMS = 20_000


def by_hand(items: Iterable[int]) -> list[int]:
    """Do it as one would by hand."""
    return [f9(f8(f7(f6(f5(f4(f3(f2(f1(f0(x)))))))))) for x in items]


def findings(quick: bool = False) -> Findings:
    """Measure."""
    items = list(range(ITEMS))
    wanted = [hand(x) for x in items]
    task = Task(lambda: [items], lambda _, results: bool(results == wanted), units=ITEMS)
    flow = ours()
    table = compare(
        f"{ITEMS:,} items through 10 trivial stages",
        [
            Contestant("hand-nested calls in a loop", ready(by_hand), task),
            Contestant("dataflow, inline", job(flow, "inline"), task),
            Contestant("dataflow, threads", job(flow, "threads"), task),
        ],
        effort=effort(quick),
        passes=1,
    )
    return Findings(
        (table,),
        (
            Goal("inline: microseconds an item over the hand loop", over(table, "dataflow, inline"), 2.0, unit=" µs"),
            Goal("threads: microseconds an item over the hand loop", over(table, "dataflow, threads"), 2.0, unit=" µs"),
        ),
    )


def over(table: Table, name: str) -> float | None:
    """Return by how many microseconds an item one is slower than the reference, in the middle of the rounds."""
    own, base = table.row(name).samples, table.row(table.reference).samples
    if not own or not base:
        return None
    return sorted(a - b for a, b in zip(own, base, strict=False))[min(len(own), len(base)) // 2] * 1e6
