"""The session of the simulated executor: things happen while somebody waits for one of them."""

from __future__ import annotations

import random
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from dataflow.errors import QueueFull, SessionClosed
from dataflow.executors.aside import own_context
from dataflow.executors.faults import Failure, Fault, add_trail
from dataflow.executors.link import Program
from dataflow.executors.results import (
    AsyncResults,
    OnError,
    Results,
    checked_items,
    checked_mode,
    one_by_one,
    with_progress,
)
from dataflow.executors.schedule import Schedule, Ticket, timed
from dataflow.executors.session import Session, checked_deadline
from dataflow.executors.stats import SessionReport, StepStats, step_stats
from dataflow.expr import options as checks
from dataflow.testing.clock import VirtualClock
from dataflow.testing.simulated.job import Chunk, Job, Taken
from dataflow.testing.simulated.world import World

if TYPE_CHECKING:
    from dataflow.testing.simulated import Simulated

_PLACE = "in virtual time, in this process"


class SimulatedSession(Session):
    """A session in virtual time, which goes on only while somebody waits for a result of it.

    Parameters
    ----------
    program : Program
        The linked plan.
    clock : VirtualClock
        The program's.
    executor : Simulated
        Whose session it is.
    """

    def __init__(self, program: Program, clock: VirtualClock, executor: Simulated) -> None:
        super().__init__(program.plan)
        self._program = program
        self._clock = clock
        self._executor = executor
        self._random = random.Random(executor.seed)
        self._stats = step_stats(program.plan)
        self._whole = StepStats()
        self._schedule = Schedule(program, self._stats)
        self._schedule.source = lambda: max((job.expected for job in self._jobs), default=-float("inf"))
        self._world = World(self._schedule, clock, self._random, executor.workers)
        self._one_by_one = timed([program.plan.block])
        self._jobs: list[Job] = []
        self._calls: dict[Call, Promise] = {}

    @property
    def trace(self) -> list[str]:
        """What has happened so far, each line with its moment: equal for equal seeds."""
        return self._world.trace

    # -- one item ----------------------------------------------------------------------------------------------------

    def run(self, item: Any, deadline: float | None = None) -> Any:
        self._check_open()
        promise = self._submit(item, checked_deadline("run", deadline))
        try:
            return promise.result()
        finally:
            del promise  # no cycle through the traceback of this frame

    def submit(self, item: Any, deadline: float | None = None) -> Future[Any]:
        self._check_open()
        seconds = checked_deadline("submit", deadline)
        workers, most = self._executor.workers, self._executor.max_queue
        if most is not None and len(self._calls) >= workers + most:
            raise QueueFull(
                f"{len(self._calls)} items are under way, for {workers} workers and a max_queue of {most}: wait for a "
                "result"
            )
        return self._submit(item, seconds)

    async def arun(self, item: Any, deadline: float | None = None) -> Any:
        return self.run(item, deadline)

    def _submit(self, item: Any, seconds: float | None) -> Promise:
        call = Call(item, seconds, self._clock.now())
        promise = self._calls[call] = Promise(self, call)
        self._schedule.accept(call)
        self._settle()
        return promise

    # -- what happens ------------------------------------------------------------------------------------------------

    def wait_for(self, call: Call) -> None:
        """Let things happen until this item has had its outcome, or the session is at its end."""
        self._go_on(lambda: call not in self._calls)

    def give_up(self, call: Call) -> None:
        """Forget an item whose promise has been cancelled."""
        if self._calls.pop(call, None) is not None:
            self._schedule.cancel(call)
            self._world.forget_left()

    def _go_on(self, until: Callable[[], bool]) -> None:
        """Let things happen; what stops the program stops the world."""
        try:
            while not until():
                moves = [move for job in self._jobs for move in job.moves]
                self._world.go_on(moves, min((job.due for job in self._jobs), default=float("inf")))
                self._settle()
        except BaseException:
            self.cancel()
            raise

    def _settle(self) -> None:
        """Keep the promises of what has ended."""
        ended = self._schedule.ended[:]
        self._schedule.ended.clear()
        for ticket in ended:
            if isinstance(ticket, Chunk):
                self._whole.count(len(ticket.items), ticket.failures, 0.0)
            elif isinstance(ticket, Call) and (promise := self._calls.pop(ticket, None)) is not None:
                self._whole.count(1, ticket.fault is not None, 0.0)
                self._keep(promise, ticket)

    def _keep(self, promise: Promise, call: Call) -> None:
        fault = call.fault
        if fault is None:
            promise.set_result(call.value)
            return
        self._note(fault, None, call.items[0])
        promise.set_exception(fault.release())

    def _note(self, fault: Fault, index: int | None, item: Any) -> str:
        if fault.op is None:
            add_trail(fault.error, self.plan.flow, item)
            return "?"
        return self._program.note(fault.error, fault.op, index, _PLACE, item=item)

    # -- many items --------------------------------------------------------------------------------------------------

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
        results = self._outcomes(checked_items(items), ordered, checked_mode(on_error), self._limit(max_in_flight))
        return Results.of(with_progress(one_by_one(results), items, progress))

    def amap(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = True,
        on_error: OnError = "raise",
        max_in_flight: int | None = None,
    ) -> AsyncResults:
        self._check_open()
        return AsyncResults(self._awaiting(items, ordered, checked_mode(on_error), self._limit(max_in_flight)))

    async def _awaiting(
        self, items: Iterable[Any] | AsyncIterable[Any], ordered: bool, on_error: OnError, limit: int
    ) -> AsyncGenerator[Any, None]:
        if not isinstance(items, AsyncIterable):
            for outcome in self._outcomes(checked_items(items), ordered, on_error, limit):
                yield outcome
            return
        start = 0
        async for window in _windows(items, limit):
            for outcome in self._outcomes(window, ordered, on_error, limit, start):
                yield outcome
            start += len(window)

    def _limit(self, max_in_flight: int | None) -> int:
        if max_in_flight is None:
            return self._executor.max_in_flight
        return checks.whole_number("map", "max_in_flight", max_in_flight, 1)

    def _outcomes(
        self, items: Iterable[Any], ordered: bool, on_error: OnError, limit: int, start: int = 0
    ) -> Generator[Any, None, None]:
        self._check_open()
        job = Job(
            self._schedule,
            self._clock,
            self._random,
            items,
            ordered=ordered,
            limit=limit,
            start=start,
            one_by_one=self._one_by_one,
        )
        del items
        self._jobs.append(job)
        try:
            while (taken := self._next(job)) is not None:
                yield from self._shown(taken, on_error)
                del taken
                self._check_open()
            error, job.error = job.error, None
            if error is not None:
                try:
                    raise error
                finally:
                    del error  # no cycle through the traceback of this frame
        finally:
            self._jobs.remove(job)
            job.cancel()
            self._world.forget_left()
            self._settle()

    def _next(self, job: Job) -> Taken | None:
        self._go_on(lambda: job.ready)
        return job.take()

    def _shown(self, taken: Taken, on_error: OnError) -> list[Any]:
        """Return an outcome as the consumer is to see it, if at all."""
        index, item, value, fault = taken
        if fault is None:
            return [value]
        stage = self._note(fault, index, item)
        if on_error == "raise":
            raise fault.release()
        return [Failure(index, item, stage, fault.error)] if on_error == "record" else []

    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        self._go_on(lambda: not self._calls)
        super().close()

    def cancel(self) -> None:
        super().cancel()
        for call, promise in list(self._calls.items()):
            self.give_up(call)
            if not Future.cancel(promise) and not promise.done():
                promise.set_exception(SessionClosed("the session was cancelled before this item was done"))
        for job in self._jobs:
            job.cancel()
        self._world.forget_left()

    def stats(self) -> SessionReport:
        whole = self._whole.report()
        return {
            "executor": self._executor.name,
            "digest": self.plan.digest,
            "items": whole["items"],
            "failures": whole["failures"],
            "abandoned_threads": self._world.abandoned,
            "steps": {name: stats.report() for name, stats in self._stats.items()},
        }


