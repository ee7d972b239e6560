"""What the thread executor must survive that one thread cannot show: hangs, bad moments to end, who waits for whom.

Nothing here sleeps to wait. A `Gate` says how far the work has come, a `VirtualClock` what time it is, and `soon` is
for what must not hang: it gives up after a time that no sound run needs.
"""

import asyncio
import contextlib
import contextvars
import functools
import gc
import itertools
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest
from faulty import Batched, Counting, Poison, fails, refusing, same

import dataflow as df
from dataflow.errors import DeadlineExceeded, QueueFull, SessionClosed
from dataflow.executors.schedule import Work
from dataflow.testing import Gate, VirtualClock, assert_no_leaks

LIMIT = 20.0  # real seconds after which something counts as hanging


def soon(call: Callable[..., Any], *given: Any) -> Any:
    """Return what a call gives, or raise what it raises; a TimeoutError if it hangs."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call(*given))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="soon", daemon=True).start()
    return future.result(LIMIT)


def until(met: Callable[[], bool]) -> None:
    """Return once a condition holds that nobody tells of."""
    for _ in range(int(LIMIT * 1000)):
        if met():
            return
        threading.Event().wait(0.001)
    raise TimeoutError("it has not come to that")


def workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("dataflow-worker")]


@contextlib.contextmanager
def opened(flow: Any, *gates: Gate, **options: Any) -> Iterator[Any]:
    """Open a session that ends though a test fails while something hangs at a gate."""
    session = flow.open(df.Threads(**options))
    try:
        yield session
    except BaseException:
        session.cancel()
        raise
    finally:
        for gate in gates:
            gate.open()
        soon(session.close)


def beside(*flows: Any, **options: Any) -> Any:
    """Return a fan-out of batched stages marked as a GPU's, each a step of its own."""
    made = [df.stage(flow, device="cuda", batch=4, placement=f"gpu {n}", **options) for n, flow in enumerate(flows)]
    return df.fanout(*made) >> df.combine(lambda *parts: parts)


def batched(one: Callable[[Any], Any]) -> Callable[[list[Any]], list[Any]]:
    return lambda items: [one(item) for item in items]


# ------------------------------------------------------------------ 11: what ends everything


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("batch", [None, 1])
def test_what_ends_the_program_ends_everything_and_cancels_the_others(kind: Any, batch: int | None) -> None:
    """Who waits for the item gets the error unchanged; nobody else gets a result that was never computed."""
    error, seen = kind("stop"), []
    with Gate() as waits, Gate() as dies:

        def one(x: Any) -> Any:
            seen.append(x)
            if x == "dies":
                dies(x)
                raise error
            return waits(x)

        flow = df.stage(one if batch is None else batched(one), batch=batch, replicas=2)
        with opened(flow, dies, waits, workers=2) as session:
            first = session.submit("dies")
            dies.await_arrivals()
            others = [session.submit(x) for x in range(3)]
            waits.await_arrivals()
            dies.open()
            with pytest.raises(kind) as raised:
                first.result(LIMIT)
            assert raised.value is error
            for other in others:
                with pytest.raises(CancelledError):
                    other.result(LIMIT)
            with pytest.raises(SessionClosed):
                session.run(7)
    assert seen == ["dies", 0]


def test_what_ends_the_program_in_one_of_two_jobs_ends_the_other_as_well() -> None:
    with Gate() as gate:

        def one(x: Any) -> Any:
            if x == "dies":
                gate(x)
                raise SystemExit(3)
            return x

        def forever() -> Iterator[int]:
            yield from iter(int, 1)

        with opened(df.stage(one), gate) as session:
            other = session.map(forever(), max_in_flight=8, progress=False)
            assert next(other) == 0
            job = session.map(["dies"], on_error="skip", progress=False)
            waiting = threading.Thread(target=gate.await_arrivals)
            waiting.start()
            opening = threading.Thread(target=lambda: (waiting.join(), gate.open()))
            opening.start()
            with pytest.raises(SystemExit, match="3"):
                soon(next, job)
            opening.join()
            with pytest.raises(SessionClosed):
                soon(lambda: list(other))


def test_a_cancelled_session_has_no_results_for_what_was_under_way() -> None:
    with Gate() as gate:
        session = df.stage(gate).open(df.Threads(workers=1))
        futures = [session.submit(x) for x in range(3)]
        gate.await_arrivals()
        session.cancel()
        for future in futures:
            with pytest.raises(CancelledError):
                future.result(LIMIT)


