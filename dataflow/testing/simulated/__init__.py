"""The simulated executor: a whole flow in virtual time on one thread, its every accident decided by a seed."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, ClassVar

from dataflow.errors import DeadlineExceeded, QueueFull, SessionClosed
from dataflow.executors.faults import Failure, Fault
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
from dataflow.executors.session import Session, checked_deadline
from dataflow.executors.stats import SessionReport, StepStats, step_stats
from dataflow.expr import options as checks
from dataflow.expr.flow import Flow
from dataflow.passes import Pass
from dataflow.plan import Plan, make_plan
from dataflow.testing.clock import VirtualClock
from dataflow.testing.simulated.steps import Steps
from dataflow.testing.simulated.world import Event, Failed, Stuck, Task, World

__all__ = ["Simulated", "Stuck"]


@dataclasses.dataclass(frozen=True)
class Simulated:
    """Runs flows in virtual time, on the calling thread, with as much going on at once as real workers would have.

    Wherever threads would leave it to chance who goes next, which batch forms, or who wins, a random number decides.
    The numbers come from the seed alone: the same seed and flow run the same way again, to the last detail. Time passes
    only where a stage says that it takes some, with ``clock.sleep``, and where the flow waits: for a batch to fill, for
    a timeout, between attempts. No real second passes.

    Parameters
    ----------
    seed : int
        Decides what chance would.
    workers : int
        The most stages that run at once.
    max_in_flight : int
        The most items that ``map`` reads ahead of the results taken.
    max_queue : int, optional
        The most submitted items that may be under way beyond one for each worker: one more is a `QueueFull`.
    passes : iterable of str or Pass, or str, optional
        The optimizer passes, as `Flow.optimize` takes them.
    clock : VirtualClock, optional
        Shows the virtual time. A stage that sleeps on it takes that long.

    Examples
    --------
    >>> import dataflow as df
    >>> from dataflow.testing import Simulated, VirtualClock
    >>> clock = VirtualClock()
    >>> def slow(x):
    ...     clock.sleep(3600)
    ...     return "slow"
    >>> def quick(x):
    ...     clock.sleep(60)
    ...     return "quick"
    >>> list(df.race(slow, quick).map([1, 2], Simulated(seed=7, clock=clock))), clock.now()
    (['quick', 'quick'], 60.0)
    """

    name: ClassVar[str] = "simulated"

    seed: int = 0
    workers: int = 4
    max_in_flight: int = 1024
    max_queue: int | None = None
    passes: Iterable[str | Pass] | str | None = None
    clock: VirtualClock | None = None

    def __post_init__(self) -> None:
        checks.whole_number("Simulated", "workers", self.workers, 1)
        checks.whole_number("Simulated", "max_in_flight", self.max_in_flight, 1)
        if self.max_queue is not None:
            checks.whole_number("Simulated", "max_queue", self.max_queue, 1)
        if self.passes is not None and not isinstance(self.passes, str):
            object.__setattr__(self, "passes", tuple(self.passes))

    def plan(self, flow: Flow[Any, Any]) -> Plan:
        """Return what would run."""
        return make_plan(flow, self.passes)

    def program(self, flow: Flow[Any, Any]) -> Program:
        """Return a flow planned and made callable."""
        return Program(self.plan(flow), self.clock or VirtualClock())

    def open(self, flow: Flow[Any, Any]) -> SimulatedSession:
        """Open a session, constructing all class stages now."""
        program = self.program(flow)
        program.construct()
        return SimulatedSession(program, self)

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
        """Run a program over items, in a world of their own."""
        return SimulatedSession(program, self).map(
            items, ordered=ordered, on_error=on_error, max_in_flight=max_in_flight, progress=progress
        )


class SimulatedSession(Session):
    """A session in virtual time, which goes on only while somebody waits for a result of it.

    Parameters
    ----------
    program : Program
        The linked plan.
    executor : Simulated
        Whose session it is.

    Attributes
    ----------
    trace : list of str
        What has happened so far, each line with its moment: equal for equal seeds.
    """

    def __init__(self, program: Program, executor: Simulated) -> None:
        super().__init__(program.plan)
        self.trace: list[str] = []
        self._program = program
        self._executor = executor
        self._clock: Any = program.clock
        self._world = World(executor.seed, self._clock.now())
        self._stats = step_stats(program.plan)
        self._whole = StepStats()
        self._steps = Steps(program, self._world, self._clock, executor.workers, self._stats, self._note)
        self._accepted: dict[Task, _Promise] = {}

    def _note(self, text: str) -> None:
        self.trace.append(f"{self._world.now:g} s: {text}")

    # -- one item ----------------------------------------------------------------------------------------------------

    def run(self, item: Any, deadline: float | None = None) -> Any:
        self._check_open()
        task = self._begin(item, checked_deadline("run", deadline))
        self._drive(task.ended)
        if task.fault is None:
            return task.value
        self._program.note(task.fault.error, task.fault.op, None, "simulated, in this process")
        raise task.fault.release()

    def submit(self, item: Any, deadline: float | None = None) -> Future[Any]:
        self._check_open()
        seconds = checked_deadline("submit", deadline)
        most = self._executor.max_queue
        if most is not None and len(self._accepted) >= self._executor.workers + most:
            raise QueueFull(
                f"{len(self._accepted)} items are under way, for {self._executor.workers} workers and a max_queue of "
                f"{most}: wait for a result"
            )
        task = self._begin(item, seconds)
        promise = self._accepted[task] = _Promise(self, task)
        return promise

    async def arun(self, item: Any, deadline: float | None = None) -> Any:
        return self.run(item, deadline)

    def _begin(self, item: Any, seconds: float | None = None) -> Task:
        return self._world.start(self._whole_flow(item, seconds))

    async def _whole_flow(self, item: Any, seconds: float | None) -> Any:
        work = self._steps.block(self.plan.block, item)
        try:
            if seconds is None:
                result = await work
            else:
                result = await self._steps.within(seconds, work, lambda: _late(seconds), None)
        except Failed:
            self._whole.count(1, 1, 0.0)
            raise
        self._whole.count(1, 0, 0.0)
        return result

    def _drive(self, until: Event) -> None:
        """Let the world go on until this has happened; what stops the program stops the world."""
        try:
            self._world.run(until)
        except BaseException:
            self.cancel()
            raise
        finally:
            self._clock.set(self._world.now)
        self._settle()
        if not self._accepted and not self._steps.jobs:
            self._world.end()  # nobody waits for anything that is left

    def _settle(self) -> None:
        """Keep the promises whose tasks have ended."""
        for task, promise in list(self._accepted.items()):
            if not task.done:
                continue
            del self._accepted[task]
            if task.fault is None:
                promise.set_result(task.value)
            else:
                self._program.note(task.fault.error, task.fault.op, None, "simulated, in this process")
                promise.set_exception(task.fault.release())

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
        source = enumerate(items, start)
        under_way: deque[tuple[int, Any, Task]] = deque()
        broken: Exception | None = None
        ended = False
        self._steps.jobs += 1
        try:
            while True:
                while not ended and len(under_way) < limit:
                    try:
                        index, item = next(source)
                    except StopIteration:
                        ended = True
                    except Exception as error:  # what came before it is delivered first
                        ended, broken = True, error
                    else:
                        under_way.append((index, item, self._begin(item)))
                if not under_way:
                    break
                yield from self._outcome(*self._next(under_way, ordered), on_error)
                self._check_open()
            if broken is not None:
                raise broken
        finally:
            self._steps.jobs -= 1
            broken = None  # no cycle through the traceback of this frame
            self._world.cancel(*(task for _, _, task in under_way))
            if not self._accepted and not self._steps.jobs:
                self._world.end()

    def _next(self, under_way: deque[tuple[int, Any, Task]], ordered: bool) -> tuple[int, Any, Task]:
        """Return the next item that is done, and take it out of those under way."""
        if ordered:
            self._drive(under_way[0][2].ended)
            return under_way.popleft()
        any_of_them = Event()
        watch = [self._world.start(_tell(self._world, task, any_of_them)) for _, _, task in under_way]
        self._drive(any_of_them)
        self._world.cancel(*watch)
        position = self._world.random.choice([n for n, (_, _, task) in enumerate(under_way) if task.done])
        found = under_way[position]
        del under_way[position]
        return found

    def _outcome(self, index: int, item: Any, task: Task, on_error: OnError) -> Iterator[Any]:
        fault: Fault | None = task.fault
        if fault is None:
            yield task.value
            return
        stage = self._program.note(fault.error, fault.op, index, "simulated, in this process")
        if on_error == "raise":
            raise fault.release()
        if on_error == "record":
            yield Failure(index, item, stage, fault.error)

    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        while self._accepted:
            self._drive(next(iter(self._accepted)).ended)
        super().close()

    def cancel(self) -> None:
        super().cancel()
        for task, promise in self._accepted.items():
            self._world.cancel(task)
            if not Future.cancel(promise) and not promise.done():
                promise.set_exception(SessionClosed("the session was cancelled before this item was done"))
        self._accepted.clear()
        self._world.end()

    def give_up(self, task: Task) -> None:
        """Forget an item whose promise has been cancelled."""
        self._accepted.pop(task, None)
        self._world.cancel(task)

    def wait_for(self, task: Task) -> None:
        """Let things happen until this task has ended, or the session has."""
        if task in self._accepted:
            self._drive(task.ended)

    def stats(self) -> SessionReport:
        whole = self._whole.report()
        return {
            "executor": self._executor.name,
            "digest": self.plan.digest,
            "items": whole["items"],
            "failures": whole["failures"],
            "abandoned_threads": 0,
            "steps": {name: stats.report() for name, stats in self._stats.items()},
        }


class _Promise(Future[Any]):
    """The future of a submitted item: to wait for it is what makes things happen."""

    def __init__(self, session: SimulatedSession, task: Task) -> None:
        super().__init__()
        self._session = session
        self._task = task

    def result(self, timeout: float | None = None) -> Any:
        try:
            self._session.wait_for(self._task)
            return super().result(timeout)
        finally:
            del self  # no cycle through the traceback of this frame

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._session.wait_for(self._task)
        return super().exception(timeout)

    def cancel(self) -> bool:
        if not super().cancel():
            return False
        self._session.give_up(self._task)
        return True


async def _tell(world: World, task: Task, event: Event) -> None:
    await task.ended
    world.happen(event)


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
        raise broken


def _late(seconds: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"not done within the deadline of {seconds:g} s that the item was given")
