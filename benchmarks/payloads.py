"""Ten stages that hand on what they are given, whatever its size: nothing is to be copied on the way."""

from __future__ import annotations

import operator
from functools import reduce
from typing import Any

import dataflow as df
from benchmarks import beside, effort
from dataflow.bench import Findings, Goal

SIZES = {"10 KiB": 10 * 2**10, "500 KiB": 500 * 2**10, "10 MiB": 10 * 2**20}
STAGES, ITEMS = 10, 200
AN_ITEM = 20.0


def handing_on(number: int) -> Any:
    """Make a stage of its own, so that no two are merged."""

    def hand_on(payload: bytearray) -> bytearray:
        return payload

    hand_on.__qualname__ = f"hand_on_{number}"
    return hand_on


def findings(quick: bool = False) -> Findings:
    """Measure."""
    functions = [handing_on(number) for number in range(STAGES)]
    # every other one has a placement of its own, so that fusion does not make one function of them all
    stages = [df.stage(function, placement=f"place {number % 2}") for number, function in enumerate(functions)]
    flow = reduce(operator.rshift, stages)

    def by_hand(items: list[bytearray]) -> list[bytearray]:
        return [reduce(lambda value, function: function(value), functions, item) for item in items]

    tables, goals = [], []
    for name, size in SIZES.items():
        items = [bytearray(size)] * ITEMS
        table = beside(f"{STAGES} stages, {name}", flow, items, by_hand, effort=effort(quick, 15, 5), same=operator.is_)
        tables.append(table)
        for executor in ("inline", "threads"):
            seconds = table.row(f"dataflow, {executor}").seconds
            took = None if seconds is None else seconds.middle * 1e6 / STAGES
            goals.append(Goal(f"{executor}, {name}: microseconds a stage", took, AN_ITEM, unit=" µs"))
    return Findings(tuple(tables), tuple(goals))
