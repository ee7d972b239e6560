"""The ensemble of two MLPs on Ray Serve: the flow, and what one writes by hand."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np

from benchmarks import effort
from benchmarks.mlp import BATCH, FEATURES, SEED, Vector, one_thread, preprocess
from benchmarks.nets import dense, run
from dataflow.bench import Contestant, Findings, Goal, Task, compare, ready
from dataflow.bench.load import callers, single_stream
from dataflow.bench.rounds import problem
from dataflow.bench.tables import LatencyRow, LatencyTable

IN_FLIGHT = 64
ITEMS = 20_000
FEW = 256

IDIOMATIC, REPLICA, ACTOR = "Ray Serve, idiomatic", "Ray Serve, one replica", "a plain actor, chunks"
TOGETHER, APART = "dataflow, one placement", "dataflow, models apart"


def make_model(seed: int) -> Any:
    """Make a model where it runs."""
    net = dense(FEATURES, 256, 10 + seed)  # of a width of its own, so that no two are one

    def predict(rows: list[Any]) -> list[Any]:
        return list(run(net, rows)[:, :10])

    return predict


def mean(one: Any, other: Any) -> int:
    return int(((one + other) / 2).argmax())


def flow_of(apart: bool) -> Any:
    """Write it as a flow: all stages in one placement, or each model in its own."""
    import dataflow as df

    places = ("first", "second") if apart else ("one", "one")

    @df.stage(batch=BATCH, placement=places[0], name="first")
    class First:
        def __init__(self) -> None:
            self._predict = make_model(0)

        def __call__(self, rows: list[Any]) -> list[Any]:
            return list(self._predict(rows))

    @df.stage(batch=BATCH, placement=places[1], name="second")
    class Second:
        def __init__(self) -> None:
            self._predict = make_model(1)

        def __call__(self, rows: list[Any]) -> list[Any]:
            return list(self._predict(rows))

    before = df.stage(preprocess, placement=None if apart else "one")
    return before >> (First() | Second()) >> df.combine(mean)


class Crowd:
    """All callers at once; the first time it is run, every item once, so that the results can be looked at."""

    def __init__(self, system: Any, count: int) -> None:
        self._system = system
        self._count = count
        self._looked_at = False

    def __call__(self, items: list[Vector]) -> list[int] | None:
        if self._looked_at:
            callers(self._system, items, IN_FLIGHT, self._count)
            return None
        self._looked_at = True
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            return list(pool.map(self._system.run, items))


def findings(quick: bool = False) -> Findings:
    """Measure, with what switches of Ray's are set: the report names them."""
    from benchmarks.peers import ray_serve

    draw = np.random.default_rng(SEED)
    items = list(draw.normal(size=(FEW, FEATURES)).astype(np.float32))
    many = items * (ITEMS // FEW)
    models = [functools.partial(make_model, seed) for seed in range(2)]
    parts = (preprocess, models, mean, BATCH)
    with one_thread(), ExitStack() as stack:
        rows = [preprocess(item) for item in items]
        wanted = [mean(*pair) for pair in zip(*(make()(rows) for make in models), strict=True)]
        stack.enter_context(ray_serve.cluster())
        systems: dict[str, Any] = {
            IDIOMATIC: ray_serve.idiomatic("idiomatic", *parts),
            REPLICA: ray_serve.one_replica("replica", *parts),
        }
        problems = {}
        for name, apart in ((TOGETHER, False), (APART, True)):
            try:
                systems[name] = stack.enter_context(flow_of(apart).open("ray"))
            except Exception as error:
                problems[name] = problem(error)
        count = IN_FLIGHT * (4 if quick else 8)
        task = Task(lambda: [items], lambda _, results: bool(results == wanted), units=count)
        crowd = compare(
            f"{IN_FLIGHT} in flight on the ensemble of two MLPs",
            [Contestant(name, ready(Crowd(system, count)), task) for name, system in systems.items()],
            effort=effort(quick, rounds=3, seconds=30),
            passes=1,
            rate=True,
        )
        alone = {name: single_stream(system, items, 50).latencies() for name, system in systems.items()}
        job = Task(lambda: [many], lambda _, results: bool(list(results) == wanted * (ITEMS // FEW)), units=len(many))
        jobs = compare(
            f"a batch job of {len(many):,} items",
            [
                Contestant(ACTOR, ready(ray_serve.chunked_actor(*parts)), job),
                *(
                    Contestant(name, ready(lambda xs, system=system: list(system.map(xs))), job)
                    for name, system in systems.items()
                    if name in (TOGETHER, APART)
                ),
            ],
            effort=effort(quick, rounds=5, seconds=30),
            passes=1,
            rate=True,
        )
    lone = [LatencyRow(name, found) for name, found in alone.items()]
    missing = [LatencyRow(name, None, why) for name, why in problems.items()]
    request, batch = crowd.row(IDIOMATIC).seconds, jobs.row(TOGETHER).seconds if TOGETHER in systems else None
    half = alone[TOGETHER].at(0.5) / alone[IDIOMATIC].at(0.5) if TOGETHER in alone else None
    over_requests = None if request is None or batch is None else request.middle / batch.middle
    return Findings(
        (crowd, LatencyTable("a lone caller", (*lone, *missing)), jobs),
        (
            Goal("one placement: requests a second over idiomatic", crowd.speed(TOGETHER), 5.0, at_least=True),
            Goal("one placement: median alone over idiomatic", half, 0.5),
            Goal("models apart: requests a second over idiomatic", crowd.speed(APART), 3.0, at_least=True),
            Goal("map: items a second over idiomatic's requests", over_requests, 50.0, at_least=True),
            Goal("map: items a second over a plain actor", jobs.speed(TOGETHER), 0.5, at_least=True),
        ),
    )
