"""The engine inside a replica: the thread executor's session, asked for many items at once from an event loop."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from dataflow.executors.aside import own_context
from dataflow.executors.faults import Fault, Faults
from dataflow.executors.link import Program
from dataflow.executors.schedule import Ticket
from dataflow.executors.threads import Threads
from dataflow.executors.threads.call import AwaitedCall, dropped
from dataflow.executors.threads.pool import Pool
from dataflow.executors.threads.session import ThreadsSession

Limits = list[float | None] | None
"""For each item the seconds within which it is to be done; None where there are none."""


class Request(AwaitedCall):
    """Items that came together, whose outcomes go back together.

    Parameters
    ----------
    session : ThreadsSession
        Where.
    items : list
        The items.
    patient : bool
        Whether they are of a job, which can wait until batches are full.
    deadline : float, optional
        Seconds after which those that are not done fail.
    """

    __slots__ = ("faults", "open", "results")

    def __init__(self, session: ThreadsSession, items: list[Any], *, patient: bool, deadline: float | None) -> None:
        Ticket.__init__(
            self, items, patient=patient, context=own_context(), deadline=deadline, since=session.pool.clock.now()
        )
        self.session = session
        self.future = self._promise()
        self.error: BaseException | None = None
        self.open = len(items)  # how many have no outcome yet
        self.results: list[Any] = [None] * len(items)
        self.faults: Faults = {}

    def succeeded(self, positions: Sequence[int], values: list[Any]) -> None:
        for position, value in zip(positions, values, strict=True):
            self.results[position] = value
        self.open -= len(positions)

    def failed(self, faults: Mapping[int, Fault]) -> None:
        self.faults.update(faults)
        self.open -= len(faults)

    @property
    def failures(self) -> int:
        return len(self.faults)

    def deliver(self) -> None:
        """Give the future the outcomes, in its loop."""
        session, self.session = self.session, None
        if session is None or self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(Stopped(self.error))
        elif self.open:
            self.future.set_exception(dropped())
        else:
            self.future.set_result((self.results, self.faults))


class Stopped(Exception):
    """Carries what ends everything, as KeyboardInterrupt does, through an event loop, which would end of it itself."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class ReplicaSession(ThreadsSession):
    """A session that is asked for many items at once.

    Parameters
    ----------
    program : Program
        The linked plan; some of its steps may be run elsewhere.
    workers : int
        The most steps that run in this process at once.
    elsewhere : int
        The most calls that wait for other processes at once.
    """

    def __init__(self, program: Program, workers: int, elsewhere: int) -> None:
        executor = Threads(workers=workers + elsewhere)
        pool = Pool(workers + elsewhere, program.clock, executor)
        super().__init__(program, executor, pool, owns_pool=True)

    @property
    def hurried(self) -> bool:
        return any(not call.patient for call in list(self._calls))

    async def ask(self, items: list[Any], limits: Limits, *, patient: bool) -> tuple[list[Any], Faults]:
        """Return the results of items, with None where one failed, and the faults."""
        if limits is None:
            return await self._ask(items, None, patient=patient)
        results: list[Any] = []
        faults: Faults = {}
        runs = [(limit, list(run)) for limit, run in itertools.groupby(range(len(items)), key=limits.__getitem__)]
        parts = await asyncio.gather(
            *(self._ask([items[at] for at in run], limit, patient=patient) for limit, run in runs)
        )
        for values, failed in parts:
            faults.update({len(results) + position: fault for position, fault in failed.items()})
            results += values
        return results, faults

    async def _ask(self, items: list[Any], deadline: float | None, *, patient: bool) -> tuple[list[Any], Faults]:
        request = Request(self, items, patient=patient, deadline=deadline)
        with self.pool.lock:
            self._check_open()
            self._calls.add(request)
            self.schedule.accept(request)
            calls = self.pool.changed(self)
        for call in calls:
            call()
        try:
            outcome: tuple[list[Any], Faults] = await request.future
            return outcome
        except asyncio.CancelledError:
            self.withdraw(request)
            raise
