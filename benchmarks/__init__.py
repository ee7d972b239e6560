"""The project's own benchmarks: a file a workload, an adapter file a peer; the harness is `dataflow.bench`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dataflow.bench import Effort, Run


def effort(quick: bool, rounds: int = 31, seconds: float = 15.0) -> Effort:
    """Say how many rounds to take: those given, or few and soon over."""
    if quick:
        return Effort(min(rounds, 7), min(rounds, 3), settled=0.05, seconds=2.0)
    return Effort(rounds, min(rounds, 7), settled=0.005, seconds=seconds)


def job(flow: Any, executor: str) -> Callable[[], Run]:
    """Make a contestant of a flow: the batch job over all items, on an executor by its name."""

    def make() -> Run:
        from dataflow.executors import resolve

        resolve(executor)
        return lambda items: list(flow.map(items, executor=executor))

    return make
