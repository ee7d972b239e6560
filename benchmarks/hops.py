"""What a hop costs on Ray Serve, for small values and large; what fusion saves of it; how long deploying takes."""

from __future__ import annotations

import operator
from collections.abc import Callable
from contextlib import ExitStack
from functools import reduce
from typing import Any

import numpy as np

import dataflow as df
from benchmarks import effort
from benchmarks.mlp import preprocess
from benchmarks.serve import BATCH, flow_of, make_model, mean
from dataflow.bench import Contestant, Findings, Goal, Run, Task, compare, ready

SIZES = {"10 KiB": 10 * 2**10, "500 KiB": 500 * 2**10, "10 MiB": 10 * 2**20}
ITEMS = {"10 KiB": 60, "500 KiB": 20, "10 MiB": 20}
"""How many are sent for a sample: among a dozen processes on two cores, what takes 5 ms may take twice that."""

DEPLOYMENTS, FUSED = 3, 12
WARM = 5
FLAT = 1.2
"""How much longer an item may take through 12 stages than through 3, if they are fused."""


def handing_on(number: int) -> Callable[[Any], Any]:
    """Make a stage of its own, so that no two are merged."""

    def hand_on(payload: Any) -> Any:
        return payload

    hand_on.__qualname__ = f"hand_on_{number}"
    return hand_on


def chain(count: int, *, apart: bool) -> Any:
    """Make a chain of stages: each in a deployment of its own, or all in one."""
    stages = [df.stage(handing_on(number), placement=f"place{number}" if apart else None) for number in range(count)]
    return reduce(operator.rshift, stages)


def one_by_one(run: Callable[[Any], Any]) -> Run:
    """Make a job of what runs one item: each is waited for, looked at and let go of before the next."""
    return lambda items: [len(run(item)) for item in items]


def findings(quick: bool = False) -> Findings:
    """Measure."""
    from benchmarks.peers import ray_serve

    tables, goals = [], []
    with ExitStack() as stack:
        stack.enter_context(ray_serve.cluster())
        by_hand = ray_serve.chain("chain", [handing_on(number) for number in range(DEPLOYMENTS)])
        session = stack.enter_context(chain(DEPLOYMENTS, apart=True).open("ray"))
        short = stack.enter_context(chain(DEPLOYMENTS, apart=False).open("ray"))
        long = stack.enter_context(chain(FUSED, apart=False).open("ray"))
        for name, size in SIZES.items():
            if ray_serve.THROUGHPUT and size > ray_serve.GRPC_BYTES:
                continue  # by hand it cannot be done
            items = [np.zeros(size, dtype=np.uint8)] * (5 if quick else ITEMS[name])
            task = Task(lambda items=items: [items], _handed_on, units=len(items))
            ways = {
                ray_serve.IDIOMATIC: by_hand.run,
                f"dataflow, {DEPLOYMENTS} deployments": session.run,
                f"dataflow, {DEPLOYMENTS} stages fused": short.run,
                f"dataflow, {FUSED} stages fused": long.run,
            }
            for run in ways.values():
                one_by_one(run)(items * WARM)  # in processes that stay it is the memory used before that counts
            contestants = [Contestant(way, ready(one_by_one(run)), task) for way, run in ways.items()]
            table = compare(f"a chain, {name}", contestants, effort=effort(quick, 21, 30), passes=1)
            tables.append(table)
            apart = table.slowness(f"dataflow, {DEPLOYMENTS} deployments", ray_serve.IDIOMATIC)
            flat = table.slowness(f"dataflow, {FUSED} stages fused", f"dataflow, {DEPLOYMENTS} stages fused")
            goals.append(Goal(f"{name}: time through {DEPLOYMENTS} deployments over idiomatic", apart, 1.0))
            goals.append(Goal(f"{name}: time through {FUSED} fused stages over {DEPLOYMENTS}", flat, FLAT))
    with ray_serve.cluster():  # another, for what was deployed has taken the cores
        deploying = compare("deploy the ensemble", _deployers(), effort=effort(quick, 3, 60), passes=1)
    slower = deploying.slowness("dataflow, one placement", ray_serve.IDIOMATIC)
    apart = deploying.slowness("dataflow, models apart", ray_serve.IDIOMATIC)
    return Findings(
        (*tables, deploying),
        (
            *goals,
            Goal("deploy in one placement over idiomatic", slower, 1.0),
            Goal("deploy with models apart over idiomatic", apart, 1.0),
        ),
    )


def _handed_on(items: Any, results: Any) -> bool:
    return bool(results == [len(item) for item in items])


def _deployers() -> list[Contestant]:
    """Return what deploys the ensemble of two MLPs, asks it once, and deletes it."""
    from ray import serve

    from benchmarks.peers import ray_serve

    item = np.zeros(64, dtype=np.float32)

    def idiomatic(items: Any) -> int:
        models = [lambda number=number: make_model(number) for number in range(2)]
        asked = ray_serve.idiomatic("deployed", preprocess, models, mean, BATCH).run(item)
        serve.delete("deployed")
        return int(asked)

    def ours(apart: bool) -> Run:
        def deploy(items: Any) -> int:
            with flow_of(apart).open("ray") as session:
                return int(session.run(item))

        return deploy

    task = Task(lambda: [None], lambda _, result: 0 <= result < 10, units=1)
    return [
        Contestant(ray_serve.IDIOMATIC, ready(idiomatic), task),
        Contestant("dataflow, one placement", ready(ours(apart=False)), task),
        Contestant("dataflow, models apart", ready(ours(apart=True)), task),
    ]
