"""The peers, an adapter file each.

An adapter offers what its library can do, under these names:

- ``chain(functions)``: a callable of one item that calls them one after another
- ``fan_out(branches, join)``: a callable giving ``join(*[b(x) for b in branches])``
- ``switch(key, then, otherwise)``: a callable giving ``then(x)`` where ``key(x)``
  holds, else ``otherwise(x)``
- ``builder(item)``: a callable of functions that builds their chain from nothing,
  ready to run, and gives a callable that runs it on `item`

One that lacks a name is not compared there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from benchmarks.measure import Competitor, Run, Task


@dataclass(frozen=True)
class Peer:
    """A library to compare with, and the names it goes by."""

    name: str
    adapter: str
    distribution: str
    module: str


PEERS = (
    Peer("pipefunc", "pipefunc", "pipefunc", "pipefunc"),
    Peer("Hamilton", "hamilton", "sf-hamilton", "hamilton.driver"),
    Peer("LCEL", "lcel", "langchain-core", "langchain_core.runnables"),
    Peer("Dask delayed, sync", "dask", "dask", "dask"),
)


def adapters(what: str, *arguments: Any, task: Task) -> list[Competitor]:
    """Make a competitor of each peer.

    Parameters
    ----------
    what
        The name the adapter must offer.
    *arguments
        What it is called with.
    task
        The task of the competitor.
    """
    return [Competitor(peer.name, maker(peer, what, arguments), task) for peer in PEERS]


def maker(peer: Peer, what: str, arguments: tuple[Any, ...]) -> Callable[[], Run]:
    """Put off importing a peer until its competitor is made."""

    def make() -> Run:
        adapter = import_module(f"{__name__}.{peer.adapter}")
        if not hasattr(adapter, what):
            raise NotImplementedError("not compared")
        run: Run = getattr(adapter, what)(*arguments)
        return run

    return make
