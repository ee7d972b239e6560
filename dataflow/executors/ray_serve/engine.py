"""The engine inside a replica: the thread executor's session, asked for many items at once from an event loop."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dataflow.executors.aside import own_context
from dataflow.executors.faults import Fault, Faults
from dataflow.executors.link import Program
from dataflow.executors.schedule import Ticket
from dataflow.executors.threads import Threads
from dataflow.executors.threads.call import dropped
from dataflow.executors.threads.pool import Pool
from dataflow.executors.threads.session import ThreadsSession
from dataflow.executors.threads.source import call_in

Limits = list[float | None] | None
"""For each item the seconds within which it is to be done; None where there are none."""


class Request(Ticket):
    """Items that came together, whose outcomes go back together, to the event loop that asked.

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

    __slots__ = ("_loop", "error", "faults", "future", "open", "results")

    def __init__(self, session: ThreadsSession, items: list[Any], *, patient: bool, deadline: float | None) -> None:
        super().__init__(
            items, patient=patient, context=own_context(), deadline=deadline, since=session.pool.clock.now()
        )
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[tuple[list[Any], Faults]] = self._loop.create_future()
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

    def deliver(self) -> None:
        """Give the future the outcomes, from any thread."""
        call_in(self._loop, self._deliver)

    def _deliver(self) -> None:
        if self.future.done():
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
        self._requests: set[Request] = set()
        super().__init__(program, executor, pool, owns_pool=True)

    @property
    def hurried(self) -> bool:
        return any(not request.patient for request in self._requests)

    @property
    def lone(self) -> bool:
        return False

    def settled(self) -> list[Callable[[], None]]:
        ended = [ticket for ticket in self.schedule.ended if isinstance(ticket, Request)]
        calls = super().settled()
        for request in ended:
            self._requests.discard(request)
            self._whole.count(len(request.items), len(request.faults), 0.0)
            calls.append(request.deliver)
        return calls

    def _interrupt(self, tickets: set[Ticket], error: BaseException) -> None:
        super()._interrupt(tickets, error)
        for request in list(self._requests):
            if request in tickets:
                request.error = error
            self.schedule.cancel(request)

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
            self._requests.add(request)
            self.schedule.accept(request)
            calls = self.pool.changed(self)
        for call in calls:
            call()
        try:
            return await request.future
        except asyncio.CancelledError:
            self._withdraw(request)
            raise

    def _withdraw(self, request: Request) -> None:
        with self.pool.lock:
            self.schedule.cancel(request)
            calls = self.pool.changed(self)
        for call in calls:
            call()
