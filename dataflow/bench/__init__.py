"""Measuring flows: on every executor, with and without each pass, beside what one would write by hand.

``python -m dataflow bench`` is this on the command line; `measure` is it in Python. The rest is the harness itself,
which the project's own benchmarks use too: `compare` times contestants in turns, the loads measure latencies.
"""

from __future__ import annotations

from dataflow.bench import files
from dataflow.bench.load import Limit
from dataflow.bench.measure import Settings, measure
from dataflow.bench.rounds import Contestant, Effort, Run, Task, Watcher, compare, ready
from dataflow.bench.tables import Findings, Goal, Report, Row, Table

__all__ = [
    "Contestant",
    "Effort",
    "Findings",
    "Goal",
    "Limit",
    "Report",
    "Row",
    "Run",
    "Settings",
    "Table",
    "Task",
    "Watcher",
    "compare",
    "files",
    "measure",
    "ready",
]