class Call(Ticket):
    """One item that was submitted."""

    __slots__ = ("fault", "value")

    def __init__(self, item: Any, deadline: float | None, now: float) -> None:
        super().__init__([item], patient=False, context=own_context(), deadline=deadline, since=now)
        self.value: Any = None
        self.fault: Fault | None = None

    def succeeded(self, positions: Sequence[int], values: list[Any]) -> None:
        self.value = values[0]

    def failed(self, faults: Mapping[int, Fault]) -> None:
        self.fault = faults[0]


class Promise(Future[Any]):
    """The future of a submitted item: to wait for it is what makes things happen."""

    def __init__(self, session: SimulatedSession, call: Call) -> None:
        super().__init__()
        self._session = session
        self._call = call

    def result(self, timeout: float | None = None) -> Any:
        try:
            self._session.wait_for(self._call)
            return super().result(timeout)
        finally:
            del self  # no cycle through the traceback of this frame

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._session.wait_for(self._call)
        return super().exception(timeout)

    def cancel(self) -> bool:
        if not super().cancel():
            return False
        self._session.give_up(self._call)
        return True


async def _windows(items: AsyncIterable[Any], size: int) -> AsyncIterator[list[Any]]:
    window: list[Any] = []
    broken: Exception | None = None
    try:
        async for item in items:
            window.append(item)
            if len(window) == size:
                yield window
                window = []
    except Exception as error:  # what came before it is delivered first
        broken = error
    if window:
        yield window
    if broken is not None:
        try:
            raise broken
        finally:
            broken = None  # no cycle through the traceback of this frame
