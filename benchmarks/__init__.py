"""The project's own benchmarks: a file a workload, an adapter file a peer; the harness is `dataflow.bench`."""

from __future__ import annotations

import importlib.util
import operator
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

# Read when numpy and torch are first imported. torch's own setting holds in the thread that sets it, and would leave
# contestants that start threads with a team of threads in each.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Read when Ray is started. As Ray has it, its workers are as nice as can be, and 64 callers of one process beside them
# leave them the time that nobody else wants: on two cores the callers are measured then, whatever they call.
os.environ.setdefault("RAY_worker_niceness", "0")

from dataflow.bench import Contestant, Effort, Findings, Goal, Run, Table, Task, compare, ready

KEPT = 0.9
"""The share of the hand-written code's throughput that a workload is to keep, where nothing else is said."""


def effort(quick: bool, rounds: int = 31, seconds: float = 15.0) -> Effort:
    """Say how many rounds to take: those given, or few and soon over."""
    if quick:
        return Effort(min(rounds, 7), min(rounds, 3), settled=0.05, seconds=1.0)
    return Effort(rounds, min(rounds, 7), settled=0.005, seconds=seconds)


def job(flow: Any, executor: str) -> Callable[[], Run]:
    """Make a contestant of a flow: the batch job over all items, on an executor by its name."""

    def make() -> Run:
        from dataflow.executors import resolve

        resolve(executor)
        return lambda items: list(flow.map(items, executor=executor))

    return make


def example(name: str) -> ModuleType:
    """Import one of the repository's examples, which are no package."""
    path = Path(__file__).parent.parent / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{name}_example", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def beside(
    title: str,
    flow: Any,
    items: Sequence[Any],
    hand: Run,
    *,
    effort: Effort,
    same: Callable[[Any, Any], Any] = operator.eq,
) -> Table:
    """Compare a flow, as a batch job on each executor, with the hand-written job."""
    wanted = hand(items)

    def right(_: Any, results: Any) -> bool:
        made = list(results)
        return len(made) == len(wanted) and all(same(*pair) for pair in zip(made, wanted, strict=True))

    task = Task(lambda: [items], right, units=len(items))
    contestants = [
        Contestant("hand-written", ready(hand), task),
        *(Contestant(f"dataflow, {name}", job(flow, name), task) for name in ("inline", "threads")),
    ]
    return compare(title, contestants, effort=effort, passes=1, rate=True)


def kept(*tables: Table) -> Findings:
    """Hold tables that `beside` has made to keeping the throughput of the hand-written code."""
    goals = []
    for table in tables:
        for name in ("inline", "threads"):
            what = f"{table.title.partition(':')[0]}, {name}: throughput kept"
            goals.append(Goal(what, table.speed(f"dataflow, {name}"), KEPT, at_least=True))
    return Findings(tables, tuple(goals))
