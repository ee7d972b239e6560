"""The engine inside a replica: work that others do is begun, and nobody waits for it in a thread."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

import dataflow as df
from dataflow.executors.clock import SystemClock
from dataflow.executors.faults import Fault
from dataflow.executors.link import Program
from dataflow.executors.ray_serve.engine import ReplicaSession, Request, Stopped
from dataflow.plan import make_plan

pytestmark = pytest.mark.timeout(60)


class There:
    """Stands for another process: its answers are given by the test."""

    ceiling = 4
    at_once = 1
    places = 2
    max_wait = 0.0
    needs_thread = False

    def __init__(self) -> None:
        self.begun: list[tuple[list[Any], Callable[..., None]]] = []
        self.by: list[str] = []
        self.asked = threading.Semaphore(0)
        self.stopped = threading.Event()

    def begin(self, work: Any, inputs: list[list[Any]], done: Callable[..., None]) -> Callable[[], None]:
        self.by.append(threading.current_thread().name)
        self.begun.append((inputs[0], done))
        self.asked.release()
        return self.stopped.set

    def run(self, work: Any, inputs: list[list[Any]]) -> Any:
        self.by.append(threading.current_thread().name)
        return [[10 * item for item in inputs[0]]], {}

    def answer(self) -> None:
        """Answer the call that was begun first."""
        items, done = self.begun.pop(0)
        done(([[10 * item for item in items]], {}), None)


def session(flow: Any, there: There) -> ReplicaSession:
    """Open a session on a flow of which `placed` is run there."""
    program = Program(make_plan(flow), SystemClock())
    for _, step in program.plan.walk():
        if step.name == "placed":
            program.send(step.op, there)
    return ReplicaSession(program, workers=2, elsewhere=2)


def placed(x: int) -> int:
    raise AssertionError("it is run elsewhere")


PLACED = df.stage(placed, placement="there")


async def begun(there: There) -> None:
    """Wait until one more call has been begun."""
    assert await asyncio.to_thread(there.asked.acquire, timeout=30)


def test_what_others_do_keeps_no_thread() -> None:
    there = There()

    async def run() -> Any:
        replica = session(PLACED >> str, there)
        pending = replica.begin([1, 2], None, patient=True)
        await begun(there)
        assert there.by == [threading.current_thread().name], "whoever brings items begins the call for them"
        assert not replica.pool._threads
        there.answer()
        try:
            return await pending.some(whole=True)
        finally:
            replica.cancel()

    assert asyncio.run(run()) == ([0, 1], ["10", "20"], {})


def test_one_call_after_another_is_begun_where_the_one_before_ended() -> None:
    first, second = There(), There()

    async def run() -> Any:
        other = df.stage(lambda x: x, placement="elsewhere")
        program = Program(make_plan(PLACED >> other), SystemClock())
        for step, there in zip(program.plan.steps, (first, second), strict=True):
            program.send(step.op, there)
        replica = ReplicaSession(program, workers=2, elsewhere=2)
        pending = replica.begin([1], None, patient=False)
        await begun(first)
        first.answer()
        assert second.by == [threading.current_thread().name]
        second.answer()
        try:
            return await pending.some(whole=True)
        finally:
            replica.cancel()

    assert asyncio.run(run()) == ([0], [100], {})


def test_no_more_calls_are_begun_than_there_are_places() -> None:
    there = There()

    async def run() -> Any:
        replica = session(PLACED, there)
        pending = replica.begin(list(range(10)), None, patient=True)
        assert [len(items) for items, _ in there.begun] == [4, 4]
        there.answer()
        assert [items for items, _ in there.begun] == [[4, 5, 6, 7], [8, 9]]
        there.answer()
        there.answer()
        try:
            return await pending.some(whole=True)
        finally:
            replica.cancel()

    assert asyncio.run(run())[1] == [10 * number for number in range(10)]


def test_a_jobs_batches_go_several_at_once_and_as_many_to_each_place() -> None:
    there = There()
    there.at_once = 3

    async def run() -> list[int]:
        replica = session(PLACED, there)
        replica.begin(list(range(22)), None, patient=True)
        sizes = [len(items) for items, _ in there.begun]
        there.answer()
        there.answer()
        for item in range(10):  # somebody waits for each of these
            replica.begin([item], None, patient=False)
        sizes += [len(items) for items, _ in there.begun]
        there.answer()
        there.answer()
        sizes += [len(items) for items, _ in there.begun]
        replica.cancel()
        return sizes

    assert asyncio.run(run()) == [8, 12, 2, 1, 4, 4]


def test_no_thread_is_woken_for_what_needs_none() -> None:
    there = There()

    async def run() -> None:
        replica = session(PLACED, there)
        with replica.pool.lock:
            replica.schedule.accept(Request(replica, [1], patient=False, deadline=None))
            assert not replica.schedule.more and replica.schedule.take() is None
            assert replica.schedule.take_away() is not None
        replica.cancel()

    asyncio.run(run())


def test_what_carries_much_is_called_by_a_thread() -> None:
    there = There()
    there.needs_thread = True

    async def run() -> Any:
        replica = session(PLACED, there)
        try:
            return await replica.begin([1], None, patient=False).some(whole=True)
        finally:
            replica.cancel()

    assert asyncio.run(run())[1] == [10]
    assert there.by[0].startswith("dataflow-worker")


def test_errors_of_calls_are_their_items() -> None:
    there = There()

    async def run() -> Any:
        replica = session(PLACED, there)
        pending = replica.begin([1, 2], None, patient=True)
        _, done = there.begun.pop()
        done(([[None, 7]], {0: Fault(LookupError("one"), None)}), None)
        try:
            return await pending.some(whole=True)
        finally:
            replica.cancel()

    _, results, faults = asyncio.run(run())
    assert (results, [str(fault.error) for fault in faults.values()]) == ([None, 7], ["one"])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a defect")])
def test_what_ends_everything_ends_the_session(error: BaseException) -> None:
    there = There()

    async def run() -> None:
        replica = session(PLACED, there)
        pending = replica.begin([1], None, patient=False)
        other = replica.begin([2], None, patient=False)
        there.begun.pop(0)[1](None, error)
        with pytest.raises(Stopped) as caught:
            await pending.some(whole=True)
        assert caught.value.error is error
        with pytest.raises(df.SessionClosed):
            await other.some(whole=True)
        assert replica.closed
        replica.cancel()

    asyncio.run(run())


def test_a_call_that_cannot_be_begun_leaves_nobody_waiting() -> None:
    class Broken(There):
        def begin(self, work: Any, inputs: list[list[Any]], done: Callable[..., None]) -> Callable[[], None]:
            raise RuntimeError("no way there")

    async def run() -> None:
        replica = session(PLACED, Broken())
        with pytest.raises(Stopped) as caught:
            await replica.begin([1], None, patient=False).some(whole=True)
        assert str(caught.value.error) == "no way there"
        replica.cancel()

    asyncio.run(run())


def test_a_call_whose_time_is_up_is_given_up_and_its_answer_dropped() -> None:
    there = There()

    async def run() -> Any:
        replica = session(PLACED.timeout(0.05), there)
        pending = replica.begin([1], None, patient=False)
        await begun(there)
        outcomes = await pending.some(whole=True)
        assert await asyncio.to_thread(there.stopped.wait, 30)
        there.answer()  # too late
        replica.begin(list(range(12)), None, patient=True)
        assert len(there.begun) == there.places, "the place of the call that was given up is free once, and not twice"
        replica.cancel()
        return outcomes

    _, results, faults = asyncio.run(run())
    assert results == [None] and isinstance(faults[0].error, TimeoutError)


def test_nothing_more_is_begun_once_the_session_has_ended() -> None:
    there = There()

    async def run() -> None:
        replica = session(PLACED, there)
        replica.begin(list(range(12)), None, patient=True)
        assert len(there.begun) == 2
        replica.cancel()
        there.answer()
        there.answer()
        assert not there.begun

    asyncio.run(run())
