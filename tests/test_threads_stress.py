"""Random flows with random faults, taken by random consumers, on threads; and the schedule by itself, move by move.

`test_the_schedule_by_itself` runs on one thread, in virtual time, with every choice drawn: what it finds happens again,
to the last detail. `test_random_faults` runs on threads, which hesitate at the lock as a seed tells them. A failure
prints the flow and the numbers that it was run with; what the machine's own threads do is left to chance all the same.

``DATAFLOW_FAULT_RUNS=1000`` asks for that many runs on threads instead of a few.
"""

import contextlib
import contextvars
import faulthandler
import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import dataflow as df
from dataflow.errors import DeadlineExceeded, SessionClosed
from dataflow.executors.faults import Fault as ItemFault
from dataflow.executors.schedule import Schedule, Ticket, no_source
from dataflow.executors.stats import step_stats
from dataflow.executors.threads.pool import Pool
from dataflow.testing import (
    Fault,
    Gate,
    Outcome,
    VirtualClock,
    assert_no_leaks,
    faults,
    flows,
    outcome_of,
    outcomes,
    pool,
)
from dataflow.testing.simulated.world import World

LIMIT = 30.0  # real seconds after which a run counts as hanging
RUNS = int(os.environ.get("DATAFLOW_FAULT_RUNS", "40"))
A_BLOCK = 20

items = st.lists(st.integers(-20, 60), max_size=12)
numbers = st.integers(0, 2**32 - 1)

# ------------------------------------------------------------------ the schedule by itself


class Noted(Ticket):
    """Items whose outcomes are kept, and are told no more than once."""

    def __init__(self, xs: list[int], **options: Any) -> None:
        super().__init__(xs, **options)
        self.found: dict[int, Outcome] = {}
        self.cancelled = False
        self.given_up: set[int] = set()

    def succeeded(self, positions: Sequence[int], values: list[Any]) -> None:
        for position, value in zip(positions, values, strict=True):
            self._note(position, Outcome(value))

    def failed(self, faults: Mapping[int, ItemFault]) -> None:
        for position, fault in faults.items():
            self._note(position, Outcome(None, type(fault.error)))

    def _note(self, position: int, outcome: Outcome) -> None:
        assert not self.cancelled, "an outcome for what has been cancelled"
        assert position not in self.given_up, "an outcome for what has been given up"
        assert position not in self.found, "a second outcome for one item"
        self.found[position] = outcome


class Moves:
    """Everything that threads and time could do to a schedule, one move after another, as a number says."""

    def __init__(self, flow: Any, xs: list[int], number: int) -> None:
        self.context = contextvars.copy_context()
        self.random = random.Random(number)
        self.clock = VirtualClock()
        program = df.Threads(clock=self.clock).program(flow)
        self.schedule = Schedule(program, step_stats(program.plan))
        self.world = World(self.schedule, self.clock, self.random, workers=self.random.choice([1, 3, 1000]))
        self.to_come = list(xs)
        self.tickets: list[Noted] = []

    def run(self) -> None:
        while self.to_come:
            self.world.go_on([self.accept, self.wait, self.cancel, self.give_up])
        self.schedule.source = no_source
        while any(ticket.frame is not None for ticket in self.tickets) or self.world.running:
            self.world.go_on()

    def accept(self) -> None:
        count = self.random.randint(1, 4)
        chunk, self.to_come = self.to_come[:count], self.to_come[count:]
        deadline = self.random.choice([None, None, None, 0.0, 0.001, 50.0])
        if self.random.random() < 0.3:
            chunk, self.to_come = chunk[:1], chunk[1:] + self.to_come
        patient = len(chunk) > 1 or self.random.random() < 0.5
        ticket = Noted(chunk, patient=patient, context=self.context, deadline=deadline, since=self.clock.now())
        self.tickets.append(ticket)
        self.schedule.source = self.random.choice([no_source, lambda: float("inf"), lambda: 0.002])
        self.schedule.accept(ticket)
        self.world.note(f"accept {chunk} {deadline}")

    def wait(self) -> None:
        self.world.advance(self.random.choice([0.0001, 0.0005, 0.002, 0.002, 60.0, 601.0]))

    def cancel(self) -> None:
        open_ones = [ticket for ticket in self.tickets if ticket.frame is not None]
        if not open_ones or self.random.random() < 0.7:
            return
        ticket = self.random.choice(open_ones)
        self.schedule.cancel(ticket)
        ticket.cancelled = True
        self.world.forget_left()
        self.world.note(f"cancel {ticket.number}")

    def give_up(self) -> None:
        left = [
            (ticket, position)
            for ticket in self.tickets
            if ticket.frame is not None
            for position in range(len(ticket.items))
            if position not in ticket.found and position not in ticket.given_up
        ]
        if not left or self.random.random() < 0.7:
            return
        ticket, position = self.random.choice(left)
        ticket.given_up.add(position)
        self.schedule.give_up(ticket, position)
        self.world.forget_left()
        self.world.note(f"give up {position} of {ticket.number}")


