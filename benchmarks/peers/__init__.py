"""The peers, an adapter file each.

An adapter offers what its library can do, under these names; one that lacks a name is not compared there.

- ``chain(functions)``: a callable of one item that calls them one after another
- ``fan_out(branches, join)``: a callable giving ``join(*[b(x) for b in branches])``
- ``switch(key, then, otherwise)``: a callable giving ``then(x)`` where ``key(x)`` holds, else ``otherwise(x)``
- ``builder(item)``: a callable of functions that builds their chain from nothing, ready to run, and gives a callable
  that runs it on `item`
- ``stream(preprocess, model, batch)``: a callable of a list of items, giving ``model``'s results for batches of what
  ``preprocess`` makes of each item, in order
- ``stream_one_by_one(preprocess, model)``: the same, for those that form no batches
- ``served(port)``: does not return, and answers requests on a port of this machine, at ``PATH``: ``{"item": [...]}`` is
  classified by the MLP as ``{"result": ...}``; run in a process of its own
- ``stream_in_processes(preprocess, model, batch)``: the same, for those that start processes, and ship items to them
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from dataflow.bench import Contestant, Run, Task

ONE = ("chain", "fan_out", "builder")


@dataclass(frozen=True)
class Peer:
    """A library to compare with, the names it goes by, and what its adapter offers."""

    name: str
    adapter: str
    distribution: str
    module: str
    offers: tuple[str, ...]


PEERS = (
    Peer("pipefunc", "pipefunc", "pipefunc", "pipefunc", ("chain", "fan_out")),
    Peer("Hamilton", "hamilton", "sf-hamilton", "hamilton.driver", ("chain", "fan_out")),
    Peer("LCEL", "lcel", "langchain-core", "langchain_core.runnables", (*ONE, "switch", "stream_one_by_one")),
    Peer("Dask delayed, sync", "dask", "dask", "dask", ONE),
    Peer("torchdata.nodes", "torchdata", "torchdata", "torchdata.nodes", ("stream",)),
    Peer("pypeln, threads", "pypeln", "pypeln", "pypeln", ("stream_one_by_one",)),
    Peer("ThreadPoolExecutor.map", "pool", "", "concurrent.futures", ("stream_one_by_one",)),
    Peer("Ray Data", "ray_data", "ray", "ray.data", ("stream_in_processes",)),
    Peer("FastAPI, batched by hand", "fastapi", "fastapi", "fastapi", ("served",)),
    Peer("LitServe", "litserve", "litserve", "litserve", ("served",)),
    Peer("mosec", "mosec", "mosec", "mosec", ("served",)),
)


def adapters(what: str, *arguments: Any, task: Task) -> list[Contestant]:
    """Make a contestant of each peer that offers something.

    Parameters
    ----------
    what
        The name that the adapter must offer.
    *arguments
        What it is called with.
    task
        The task of the contestants.
    """
    return [Contestant(peer.name, _maker(peer, what, arguments), task) for peer in PEERS if what in peer.offers]


def stop() -> None:
    """Stop the processes that peers have started, so that they are in nobody's way."""
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


def _maker(peer: Peer, what: str, arguments: tuple[Any, ...]) -> Callable[[], Run]:
    """Put off importing a peer until its contestant is made."""

    def make() -> Run:
        run: Run = getattr(import_module(f"{__name__}.{peer.adapter}"), what)(*arguments)
        return run

    return make
