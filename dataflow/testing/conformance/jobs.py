"""The contract of ``map``: one outcome an item, in order, within bounds, whatever the source and the consumer do."""

from __future__ import annotations

import contextvars
import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow.errors import BatchSizeError, DataflowError, DeadlineExceeded, OptionError, RoutingError
from dataflow.executors import Failure
from dataflow.expr.words import each, identity, stage, switch
from dataflow.testing.clock import Gate, VirtualClock
from dataflow.testing.conformance import stages
from dataflow.testing.conformance.capabilities import Declared, kept_going
from dataflow.testing.conformance.stages import FLOWS
from dataflow.testing.equivalence import recorded
from dataflow.testing.outcomes import outcomes
from dataflow.testing.reference import reference, reference_map
from dataflow.testing.strategies import flows

ITEMS = list(range(-6, 16))

_voice: contextvars.ContextVar[str] = contextvars.ContextVar("voice", default="unset")


class Jobs(Declared):
    """Tests of ``flow.map(items, executor)``."""

    # -- outcomes ----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("name", FLOWS)
    def test_one_outcome_an_item_in_order(self, executor: Any, name: str) -> None:
        flow = FLOWS[name]
        results = list(flow.map(ITEMS, executor, on_error="record", progress=False))
        assert len(results) == len(ITEMS)
        for index, (item, result) in enumerate(zip(ITEMS, results, strict=True)):
            if isinstance(result, Failure):
                assert (result.index, result.item) == (index, item)
        for item, outcome in zip(ITEMS, recorded(results), strict=True):
            assert outcome in outcomes(flow, item)

    @pytest.mark.parametrize("name", FLOWS)
    def test_a_long_job(self, executor: Any, name: str) -> None:
        """Long enough for an executor to take items together that it takes one by one at first."""
        flow = FLOWS[name]
        allowed = [outcomes(flow, item) for item in ITEMS]
        found = list(recorded(flow.map(ITEMS * self.rounds, executor, on_error="record", progress=False)))
        assert len(found) == len(ITEMS) * self.rounds
        assert all(outcome in may for outcome, may in zip(found, allowed * self.rounds, strict=True))

    def test_random_flows(self, executor: Any) -> None:
        @given(flows(max_depth=2), st.lists(st.integers(-20, 60), max_size=12), st.booleans(), st.integers(1, 9))
        def check(flow: Any, items: list[int], ordered: bool, window: int) -> None:
            options: Any = {"ordered": ordered, "max_in_flight": window, "on_error": "record", "progress": False}
            allowed = [outcomes(flow, item) for item in items]
            found = list(flow.map(items, executor, **options))
            assert len(found) == len(items)
            if ordered:
                assert all(outcome in may for outcome, may in zip(recorded(found), allowed, strict=True))
            else:
                failed = [result.index for result in found if isinstance(result, Failure)]
                assert len(failed) == len(set(failed))
                assert all(any(outcome in may for may in allowed) for outcome in recorded(found))

        limited = check if self.examples is None else settings(max_examples=self.examples)(check)
        limited()

    @pytest.mark.parametrize("batch", [None, 4])
    def test_any_object_is_data(self, executor: Any, batch: int | None) -> None:
        items: list[Any] = [None, float("nan"), ..., np.arange(3), [], "", 0, False, NotImplemented, StopIteration()]
        flow = stage(stages.same) if batch is None else stage(stages.all_same, batch=batch)
        found = list(flow.map(items, executor, progress=False))
        assert [repr(result) for result in found] == [repr(item) for item in items]

    def test_nothing_in_nothing_out(self, executor: Any) -> None:
        assert list(FLOWS["batches"].map([], executor)) == []
        assert list(identity.map([], executor)) == []

    def test_not_ordered(self, executor: Any) -> None:
        """Every item still has its one outcome; which come first is whichever are done first."""
        flow = FLOWS["a chain"]
        found = list(flow.map(ITEMS, executor, ordered=False, on_error="skip", progress=False))
        wanted = list(reference_map(flow, ITEMS, on_error="skip"))
        assert Counter(found) == Counter(wanted)
        if self.lacks("unordered"):
            assert found == wanted, "it has been declared to keep the order, and does not"

    def test_what_is_done_overtakes_what_is_not(self, timed: Any, clock: VirtualClock) -> None:
        self.must_share()
        with Gate() as gate:
            if self.lacks("blocks") or self.lacks("unordered"):
                gate.open()
            flow = stage(stages.slow_three(clock, gate))
            results = flow.map([3, 1, 2], timed, ordered=False, progress=False)
            if self.lacks("unordered"):
                assert [next(results), next(results)] == [3, 1]
            else:
                assert {next(results), next(results)} == {1, 2}
            gate.open()
            assert list(results) == ([2] if self.lacks("unordered") else [3])

    def test_items_run_beside_one_another(self, executor: Any) -> None:
        self.must_share()
        seen: Counter[int] = Counter()
        most = [0]
        lock = threading.Lock()
        together = threading.Barrier(2)

        def meet(x: int) -> int:
            with lock:
                seen["in"] += 1  # type: ignore[index]
                most[0] = max(most[0], seen["in"])  # type: ignore[index]
            if not self.lacks("beside"):
                together.wait(60)
            with lock:
                seen["in"] -= 1  # type: ignore[index]
            return x

        assert list(stage(meet).map([1, 2], executor, progress=False)) == [1, 2]
        assert most[0] == (1 if self.lacks("beside") else 2)

    # -- what a failed item does -------------------------------------------------------------------------------------

    def test_skip_leaves_failed_items_out(self, executor: Any) -> None:
        for flow in (FLOWS["a chain"], FLOWS["batches"]):
            found = list(flow.map(ITEMS, executor, on_error="skip", progress=False))
            assert found == list(reference_map(flow, ITEMS, on_error="skip"))

    @pytest.mark.parametrize("batch", [None, 4])
    def test_raise_ends_the_job_behind_what_came_before(self, executor: Any, batch: int | None) -> None:
        flow: Any = stage(stages.refuses_three) if batch is None else stage(stages.refuse_three, batch=batch)
        results = flow.map(range(10), executor, progress=False)
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(LookupError, match="three"):
            next(results)
        with pytest.raises(StopIteration):
            next(results)

    def test_record_says_which_item_and_whose_fault(self, executor: Any) -> None:
        single: Any = stage(stages.same) >> stage(stages.refuses_three, name="refuses") >> abs
        batched: Any = stage(stages.all_same, batch=4) >> stage(stages.refuse_three, batch=4, name="refuses")
        for flow in (single, batched):
            found = list(flow.map([1, 3, 5], executor, on_error="record", progress=False))
            failure = found[1]
            assert [found[0], found[2]] == [1, 5]
            assert isinstance(failure, Failure)
            assert (failure.index, failure.item, failure.stage) == (1, 3, "refuses")
            assert type(failure.error) is LookupError
            notes = "\n".join(failure.error.__notes__)
            assert "'refuses'" in notes
            assert "stages.py:" in notes, "where the stage is in the user's files"
            assert "item 1" in notes

    def test_an_unknown_policy_is_refused(self, executor: Any) -> None:
        with pytest.raises(OptionError, match="on_error"):
            stage(abs).map([1], executor, on_error="ignore")  # type: ignore[call-overload]

    def test_a_key_that_no_case_has(self, executor: Any) -> None:
        flow = switch(stages.same, {0: stage(stages.same)})
        found = list(flow.map([0, 1, None, [2]], executor, on_error="record", progress=False))
        assert found[0] == 0
        for failure, key in zip(found[1:], ("1", "None", "[2]"), strict=True):
            assert isinstance(failure, Failure)
            assert isinstance(failure.error, RoutingError)
            assert key in str(failure.error)

    def test_stop_iteration_is_no_end(self, executor: Any) -> None:
        flow = stage(stages.exhausted)
        found = list(flow.map([1, 2], executor, on_error="record", progress=False))
        assert [type(failure.error) for failure in found] == [RuntimeError, RuntimeError]

    def test_a_batch_of_the_wrong_size(self, executor: Any) -> None:
        flow = stage(stages.one_short, batch=4, name="short")
        found = list(flow.map(range(6), executor, on_error="record", progress=False))
        assert [type(failure.error) for failure in found] == [BatchSizeError] * 6
        assert "short" in str(found[0].error)

    def test_what_stops_the_program_stops_the_job(self, executor: Any) -> None:
        self.must_share()
        with self.no_leaks(cycles=False), pytest.raises(KeyboardInterrupt):
            list(stage(stages.interrupted).map([1, 2], executor, on_error="record", progress=False))

    def test_a_class_that_cannot_be_constructed(self, executor: Any) -> None:
        broken: Any = stage(stages.Broken)
        with pytest.raises(OSError, match="no weights"):
            list(broken().map([1], executor, progress=False))

    @pytest.mark.parametrize("batch", [None, 4])
    def test_a_retry_tries_as_often_as_it_says(self, executor: Any, batch: int | None) -> None:
        self.must_share()
        seen: Counter[int] = Counter()

        def attempt(x: int) -> int:
            seen[x] += 1
            return stages.refuses_three(x)

        refusing = stage(attempt) if batch is None else stage(lambda xs: [attempt(x) for x in xs], batch=1)
        for on, tries in ((Exception, 3), (OSError, 1)):
            seen.clear()
            found = list(refusing.retry(2, on=on).map([1, 3, 5], executor, on_error="skip", progress=False))
            assert (found, seen) == ([1, 5], {1: 1, 3: tries, 5: 1})

    # -- batches -----------------------------------------------------------------------------------------------------

    def test_batches_are_full_but_the_last(self, executor: Any) -> None:
        flow = stage(stages.batch_sizes, batch=4)
        assert sorted(flow.map(range(10), executor, progress=False)) == [2] * 2 + [4] * 8

    def test_elements_of_several_items_share_batches(self, executor: Any) -> None:
        flow = each(stage(stages.batch_sizes, batch=6))
        assert list(flow.map([[1, 2], [], [3], [4, 5, 6]], executor, progress=False)) == [[6, 6], [], [6], [6, 6, 6]]

    def test_a_bad_item_does_not_spoil_its_batch(self, executor: Any) -> None:
        flow = stage(stages.refuse_three, batch=8)
        assert list(flow.map(range(8), executor, on_error="skip", progress=False)) == [0, 1, 2, 4, 5, 6, 7]

    def test_one_instance_is_called_by_one_at_a_time(self, executor: Any) -> None:
        once: Any = stage(stages.Once)
        assert len(set(once().map(range(100), executor, progress=False))) == 1

    # -- the source --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("window", [1, 3, 8])
    @pytest.mark.parametrize("batch", [None, 4])
    def test_read_ahead_is_bounded(self, executor: Any, batch: int | None, window: int) -> None:
        read = itertools.count()
        last = [0]

        def source() -> Iterator[int]:
            for number in read:
                last[0] = number + 1
                yield number

        flow: Any = stage(stages.same) if batch is None else stage(stages.all_same, batch=batch)
        with flow.map(source(), executor, max_in_flight=window, progress=False) as results:
            for taken in range(20):
                assert next(results) == taken
                assert last[0] - taken <= window

    def test_a_source_without_end(self, executor: Any) -> None:
        flow = FLOWS["batches"]
        with self.no_leaks(cycles=False):  # what was under way may have failed just then
            results = flow.map(stages.numbers(), executor, on_error="skip", progress=False)
            found = list(itertools.islice(results, 5))
            results.close()
        assert found == list(itertools.islice(reference_map(flow, stages.numbers(), on_error="skip"), 5))

    def test_a_source_that_raises(self, executor: Any) -> None:
        def source() -> Iterator[int]:
            yield from range(5)
            raise OSError("torn")

        for flow in (stage(stages.same), stage(stages.all_same, batch=4)):
            results = flow.map(source(), executor, progress=False)
            assert [next(results) for _ in range(5)] == list(range(5))
            with pytest.raises(OSError, match="torn"):
                next(results)

    def test_no_iterable_is_refused(self, executor: Any) -> None:
        with pytest.raises(TypeError, match="iterable"):
            list(stage(abs).map(3, executor))  # type: ignore[call-overload]

    def test_a_source_that_blocks_can_be_left(self, executor: Any) -> None:
        reader: list[threading.Thread] = []
        with Gate() as gate:

            def source() -> Iterator[int]:
                reader.append(threading.current_thread())
                yield 1
                if self.lacks("reads aside"):
                    return
                gate(None)

            results: Any = stage(stages.same).map(source(), executor, progress=False)
            assert next(results) == 1
            results.close()
        aside = reader[0] is not threading.current_thread()
        assert aside is not self.lacks("reads aside")

    # -- the consumer ------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("name", ["a chain", "batches", "a timeout"])
    def test_who_leaves_early_leaves_nothing_behind(self, executor: Any, name: str) -> None:
        with self.no_leaks():
            for _ in FLOWS[name].map([1] * 1000, executor, progress=False):
                break
            results = FLOWS[name].map([1] * 1000, executor, progress=False)
            next(results)
            results.close()
            with pytest.raises(StopIteration):
                next(results)
            del _, results

    def test_failures_leave_nothing_behind(self, executor: Any) -> None:
        with self.no_leaks():
            for name in ("a chain", "batches", "a quorum", "an each"):
                assert list(FLOWS[name].map(ITEMS, executor, on_error="record", progress=False))

    def test_results_are_taken_once(self, executor: Any) -> None:
        results = FLOWS["a chain"].map([2], executor, progress=False)
        assert list(results) == [5]
        with pytest.raises(DataflowError, match="consumed"):
            list(results)

    # -- what is around it -------------------------------------------------------------------------------------------

    def test_context_variables_reach_stages(self, executor: Any) -> None:
        self.must_share()
        token = _voice.set("low")
        try:
            for flow in (stage(lambda x: _voice.get()), stage(lambda x: _voice.get()).timeout(600)):
                assert list(flow.map([1, 2], executor, progress=False)) == ["low", "low"]
        finally:
            _voice.reset(token)

    def test_a_flow_inside_a_stage(self, strict: Any) -> None:
        def nested(depth: int) -> int:
            return 0 if not depth else 1 + sum(stage(nested).map([depth - 1], strict, progress=False))

        self.must_share()
        assert list(stage(nested).map([3, 2], strict, max_in_flight=2, progress=False)) == [3, 2]
        assert list(stage(stages.runs_another).map([2], strict, progress=False)) == [2]

    def test_two_jobs_at_once(self, executor: Any) -> None:
        one, other = (FLOWS["batches"].map(ITEMS, executor, on_error="skip", progress=False) for _ in range(2))
        found = [*itertools.chain.from_iterable(zip(one, other, strict=True))]
        assert found[::2] == found[1::2] == list(reference_map(FLOWS["batches"], ITEMS, on_error="skip"))

    # -- time --------------------------------------------------------------------------------------------------------

    def test_back_off_is_waited_by_the_clock(self, timed: Any, clock: VirtualClock) -> None:
        self.must_share()
        moments: list[float] = []

        def attempt(x: int) -> int:
            moments.append(clock.now())
            return stages.refuses_three(x)

        flow: Any = stage(attempt).retry(3, backoff=100)
        with kept_going(clock):
            failures = list(flow.map([3], timed, on_error="record", progress=False))
        assert [type(failure.error) for failure in failures] == [LookupError]
        waits = [later - earlier for earlier, later in itertools.pairwise(moments)]
        assert all(wait >= least for wait, least in zip(waits, [100, 200, 400], strict=True))

    def test_a_timeout_passes_by_the_clock(self, timed: Any, clock: VirtualClock) -> None:
        self.must_share()
        with Gate() as gate:
            if self.lacks("blocks"):
                gate.open()
            flow = stage(stages.slow_three(clock, gate)).timeout(50)
            (late,) = flow.map([3], timed, on_error="record", progress=False)
            assert type(late.error) is DeadlineExceeded
            assert list(flow.map([1, 5], timed, progress=False)) == [1, 5]

    def test_results_agree_with_the_oracle_on_one_item(self, executor: Any) -> None:
        flow = FLOWS["an ensemble"]
        assert list(flow.map([1], executor)) == [reference(flow, 1)]