def judge(flow: Any, moves: Moves) -> None:
    timely = moves.clock.now() < 500  # no timeout of a random flow can have passed
    for ticket in moves.tickets:
        known = len(ticket.found) + len(ticket.given_up)
        assert ticket.cancelled or known == len(ticket.items), "an item has been lost"
        for position, outcome in ticket.found.items():
            allowed = outcomes(flow, ticket.items[position], timely=timely)
            if outcome.error is DeadlineExceeded and ticket.deadline is not None:
                continue
            assert outcome in allowed
    schedule = moves.schedule
    assert (schedule.in_flight, schedule.waiting, schedule.running) == (0, 0, set())
    assert schedule.take() is None, "work that nobody wants"


@given(flows(), items, numbers)
def test_the_schedule_by_itself(flow: Any, xs: list[int], number: int) -> None:
    moves = Moves(flow, xs, number)
    moves.run()
    judge(flow, moves)


@given(flows(), faults("raise on items", "raise on call", "wrong length", "mutate"), items, numbers)
def test_the_schedule_by_itself_with_faults(flow: Any, fault: Fault, xs: list[int], number: int) -> None:
    broken = fault.into(flow)
    moves = Moves(broken, xs, number)
    moves.run()
    judge(broken, moves)


@given(flows(max_depth=2), items, numbers)
def test_the_schedule_goes_the_same_way_again(flow: Any, xs: list[int], number: int) -> None:
    one, other = Moves(flow, xs, number), Moves(flow, xs, number)
    one.run()
    other.run()
    assert one.world.trace == other.world.trace
    assert [ticket.found for ticket in one.tickets] == [ticket.found for ticket in other.tickets]


@pytest.mark.parametrize(
    "again",
    [lambda flow: flow.retry(1), lambda flow: flow.retry(1, backoff=0.01), lambda flow: flow.fallback(flow)],
    ids=["retry", "backoff", "fallback"],
)
def test_rows_that_have_failed_elsewhere_meanwhile_hold_nobody_up(again: Callable[[Any], Any]) -> None:
    """One branch fails an item between another branch's attempts at it: the items beside it go on."""
    once: Any = df.stage(pool.not_third)
    flow = df.fanout(once, again(once)) >> df.combine(pool.weighed)
    for number in range(30):
        moves = Moves(flow, [0, 1, 3, 4], number)
        moves.run()
        judge(flow, moves)


def test_what_is_late_when_it_is_taken_is_run_no_more() -> None:
    clock = VirtualClock()
    program = df.Threads(clock=clock).program(df.stage(abs))
    schedule = Schedule(program, step_stats(program.plan))
    ticket = Noted([1], patient=False, context=contextvars.copy_context(), deadline=5.0, since=0.0)
    schedule.accept(ticket)
    clock.advance(5)
    assert schedule.take() is None
    assert ticket.found == {0: Outcome(None, DeadlineExceeded)}


# ------------------------------------------------------------------ threads


class Hesitant:
    """A lock at which threads hesitate, as a number says: each has random choices of its own, by when it came first."""

    def __init__(self, lock: Any, number: int) -> None:
        self._lock = lock
        self._number = number
        self._come = itertools.count()
        self._own = threading.local()
        self._is_owned = lock._is_owned
        self._release_save = lock._release_save
        self._acquire_restore = lock._acquire_restore

    def _hesitate(self) -> None:
        if not hasattr(self._own, "random"):
            self._own.random = random.Random(f"{self._number} {next(self._come)}")
        choice = self._own.random.random()
        if choice < 0.2:
            time.sleep(0.0005 * choice)  # lets others go first; nothing is waited for

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        self._hesitate()
        taken: bool = self._lock.acquire(blocking, timeout)
        return taken

    def release(self) -> None:
        self._lock.release()
        self._hesitate()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *given: object) -> None:
        self.release()


@contextlib.contextmanager
def hesitating(number: int) -> Iterator[None]:
    plain = Pool.__init__

    def init(pool: Pool, *given: Any) -> None:
        plain(pool, *given)
        lock: Any = Hesitant(pool.lock, number)
        pool.lock = lock
        pool._changed = threading.Condition(lock)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pool, "__init__", init)
        yield


