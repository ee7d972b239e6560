"""Ray Serve by hand: as its documentation writes an ensemble, in one replica, and as a plain actor fed with chunks."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import ray
from ray import serve

from dataflow.bench.machine import usable_cores

Predict = Callable[[list[Any]], list[Any]]
IN_FLIGHT = 256
IDIOMATIC = "Ray Serve, idiomatic"
THROUGHPUT = os.environ.get("RAY_SERVE_THROUGHPUT_OPTIMIZED", "0") == "1"
GRPC_BYTES = 4 * 2**20
"""The largest request that a replica takes with these switches: they make it travel by gRPC, and Ray sets no limit."""


@contextmanager
def cluster() -> Iterator[None]:
    """Start Ray for the block, and stop it."""
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    # with the switches an application that is deleted would be kept for half a minute, for load balancers to notice
    os.environ.setdefault("RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S", "0")
    ray.init(num_cpus=2 * usable_cores(), include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        serve.shutdown()
        ray.shutdown()


class Handle:
    """A deployed application as a system under load.

    With Ray's throughput switches a handle can be used in an event loop only, so there is one in a thread.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._loop = _loop() if THROUGHPUT else None

    def run(self, item: Any) -> Any:
        """Return the result of one item."""
        if self._loop is None:
            return self._handle.remote(item).result()
        return asyncio.run_coroutine_threadsafe(self._asked(item), self._loop).result()

    async def _asked(self, item: Any) -> Any:
        return await self._handle.remote(item)


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """Return the event loop in which all handles are used, for Ray Serve gives out the same ones again."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


def idiomatic(
    name: str,
    preprocess: Callable[[Any], Any],
    models: Sequence[Callable[[], Predict]],
    join: Callable[..., Any],
    batch: int,
) -> Handle:
    """Deploy each stage by itself, each model with ``@serve.batch``."""

    @serve.deployment(max_ongoing_requests=IN_FLIGHT, ray_actor_options={"num_cpus": 0.5})
    class Model:
        def __init__(self, make: Callable[[], Predict]) -> None:
            self._predict = make()

        @serve.batch(max_batch_size=batch, batch_wait_timeout_s=0.002)
        async def __call__(self, rows: list[Any]) -> list[Any]:
            return self._predict(rows)

    @serve.deployment(max_ongoing_requests=IN_FLIGHT, ray_actor_options={"num_cpus": 0.5})
    class Preprocess:
        async def __call__(self, item: Any) -> Any:
            return preprocess(item)

    @serve.deployment(max_ongoing_requests=IN_FLIGHT, ray_actor_options={"num_cpus": 0.5})
    class Ensemble:
        def __init__(self, first: Any, *models: Any) -> None:
            self._first = first
            self._models = models

        async def __call__(self, item: Any) -> Any:
            row = await self._first.remote(item)
            return join(*await asyncio.gather(*(model.remote(row) for model in self._models)))

    bound = [Model.options(name=f"Model{number}").bind(make) for number, make in enumerate(models)]
    app = Ensemble.bind(Preprocess.bind(), *bound)
    return Handle(serve.run(app, name=name, route_prefix=None))


def chain(name: str, functions: Sequence[Callable[[Any], Any]]) -> Handle:
    """Deploy each function by itself, and what calls them one after another, handing on responses as they are."""

    @serve.deployment(max_ongoing_requests=IN_FLIGHT, ray_actor_options={"num_cpus": 0.1})
    class Link:
        def __init__(self, function: Callable[[Any], Any]) -> None:
            self._function = function

        async def __call__(self, item: Any) -> Any:
            return self._function(item)

    @serve.deployment(max_ongoing_requests=IN_FLIGHT, ray_actor_options={"num_cpus": 0.1})
    class Chain:
        def __init__(self, *links: Any) -> None:
            self._links = links

        async def __call__(self, item: Any) -> Any:
            for link in self._links:
                item = link.remote(item)
            return await item

    links = [Link.options(name=f"Link{number}").bind(function) for number, function in enumerate(functions)]
    return Handle(serve.run(Chain.bind(*links), name=name, route_prefix=None))


def one_replica(
    name: str,
    preprocess: Callable[[Any], Any],
    models: Sequence[Callable[[], Predict]],
    join: Callable[..., Any],
    batch: int,
) -> Handle:
    """Deploy everything in one replica that forms batches."""

    @serve.deployment(max_ongoing_requests=IN_FLIGHT, ray_actor_options={"num_cpus": 1})
    class Whole:
        def __init__(self) -> None:
            self._models = [make() for make in models]

        @serve.batch(max_batch_size=batch, batch_wait_timeout_s=0.002)
        async def __call__(self, items: list[Any]) -> list[Any]:
            rows = [preprocess(item) for item in items]
            return [join(*parts) for parts in zip(*(model(rows) for model in self._models), strict=True)]

    return Handle(serve.run(Whole.bind(), name=name, route_prefix=None))


def chunked_actor(
    preprocess: Callable[[Any], Any], models: Sequence[Callable[[], Predict]], join: Callable[..., Any], batch: int
) -> Callable[[list[Any]], list[Any]]:
    """Feed a plain actor with chunks, a few ahead: no request path at all."""

    @ray.remote(num_cpus=0)  # the applications beside it have taken what there is
    class Worker:
        def __init__(self) -> None:
            self._models = [make() for make in models]

        def work(self, items: list[Any]) -> list[Any]:
            rows = [preprocess(item) for item in items]
            return [join(*parts) for parts in zip(*(model(rows) for model in self._models), strict=True)]

    worker = Worker.remote()

    def run(items: list[Any]) -> list[Any]:
        stream = iter(items)
        waiting: list[Any] = []
        results: list[Any] = []
        while chunk := list(islice(stream, batch)):
            waiting.append(worker.work.remote(chunk))
            if len(waiting) > 4:
                results += ray.get(waiting.pop(0))
        for reference in waiting:
            results += ray.get(reference)
        return results

    return run
