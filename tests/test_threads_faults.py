"""What the thread executor must survive that one thread cannot show: hangs, bad moments to end, who waits for whom.

Nothing here sleeps to wait. A `Gate` says how far the work has come, a `VirtualClock` what time it is, and `soon` is
for what must not hang: it gives up after a time that no sound run needs.
"""

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest
from faulty import fails, same

import dataflow as df
from dataflow.errors import DeadlineExceeded, SessionClosed
from dataflow.executors.schedule import Work
from dataflow.testing import Gate, VirtualClock

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
                until(lambda: shared.schedule.in_flight == 2)
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
