"""The contract of sessions: every accepted item ends once, and the end of a session is the end of all that is in it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

from dataflow.errors import DeadlineExceeded, QueueFull, SessionClosed
from dataflow.executors import Failure
from dataflow.expr.words import stage
from dataflow.testing.clock import Gate, VirtualClock
from dataflow.testing.conformance import stages
from dataflow.testing.conformance.capabilities import Declared
from dataflow.testing.conformance.stages import FLOWS
from dataflow.testing.outcomes import outcome_of, outcomes
from dataflow.testing.reference import reference

ITEMS = list(range(-3, 9))
_LIMIT = 60.0  # real seconds in which a test gives up


class Sessions(Declared):
    """Tests of ``flow.open(executor)``."""

    # -- outcomes ----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("name", FLOWS)
    def test_run_and_submit_give_what_the_oracle_gives(self, executor: Any, name: str) -> None:
        flow = FLOWS[name]
        with flow.open(executor) as session:
            futures = [session.submit(item) for item in ITEMS]
            for item, future in zip(ITEMS, futures, strict=True):
                assert outcome_of(functools.partial(future.result, _LIMIT)) in outcomes(flow, item)
            for item in ITEMS[:4]:
                assert outcome_of(functools.partial(session.run, item)) in outcomes(flow, item)

    def test_map_in_a_session(self, executor: Any) -> None:
        flow = FLOWS["a fallback"]
        with flow.open(executor) as session:
            for _ in range(2):
                assert list(session.map(ITEMS, progress=False)) == [reference(flow, item) for item in ITEMS]

    def test_an_error_arrives_as_itself_with_a_note(self, executor: Any) -> None:
        flow: Any = stage(stages.same) >> stage(stages.refuses_three, name="refuses")
        with flow.open(executor) as session:
            for ask in (session.run, lambda item: session.submit(item).result(_LIMIT)):
                with pytest.raises(LookupError, match="three") as caught:
                    ask(3)
                assert any("'refuses'" in note for note in caught.value.__notes__)

    def test_from_asynchronous_code(self, executor: Any) -> None:
        flow = FLOWS["batches"]

        async def source() -> AsyncIterator[int]:
            for item in ITEMS:
                yield item

        async def ask() -> tuple[Any, list[Any], list[Any]]:
            with flow.open(executor) as session:
                one = await session.arun(1)
                many = [result async for result in session.amap(source(), on_error="record")]
                return one, many, [result async for result in session.amap(ITEMS, on_error="record")]

        one, many, again = asyncio.run(ask())
        assert one == reference(flow, 1)
        for found in (many, again):
            assert len(found) == len(ITEMS)
            for item, result in zip(ITEMS, found, strict=True):
                failed = isinstance(result, Failure)
                assert any(
                    bool(may.error) is failed and (failed or may.value == result) for may in outcomes(flow, item)
                )

    # -- accepting ---------------------------------------------------------------------------------------------------

    def test_submit_returns_a_future(self, executor: Any) -> None:
        self.must_share()
        with Gate() as gate:
            if self.lacks("blocks") or self.lacks("accepts"):
                gate.open()
            flow: Any = stage(gate)
            with flow.open(executor) as session:
                future = session.submit(1)
                assert future.done() is self.lacks("accepts")
                gate.open()
                assert future.result(_LIMIT) == 1

    def test_what_was_accepted_goes_on_by_itself(self, executor: Any) -> None:
        self.must_share()
        with Gate() as gate:
            gate.open()
            flow: Any = stage(gate)
            with flow.open(executor) as session:
                session.submit(1)
                if self.lacks("by itself"):
                    assert gate.arrived == 0
                else:
                    gate.await_arrivals()

    def test_an_item_that_waits_can_be_cancelled(self, strict: Any) -> None:
        self.must_share()
        seen: list[int] = []
        with Gate() as gate:
            if self.lacks("blocks") or self.lacks("accepts"):
                gate.open()
            flow = stage(_noting(seen)) >> gate
            with flow.open(strict) as session:
                first = session.submit(1)
                if not self.lacks("by itself"):
                    gate.await_arrivals()
                second = session.submit(2)
                assert second.cancel() is not self.lacks("accepts")
                gate.open()
                assert first.result(_LIMIT) == 1
        assert seen == ([1, 2] if self.lacks("accepts") else [1])

    def test_a_full_queue_refuses(self, strict: Any) -> None:
        self.must_share()
        if self.lacks("refuses"):
            with stage(abs).open(strict) as session:
                assert [session.submit(-item).result(_LIMIT) for item in range(50)] == list(range(50))
            return
        self.must_share()
        with Gate() as gate:
            flow: Any = stage(gate)
            with flow.open(strict) as session:
                accepted: list[Future[Any]] = []
                with pytest.raises(QueueFull):
                    for item in range(50):
                        accepted.append(session.submit(item))
                assert 1 <= len(accepted) <= 3, "one that runs, one that waits, one between the two"
                gate.open()
                assert [future.result(_LIMIT) for future in accepted] == list(range(len(accepted)))
                assert session.submit(7).result(_LIMIT) == 7, "there is room again"

    # -- the end -----------------------------------------------------------------------------------------------------

    def test_leaving_finishes_what_was_accepted(self, executor: Any) -> None:
        with self.no_leaks(cycles=False):
            with FLOWS["batches"].open(executor) as session:
                futures = [session.submit(1) for _ in range(20)]
            assert all(future.done() for future in futures)
            assert {future.result() for future in futures} == {reference(FLOWS["batches"], 1)}

    def test_leaving_by_an_error_cancels(self, strict: Any) -> None:
        self.must_share()
        seen: list[int] = []
        futures: list[Future[Any]] = []
        with Gate() as gate:
            if self.lacks("blocks") or self.lacks("accepts"):
                gate.open()
            flow = stage(_noting(seen)) >> gate
            with pytest.raises(ZeroDivisionError), flow.open(strict) as session:
                futures.append(session.submit(1))
                if not self.lacks("by itself"):
                    gate.await_arrivals()
                futures.append(session.submit(2))
                # the end waits for what runs, and this one runs until the other has been cancelled
                futures[1].add_done_callback(lambda _: gate.open())
                1 / 0  # noqa: B018
        assert all(future.done() for future in futures)
        if self.lacks("accepts"):
            assert [future.result() for future in futures] == seen == [1, 2]
        else:
            assert seen == ([] if self.lacks("by itself") else [1]), "what was waiting is not run any more"
            with pytest.raises((CancelledError, SessionClosed)):
                futures[1].result(0)

    def test_after_the_end(self, executor: Any) -> None:
        with stage(abs).open(executor) as session:
            assert session.run(-1) == 1
        session.close()
        for ask in (session.run, session.submit, lambda item: list(session.map([item]))):
            with pytest.raises(SessionClosed):
                ask(1)

    def test_a_job_ends_with_its_session(self, executor: Any) -> None:
        with self.no_leaks(cycles=False):
            with stage(abs).open(executor) as session:
                results = session.map(stages.numbers(), max_in_flight=4, progress=False)
                assert next(results) == 0
                session.cancel()
            with pytest.raises((SessionClosed, StopIteration, CancelledError)):
                for _ in range(50):
                    next(results)

    def test_a_session_leaves_nothing_behind(self, executor: Any) -> None:
        with self.no_leaks():
            for name in ("batches", "a switch", "a class"):
                with FLOWS[name].open(executor) as session:
                    for item in ITEMS:
                        outcome_of(functools.partial(session.run, item))
                        outcome_of(session.submit(item).result)
                del session

    def test_a_class_that_cannot_be_constructed_is_known_at_once(self, executor: Any) -> None:
        broken: Any = stage(stages.Broken)
        with pytest.raises(OSError, match="no weights"):
            broken().open(executor)

    # -- time --------------------------------------------------------------------------------------------------------

    def test_a_deadline_passes_by_the_clock(self, timed: Any, clock: VirtualClock) -> None:
        self.must_share()
        with Gate() as gate:
            flow = stage(stages.slow_three(clock, gate))
            if self.lacks("blocks"):
                gate.open()
            with flow.open(timed) as session:
                with pytest.raises(DeadlineExceeded):
                    session.run(3, deadline=50)
                assert session.run(1, deadline=50) == 1
                gate.open()

    # -- account -----------------------------------------------------------------------------------------------------

    def test_stats_say_what_was_done_and_by_which_plan(self, executor: Any) -> None:
        flow = FLOWS["a chain"]
        with flow.open(executor) as session, flow.open(executor) as other:
            failed = sum(outcome_of(functools.partial(session.run, item)).error is not None for item in ITEMS)
            other.run(1)
            stats = session.stats()
            assert stats["executor"] == executor.name
            assert stats["digest"] == session.plan.digest == executor.plan(flow).digest
            assert (stats["items"], stats["failures"]) == (len(ITEMS), failed)
            assert set(stats["steps"]) == {step.name for _, step in session.plan.walk()}
            assert other.stats()["items"] == 1, "two sessions of one flow do not see one another"


def _noting(seen: list[int]) -> Callable[[int], int]:
    def note(x: int) -> int:
        seen.append(x)
        return x

    return note
