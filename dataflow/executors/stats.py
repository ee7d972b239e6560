"""Counting what a session does."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from typing import TypedDict

from dataflow.plan import Plan


class StepReport(TypedDict):
    """What one step did: see `SessionReport`."""

    items: int
    failures: int
    batches: dict[int, int]
    dispatched: dict[str, int]
    queue_seconds: float
    seconds: float


class SessionReport(TypedDict):
    """What `Session.stats` returns.

    Keys: ``executor``, its name; ``digest``, the plan's; ``items`` and ``failures``, of the whole flow;
    ``abandoned_threads``, left behind by timeouts and races; ``steps``, by the steps' names: the ``items`` that reached
    it, the ``failures`` among them, in ``batches`` how many calls were made with each batch size, in ``dispatched`` how
    many batches were called for each reason, ``queue_seconds`` that items have waited for it (each item's counts), and
    ``seconds`` spent in it.

    The reasons: ``full``; ``flushed``, for nothing else could bring more; ``waited``, for its time was up; ``lone``,
    for to wait for others would not have paid.
    """

    executor: str
    digest: str
    items: int
    failures: int
    abandoned_threads: int
    steps: dict[str, StepReport]


class StepStats:
    """The counters of one step; several threads may count at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items = 0
        self._failures = 0
        self._seconds = 0.0
        self._queue_seconds = 0.0
        self._batches: Counter[int] = Counter()
        self._dispatched: Counter[str] = Counter()

    def count(self, items: int, failures: int, seconds: float) -> None:
        """Count items that the step was given, and the time that it took."""
        with self._lock:
            self._items += items
            self._failures += failures
            self._seconds += seconds

    def batch(self, size: int, calls: int = 1) -> None:
        """Count calls with batches of this size."""
        with self._lock:
            self._batches[size] += calls

    def dispatch(self, reason: str, batches: int = 1) -> None:
        """Count why batches were called when they were."""
        with self._lock:
            self._dispatched[reason] += batches

    def queued(self, seconds: float) -> None:
        """Count time that items have waited for the step."""
        with self._lock:
            self._queue_seconds += seconds

    def report(self) -> StepReport:
        """Return the counts."""
        with self._lock:
            return {
                "items": self._items,
                "failures": self._failures,
                "batches": dict(sorted(self._batches.items())),
                "dispatched": dict(sorted(self._dispatched.items())),
                "queue_seconds": self._queue_seconds,
                "seconds": self._seconds,
            }


def step_stats(plan: Plan) -> dict[str, StepStats]:
    """Return counters for every step of a plan, by name."""
    return {step.name: StepStats() for _, step in plan.walk()}


def merged(plan: Plan, reports: Iterable[SessionReport]) -> dict[str, StepReport]:
    """Return what several sessions of one plan did, step by step, as if one had done it."""
    whole = {name: stats.report() for name, stats in step_stats(plan).items()}
    for report in reports:
        for name, step in report["steps"].items():
            if name not in whole:  # another version of the flow
                continue
            into = whole[name]
            into["items"] += step["items"]
            into["failures"] += step["failures"]
            into["seconds"] += step["seconds"]
            into["queue_seconds"] += step["queue_seconds"]
            into["batches"] = dict(sorted((Counter(into["batches"]) + Counter(step["batches"])).items()))
            into["dispatched"] = dict(sorted((Counter(into["dispatched"]) + Counter(step["dispatched"])).items()))
    return whole
