"""Racing copies of a stage whose time is Gamma(3, 2) milliseconds: how near the ideal it comes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.mlp import SEED
from dataflow.bench import Findings, Goal
from dataflow.bench.load import single_stream
from dataflow.bench.rounds import problem
from dataflow.bench.subjects import ByHand
from dataflow.bench.tables import Latencies, LatencyRow, LatencyTable

COPIES = (1, 2, 3)
THETA = 2.0
WITHIN = 1.15
EXECUTORS = ("inline", "threads")


class Sleeper:
    """One copy: it sleeps as long as was drawn for the item."""

    def __init__(self, seconds: list[float]) -> None:
        self._seconds = seconds

    def __call__(self, item: int) -> int:
        time.sleep(self._seconds[item])
        return item


def before(item: int) -> int:
    return item


def after(item: int) -> int:
    return item


def findings(quick: bool = False) -> Findings:
    """Measure one item at a time, for the ideal knows no queue.

    The ideal is the least of the times drawn for an item, so that no luck of the draw is in the ratio.
    """
    import dataflow as df

    count = 150 if quick else 600
    drawn = np.random.default_rng(SEED).gamma(3, THETA, size=(max(COPIES), count)) / 1_000
    tables, goals = [], []
    for copies in COPIES:
        sleepers = [Sleeper([float(seconds) for seconds in row]) for row in drawn[:copies]]
        raced: Any = df.race(*sleepers) if copies > 1 else df.stage(sleepers[0])
        flow = before >> raced >> after
        ideal = Latencies.of([float(seconds) for seconds in drawn[:copies].min(axis=0)])
        least = ByHand(None, Sleeper([float(seconds) for seconds in drawn[:copies].min(axis=0)]))
        slept = single_stream(least, list(range(count)), count).latencies()
        rows = [LatencyRow("ideal", ideal), LatencyRow("sleeping that long", slept)]
        for executor in EXECUTORS:
            try:
                with flow.open(executor) as session:
                    found = single_stream(session, list(range(count)), count).latencies()
            except Exception as error:
                rows.append(LatencyRow(f"dataflow, {executor}", None, problem(error)))
                found = None
            else:
                rows.append(LatencyRow(f"dataflow, {executor}", found))
            what = f"{executor}, {copies} {'copy' if copies == 1 else 'copies'}"
            goals.append(Goal(f"{what}: mean over the ideal", found and found.mean / ideal.mean, WITHIN))
            goals.append(Goal(f"{what}: p99 over the ideal", found and found.at(0.99) / ideal.at(0.99), WITHIN))
        tables.append(LatencyTable(f"{copies} of a stage that takes Gamma(3, 2) ms, a caller", tuple(rows)))
    return Findings(tuple(tables), tuple(goals))