def test_who_runs_an_item_in_a_session_that_is_cancelled_is_told_so() -> None:
    with Gate() as gate:
        session = df.stage(gate).open(df.Threads(workers=1))
        closing = threading.Thread(target=lambda: (gate.await_arrivals(), session.cancel()))
        closing.start()
        with pytest.raises(SessionClosed):
            soon(session.run, 1)
        closing.join()


def test_who_awaits_an_item_in_a_session_that_is_cancelled_is_told_so() -> None:
    """It is no cancellation of the task that awaits it."""
    with Gate() as gate:
        session = df.stage(gate).open(df.Threads(workers=1))
        closing = threading.Thread(target=lambda: (gate.await_arrivals(), session.cancel()))
        closing.start()
        with pytest.raises(SessionClosed):
            soon(asyncio.run, session.arun(1))
        closing.join()


# ------------------------------------------------------------------ 14 and 33: branches beside one another


def test_a_batched_branch_that_fails_beside_a_blocked_one_surfaces_now() -> None:
    with Gate() as gate, opened(beside(batched(gate), batched(fails)), gate, workers=2) as session:
        with pytest.raises(ValueError, match="no 1"):
            soon(session.run, 1)
        assert gate.arrived == 1


def test_a_batched_branch_that_fails_beside_a_blocked_one_surfaces_now_in_a_job() -> None:
    with Gate() as gate, opened(beside(batched(gate), batched(fails)), gate, workers=2) as session:
        results = session.map([1, 2], progress=False)
        with pytest.raises(ValueError, match="no 1"):
            soon(next, results)


@pytest.mark.parametrize("way", ["run", "map"])
def test_a_batched_competitor_wins_beside_a_blocked_one(way: str) -> None:
    with Gate() as gate:
        hangs, wins = (df.stage(batched(fn), batch=4) for fn in (gate, same))
        with opened(df.race(hangs, wins), gate, workers=2) as session:
            run = session.run if way == "run" else lambda x: next(session.map([x], progress=False))
            assert soon(run, 5) == 5


def test_an_element_that_fails_beside_a_blocked_one_surfaces_now() -> None:
    with Gate() as gate:

        def one(x: int) -> int:
            return gate(x) if x == 1 else fails(x)

        with opened(df.each(one), gate, workers=2) as session, pytest.raises(ValueError, match="no 2"):
            soon(session.run, [1, 2])


def test_a_quorum_that_cannot_be_met_any_more_fails_now() -> None:
    with Gate() as gate:
        flow = df.fanout(gate, fails, fails) >> df.combine(lambda *parts: parts, quorum=2)
        with opened(flow, gate, workers=2) as session, pytest.raises(ValueError, match="no 1"):
            soon(session.run, 1)


# ------------------------------------------------------------------ 25: what hangs


def test_more_hangs_than_workers() -> None:
    clock = VirtualClock()
    with Gate() as gate:
        flow = df.stage(lambda x: gate(x) if x >= 0 else x).timeout(5)
        with opened(flow, gate, workers=2, clock=clock) as session:
            for count in range(5):
                hanging = session.submit(count)
                gate.await_arrivals(count + 1)
                clock.advance(5)
                with pytest.raises(DeadlineExceeded):
                    hanging.result(LIMIT)
            assert session.submit(-1).result(LIMIT) == -1
            assert session.stats()["abandoned_threads"] == 5


