"""A thread that runs works: whether it gets anywhere, and what it does while it waits for others."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from dataflow.executors.schedule import Work

if TYPE_CHECKING:
    from dataflow.executors.threads.pool import Pool

_numbers = itertools.count(1)

BLOCKED = 0.005
"""Seconds after which it is looked at whether a thread that runs a stage does anything."""

IDLE = 0.2
"""The part of its time below which it does not; one that has to wait for the interpreter lock does more than that."""


class Worker(threading.Thread):
    """A thread of a pool.

    Parameters
    ----------
    serve : callable
        What it does: it is given the worker.
    pool : Pool
        Whose thread it is.

    Attributes
    ----------
    work : Work or None
        What it runs.
    began : float
        When it began to, in seconds.
    used : float
        How many seconds it had been on a processor then.
    """

    def __init__(self, serve: Callable[[Worker], None], pool: Pool) -> None:
        super().__init__(name=f"dataflow-worker-{next(_numbers)}", daemon=True)
        self.pool = pool
        self._serve = serve
        self.work: Work | None = None
        self.began = 0.0
        self.used = 0.0

    @property
    def blocked(self) -> bool:
        """Whether it has run its work for a while, and hardly been on a processor."""
        took = time.perf_counter() - self.began
        return self.work is not None and took >= BLOCKED and _on_processor(self) - self.used < IDLE * took

    def run(self) -> None:
        self._serve(self)


class waiting:  # used as a function is
    """Wait in the block for what other threads do: a worker that does so in a stage lends its place meanwhile."""

    __slots__ = ("_lender",)

    def __enter__(self) -> None:
        worker = threading.current_thread()
        self._lender = None
        if isinstance(worker, Worker) and worker.work is not None and not worker.work.left:
            self._lender = worker.pool
            worker.pool.lend()

    def __exit__(self, *exc: object) -> None:
        if self._lender is not None:
            self._lender.take_back()


def _on_processor(thread: threading.Thread) -> float:
    """Return how many seconds a thread has been on a processor; 0 where the system does not tell."""
    if thread.ident is None or not hasattr(time, "pthread_getcpuclockid"):
        return 0.0
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
