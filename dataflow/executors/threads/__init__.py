"""The thread executor: many items at once, in a fixed number of threads."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable
from typing import Any, ClassVar

from dataflow.executors.clock import Clock
from dataflow.executors.link import Program
from dataflow.executors.planning import Planning
from dataflow.executors.results import OnError, Results
from dataflow.executors.threads.pool import Pool, workers_of
from dataflow.executors.threads.session import ThreadsSession, run_job
from dataflow.executors.threads.worker import Worker
from dataflow.expr import options as checks
from dataflow.expr.flow import Flow
from dataflow.passes import Pass

__all__ = ["Threads"]


@dataclasses.dataclass(frozen=True)
class Threads(Planning):
    """Runs flows in a fixed number of threads of this process.

    Parameters
    ----------
    workers : int, optional
        The most stages that run at once; by default 4 more than there are cores, 32 at the most.
    max_in_flight : int
        The most items that ``map`` reads ahead of the results taken, and the most that ``submit`` accepts before it
        waits for some to be done.
    max_queue : int, optional
        The most submitted items that may wait to be begun: one more is a `QueueFull` at once, instead of waiting.
    debug : bool
        Whether to look if a stage changes its input in place though others are given the same object: its item then
        fails with a `DataflowError` that names it. It costs far more than most stages do.
    passes : iterable of str or Pass, or str, optional
        The optimizer passes, as `Flow.optimize` takes them.
    clock : Clock, optional
        By which timeouts and waiting are measured; the computer's by default.

    Examples
    --------
    >>> import dataflow as df
    >>> flow = df.stage(abs) >> (df.stage(str) | float)
    >>> list(flow.map([-1, 2], df.Threads(workers=2)))
    [('1', 1.0), ('2', 2.0)]
    """

    name: ClassVar[str] = "threads"

    workers: int | None = None
    max_in_flight: int = 1024
    max_queue: int | None = None
    debug: bool = False
    passes: Iterable[str | Pass] | str | None = None
    clock: Clock | None = None

    def __post_init__(self) -> None:
        if self.workers is not None:
            checks.whole_number("Threads", "workers", self.workers, 1)
        checks.whole_number("Threads", "max_in_flight", self.max_in_flight, 1)
        if self.max_queue is not None:
            checks.whole_number("Threads", "max_queue", self.max_queue, 1)
        super().__post_init__()

    def open(self, flow: Flow[Any, Any]) -> ThreadsSession:
        """Open a session, constructing all class stages now."""
        program = self.program(flow)
        program.construct(all_replicas=True)
        return self._session(program)

    def map(
        self,
        program: Program,
        items: Iterable[Any],
        *,
        ordered: bool = True,
        on_error: OnError = "raise",
        max_in_flight: int | None = None,
        progress: bool | None = None,
    ) -> Results:
        """Run a program over items, in threads that end with the job."""
        return run_job(
            lambda: self._session(program),
            items,
            ordered=ordered,
            on_error=on_error,
            max_in_flight=max_in_flight,
            progress=progress,
        )

    def _session(self, program: Program) -> ThreadsSession:
        """Return a session; one opened inside a stage shares the threads that run the stage."""
        here = threading.current_thread()
        if isinstance(here, Worker) and here.pool.executor == self:
            return ThreadsSession(program, self, here.pool, owns_pool=False)
        return ThreadsSession(program, self, Pool(workers_of(self), program.clock, self), owns_pool=True)
