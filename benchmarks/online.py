"""Serving in this process: 64 callers at once on the MLP, and a caller who is alone."""

from __future__ import annotations

import asyncio
import functools
import queue
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle, islice
from time import monotonic
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import effort
from benchmarks.mlp import BATCH, Vector, model, one_thread, preprocess, vectors
from benchmarks.stream import flow_of
from dataflow.bench import Contestant, Findings, Goal, Task, compare, ready
from dataflow.bench.load import System, Traffic, callers, single_stream
from dataflow.bench.rounds import problem
from dataflow.bench.subjects import ByHand
from dataflow.bench.tables import LatencyRow, LatencyTable

CALLERS = 64
MAX_WAIT = 0.002


class Batcher:
    """The batcher that a good engineer writes: a queue, a thread, a future for each caller.

    It takes what there is, waits `MAX_WAIT` for more while it has less than a batch, and ends when it is told to.
    """

    def __init__(self, predict: Callable[[list[Vector]], list[int]]) -> None:
        self._predict = predict
        self._queue: queue.SimpleQueue[tuple[Vector, Future[int]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)

    def __enter__(self) -> Batcher:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._queue.put(None)
        self._thread.join()

    def submit(self, item: Vector) -> Future[int]:
        """Accept one item; its preprocessing is the caller's work."""
        future: Future[int] = Future()
        self._queue.put((preprocess(item), future))
        return future

    def run(self, item: Vector) -> int:
        """Return the result of one item."""
        return self.submit(item).result()

    def map(self, items: Iterable[Vector]) -> Iterable[int]:
        """Return the results of many."""
        return [future.result() for future in [self.submit(item) for item in items]]

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, ended = [first], False
            deadline = monotonic() + MAX_WAIT
            while len(batch) < BATCH and not ended:
                try:
                    entry = self._queue.get(timeout=max(0.0, deadline - monotonic()))
                except queue.Empty:
                    break
                ended = entry is None
                batch += [] if entry is None else [entry]
            try:
                results = self._predict([row for row, _ in batch])
            except Exception as error:
                for _, future in batch:
                    future.set_exception(error)
            else:
                for (_, future), result in zip(batch, results, strict=True):
                    future.set_result(result)
            if ended:
                return


def predictor(mlp: nn.Module) -> Callable[[list[Vector]], list[int]]:
    """Classify preprocessed vectors."""

    def predict(rows: list[Vector]) -> list[int]:
        with torch.inference_mode():
            labels: list[int] = mlp(torch.from_numpy(np.stack(rows))).argmax(1).tolist()
        return labels

    return predict


class AsyncBatcher:
    """The same for coroutines: who fills the batch, or a timer, runs the model in the event loop's thread."""

    def __init__(self, predict: Callable[[list[Vector]], list[int]], batch: int = BATCH) -> None:
        self._predict = predict
        self._batch = batch
        self._waiting: list[tuple[Vector, asyncio.Future[int]]] = []
        self._timer: asyncio.TimerHandle | None = None

    async def arun(self, item: Vector) -> int:
        """Return the result of one item."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        self._waiting.append((preprocess(item), future))
        if len(self._waiting) == self._batch:
            self._flush()
        elif self._timer is None:
            self._timer = loop.call_later(MAX_WAIT, self._flush)
        return await future

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._waiting = self._waiting, []
        try:
            results = self._predict([row for row, _ in batch])
        except Exception as error:
            for _, future in batch:
                future.set_exception(error)
        else:
            for (_, future), result in zip(batch, results, strict=True):
                future.set_result(result)


class Directly:
    """No batcher: every coroutine calls the function."""

    def __init__(self, function: Callable[[Vector], int]) -> None:
        self._function = function

    async def arun(self, item: Vector) -> int:
        """Return the result of one item."""
        return self._function(item)


def coroutines(arun: Callable[[Vector], Awaitable[int]], items: list[Vector], count: int) -> list[int]:
    """Await results in as many coroutines as there are callers, each in a loop of its own; in the items' order."""
    results = [0] * count

    async def caller(number: int) -> None:
        for place in range(number, count, CALLERS):
            results[place] = await arun(items[place % len(items)])

    async def all_callers() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(caller(number))

    asyncio.run(all_callers())
    return results


class Crowd:
    """All callers at once; the first time it is run, every item once, so that the results can be looked at."""

    def __init__(self, system: System, count: int) -> None:
        self._system = system
        self._count = count
        self._looked_at = False

    def __call__(self, items: list[Vector]) -> list[int] | None:
        if self._looked_at:
            found = callers(self._system, items, CALLERS, self._count)
            assert not found.failures
            return None
        self._looked_at = True
        with ThreadPoolExecutor(CALLERS) as pool:
            return list(pool.map(self._system.run, items))


BATCHER, FUNCTION = "hand-written batcher", "one by one"
INLINE, THREADS = "dataflow, inline", "dataflow, threads"


def findings(quick: bool = False) -> Findings:
    """Measure."""
    count = CALLERS * (10 if quick else 50)
    with one_thread(), ExitStack() as stack:
        mlp = model()
        items = vectors(mlp, 1_000)
        predict = predictor(mlp)
        systems: dict[str, System] = {
            BATCHER: stack.enter_context(Batcher(predict)),
            FUNCTION: ByHand(None, lambda item: predict([preprocess(item)])[0]),
        }
        problems = {}
        for name, executor in ((INLINE, "inline"), (THREADS, "threads")):
            try:
                systems[name] = stack.enter_context(flow_of(mlp).open(executor))
            except Exception as error:
                problems[name] = problem(error)
        wanted = predict([preprocess(item) for item in items])

        def right(_: Any, results: list[int]) -> bool:
            return results == wanted

        task = Task(lambda: [items], right, units=count)
        expected = list(islice(cycle(wanted), count))
        awaiting = Task(lambda: [items], lambda _, results: bool(results == expected), units=count)
        asynchronous: dict[str, Any] = {
            BATCHER: AsyncBatcher(predict),
            FUNCTION: Directly(lambda item: predict([preprocess(item)])[0]),
            **{name: system for name, system in systems.items() if name in (INLINE, THREADS)},
        }
        table = compare(
            f"{CALLERS} threads at once on the MLP, batches of up to {BATCH}",
            [Contestant(name, ready(Crowd(system, count)), task) for name, system in systems.items()],
            effort=effort(quick, rounds=15, seconds=30),
            passes=1,
            rate=True,
        )
        awaited = compare(
            f"{CALLERS} coroutines at once on the MLP, batches of up to {BATCH}",
            [
                Contestant(name, ready(functools.partial(coroutines, system.arun, count=count)), awaiting)
                for name, system in asynchronous.items()
            ],
            effort=effort(quick, rounds=15, seconds=30),
            passes=1,
            rate=True,
        )
        crowded = {name: callers(system, items, CALLERS, count) for name, system in systems.items()}
        alone = {name: Traffic() for name in systems}
        for _ in range(5):
            for name, system in systems.items():
                alone[name] += single_stream(system, items, 40 if quick else 400)
    lone = {name: traffic.latencies() for name, traffic in alone.items()}

    def over_the_function(name: str) -> float | None:
        return 1e6 * (lone[name].at(0.5) - lone[FUNCTION].at(0.5)) if name in lone else None

    missing = [LatencyRow(name, None, why) for name, why in problems.items()]
    crowd = [LatencyRow(name, traffic.latencies()) for name, traffic in crowded.items()]
    single = [LatencyRow(name, found) for name, found in lone.items()]
    return Findings(
        (
            table,
            awaited,
            LatencyTable(f"the latencies of {CALLERS} threads", (*crowd, *missing)),
            LatencyTable("a lone caller", (*single, *missing)),
        ),
        (
            *(
                Goal(
                    f"threads, {CALLERS} {kind}: speed over {to}",
                    found.speed(THREADS, to),
                    least,
                    at_least=True,
                )
                for kind, found in (("threads", table), ("coroutines", awaited))
                for to, least in ((BATCHER, 0.8), (FUNCTION, 5.0))
            ),
            Goal("threads: a lone caller's median over the function", over_the_function(THREADS), 150.0, unit=" µs"),
            Goal("inline: a lone caller's median over the function", over_the_function(INLINE), 150.0, unit=" µs"),
        ),
    )