class Run:
    """One flow, its items, and a consumer that does what a number says."""

    def __init__(self, flow: Any, allowed: list[list[Outcome]], xs: list[int], number: int) -> None:
        self.flow = flow
        self.allowed = allowed
        self.xs = xs
        self.random = random.Random(number)
        self.executor = df.Threads(
            workers=self.random.randint(1, 4), max_in_flight=self.random.choice([1, 2, 5, 16, 1024])
        )

    def check(self) -> None:
        self.random.choice(
            [
                self.takes_all,
                self.takes_any,
                self.leaves,
                self.abandons,
                self.closes,
                self.raises,
                self.stops,
                self.submits,
            ]
        )()

    def judge(self, index: int, result: Any) -> None:
        if isinstance(result, df.Failure):
            assert (result.index, result.item) == (index, self.xs[index])
            result = Outcome(None, type(result.error))
        else:
            result = Outcome(result)
        assert result in self.allowed[index]

    def takes_all(self) -> None:
        results = list(self.flow.map(self.xs, self.executor, on_error="record", progress=False))
        assert len(results) == len(self.xs)
        for index, result in enumerate(results):
            self.judge(index, result)

    def takes_any(self) -> None:
        results = list(self.flow.map(self.xs, self.executor, ordered=False, on_error="record", progress=False))
        assert len(results) == len(self.xs)
        failed = [result.index for result in results if isinstance(result, df.Failure)]
        assert len(set(failed)) == len(failed)
        for result in results:
            at = [result.index] if isinstance(result, df.Failure) else range(len(self.xs))
            found = Outcome(None, type(result.error)) if isinstance(result, df.Failure) else Outcome(result)
            assert any(found in self.allowed[index] for index in at)

    def some(self, results: Iterator[Any]) -> None:
        for index, result in enumerate(itertools.islice(results, self.random.randint(0, len(self.xs)))):
            self.judge(index, result)

    def leaves(self) -> None:
        with self.flow.map(self.xs, self.executor, on_error="record", progress=False) as results:
            self.some(results)

    def abandons(self) -> None:
        self.some(self.flow.map(itertools.cycle(self.xs or [0]), self.executor, on_error="record", progress=False))

    def closes(self) -> None:
        with self.flow.open(self.executor) as session:
            results = session.map(itertools.cycle(self.xs or [0]), on_error="record", progress=False)
            self.some(results)
            self.random.choice([session.close, session.cancel])()
            with pytest.raises(SessionClosed):
                list(results)

    def raises(self) -> None:
        with contextlib.suppress(KeyError), self.flow.open(self.executor) as session:
            self.some(session.map(self.xs, on_error="record", progress=False))
            futures = [session.submit(x) for x in self.xs[:4]]
            raise KeyError
        for index, future in enumerate(futures):
            self.settled(index, future, Outcome(None, CancelledError))  # type: ignore[arg-type]

    def stops(self) -> None:
        results = self.flow.map(self.xs, self.executor, progress=False)
        for index, _ in enumerate(self.xs):
            found = outcome_of(lambda: next(results))
            assert found in self.allowed[index]
            if found.error is not None:
                break
        with pytest.raises(StopIteration):
            next(results)

    def submits(self) -> None:
        late = self.random.choice([None, None, 0.001])
        also = [] if late is None else [Outcome(None, DeadlineExceeded)]
        cancelled: set[int] = set()
        with self.flow.open(self.executor) as session:
            futures = [session.submit(x, late) for x in self.xs]
            for index, future in enumerate(futures):
                if self.random.random() < 0.3 and future.cancel():
                    cancelled.add(index)
            if self.random.random() < 0.5:
                for index, future in enumerate(futures):
                    if index not in cancelled:
                        self.settled(index, future, *also)
        for index, future in enumerate(futures):
            assert future.cancelled() is (index in cancelled)
            if index not in cancelled:
                self.settled(index, future, *also)

    def settled(self, index: int, future: Future[Any], *also: Outcome) -> None:
        try:
            found = outcome_of(lambda: future.result(LIMIT))
        except CancelledError:
            found = Outcome(None, CancelledError)  # type: ignore[arg-type]
        assert found in [*self.allowed[index], *also]


def watched(call: Callable[[], None]) -> None:
    """Call something that must not hang."""
    done: Future[None] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="watched", daemon=True).start()
    try:
        done.result(LIMIT)
    except TimeoutError:
        faulthandler.dump_traceback()
        raise AssertionError("it hangs") from None


@pytest.mark.timeout(600)
@pytest.mark.parametrize("block", range(max(1, RUNS // A_BLOCK)))
def test_random_faults(block: int) -> None:
    @seed(block)
    @settings(
        max_examples=A_BLOCK,
        deadline=None,
        database=None,
        derandomize=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(flows(max_depth=2), faults(), items, numbers)
    def check(flow: Any, fault: Fault, xs: list[int], number: int) -> None:
        with Gate() as gate:
            broken = fault.into(flow, gate)
            if fault.kind == "hang":  # the oracle must not hang: it reads the flow without
                broken, sound = broken.timeout(0.02), flow.timeout(0.02)
                allowed = [outcomes(sound, x, timely=False) for x in xs]
            else:
                allowed = [outcomes(broken, x) for x in xs]
            with hesitating(number), assert_no_leaks(cycles=False):
                try:
                    watched(Run(broken, allowed, xs, number).check)
                finally:
                    gate.open()

    check()