def test_what_is_given_up_before_its_thread_has_begun_costs_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between taking work and running it a thread may be held up for as long as the machine likes."""
    clock = VirtualClock()
    run = Work.run
    with Gate() as gate:

        def late(work: Work) -> None:
            gate(None)
            run(work)

        monkeypatch.setattr(Work, "run", late)
        with opened(df.stage(same).timeout(5), gate, workers=1, clock=clock) as session:
            first = session.submit(1)
            gate.await_arrivals()
            clock.advance(5)
            with pytest.raises(DeadlineExceeded):
                first.result(LIMIT)
            gate.open()
            assert session.submit(2).result(LIMIT) == 2


def test_a_nested_flow_that_hangs_under_a_timeout_costs_no_worker() -> None:
    """All that hangs is replaced: the thread of the stage, and that which runs the flow inside it."""
    clock = VirtualClock()
    executor = df.Threads(workers=2, clock=clock)
    with Gate() as gate:
        inner = df.stage(lambda x: gate(x) if x >= 0 else x)
        flow = df.stage(lambda x: next(inner.map([x], executor))).timeout(5)
        with opened(flow, gate, workers=2, clock=clock) as session:
            for count in range(5):
                hanging = session.submit(count)
                gate.await_arrivals(count + 1)
                clock.advance(5)
                with pytest.raises(DeadlineExceeded):
                    hanging.result(LIMIT)
            assert session.submit(-1).result(LIMIT) == -1


def test_giving_up_an_item_harms_nobody_else_in_a_session_that_its_stage_uses() -> None:
    clock = VirtualClock()
    with Gate() as gate, Gate() as other:
        shared_flow = df.stage(lambda x: gate(x) if x == 1 else other(x) if x == 2 else x)
        with opened(shared_flow, gate, other, workers=1) as shared:
            flow = df.stage(shared.run).timeout(5)
            with opened(flow, gate, other, workers=2, clock=clock) as session:
                blocking = shared.submit(1)
                gate.await_arrivals()
                given_up = session.submit(3)  # waits in the shared session's queue, behind the one that blocks
                until(lambda: shared.in_flight == 2)
                clock.advance(5)
                with pytest.raises(DeadlineExceeded):
                    given_up.result(LIMIT)
                gate.open()
                assert blocking.result(LIMIT) == 1
                assert shared.submit(4).result(LIMIT) == 4


# ------------------------------------------------------------------ 16, 18, 19, 20, 21: sources and consumers


def test_a_garbage_collector_may_end_a_job_whenever_it_likes() -> None:
    """An abandoned iterator in a reference cycle is ended by the collector, which runs in any thread at any moment."""

    class Collecting(VirtualClock):
        collect = False

        def now(self) -> float:
            if self.collect:
                self.collect = False
                gc.collect()
            return super().now()

    clock = Collecting()
    with opened(df.stage(same), clock=clock) as session:

        def abandon() -> None:
            results = session.map(iter(int, 1), max_in_flight=4, progress=False)
            assert next(results) == 0
            cycle = [results]
            cycle.append(cycle)

        gc.disable()
        try:
            abandon()
            clock.collect = True
            assert soon(session.run, 5) == 5
        finally:
            clock.collect = False
            gc.enable()
        until(lambda: not session.jobs)


def test_a_failure_wakes_a_source_that_waits_for_room() -> None:
    """The job ends though nobody takes the outcomes that its source waits for."""
    ended = threading.Event()

    def source() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            ended.set()

    flow = df.stage(refusing(0))
    with assert_no_leaks(cycles=False):
        results = flow.map(source(), df.Threads(workers=2), max_in_flight=4, progress=False)
        with pytest.raises(Poison):
            soon(next, results)
        assert ended.wait(LIMIT)


@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("limit", [1, 2, 7, 64])
def test_a_slow_consumer_stalls_the_source_at_the_limit(batch: int | None, ordered: bool, limit: int) -> None:
    read = 0
    ahead = []
    flow = df.stage(same) >> df.stage(same if batch is None else batched(same), batch=batch) >> same

    def source() -> Iterator[int]:
        nonlocal read
        while True:
            read += 1
            ahead.append(read - taken)
            yield read

    taken = 0
    results = flow.map(source(), df.Threads(workers=2), max_in_flight=limit, ordered=ordered, progress=False)
    with results:
        for _ in range(200):
            next(results)
            taken += 1
    # what the consumer has been handed and has not come back from counts as being in flight
    assert max(ahead) <= limit + 1


def test_closing_a_job_whose_source_blocks_is_prompt_and_its_thread_ends_once_the_source_gives() -> None:
    given = threading.Event()
    with Gate() as gate, assert_no_leaks(cycles=False):

        def source() -> Iterator[int]:
            yield 1
            gate(None)
            given.set()
            yield 2

        with df.stage(same).open(df.Threads(workers=1)) as session:
            results = session.map(source(), progress=False)
            assert next(results) == 1
            gate.await_arrivals()
            soon(results.close)
            assert not given.is_set()
            assert session.run(5) == 5
        gate.open()
        assert given.wait(LIMIT)


@pytest.mark.parametrize("batch", [None, 8])
def test_a_source_that_waits_for_the_results_of_what_it_gave(batch: int | None) -> None:
    """What was read is run, and the partial batch is flushed, when nothing else can come before."""
    answered: queue.Queue[int] = queue.Queue()

    def source() -> Iterator[int]:
        yield from range(200)  # by then it is read in large chunks
        for number in range(200, 230):
            yield number
            while answered.get(timeout=LIMIT) != number:
                pass

    flow = df.stage(same if batch is None else batched(same), batch=batch)
    results = flow.map(source(), df.Threads(workers=2), progress=False)

    def take() -> list[int]:
        taken = []
        for result in results:
            taken.append(result)
            answered.put(result)
        return taken

    assert soon(take) == list(range(230))


def test_a_source_that_blocks_within_a_chunk_is_looked_at_though_nothing_else_happens() -> None:
    """Reading begins when all that was read before has been done: only the clock can say that it takes long."""
    clock = VirtualClock()
    with Gate() as gate, opened(df.stage(same), gate, workers=1, clock=clock) as session:

        def source() -> Iterator[int]:
            yield from range(20)
            gate(None)

        results = session.map(source(), progress=False)
        taken = [soon(next, results)]
        reading = threading.Thread(target=lambda: taken.extend(itertools.islice(results, 19)))
        reading.start()
        gate.await_arrivals()
        until(lambda: bool(clock.advance(1.0)) or len(taken) == 20)
        reading.join(LIMIT)
        assert taken == list(range(20))
        gate.open()


# ------------------------------------------------------------------ 24 and 32: flows in stages


@pytest.mark.parametrize("way", ["map", "session", "submit", "call"])
@pytest.mark.parametrize("named", [True, False], ids=["by name", "the same executor"])
def test_flows_nested_thirty_deep_run_on_one_worker(way: str, named: bool) -> None:
    executor: Any = "threads" if named else df.Threads(workers=1)

    def run(flow: Any, x: int) -> Any:
        if way == "call":
            return flow(x)
        if way == "map":
            return list(flow.map([x], executor))[0]  # noqa: RUF015
        with flow.open(executor) as session:
            return session.run(x) if way == "session" else session.submit(x).result()

    flow: Any = df.stage(lambda x: x + 1)
    for _ in range(30):
        flow = df.stage(functools.partial(run, flow))
    with opened(flow, workers=1) as session:
        assert soon(session.run, 1) == 2


def test_a_flow_of_many_branches_takes_no_more_threads_than_there_are() -> None:
    most = 0

    def count(x: int) -> int:
        nonlocal most
        most = max(most, len(workers()))
        return x

    branches = df.fanout(*[df.stage(batched(count), batch=4, device="cuda", placement=f"{n}") for n in range(200)])
    flow = branches >> df.combine(lambda *parts: sum(parts))
    assert soon(lambda: list(flow.map(range(5), df.Threads(workers=3)))) == [200 * x for x in range(5)]
    assert 1 <= most <= 3


def test_flows_in_stages_share_the_threads_of_the_stages_that_run_them() -> None:
    executor = df.Threads(workers=2)
    running = most = 0
    lock = threading.Lock()

    def leaf(x: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        with lock:
            running -= 1
        return x

    inner = df.stage(leaf)
    flow = df.stage(lambda x: sum(inner.map(range(x), executor)))
    assert soon(lambda: list(flow.map(range(20), executor))) == [sum(range(x)) for x in range(20)]
    assert most <= 2


def test_a_place_that_is_lent_while_a_flow_is_run_in_a_stage_is_taken_back() -> None:
    executor = df.Threads(workers=1)
    inner = df.stage(abs)
    flow = df.stage(lambda x: list(inner.map([x], executor)))
    with flow.open(executor) as session:
        assert [soon(session.run, -x) for x in range(5)] == [[x] for x in range(5)]
        assert session.pool.free == 1


def test_a_stage_whose_session_is_cancelled_while_it_runs_a_flow_of_its_own_ends() -> None:
    executor = df.Threads(workers=2)
    ended = threading.Event()
    with Gate() as gate, assert_no_leaks(cycles=False):
        inner = df.stage(gate)

        def outer(x: int) -> Any:
            try:
                return list(inner.map([x], executor))
            finally:
                ended.set()

        session = df.stage(outer).open(executor)
        session.submit(1)
        gate.await_arrivals()
        session.cancel()
        assert ended.wait(LIMIT)
        gate.open()


# ------------------------------------------------------------------ deadlines, cancellation, max_queue


def test_a_deadline_counts_while_an_item_waits_to_be_accepted() -> None:
    clock = VirtualClock()
    with Gate() as gate, opened(df.stage(gate), gate, workers=1, max_in_flight=1, clock=clock) as session:
        session.submit(1)
        gate.await_arrivals()
        failed: Future[Any] = Future()
        waiting = threading.Thread(target=lambda: failed.set_exception(_error_of(lambda: session.run(2, deadline=5))))
        waiting.start()
        until(lambda: bool(clock.advance(1.0)) or failed.done())
        with pytest.raises(DeadlineExceeded):
            failed.result(LIMIT)
        waiting.join()
        awaited = _error_of(lambda: soon(asyncio.run, _advancing(session.arun(3, deadline=5), clock)))
        assert isinstance(awaited, DeadlineExceeded)


def _error_of(call: Callable[[], Any]) -> BaseException | None:
    try:
        call()
    except BaseException as error:
        return error
    return None


async def _advancing(work: Any, clock: VirtualClock) -> Any:
    task = asyncio.ensure_future(work)
    while not task.done():
        clock.advance(1.0)
        await asyncio.sleep(0)
    return await task


@pytest.mark.parametrize("batch", [None, 4])
def test_what_has_expired_is_never_called(batch: int | None) -> None:
    clock = VirtualClock()
    seen: list[Any] = []
    with Gate() as gate:

        def one(x: Any) -> Any:
            seen.append(x)
            return gate(x) if x == "first" else x

        flow = df.stage(one if batch is None else batched(one), batch=batch)
        with opened(flow, gate, workers=1, clock=clock) as session:
            first = session.submit("first")
            gate.await_arrivals()
            late = [session.submit(x, deadline=5) for x in range(6)]
            clock.advance(5)
            for future in late:
                with pytest.raises(DeadlineExceeded):
                    future.result(LIMIT)
            last = session.submit("last")
            gate.open()
            assert (first.result(LIMIT), last.result(LIMIT)) == ("first", "last")
    assert seen == ["first", "last"]


@pytest.mark.parametrize("batch", [None, 4])
def test_the_work_of_cancelled_futures_leaves_the_queues(batch: int | None) -> None:
    seen: list[Any] = []
    with Gate() as gate:

        def one(x: Any) -> Any:
            seen.append(x)
            return gate(x) if x == "first" else x

        flow = df.stage(one if batch is None else batched(one), batch=batch)
        with opened(flow, gate, workers=1, max_queue=6) as session:
            session.submit("first")
            gate.await_arrivals()
            waiting = [session.submit(x) for x in range(6)]
            with pytest.raises(QueueFull):
                session.submit(7)
            assert all(future.cancel() for future in waiting[1:])
            kept = session.submit("kept")
            gate.open()
            assert (waiting[0].result(LIMIT), kept.result(LIMIT)) == (0, "kept")
    assert seen == ["first", 0, "kept"]


def test_the_work_of_a_cancelled_task_leaves_the_queues() -> None:
    seen: list[Any] = []
    with Gate() as gate:

        def one(x: Any) -> Any:
            seen.append(x)
            return gate(x) if x == "first" else x

        with opened(df.stage(one), gate, workers=1) as session:
            session.submit("first")
            gate.await_arrivals()

            async def main() -> None:
                task = asyncio.ensure_future(session.arun("given up"))
                await asyncio.sleep(0)
                assert session.in_flight == 2
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

            soon(asyncio.run, main())
            assert session.in_flight == 1
            gate.open()
            assert soon(session.run, 5) == 5
    assert seen == ["first", 5]


def test_no_more_is_accepted_than_may_be_in_flight() -> None:
    with Gate() as gate, opened(df.stage(gate), gate, workers=1, max_in_flight=2) as session:

        async def main() -> list[Any]:
            tasks = [asyncio.ensure_future(session.arun(x)) for x in range(5)]
            for _ in range(3):
                await asyncio.sleep(0)  # each has asked to be accepted
            assert session.in_flight == 2
            gate.open()
            return await asyncio.gather(*tasks)

        assert soon(asyncio.run, main()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("batch", [None, 1])
@pytest.mark.parametrize("idle", [0, 4])
def test_a_full_queue_refuses_at_once_and_exactly(batch: int | None, idle: int) -> None:
    """One item runs and three wait, however many workers have nothing that they could do."""
    with Gate() as gate:
        if batch is None:
            flow = df.stage(gate)
            idle = 0
        else:
            flow = df.stage(batched(gate), batch=batch)
        with opened(flow, gate, workers=1 + idle, max_queue=3) as session:
            futures = [session.submit(0)]
            gate.await_arrivals()
            futures += [session.submit(x) for x in (1, 2, 3)]
            for _ in range(3):
                with pytest.raises(QueueFull, match="max_queue"):
                    session.submit(4)
            gate.open()
            assert [future.result(LIMIT) for future in futures] == [0, 1, 2, 3]


def test_what_a_worker_is_about_to_begin_is_not_counted_as_waiting() -> None:
    with opened(df.stage(abs), workers=2, max_queue=1) as session:
        with session.pool.lock:  # no worker begins anything meanwhile
            futures = [session.submit(-x) for x in range(3)]
            with pytest.raises(QueueFull):
                session.submit(3)
        assert [future.result(LIMIT) for future in futures] == [0, 1, 2]


def test_who_is_told_of_a_timeout_finds_its_thread_counted_whichever_thread_notices() -> None:
    clock, counted = VirtualClock(), Future[int]()
    with Gate() as gate:
        flow = df.stage(lambda x: gate(x) if x else x).timeout(5)
        with flow.open(df.Threads(workers=2, clock=clock)) as session:
            pool = session.pool
            pool.watch_until = lambda moment: None  # nobody watches the clock: it is a worker that finds it late
            late = session.submit(1)
            late.add_done_callback(lambda _: counted.set_result(session.stats()["abandoned_threads"]))
            gate.await_arrivals(1)
            assert session.submit(0).result(LIMIT) == 0
            clock.advance(10)
            with pool.lock:
                pool._changed.notify_all()
            with pytest.raises(df.DeadlineExceeded):
                late.result(LIMIT)
            assert counted.result(LIMIT) == 1


@pytest.mark.parametrize("flow", [df.identity, df.stage(abs), df.stage(list, batch=3)], ids=["nothing", "a", "batches"])
def test_no_item_is_left_behind_while_it_arrives(flow: Any) -> None:
    """Items arrive while a thread lets others in, and while callers wait for room."""
    for _ in range(100):
        with flow.open(df.Threads(workers=2, max_in_flight=7)) as session:
            futures = [session.submit(x) for x in range(12)]
            assert [future.result(LIMIT) for future in futures] == list(range(12))
            assert [soon(lambda x=x: session.submit(x).result(LIMIT)) for x in range(3)] == [0, 1, 2]


# ------------------------------------------------------------------ policies


def test_losers_of_a_race_that_have_not_begun_never_do() -> None:
    one, other = Counting(), Counting()
    with opened(df.race(one, other), workers=1) as session:
        assert [soon(session.run, x) for x in range(20)] == list(range(20))
    assert sorted(one.seen + other.seen) == list(range(20))


@pytest.mark.parametrize("copies", [2, 3])
def test_copies_that_are_in_one_batch_win_once(copies: int) -> None:
    """The second success came as the outcome of another item, which then had none of its own."""
    copy = df.stage(batched(same), batch=4)
    flow = df.each(df.race(*[copy] * copies))
    assert list(flow.map([[1, 2, 3], [4], [5, 6]], df.Threads(workers=1))) == [[1, 2, 3], [4], [5, 6]]


def test_a_quorum_returns_when_its_time_is_up() -> None:
    clock = VirtualClock()
    with Gate() as gate:
        flow = df.fanout(gate, same, same) >> df.combine(lambda *parts: parts, quorum=2, within=5)
        with opened(flow, gate, workers=3, clock=clock) as session:
            future = session.submit(7)
            gate.await_arrivals()
            until(lambda: not session.schedule.more and len(session.schedule.running) == 1)
            assert not future.done()
            clock.advance(5)
            assert future.result(LIMIT) == (7, 7)
            gate.open()


def test_timers_of_what_is_done_are_let_go() -> None:
    """A long time limit must not keep what it was for until it passes."""
    quorum = df.fanout(same, same) >> df.combine(lambda *parts: parts, quorum=1, within=3600)
    with opened(quorum >> df.stage(same).timeout(3600)) as session:
        for x in range(1000):
            session.run(x, deadline=3600)
        assert len(session.schedule.timers._heap) < 300


def test_a_retry_that_backs_off_occupies_no_worker() -> None:
    clock = VirtualClock(frozen=True)
    tried = Counting(lambda x: fails(x) if len(tried.seen) < 2 else x)
    flow = df.switch(lambda x: x > 0, {True: df.stage(tried).retry(1, backoff=60)}, default=same)
    with opened(flow, workers=1, clock=clock) as session:
        future = session.submit(1)
        until(lambda: len(tried.seen) == 1)
        assert soon(session.run, -1) == -1
        assert not future.done()
        clock.advance(60)
        assert future.result(LIMIT) == 1


@pytest.mark.parametrize("count", [1, 3])
def test_replicas_are_as_many_as_they_say_each_called_by_one_thread(count: int) -> None:
    made: list[Any] = []
    wrong: list[str] = []

    class Model:
        def __init__(self) -> None:
            self.busy = threading.Lock()
            made.append(self)

        def __call__(self, x: int) -> int:
            if not self.busy.acquire(blocking=False):
                wrong.append("two at once")
                return x
            clock.sleep(0.001)
            self.busy.release()
            return x

    clock = VirtualClock()
    flow = df.stage(same) >> df.stage(Model, replicas=count)()
    with opened(flow, workers=8) as session:
        assert list(session.map(range(300), progress=False)) == list(range(300))
    assert (len(made), wrong) == (count, [])


def test_a_batched_stage_with_two_replicas_runs_two_batches_at_once() -> None:
    with Gate() as gate, opened(df.stage(batched(gate), batch=1, replicas=2), gate, workers=4) as session:
        results = session.map(range(6), progress=False)
        reading = threading.Thread(target=lambda: list(results), daemon=True)
        reading.start()
        gate.await_arrivals(2)
        assert gate.arrived == 2
        gate.open()
        reading.join(LIMIT)


def test_impure_branches_keep_their_order() -> None:
    seen: list[str] = []
    with Gate() as gate:
        first = df.stage(lambda x: (gate(x), seen.append("first")), pure=False)
        second = df.stage(lambda x: seen.append("second"), pure=False)
        flow = (first | second) >> df.combine(lambda *parts: parts)
        with opened(flow, gate, workers=3) as session:
            future = session.submit(1)
            gate.await_arrivals()
            assert seen == []
            gate.open()
            future.result(LIMIT)
    assert seen == ["first", "second"]


# ------------------------------------------------------------------ batches


def test_batches_of_a_job_are_full_but_for_the_last() -> None:
    """The clock stands still, so that the source never counts as one that gives nothing."""
    first, second = Batched(), Batched()
    flow = df.stage(first, batch=8) >> df.stage(same) >> df.stage(second, batch=4)
    assert list(flow.map(range(100), df.Threads(workers=2, clock=VirtualClock()))) == list(range(100))
    assert first.sizes == [8] * 12 + [4]
    assert second.sizes == [4] * 25


def test_a_lone_caller_never_waits() -> None:
    """The clock stands still: who waited for it would wait for ever."""
    clock = VirtualClock()
    with opened(df.stage(batched(same), batch=64, max_wait=3600), clock=clock) as session:
        assert [soon(session.run, x) for x in range(20)] == list(range(20))
        (step,) = session.stats()["steps"].values()
    assert step["dispatched"] == {"lone": 20}


HERE = threading.current_thread().name
BY_ITSELF: dict[str, tuple[Callable[[Callable[[Any], str]], Any], int, str]] = {
    "a chain": (lambda where: df.stage(same) >> df.stage(where), 2, HERE),
    "batches": (lambda where: df.stage(batched(where), batch=2) >> df.stage(batched(same), batch=2), 2, HERE),
    "a switch": (lambda where: df.switch(same, {1: df.stage(batched(where), batch=2)}), 2, HERE),
    "a race": (lambda where: df.race(where, where), 2, "dataflow-aside"),
    "a race of more than there are workers": (lambda where: df.race(where, where), 1, "dataflow-worker"),
    "branches": (
        lambda where: (df.stage(batched(same), batch=2) | df.stage(batched(where), batch=3)) >> df.combine(max_text),
        2,
        "dataflow-worker",
    ),
    "a quorum": (lambda where: (df.stage(where) | where) >> df.combine(max_text, quorum=1), 2, "dataflow-worker"),
    "elements": (
        lambda where: df.stage(lambda x: [x]) >> df.each(df.stage(batched(where), batch=2)) >> max,
        2,
        "dataflow-worker",
    ),
}


def max_text(*given: Any) -> str:
    return max(map(str, given))


@pytest.mark.parametrize("name", BY_ITSELF)
def test_a_lone_caller_runs_what_threads_could_not_run_side_by_side(name: str) -> None:
    make, workers, thread = BY_ITSELF[name]
    clock = VirtualClock()

    def where(_: Any) -> str:
        clock.advance(0.05)
        return threading.current_thread().name

    with make(where).open(df.Threads(workers=workers, clock=clock)) as session:
        session.run(1)  # by threads, for nobody knows yet how long it takes
        assert all(session.run(x).startswith(thread) for x in (1, 1, 1))


def test_a_lone_caller_leaves_long_work_to_threads() -> None:
    clock = VirtualClock()

    def where(_: Any) -> str:
        clock.advance(0.5)
        return threading.current_thread().name

    with df.stage(where).open(df.Threads(clock=clock)) as session:
        assert all(session.run(x).startswith("dataflow-worker") for x in range(3))


# ------------------------------------------------------------------ ends


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt, KeyError])
def test_a_callback_that_raises_keeps_nobody_from_their_results(
    raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda given: None)

    def callback(future: Any) -> None:
        raise raised

    with Gate() as gate, opened(df.stage(gate), gate, workers=1) as session:
        futures = [session.submit(x) for x in range(3)]
        for future in futures:
            future.add_done_callback(callback)
        gate.open()
        assert [future.result(LIMIT) for future in futures] == [0, 1, 2]
        assert soon(session.run, 5) == 5


def test_timeouts_longer_than_a_thread_can_wait() -> None:
    with opened(df.stage(same).timeout(1e12)) as session:
        assert soon(session.run, 1) == 1


def script(text: str, *, interrupt: bool = False) -> tuple[int, str]:
    """Run a program, with a Ctrl-C once it says that it is ready; return its exit code and what it writes."""
    command = [sys.executable, "-c", textwrap.dedent(text)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        said = ""
        try:
            if interrupt:
                assert process.stdout is not None
                said = process.stdout.readline()
                process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"it does not end, having said {said!r} and {error.output!r}") from None
        finally:
            process.kill()
    return process.returncode, said + rest


WAITING = {
    "map": "list(flow.map(range(100), df.Threads(workers=2)))",
    "run": "flow.open(df.Threads(workers=2)).run(1)",
    "submit": "flow.open(df.Threads(workers=2)).submit(1).result()",
    "close": "session = flow.open(df.Threads(workers=2)); session.submit(1); session.close()",
    "a block": "\n    with flow.open(df.Threads(workers=2)) as session: session.run(1)",
}


@pytest.mark.parametrize("what", WAITING.values(), ids=WAITING.keys())
def test_one_interrupt_ends_it(what: str) -> None:
    code, said = script(
        f"""
