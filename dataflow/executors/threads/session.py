"""The session of the thread executor."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import threading
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

from dataflow.errors import QueueFull, SessionClosed
from dataflow.executors.aside import go_on
from dataflow.executors.clock import SystemClock
from dataflow.executors.faults import Fault
from dataflow.executors.link import Program
from dataflow.executors.results import (
    AsyncResults,
    Bursts,
    OnError,
    Results,
    checked_items,
    checked_mode,
    with_progress,
)
from dataflow.executors.schedule import Schedule, Ticket, Work, no_source, timed
from dataflow.executors.session import Session
from dataflow.executors.stats import SessionReport, StepStats, step_stats
from dataflow.executors.threads.call import AwaitedCall, Call, CallFuture, Party, deliveries, dropped
from dataflow.executors.threads.here import Here
from dataflow.executors.threads.job import Chunk, Job
from dataflow.executors.threads.pool import BLOCKED, Pool, Worker, waiting
from dataflow.executors.threads.source import call_in
from dataflow.expr import options as checks

if TYPE_CHECKING:
    from dataflow.executors.threads import Threads

TOGETHER = 0.001
"""Seconds that the items of a party may take before they come to a batch: the first waits for the last of them."""

PLACE = "by the thread executor, in this process"


class ThreadsSession(Session):
    """A session on threads.

    Parameters
    ----------
    program : Program
        The linked plan.
    executor : Threads
        Whose session it is.
    pool : Pool
        Whose threads run it.
    """

    def __init__(self, program: Program, executor: Threads, pool: Pool, *, owns_pool: bool) -> None:
        super().__init__(program.plan)
        self.pool = pool
        self.one_by_one = executor.debug or timed([program.plan.block])  # how jobs are read
        self.jobs: set[Job] = set()
        self._program = program
        self._executor = executor
        self._owns_pool = owns_pool
        self._left = False
        self._stats = step_stats(program.plan)
        self._whole = StepStats()
        self.schedule = Schedule(program, self._stats, debug=executor.debug)
        self.schedule.source = self._source
        self._calls: set[Call] = set()
        self._arrived: deque[Call] = deque()  # those that have not been let in yet
        self._told = False  # whether somebody has been told that something has arrived
        self._ended: list[Call] = []
        self._together = self.schedule.steps_only and isinstance(pool.clock, SystemClock)
        self._here: Here | None = None
        self._changed = threading.Condition(pool.lock)
        self._askers: list[Callable[[], None]] = []
        pool.attach(self)

    # -- the surface -----------------------------------------------------------------------------------------------

    def run(self, item: Any, deadline: float | None = None) -> Any:
        here = self._here
        if here is None:
            here = self._here = Here(self, self._program, self._stats)
        if deadline is None and self.lone and here.begin():
            return here.run(item)
        began = self.pool.clock.now()
        future = self._submit(item, deadline)
        try:
            result = future.result()
            here.learn(self.pool.clock.now() - began)
            return result
        except BaseException as error:
            future.cancel()  # where it was interrupted; it does nothing to a future that is done
            if future.dropped and isinstance(error, CancelledError):
                raise dropped() from None
            raise
        finally:
            del future  # no cycle through the traceback of this frame

    def submit(self, item: Any, deadline: float | None = None) -> Future[Any]:
        return self._submit(item, deadline)

    def _submit(self, item: Any, deadline: float | None) -> CallFuture:
        call = self._call(item, deadline)
        if not self._walk_in(call):
            with waiting():
                while (calls := self._try(call)) is None:
                    with self.pool.lock, self._alarm(call, self._changed.notify_all):
                        while self._full(call) and not self._closed:
                            self._changed.wait()
            _do(calls)
        future: CallFuture = call.future
        return future

    async def arun(self, item: Any, deadline: float | None = None) -> Any:
        call = self._call(item, deadline, AwaitedCall)
        if not self._walk_in(call):
            while (calls := self._try(call)) is None:
                await self._room(call)
            _do(calls)
            del calls
        future = call.future
        try:
            return await future
        except asyncio.CancelledError:
            self.withdraw(call)
            raise
        finally:
            del call, future  # no cycle through the traceback of this frame

    def map(
        self,
        items: Iterable[Any],
        *,
        ordered: bool = True,
        on_error: OnError = "raise",
        max_in_flight: int | None = None,
        progress: bool | None = None,
    ) -> Results:
        self._check_open()
        bursts = self.bursts(checked_items(items), ordered=ordered, on_error=on_error, max_in_flight=max_in_flight)
        return Results.of(with_progress(bursts, items, progress))

    def bursts(self, items: Iterable[Any], *, ordered: bool, on_error: OnError, max_in_flight: int | None) -> Bursts:
        """Return what `map` gives, as it comes."""
        return self._job(ordered, on_error, max_in_flight).bursts(items)

    def amap(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = True,
        on_error: OnError = "raise",
        max_in_flight: int | None = None,
    ) -> AsyncResults:
        self._check_open()
        job = self._job(ordered, on_error, max_in_flight)
        return AsyncResults(job.aoutcomes(items if isinstance(items, AsyncIterable) else checked_items(items)))

    def stats(self) -> SessionReport:
        whole = self._whole.report()
        return {
            "executor": self._executor.name,
            "digest": self.plan.digest,
            "items": whole["items"],
            "failures": whole["failures"],
            "abandoned_threads": self.pool.abandoned,
            "steps": {name: stats.report() for name, stats in self._stats.items()},
        }

    def close(self) -> None:
        """Finish what was accepted and end the session; closing it again does nothing."""
        self._end(finish=True)

    def cancel(self) -> None:
        """End the session without finishing what was accepted."""
        self._end(finish=False)

    def check_open(self) -> None:
        """Raise `SessionClosed` if the session is closed, or its threads are in another process."""
        self._check_open()

    def check_process(self) -> None:
        """Raise `SessionClosed` if its threads are in another process."""
        if self.pool.foreign:
            self._check_open()

    # -- for its jobs and calls --------------------------------------------------------------------------------------

    def note(self, fault: Fault, index: int | None) -> str:
        """Add the note of an item's failure to its error, and return the stage's name."""
        if fault.op is None:
            return "?"
        return self._program.note(fault.error, fault.op, index, PLACE)

    def withdraw(self, call: Call) -> None:
        """Take the work of an item out of the queues."""
        with self.pool.lock:
            self._forget(call)
            calls = self.pool.changed(self)
        _do(calls)

    # -- for the pool, under the lock ----------------------------------------------------------------------------------

    @property
    def hurried(self) -> bool:
        """Whether somebody waits for an item, and not just for a job to be done; or the flow itself watches a clock."""
        return self.one_by_one or bool(self._calls)

    @property
    def in_flight(self) -> int:
        """How many accepted items have no outcome yet."""
        return self.schedule.in_flight + len(self._arrived)

    @property
    def lone(self) -> bool:
        """Whether nothing of its own is under way, nor to come."""
        return not self._calls and not self.jobs and not self._closed

    def count(self, failures: int) -> None:
        """Count an item that its caller has run."""
        self._whole.count(1, failures, 0.0)
        self._changed.notify_all()

    def interrupted(self, work: Work, error: BaseException) -> None:
        """End everything: who waits for this work gets the error unchanged, who waits for other work is cancelled."""
        self._interrupt({part.frame.ticket for part in work.parts}, error)

    def interrupted_here(self, error: BaseException) -> None:
        """End everything: an item that its caller was running has raised this, which the caller gets."""
        self._interrupt(set(), error)

    def _interrupt(self, tickets: set[Ticket], error: BaseException) -> None:
        self._closed = True
        for job in self.jobs:
            job.interrupt(error if any(isinstance(t, Chunk) and t.job is job for t in tickets) else None)
        for call in list(self._calls):
            if call.party in tickets:
                call.error = error
            self._forget(call)

    def dropped(self) -> list[Callable[[], None]]:
        """Cancel everything, for the pool ends."""
        self._closed = True
        for job in list(self.jobs):
            job.stop()
        for call in list(self._calls):
            self._forget(call)
        return self.settled()

    @property
    def more(self) -> bool:
        """Whether there is work for another thread now."""
        return self._let_in_by <= self.pool.clock.now() or self.schedule.more

    def look(self) -> tuple[bool, float]:
        """Return whether there is work for another thread now, and the moment at which there will be more."""
        more, moment = self.schedule.look()
        by = self._let_in_by
        if by <= self.pool.clock.now():
            return True, moment
        return more, min(moment, by)

    @property
    def _let_in_by(self) -> float:
        """The moment at which what has arrived is to be let in.

        A thread that is at work does so when it comes for more, and lets all in that have arrived meanwhile: these go
        through the flow together. Only if it does not come soon another is sent.
        """
        if not self._arrived:
            return math.inf
        return -math.inf if self.pool.resting else self._arrived[0].since + BLOCKED

    def take(self) -> Work | None:
        """Let in what has arrived, and return the work that is to be done next."""
        self._let_in()
        work = self.schedule.take()
        for job in self.jobs:
            job.source.changed()
        return work

    def _let_in(self) -> None:
        self._told = False
        arrived = self._arrived
        if not arrived:
            return
        now = self.pool.clock.now()
        most = self.schedule.chunk(TOGETHER) or 1
        while arrived:
            first = arrived.popleft()
            calls = [first]
            while arrived and len(calls) < most and arrived[0].due == first.due and arrived[0].context == first.context:
                calls.append(arrived.popleft())
            self.schedule.accept(Party(calls, self._ended), sum(now - call.since for call in calls))

    def _forget(self, call: Call) -> None:
        """Take a call out, wherever it is; it has its outcome, or none."""
        if call.over:
            return
        call.over = True
        if call.party is not None:
            self.schedule.give_up(call.party, call.position)
        else:
            self._arrived.remove(call)
        self._ended.append(call)

    def tick(self) -> float:
        """Note that time has passed, and return when to be told so again."""
        return min((job.source.rescue() for job in self.jobs), default=math.inf)

    def settled(self) -> list[Callable[[], None]]:
        """Return what is to be called, outside the lock, now that things have changed."""
        ended = self.schedule.ended
        calls: list[Callable[[], None]] = []
        for ticket in ended:
            if isinstance(ticket, Chunk):
                self._whole.count(len(ticket.items), len(ticket.faults), 0.0)
        ended.clear()
        if self._ended:
            done = self._ended.copy()
            self._ended.clear()
            self._calls.difference_update(done)
            self._whole.count(len(done), sum(call.fault is not None for call in done), 0.0)
            calls = deliveries(done)
            self._changed.notify_all()
            if self._askers and not self._full():
                calls += self._askers
                self._askers = []
        for job in self.jobs:
            job.changed()
        return calls

    # -- inside ------------------------------------------------------------------------------------------------------

    def _source(self) -> float:
        return max((job.source.expected for job in self.jobs), default=-float("inf"))

    def _call(self, item: Any, deadline: float | None, kind: type[Call] = Call) -> Call:
        go_on()
        self._check_open()
        seconds = None if deadline is None else checks.duration("run", "deadline", deadline, zero=True)
        return kind(self, item, seconds)

    def _walk_in(self, call: Call) -> bool:
        """Accept a call without the lock, if that can be: callers would wait for it more than for their items.

        It arrives before it is looked whether somebody has been told; and who has been told takes note of that before
        letting in what has arrived. So none is left behind. It counts before it is looked whether there is room: so no
        more are accepted than there is room for.
        """
        if not self._together or call.due is not None or self._executor.max_queue is not None:
            return False
        self._calls.add(call)
        if len(self._calls) > self._executor.max_in_flight:
            self._calls.discard(call)
            return False
        self._arrived.append(call)
        if not self._told or self._closed:
            with self.pool.lock:
                if self._closed and not call.over:  # it came too late, or just before
                    call.over = True
                    self._calls.discard(call)
                    if call.party is not None:
                        self.schedule.give_up(call.party, call.position)
                    else:
                        self._arrived.remove(call)
                    self._check_open()
                self._told = True
                calls = self.pool.changed(self)
            _do(calls)
        return True

    def _try(self, call: Call) -> list[Callable[[], None]] | None:
        """Accept a call; None where there is no room now."""
        with self.pool.lock:
            self._check_open()
            limit = self._executor.max_queue
            waiting = self.schedule.waiting + len(self._arrived)
            if limit is not None and waiting >= limit:
                self._let_in()
                if self.schedule.more:
                    waiting -= self.pool.free  # these are about to be begun
            if limit is not None and waiting >= limit:
                raise QueueFull(
                    f"{waiting} items wait, and the session holds no more than {limit} (max_queue): try "
                    "again later, or raise max_queue"
                )
            if self._full(call):
                return None
            self._calls.add(call)
            self._arrived.append(call)
            self._let_in()
            return self.pool.changed(self)

    def _full(self, call: Call | None = None) -> bool:
        """Return whether there is no room now; a call that is late needs none, for it fails at once."""
        if call is not None and call.due is not None and call.due <= self.pool.clock.now():
            return False
        if isinstance(threading.current_thread(), Worker):  # to wait here could be to wait for oneself
            return False
        return self._executor.max_queue is None and len(self._calls) >= self._executor.max_in_flight

    async def _room(self, call: Call) -> None:
        """Wait until there may be room."""
        event = asyncio.Event()
        wake = functools.partial(call_in, asyncio.get_running_loop(), event.set)
        with self._alarm(call, wake):
            with self.pool.lock:
                if not self._full(call):
                    return
                self._askers.append(wake)
            await event.wait()

    @contextlib.contextmanager
    def _alarm(self, call: Call, wake: Callable[[], None]) -> Iterator[None]:
        """Call `wake` when a call's deadline comes in the block, which waits for room."""
        if call.due is None:
            yield
            return
        with self.pool.lock:
            timer = self.schedule.timers.at(call.due, wake)
            self.pool.watch_until(call.due)
        try:
            yield
        finally:
            with self.pool.lock:
                self.schedule.timers.cancel(timer)

    def _job(self, ordered: bool, on_error: OnError, max_in_flight: int | None) -> Job:
        limit = self._executor.max_in_flight
        if max_in_flight is not None:
            limit = checks.whole_number("map", "max_in_flight", max_in_flight, 1)
        return Job(self, ordered=ordered, on_error=checked_mode(on_error), limit=limit)

    def _check_open(self) -> None:
        if self.pool.foreign:
            raise SessionClosed(
                "this session was opened in another process, and its threads have stayed there: a process that was "
                "forked opens sessions of its own"
            )
        super()._check_open()

    def _end(self, *, finish: bool) -> None:
        pool = self.pool
        if pool.foreign:  # its lock may be held by a thread that is not in this process
            self._closed = True
            return
        if pool.entered(functools.partial(self._end, finish=finish)):
            return
        with pool.lock:
            self._closed = True
            for job in list(self.jobs):
                job.stop()
            if not finish:
                if self._here is not None:
                    self._here.dropped = True
                for call in list(self._calls):
                    self._forget(call)
            calls = pool.changed(self)
        _do(calls)
        try:
            with waiting(), pool.lock:
                while self._calls or (finish and self._here is not None and self._here.busy):
                    self._changed.wait()
        except BaseException:
            finish = False
            raise
        finally:
            self._leave(finish)

    def _leave(self, finish: bool) -> None:
        with self.pool.lock:
            if self._left:
                return
            self._left = True
            self._here = None
            self.pool.detach(self)
        self.schedule.source = no_source
        if self._owns_pool:
            self.pool.stop(wait=finish)


def _do(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        call()
