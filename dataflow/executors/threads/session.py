"""The session of the thread executor."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import math
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

from dataflow.errors import SessionClosed
from dataflow.executors.aside import go_on
from dataflow.executors.faults import Fault, add_trail
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
from dataflow.executors.threads.arrivals import Arrivals
from dataflow.executors.threads.call import AwaitedCall, Call, CallFuture, deliveries, dropped
from dataflow.executors.threads.here import Here
from dataflow.executors.threads.job import Chunk, Job
from dataflow.executors.threads.learned import keep, learned_of
from dataflow.executors.threads.pool import Pool
from dataflow.executors.threads.source import call_in
from dataflow.executors.threads.worker import waiting
from dataflow.expr import options as checks

if TYPE_CHECKING:
    from dataflow.executors.threads import Threads

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
        if owns_pool and (learned := learned_of(program)) is not None:
            self.schedule.pace.resume(learned.pace)
            pool.contention = learned.contention.successor(program)
        self.schedule.source = self._source
        self._arrivals = Arrivals(self, executor.max_in_flight, executor.max_queue)
        self._here: Here | None = None
        self._changed = threading.Condition(pool.lock)
        self._askers: list[Callable[[], None]] = []
        pool.attach(self)

    # -- the surface -----------------------------------------------------------------------------------------------

    def run(self, item: Any, deadline: float | None = None) -> Any:
        here = self._here
        if here is None:
            here = self._here = self._new_here()
        if deadline is None and here.begin():
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
        if not self._arrivals.walk_in(call):
            with waiting():
                while (calls := self._arrivals.accept(call)) is None:
                    with self.pool.lock, self._alarm(call, self._changed.notify_all):
                        while self._arrivals.full(call) and not self._closed:
                            self._changed.wait()
            _do(calls)
        future: CallFuture = call.future
        return future

    async def arun(self, item: Any, deadline: float | None = None) -> Any:
        call = self._call(item, deadline, AwaitedCall)
        if not self._arrivals.walk_in(call):
            while (calls := self._arrivals.accept(call)) is None:
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
            "abandoned_threads": self.pool.abandoned + self._program.aside.abandoned,
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

    def note(self, fault: Fault, index: int | None, item: Any) -> str:
        """Add the note of an item's failure to its error, and return the stage's name."""
        if fault.op is None:
            add_trail(fault.error, self.plan.flow, item)
            return "?"
        return self._program.note(fault.error, fault.op, index, PLACE, item=item)

    def withdraw(self, call: Call) -> None:
        """Take the work of an item out of the queues."""
        if self.pool.foreign:
            return
        with self.pool.lock:
            self._arrivals.forget(call)
            calls = self.pool.changed(self)
        _do(calls)

    # -- for the pool, under the lock ----------------------------------------------------------------------------------

    @property
    def hurried(self) -> bool:
        """Whether somebody waits for an item, and not just for a job to be done; or the flow itself watches a clock."""
        return self.one_by_one or bool(self._arrivals.calls)

    @property
    def in_flight(self) -> int:
        """How many accepted items have no outcome yet."""
        return self.schedule.in_flight + self._arrivals.waiting

    @property
    def lone(self) -> bool:
        """Whether nothing of its own is under way, nor to come."""
        return not self._arrivals.calls and not self.jobs and not self._closed

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
        self._arrivals.forget_all(tickets, error)

    def dropped(self) -> list[Callable[[], None]]:
        """Cancel everything, for the pool ends."""
        self._closed = True
        for job in list(self.jobs):
            job.stop()
        self._arrivals.forget_all()
        return self.settled()

    @property
    def more(self) -> bool:
        """Whether there is work for another thread now."""
        return self._arrivals.due <= self.pool.clock.now() or self.schedule.more

    def look(self) -> tuple[bool, float]:
        """Return whether there is work for another thread now, and the moment at which there will be more."""
        more, moment = self.schedule.look()
        by = self._arrivals.due
        if by <= self.pool.clock.now():
            return True, moment
        return more, min(moment, by)

    def take(self) -> Work | None:
        """Let in what has arrived, and return the work that is to be done next."""
        self._arrivals.let_in()
        work = self.schedule.take()
        for job in self.jobs:
            job.source.changed()
        return work

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
        if done := self._arrivals.ended():
            self._whole.count(len(done), sum(call.fault is not None for call in done), 0.0)
            calls = deliveries(done) + self.room()
        for job in self.jobs:
            job.changed()
        return calls

    def room(self) -> list[Callable[[], None]]:
        """Tell those who wait that there may be room."""
        self._changed.notify_all()
        if not self._askers or self._arrivals.full():
            return []
        askers, self._askers = self._askers, []
        return askers

    # -- inside ------------------------------------------------------------------------------------------------------

    def _new_here(self) -> Here:
        """Return what runs a lone caller's items in the caller's thread."""
        return Here.of(self, self._program, self._stats, debug=self._executor.debug)

    def _source(self) -> float:
        return max((job.source.expected for job in self.jobs), default=-float("inf"))

    def _call(self, item: Any, deadline: float | None, kind: type[Call] = Call) -> Call:
        go_on()
        self._check_open()
        seconds = None if deadline is None else checks.duration("run", "deadline", deadline, zero=True)
        return kind(self, item, seconds)

    async def _room(self, call: Call) -> None:
        """Wait until there may be room."""
        event = asyncio.Event()
        wake = functools.partial(call_in, asyncio.get_running_loop(), event.set)
        with self._alarm(call, wake):
            with self.pool.lock:
                if not self._arrivals.full(call):
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
                self._arrivals.forget_all()
            calls = pool.changed(self)
        _do(calls)
        try:
            with waiting(), pool.lock:
                while self._arrivals.calls or (finish and self._here is not None and self._here.busy):
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
            keep(self._program, self.schedule.pace, self.pool.contention)
            self.pool.stop(wait=finish)


def run_job(
    opened: Callable[[], ThreadsSession],
    items: Iterable[Any],
    *,
    ordered: bool,
    on_error: OnError,
    max_in_flight: int | None,
    progress: bool | None,
) -> Results:
    """Run a job on a session of its own, which is opened when the first outcome is asked for, and ends with the job."""
    checked_mode(on_error)
    if max_in_flight is not None:
        checks.whole_number("map", "max_in_flight", max_in_flight, 1)

    context = contextvars.copy_context()  # stages run in that of whoever asks for the job, as in a session's

    def bursts(items: Iterable[Any]) -> Bursts:
        session = opened()
        job = context.run(session.bursts, items, ordered=ordered, on_error=on_error, max_in_flight=max_in_flight)
        del items  # the frames of a failure lead to this one, which must not hold them
        try:
            yield from job
        except BaseException:
            session.cancel()
            raise
        session.close()

    return Results.of(with_progress(bursts(checked_items(items)), items, progress))


def _do(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        call()
