"""The engine inside a replica: the thread executor's session, asked for many items at once from an event loop."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dataflow.executors.aside import own_context
from dataflow.executors.faults import Fault, Faults
from dataflow.executors.link import Program
from dataflow.executors.schedule import Ticket, Work
from dataflow.executors.threads import Threads
from dataflow.executors.threads.call import dropped
from dataflow.executors.threads.pool import Pool
from dataflow.executors.threads.session import ThreadsSession
from dataflow.executors.threads.source import call_in

LINGER = 0.005
"""Seconds for which outcomes wait for others of the same request, if nobody knows how long those take."""

Outcomes = tuple[list[int], list[Any], Faults]
"""The numbers of items in their request, ascending; their results, None where one failed; the faults, by place."""

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
        while not self._closed and (work := self.schedule.take_away()) is not None:
            calls.append(functools.partial(self._begin, work))
        return calls

    def _begin(self, work: Work) -> None:
        """Begin work that needs no thread."""
        if work.left:
            return
        back = functools.partial(self._back, work)
        try:
            work.begin(back)
        except Exception as error:  # a defect of ours must not leave anybody waiting
            back(error)

    def _back(self, work: Work, error: BaseException | None) -> None:
        """Take work back that needed no thread."""
        with self.pool.lock:
            if work.left:
                return
            calls = self.pool.bring_back(self, work, error)
        for call in calls:
            call()

    def _interrupt(self, tickets: set[Ticket], error: BaseException) -> None:
        super()._interrupt(tickets, error)
        for request in list(self._requests):
            if request in tickets:
                request.error = error
            self.schedule.cancel(request)

    def begin(self, items: list[Any], limits: Limits, *, patient: bool) -> Pending:
        """Begin to run items that came together.

        Those of a job go through the flow together. Any other goes by itself, for what goes together ends together: it
        meets others in batches.
        """
        most = len(items) if patient else 1
        requests: list[tuple[int, Request]] = []
        with self.pool.lock:
            self._check_open()
            start = 0
            while start < len(items):
                limit = None if limits is None else limits[start]
                stop = start + 1
                while stop < len(items) and stop - start < most and (limits is None or limits[stop] == limit):
                    stop += 1
                request = Request(self, items[start:stop], patient=patient, deadline=limit)
                requests.append((start, request))
                self._requests.add(request)
                self.schedule.accept(request)
                start = stop
            calls = self.pool.changed(self)
        for call in calls:
            call()
        return Pending(self, requests, patient=patient)

    def withdraw_all(self, requests: Iterable[Request]) -> None:
        """Take the work of items out of the queues."""
        with self.pool.lock:
            for request in requests:
                self.schedule.cancel(request)
            calls = self.pool.changed(self)
        for call in calls:
            call()


class Pending:
    """Items that came together and have not all had their outcome.

    Parameters
    ----------
    session : ReplicaSession
        Where.
    requests : list of (int, Request)
        The items, in parts that end by themselves, each with the number of its first item.
    patient : bool
        Whether nobody minds if those that are done wait for the others.
    """

    def __init__(self, session: ReplicaSession, requests: list[tuple[int, Request]], *, patient: bool) -> None:
        self._session = session
        self._left = requests
        self._patient = patient

    @property
    def left(self) -> bool:
        """Whether there are outcomes to come."""
        return bool(self._left)

    async def some(self, *, whole: bool) -> Outcomes:
        """Return outcomes: all of them, or (if not `whole`) those there are when the others have lingered for a while.

        Raises
        ------
        Stopped
            Where a stage has raised what ends everything.
        """
        futures = {request.future for _, request in self._left}
        if futures and (self._patient or whole):
            await asyncio.wait(futures)
        elif futures:
            await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
            if any(not future.done() for future in futures):
                await asyncio.wait(futures, timeout=LINGER)
        done = [(start, request) for start, request in self._left if request.future.done()]
        self._left = [(start, request) for start, request in self._left if not request.future.done()]
        positions: list[int] = []
        values: list[Any] = []
        faults: Faults = {}
        for start, request in done:
            results, failed = request.future.result()
            faults.update({len(positions) + at: fault for at, fault in failed.items()})
            positions += range(start, start + len(results))
            values += results
        return positions, values, faults

    def give_up(self) -> None:
        """Forget those that have no outcome yet."""
        self._session.withdraw_all(request for _, request in self._left)
        self._left = []
