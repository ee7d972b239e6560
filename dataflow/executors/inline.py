"""The inline executor: everything in the calling thread, and the plainest reading of a plan."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, ClassVar

from dataflow.errors import DeadlineExceeded
from dataflow.executors import policies
from dataflow.executors.clock import Clock
from dataflow.executors.columns import Columns
from dataflow.executors.faults import Failure, Fault, Faults, add_trail
from dataflow.executors.link import Program
from dataflow.executors.planning import Planning
from dataflow.executors.results import (
    AsyncResults,
    Bursts,
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
from dataflow.graph import ops
from dataflow.passes import Pass
from dataflow.plan import Plan

_SOON = 0.02  # seconds in which a window of more items than need be is read, run and taken


@dataclasses.dataclass(frozen=True)
class Inline(Planning):
    """Runs flows in the calling thread.

    Parameters
    ----------
    passes : iterable of str or Pass, or str, optional
        The optimizer passes, as `Flow.optimize` takes them.
    max_in_flight : int
        The most items that ``map`` reads ahead of the results taken.
    clock : Clock, optional
        By which timeouts and back-off are measured; the computer's by default.

    Notes
    -----
    It starts no thread but for what cannot be had without one: a ``timeout``, a ``race``, and a ``quorum`` with a time
    limit run their bodies aside, and what hangs there is abandoned and counted.

    ``map`` reads items in windows and runs each step over the whole window, so that batches are full. Where all batched
    stages see every item, a window is a common multiple of their batch sizes, and several times that while it is done
    in less than 20 ms; where some are inside a branch, an ``each`` or a ``retry``, it is `max_in_flight` items. Without
    batched stages, each result comes before the next item is read.

    Examples
    --------
    >>> import dataflow as df
    >>> list((df.stage(abs) >> str).map([-1, 2], df.Inline()))
    ['1', '2']
    """

    name: ClassVar[str] = "inline"

    passes: Iterable[str | Pass] | str | None = None
    max_in_flight: int = 1024
    clock: Clock | None = None

    def __post_init__(self) -> None:
        checks.whole_number("Inline", "max_in_flight", self.max_in_flight, 1)
        super().__post_init__()

    def open(self, flow: Flow[Any, Any]) -> InlineSession:
        """Open a session, constructing all class stages now."""
        program = self.program(flow)
        program.construct()
        return InlineSession(program, self)

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
        """Run a program over items; `ordered` or not, results come in order here."""
        job = _Job(program, checked_mode(on_error), self._limit(max_in_flight), step_stats(program.plan))
        return Results.of(with_progress(job.bursts(checked_items(items)), items, progress))

    def _limit(self, max_in_flight: int | None) -> int:
        if max_in_flight is None:
            return self.max_in_flight
        return checks.whole_number("map", "max_in_flight", max_in_flight, 1)


class _Job:
    """One run over many items.

    Parameters
    ----------
    program : Program
        The linked plan.
    on_error : str
        What a failed item does.
    limit : int
        The most items to read ahead of the results taken.
    stats : dict of str to StepStats
        Where to count what the steps do.
    whole : StepStats, optional
        Where to count what the flow does.
    """

    def __init__(
        self,
        program: Program,
        on_error: OnError,
        limit: int,
        stats: dict[str, StepStats],
        whole: StepStats | None = None,
    ) -> None:
        self._program = program
        self._on_error = on_error
        self.window = _window(program.plan, limit)
        self._most = max(self.window, limit // self.window * self.window)
        self._whole = whole
        self._columns = Columns(program, stats)
        self._quick = whole is None and not program.plan.block.batches

    def bursts(self, items: Iterable[Any]) -> Bursts:
        """Yield the outcomes of all items."""
        yield from one_by_one(self._singly(items)) if self._quick else self._in_windows(iter(items))

    def _singly(self, items: Iterable[Any]) -> Iterator[Any]:
        call = self._program.bare
        source = enumerate(items)
        del items
        try:
            for index, item in source:
                try:
                    result = call(item)
                except Exception as error:
                    yield from self._one_outcome(index, item, Fault(error, self._program.culprit(error)))
                else:
                    yield result
        finally:
            del source
            item = result = None  # the frames of a failure lead to this one, which must not hold the items

    def _one_outcome(self, index: int, item: Any, fault: Fault) -> Iterator[Any]:
        return itertools.chain.from_iterable(self._outcomes(index, [item], [None], {0: fault}))

    def _in_windows(self, source: Iterator[Any]) -> Bursts:
        now = self._program.clock.now
        start = 0
        size = self.window
        ended = False
        while not ended:
            began = now()
            window: list[Any] = []
            broken: Exception | None = None
            try:
                window.extend(itertools.islice(source, size))
            except Exception as error:  # what came before it is delivered first
                broken = error
            ended = len(window) < size
            if window:
                yield from self.run(start, window)
            start += len(window)
            seconds = now() - began
            if seconds > _SOON:
                size = self.window
            elif 2 * seconds < _SOON:
                size = min(2 * size, self._most)
            if broken is not None:
                try:
                    raise broken
                finally:
                    broken = None  # no cycle through the traceback of this frame

    def run(self, start: int, window: list[Any]) -> Bursts:
        """Run one window of items and yield their outcomes."""
        results, faults = self._columns.run(window)
        if self._whole is not None:
            self._whole.count(len(window), len(faults), 0.0)
        if faults:
            yield from self._outcomes(start, window, results, faults)
        else:
            yield results

    def _outcomes(self, start: int, items: list[Any], results: list[Any], faults: Faults) -> Bursts:
        """Yield results, and for failed items what `on_error` asks for."""
        burst: list[Any] = []
        for position, result in enumerate(results):
            fault = faults.get(position)
            if fault is None:
                burst.append(result)
                continue
            stage = self._program.note(fault.error, fault.op, start + position, item=items[position])
            if self._on_error == "raise":
                faults.clear()
                yield burst
                raise fault.release()
            if self._on_error == "record":
                burst.append(Failure(start + position, items[position], stage, fault.error))
        yield burst


def _window(plan: Plan, limit: int) -> int:
    """Return how many items to run together so that batches are full, and no more than that or the limit."""
    sizes = []
    for step in plan.steps:
        if isinstance(step.op, ops.Batched):
            sizes.append(step.op.batch)
        elif isinstance(step.op, ops.Call):
            sizes.append(step.op.stage.options.batch or 1)
        elif step.batches:  # how many items reach a batch in there is not known beforehand
            return limit
    common = math.lcm(*sizes)
    largest = max(sizes, default=1)
    return common if common <= limit else max(limit // largest * largest, min(limit, largest))


class InlineSession(Session):
    """A session in the calling thread: `submit` returns a future that is done.

    Parameters
    ----------
    program : Program
        The linked plan.
    executor : Inline
        Whose session it is.
    """

    def __init__(self, program: Program, executor: Inline) -> None:
        super().__init__(program.plan)
        self._program = program
        self._executor = executor
        self._stats = step_stats(program.plan)
        self._columns = Columns(program, self._stats)
        self._whole = StepStats()

    def run(self, item: Any, deadline: float | None = None) -> Any:
        self._check_open()
        return self._run(item, checked_deadline("run", deadline))

    def _run(self, item: Any, seconds: float | None) -> Any:
        if seconds is None:
            results, faults = self._columns.run([item])
        else:
            task = policies.within(seconds, functools.partial(self._columns.run, [item]), self._program.aside)
            if task.left:
                self._whole.count(1, 1, 0.0)
                self._program.renew_all()
                late = DeadlineExceeded(f"not done within the deadline of {seconds:g} s that the item was given")
                add_trail(late, self.plan.flow, item)
                try:
                    raise late
                finally:
                    del late  # no cycle through the traceback of this frame
            results, faults = task.result()
        self._whole.count(1, len(faults), 0.0)
        if not faults:
            return results[0]
        fault = faults.pop(0)
        self._program.note(fault.error, fault.op, None, item=item)
        raise fault.release()

    def submit(self, item: Any, deadline: float | None = None) -> Future[Any]:
        self._check_open()
        seconds = checked_deadline("submit", deadline)
        future: Future[Any] = Future()
        try:
            future.set_result(self._run(item, seconds))
        except Exception as error:
            future.set_exception(error)
        try:
            return future
        finally:
            del future  # no cycle through the traceback of this frame

    async def arun(self, item: Any, deadline: float | None = None) -> Any:
        return self.run(item, deadline)

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
        job = self._job(on_error, max_in_flight)
        return Results.of(with_progress(self._while_open(job.bursts(checked_items(items))), items, progress))

    def _job(self, on_error: OnError, max_in_flight: int | None) -> _Job:
        limit = self._executor._limit(max_in_flight)
        return _Job(self._program, checked_mode(on_error), limit, self._stats, self._whole)

    def _while_open(self, bursts: Bursts) -> Bursts:
        self._check_open()
        for burst in bursts:
            yield burst
            self._check_open()

    def amap(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = True,
        on_error: OnError = "raise",
        max_in_flight: int | None = None,
    ) -> AsyncResults:
        self._check_open()
        job = self._job(on_error, max_in_flight)
        if isinstance(items, AsyncIterable):
            return AsyncResults(self._awaiting(job, items))
        return AsyncResults(_asynchronous(self._while_open(job.bursts(checked_items(items)))))

    async def _awaiting(self, job: _Job, items: AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
        self._check_open()
        start = 0
        window: list[Any] = []
        broken: Exception | None = None
        source = aiter(items)
        while broken is None:
            try:
                window.append(await anext(source))
            except StopAsyncIteration:
                break
            except Exception as error:  # what came before it is delivered first
                broken = error
            if len(window) == job.window:
                for outcome in itertools.chain.from_iterable(self._while_open(job.run(start, window))):
                    yield outcome
                start, window = start + len(window), []
        if window:
            for outcome in itertools.chain.from_iterable(self._while_open(job.run(start, window))):
                yield outcome
        if broken is not None:
            try:
                raise broken
            finally:
                broken = None  # no cycle through the traceback of this frame

    def stats(self) -> SessionReport:
        whole = self._whole.report()
        return {
            "executor": self._executor.name,
            "digest": self.plan.digest,
            "items": whole["items"],
            "failures": whole["failures"],
            "abandoned_threads": self._program.aside.abandoned,
            "steps": {name: stats.report() for name, stats in self._stats.items()},
        }


async def _asynchronous(bursts: Bursts) -> AsyncGenerator[Any, None]:
    for outcome in itertools.chain.from_iterable(bursts):
        yield outcome