import sys, threading, dataflow as df
def hang(x):
    # Python can miss a signal that comes in the moment in which its main thread begins to wait
    while sys._current_frames()[threading.main_thread().ident].f_code.co_name != "wait":
        threading.Event().wait(0.001)
    threading.Event().wait(0.01)
    print("ready", flush=True)
    threading.Event().wait(30)
flow = df.stage(hang)
try:
    {what}
except KeyboardInterrupt:
    print("interrupted")
""",
        interrupt=True,
    )
    assert (code, said.replace("ready", "").split()) == (0, ["interrupted"])


@pytest.mark.parametrize("busy", [False, True])
def test_the_interpreter_ends_with_a_session_open(busy: bool) -> None:
    code, said = script(
        f"""
        import threading, dataflow as df
        begun = threading.Event()
        def hang(x):
            begun.set()
            threading.Event().wait(30)
        session = df.stage(hang if {busy} else abs).open("threads")
        job = df.stage(abs).map(iter(int, 1), "threads")
        next(job)
        session.submit(1)
        begun.wait(10 if {busy} else 0)
        """
    )
    assert (code, said) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_says_why_its_parents_session_does_not_work_and_opens_its_own() -> None:
    code, said = script(
        """
        import os, signal, threading, dataflow as df
        from dataflow.testing import Gate
        gate, held, forked = Gate(), threading.Event(), threading.Event()
        def hold():  # in the child there is no such thread, and its lock stays locked
            with session.pool.lock:
                held.set()
                forked.wait()
        session = df.stage(gate).open("threads")
        future = session.submit(1)
        gate.await_arrivals()
        job = session.map(iter(int, 1))
        threading.Thread(target=hold).start()
        held.wait()
        child = os.fork()
        if not child:
            signal.alarm(15)  # it must end by itself before that
            for ask in (lambda: session.run(1), lambda: next(job), future.result, lambda: session.submit(1)):
                try:
                    print(ask())
                except df.errors.SessionClosed as error:
                    print("another process" in str(error))
            print(future.cancel(), flush=True)
            session.close()
            print(list(df.stage(abs).map([-1], "threads")), flush=True)
        else:
            forked.set()
            print(os.waitpid(child, 0)[1])
            gate.open()
            print(future.result())
            session.close()
        """
    )
    assert (code, said) == (0, "True\n" * 5 + "[1]\n0\n1\n")


def test_the_context_of_who_asks_reaches_the_stages() -> None:
    voice: contextvars.ContextVar[str] = contextvars.ContextVar("voice", default="unset")
    with opened(df.stage(lambda x: voice.get()), workers=1) as session:

        def ask(said: str) -> Any:
            voice.set(said)
            return session.run(1), list(session.map([1], progress=False))

        assert [soon(ask, said) for said in "ab"] == [("a", ["a"]), ("b", ["b"])]


def test_a_flow_of_no_steps_serves_many_callers() -> None:
    with df.identity.open(df.Threads(workers=2, max_in_flight=2)) as session:
        assert [future.result(LIMIT) for future in [session.submit(x) for x in range(100)]] == list(range(100))
