"""The table of the design on the real thing: one item, a batch job and a session, and how often each stage runs."""

import functools
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from test_expr_structure import environment
from test_reference import FAILING, TABLE

import dataflow as df
from dataflow.errors import BatchSizeError, DeadlineExceeded, RoutingError
from dataflow.testing import outcome_of, outcomes, reference

PLAIN = df.Inline(passes=())


class Calls:
    """Makes functions that note what they are called with."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Any]] = {}

    def fn(self, name: str, then: Callable[[Any], Any] = lambda x: x) -> Callable[[Any], Any]:
        """Return a function that notes its calls under this name; there is one for each name."""
        seen = self.seen.setdefault(name, [])

        def noting(x: Any) -> Any:
            seen.append(x)
            return then(x)

        return noting

    def counts(self) -> dict[str, int]:
        return {name: len(seen) for name, seen in self.seen.items()}

    def clear(self) -> None:
        for seen in self.seen.values():
            seen.clear()


@pytest.fixture
def calls() -> Calls:
    return Calls()


def fails(x: Any) -> Any:
    raise ValueError(f"no {x}")


def run_all_ways(flow: Any, item: Any) -> Iterator[Any]:
    """Yield functions that run a flow on one item in every way that there is here."""
    yield lambda: flow(item)
    yield lambda: flow(item)  # again: a flow that was called is called another way
    yield lambda: next(flow.map([item], executor="inline"))
    yield lambda: next(flow.map([item], executor=PLAIN))
    yield lambda: next(flow.map(iter([item, item]), executor=df.Inline(max_in_flight=1)))

    def in_a_session() -> Any:
        with flow.open("inline") as session:
            return session.run(item)

    yield in_a_session


# ------------------------------------------------------------------ every row of the table


@pytest.mark.parametrize(("flow", "item", "value"), TABLE.values(), ids=TABLE.keys())
def test_values(flow: Any, item: Any, value: Any) -> None:
    for run in run_all_ways(flow, item):
        result = run()
        assert type(result) is type(value) or isinstance(result, np.generic)
        assert result == value or result in [outcome.value for outcome in outcomes(flow, item)]
    assert list(flow.map([], executor="inline")) == []
    many = list(flow.map([item] * 7, executor="inline"))
    assert len(many) == 7
    assert all(result == value for result in many) or "race(" in repr(flow)


@pytest.mark.parametrize(("flow", "item", "error", "text"), FAILING.values(), ids=FAILING.keys())
def test_errors(flow: Any, item: Any, error: type[Exception], text: str) -> None:
    allowed = {outcome.error for outcome in outcomes(flow, item)} | {error}
    for run in run_all_ways(flow, item):
        with pytest.raises(tuple(allowed)) as caught:  # type: ignore[arg-type]
            run()
        assert type(caught.value) in allowed
        if len(allowed) == 1 and error is not BatchSizeError:
            assert caught.match(text)
    (failure,) = flow.map([item], executor="inline", on_error="record")
    assert isinstance(failure, df.Failure)
    assert failure.index == 0
    assert failure.item is item
    assert type(failure.error) in allowed
    assert list(flow.map([item], executor="inline", on_error="skip")) == []


# ------------------------------------------------------------------ how often a stage runs


def test_stacked_diamonds_run_each_stage_once_for_each_item(calls: Calls) -> None:
    flow: Any = df.stage(calls.fn("first"))
    for level in range(30):
        left, right = calls.fn(f"left {level}"), calls.fn(f"right {level}", lambda x: x + 1)
        flow = (flow >> left | flow >> right) >> df.combine(max)
    assert flow(1) == 31
    assert set(calls.counts().values()) == {1}
    calls.clear()
    assert list(flow.map([1, 2, 3], executor="inline")) == [31, 32, 33]
    assert set(calls.counts().values()) == {3}


def test_the_same_head_written_twice_runs_once(calls: Calls) -> None:
    head, left, right = (calls.fn(name) for name in ("head", "left", "right"))
    flow = df.stage(head) >> left | df.stage(head) >> right | df.stage(head) >> left
    assert flow(1) == (1, 1, 1)
    assert calls.counts() == {"head": 1, "left": 1, "right": 1}
    calls.clear()
    assert list(flow.map([1, 2], executor="inline")) == [(1, 1, 1), (2, 2, 2)]
    assert calls.counts() == {"head": 2, "left": 2, "right": 2}


def test_a_whole_construct_written_twice_runs_once(calls: Calls) -> None:
    a, b = calls.fn("a"), calls.fn("b", lambda xs: [xs, xs])

    def part() -> Any:
        return df.stage(b) >> df.each(df.switch(a, {1: a}, default=df.stage(a).retry(1))) >> sum

    assert (part() | part())(1) == (2, 2)
    assert calls.counts() == {"a": 4, "b": 1}


def test_impure_stages_run_wherever_they_are_written(calls: Calls) -> None:
    once = df.stage(calls.fn("impure"), pure=False)
    flow = (once | once | df.stage(once.fn, pure=False)) >> df.combine(max)
    for run in (lambda: flow(1), lambda: list(flow.map([1], executor="inline"))):
        calls.clear()
        run()
        assert calls.counts() == {"impure": 3}


def test_only_the_chosen_branch_runs(calls: Calls) -> None:
    arms = {n: calls.fn(str(n)) for n in range(3)}
    flow = df.switch(calls.fn("key", lambda x: x % 4), arms, default=calls.fn("default"))
    assert [flow(x) for x in (0, 4, 1, 3)] == [0, 4, 1, 3]
    assert calls.counts() == {"key": 4, "0": 2, "1": 1, "2": 0, "default": 1}
    calls.clear()
    assert list(flow.map([0, 4, 1, 3], executor="inline")) == [0, 4, 1, 3]
    assert calls.counts() == {"key": 4, "0": 2, "1": 1, "2": 0, "default": 1}


def test_what_is_hoisted_runs_only_for_items_that_have_a_branch(calls: Calls) -> None:
    head = calls.fn("head")
    flow = df.switch(lambda x: x, {0: df.stage(head) >> abs, 1: df.stage(head) >> bin})
    results = list(flow.map([0, 1, 2, 0], executor="inline", on_error="record"))
    assert results[:2] + results[3:] == [0, "0b1", 0]
    assert isinstance(results[2].error, RoutingError)
    assert calls.seen["head"] == [0, 1, 0]
    with pytest.raises(RoutingError):
        flow(2)
    assert calls.seen["head"] == [0, 1, 0]


def test_nothing_of_ours_runs_a_stage_before_it_is_asked_to(calls: Calls) -> None:
    flow = df.stage(calls.fn("a")) >> calls.fn("b")
    hash(flow)
    repr(flow)
    flow.graph()
    flow.optimize()
    results = flow.map([1, 2], executor="inline")
    assert calls.counts() == {"a": 0, "b": 0}
    assert next(results) == 1


def test_class_stages_are_constructed_once_where_they_are_equal() -> None:
    made: list[int] = []

    @df.stage
    class Plus:
        def __init__(self, amount: int) -> None:
            made.append(amount)
            self.amount = amount

        def __call__(self, x: int) -> int:
            return x + self.amount

    flow: Any = Plus(1) >> df.stage(lambda x: [x]) >> df.each(Plus(1)) >> sum >> Plus(2)
    assert made == []
    assert [flow(0), flow(1)] == [4, 5]
    assert sorted(made) == [1, 2]
    made.clear()
    with flow.open("inline") as session:
        assert sorted(made) == [1, 2], "a session has everything ready"
        assert session.run(0) == 4
        assert list(session.map([0, 1])) == [4, 5]
    assert sorted(made) == [1, 2]


# ------------------------------------------------------------------ batches


class Batches(Calls):
    def stage(self, name: str, then: Callable[[Any], Any] = lambda x: x, **options: Any) -> Any:
        return df.stage(self.fn(name, lambda xs: [then(x) for x in xs]), name=name, **options)

    def sizes(self, name: str) -> list[int]:
        return [len(batch) for batch in self.seen[name]]


@pytest.fixture
def batches() -> Batches:
    return Batches()


def test_batches_are_full_but_for_the_last(batches: Batches) -> None:
    flow = batches.stage("f", lambda x: x * 2, batch=4)
    assert list(flow.map(range(10), executor="inline")) == [x * 2 for x in range(10)]
    assert batches.sizes("f") == [4, 4, 2]
    assert batches.seen["f"][0] == [0, 1, 2, 3]
    assert all(type(batch) is list for batch in batches.seen["f"])
    batches.clear()
    assert flow(3) == 6
    assert batches.sizes("f") == [1]
    batches.clear()
    assert list(flow.map([], executor="inline")) == []
    assert batches.sizes("f") == [], "no items, no call"


def test_batches_of_other_sizes_after_one_another(batches: Batches) -> None:
    flow = batches.stage("three", batch=3) >> batches.stage("two", batch=2) >> batches.stage("all", batch=100)
    assert list(flow.map(range(6), executor="inline", max_in_flight=6)) == list(range(6))
    assert batches.sizes("three") == [3, 3]
    assert batches.sizes("two") == [2, 2, 2]
    assert batches.sizes("all") == [6]


def test_elements_of_many_items_share_batches(batches: Batches) -> None:
    flow = df.each(batches.stage("f", batch=4))
    xs = [[1, 2, 3], [], [4], [5, 6, 7, 8], []]
    assert list(flow.map(xs, executor="inline")) == xs
    assert batches.sizes("f") == [4, 4]
    batches.clear()
    assert flow([1, 2, 3]) == [1, 2, 3]


@pytest.mark.parametrize("empty", [[], (), iter(())], ids=["list", "tuple", "iterator"])
def test_each_of_nothing_calls_nothing(batches: Batches, empty: Any) -> None:
    flow = df.each(batches.stage("f", batch=4) >> batches.stage("g", batch=2))
    assert flow(empty) == []
    assert list(flow.map([empty, empty], executor="inline")) == [[], []]
    with flow.open("inline") as session:
        assert session.run(empty) == []
    assert batches.sizes("f") == []


def test_items_of_one_branch_share_batches(batches: Batches) -> None:
    flow = df.switch(lambda x: x % 2, {0: batches.stage("even", batch=4), 1: batches.stage("odd", batch=2)})
    assert list(flow.map(range(8), executor="inline")) == list(range(8))
    assert batches.sizes("even") == [4]
    assert batches.sizes("odd") == [2, 2]


def test_branches_share_the_batches_of_what_they_have_in_common(batches: Batches) -> None:
    head, tail = batches.stage("head", batch=4), batches.stage("tail", batch=4)
    flow = df.switch(lambda x: x % 2, {0: head >> abs >> tail, 1: head >> int >> tail})
    assert list(flow.map(range(8), executor="inline")) == list(range(8))
    assert batches.sizes("head") == [4, 4]
    assert batches.sizes("tail") == [4, 4]


def test_only_the_failed_items_are_tried_again_together(batches: Batches) -> None:
    seen: Counter[int] = Counter()

    def flaky(x: int) -> int:
        seen[x] += 1
        if x % 2 and seen[x] < 3:
            raise OSError("not yet")
        return x

    flow = df.stage(flaky).named("flaky") >> batches.stage("f", batch=4)
    assert list(flow.retry(2).map(range(8), executor="inline")) == list(range(8))
    assert batches.sizes("f") == [4, 4]
    assert seen == {x: 3 if x % 2 else 1 for x in range(8)}


@pytest.mark.parametrize("size", [2, 3, 8, 64])
def test_a_poison_item_is_found(batches: Batches, size: int) -> None:
    def no_five(x: int) -> int:
        if x == 5:
            raise ValueError("poison")
        return x

    flow = batches.stage("f", no_five, batch=size)
    results = list(flow.map(range(64), executor="inline", on_error="record"))
    assert [result for result in results if not isinstance(result, df.Failure)] == [x for x in range(64) if x != 5]
    assert (results[5].index, results[5].item, type(results[5].error)) == (5, 5, ValueError)
    assert len(batches.seen["f"]) <= -(-64 // size) + 2 * (size - 1).bit_length()


def test_an_impure_batch_fails_as_a_whole_and_says_so(batches: Batches) -> None:
    flow = batches.stage("f", lambda x: 1 // x, batch=4, pure=False)
    results = list(flow.map([1, 1, 0, 1, 1], executor="inline", on_error="record"))
    assert [isinstance(result, df.Failure) for result in results] == [True] * 4 + [False]
    assert batches.sizes("f") == [4, 1]
    assert "not pure" in "".join(results[0].error.__notes__)


@pytest.mark.parametrize(
    "wrong", [lambda xs: xs[1:], lambda xs: [*xs, 0], lambda xs: None, lambda xs: 3, lambda xs: "x" * len(xs)]
)
def test_results_of_the_wrong_number(wrong: Callable[[Any], Any]) -> None:
    flow = df.stage(wrong, batch=4, name="wrong one")
    results = list(flow.map(range(4), executor="inline", on_error="record"))
    assert [type(result.error) for result in results] == [BatchSizeError] * 4
    assert "wrong one" in str(results[0].error)
    assert "4 items" in str(results[0].error)
    with pytest.raises(BatchSizeError, match="1 item"):
        flow(0)


def test_equal_batched_stages_run_once(batches: Batches) -> None:
    f = batches.stage("f", batch=4)
    flow = (f >> abs | f >> bin) >> df.combine(lambda a, b: (a, b))
    assert list(flow.map(range(4), executor="inline")) == [(x, bin(x)) for x in range(4)]
    assert batches.sizes("f") == [4]


# ------------------------------------------------------------------ failing, again and instead


class Flaky:
    """Fails so often, then works."""

    def __init__(self, times: int, error: type[Exception] = OSError) -> None:
        self.left = times
        self.error = error
        self.calls = 0

    def __call__(self, x: Any) -> Any:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error("not yet")
        return x


WAYS: dict[str, Callable[[Any, Any], Any]] = {
    "call": lambda flow, x: flow(x),
    "map": lambda flow, x: next(flow.map([x], executor="inline")),
    "no passes": lambda flow, x: next(flow.map([x], executor=PLAIN)),
}
every_way = pytest.mark.parametrize("run", WAYS.values(), ids=WAYS.keys())


@every_way
def test_retry(run: Callable[[Any, Any], Any]) -> None:
    flaky = Flaky(2)
    assert run(df.stage(flaky).retry(2), 5) == 5
    assert flaky.calls == 3
    flaky = Flaky(3)
    with pytest.raises(OSError, match="not yet"):
        run(df.stage(flaky).retry(2), 5)
    assert flaky.calls == 3
    flaky = Flaky(1, KeyError)
    with pytest.raises(KeyError):
        run(df.stage(flaky).retry(5, on=(OSError, ValueError)), 5)
    assert flaky.calls == 1


@every_way
def test_retry_of_an_impure_stage_is_the_users_word(run: Callable[[Any, Any], Any]) -> None:
    flaky = Flaky(2)
    assert run(df.stage(flaky, pure=False).retry(2), 5) == 5
    assert flaky.calls == 3


@every_way
def test_retry_does_all_of_its_body_again(run: Callable[[Any, Any], Any], calls: Calls) -> None:
    flow = (df.stage(calls.fn("first")) >> Flaky(1)).retry(1) >> calls.fn("after")
    assert run(flow, 5) == 5
    assert calls.counts() == {"first": 2, "after": 1}


@every_way
def test_retry_in_retry(run: Callable[[Any, Any], Any]) -> None:
    flaky = Flaky(100)
    with pytest.raises(OSError, match="not yet"):
        run(df.stage(flaky).retry(2).retry(3), 5)
    assert flaky.calls == 12


class Time:
    """A clock that passes only when it is waited for."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> float:
        return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        return event.wait(seconds)


def test_backoff_is_doubled() -> None:
    clock = Time()
    flow = df.stage(Flaky(3)).retry(3, backoff=0.5)
    assert list(flow.map([1], executor=df.Inline(clock=clock))) == [1]
    assert clock.slept == [0.5, 1.0, 2.0]
    clock.slept.clear()
    with pytest.raises(ValueError, match="no 1"):
        list(df.stage(fails).retry(2, backoff=1).map([1], executor=df.Inline(clock=clock)))
    assert clock.slept == [1.0, 2.0], "none after the last attempt"


@every_way
def test_fallback(run: Callable[[Any, Any], Any], calls: Calls) -> None:
    other = calls.fn("other", lambda x: -x)
    assert run(df.stage(abs).fallback(other), 3) == 3
    assert calls.counts() == {"other": 0}
    assert run((df.stage(abs) >> fails).fallback(other), -3) == 3
    assert calls.seen == {"other": [-3]}, "the same input, not what became of it"
    with pytest.raises(ValueError, match="no 3"):
        run(df.stage(fails).fallback(other, on=(KeyError, OSError)), 3)
    assert run(df.stage(fails).retry(1).fallback(other), 3) == -3


@every_way
def test_what_stops_the_program_is_no_failure(run: Callable[[Any, Any], Any]) -> None:
    def interrupted(x: Any) -> Any:
        raise KeyboardInterrupt

    def leaves(x: Any) -> Any:
        raise SystemExit(3)

    for fn, error in ((interrupted, KeyboardInterrupt), (leaves, SystemExit)):
        for flow in (
            df.stage(fn),
            df.stage(fn).retry(3),
            df.stage(fn).fallback(abs),
            df.stage(fn).timeout(600),
            df.race(fn, fails),
            (df.stage(fn) | abs) >> df.combine(max, quorum=1),
            df.stage(lambda x: [x]) >> df.each(fn),
            df.switch(abs, {}, default=fn),
        ):
            with pytest.raises(error):
                run(flow, 1)
            with pytest.raises(error):
                list(flow.map([1], executor="inline", on_error="record"))
        with pytest.raises(error):
            list(df.stage(lambda xs, fn=fn: fn(xs), batch=2).map([1, 2], executor="inline", on_error="record"))


def test_stop_iteration_is_no_short_output() -> None:
    def stop_at_two(x: int) -> int:
        return next(iter(())) if x == 2 else x

    def stop_in_a_batch(xs: list[int]) -> list[int]:
        return [stop_at_two(x) for x in xs]

    for flow in (df.stage(stop_at_two), df.stage(stop_in_a_batch, batch=3), df.stage(stop_at_two) >> abs >> abs):
        results = list(flow.map(range(5), executor="inline", on_error="record"))
        assert results[:2] + results[3:] == [0, 1, 3, 4]
        assert type(results[2].error) is RuntimeError
        with pytest.raises(RuntimeError, match="StopIteration"):
            flow(2)
    assert type(outcome_of(lambda: df.each(stop_at_two)([1, 2, 3])).error) is type(RuntimeError)
    for result in df.each(stop_in_a_batch).map([[1, 2], [3]], executor="inline", on_error="record"):
        assert isinstance(result, df.Failure)


# ------------------------------------------------------------------ time


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Something to hang on; it opens when the test ends."""
    event = threading.Event()
    yield event
    event.set()


@every_way
def test_timeout(run: Callable[[Any, Any], Any], gate: threading.Event) -> None:
    def hangs(x: Any) -> Any:
        gate.wait(60)
        return x

    with pytest.raises(DeadlineExceeded, match=r"0\.01"):
        run(df.stage(hangs).timeout(0.01), 1)
    with pytest.raises(TimeoutError):
        run((df.stage(abs) >> hangs).timeout(0.01).retry(1), 1)
    assert run(df.stage(hangs).timeout(0.01).fallback(lambda x: -x, on=TimeoutError), 1) == -1
    assert run(df.stage(lambda xs: [hangs(x) for x in xs], batch=2).timeout(0.01).fallback(lambda x: -x), 1) == -1


@every_way
def test_a_race_does_not_wait_for_the_loser(run: Callable[[Any, Any], Any], gate: threading.Event) -> None:
    def hangs(x: Any) -> Any:
        gate.wait(60)
        return x

    assert run(df.race(hangs, abs), -1) == 1
    assert run(df.race(abs, hangs), -1) == 1
    assert run(df.race(fails, hangs, abs), -1) == 1


@every_way
def test_a_quorum_does_not_wait_for_the_slow(run: Callable[[Any, Any], Any], gate: threading.Event) -> None:
    def hangs(x: Any) -> Any:
        gate.wait(60)
        return x

    fan = df.fanout(a=hangs, b=abs, c=lambda x: x * 2, d=fails)
    assert run(fan >> df.combine(quorum=2, within=0.01), -1) == {"b": 1, "c": -2}
    with pytest.raises(ValueError, match="no -1"):
        run((df.stage(fails) | fails | hangs) >> df.combine(quorum=2, within=600), -1)


@every_way
def test_a_quorum_is_awaited_beyond_its_time(run: Callable[[Any, Any], Any], gate: threading.Event) -> None:
    """Time alone does not suffice: it goes on until so many have succeeded."""
    started = threading.Event()

    def slow(x: Any) -> Any:
        started.set()
        gate.wait(60)
        return x

    def opens(x: Any) -> Any:
        started.wait(60)
        threading.Timer(0.05, gate.set).start()
        return x

    assert run((df.stage(slow) | opens) >> df.combine(quorum=2, within=0), 7) == (7, 7)
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()


# ------------------------------------------------------------------ data that is awkward


class Awkward:
    """Neither compared nor tested for truth: `is`, never `==`, on user data."""

    def __eq__(self, other: object) -> bool:
        raise TypeError("compared")

    def __bool__(self) -> bool:
        raise TypeError("tested for truth")

    def __len__(self) -> int:
        raise TypeError("measured")

    __hash__ = None  # type: ignore[assignment]


VALUES = [None, float("nan"), np.arange(3), np.array([]), Awkward(), NotImplemented, ..., StopIteration, False, 0, ""]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_any_value_is_data(value: Any) -> None:
    one, batched = df.stage(lambda x: x), df.stage(lambda xs: xs, batch=2)
    flows: list[Any] = [
        one >> batched,
        (one | batched) >> df.combine(lambda a, b: a),
        df.fanout(a=one, b=batched) >> df.combine(lambda a, b: b),
        df.switch(lambda x: 1, {1: batched >> one}),
        df.race(one, batched),
        one.retry(1).fallback(batched),
        batched.retry(1).timeout(600),
        (one | batched | fails) >> df.combine(lambda a, b: b, quorum=2),
    ]
    for flow in flows:
        for run in run_all_ways(flow, value):
            assert run() is value
        results = list(flow.map([value] * 5, executor="inline", on_error="record"))
        assert len(results) == 5
        assert all(result is value for result in results)
        with flow.open("inline") as session:
            assert session.submit(value).result() is value
    assert reference(one >> batched, value) is value


def test_an_exception_as_a_value_is_data() -> None:
    error = ValueError("a value")
    flow = df.stage(lambda x: x) >> df.stage(lambda xs: xs, batch=2) >> df.race(lambda x: x)
    assert flow(error) is error
    assert list(flow.map([error, error], executor="inline", on_error="record")) == [error, error]


def test_keys_match_as_a_dicts_do() -> None:
    flow = df.switch(lambda x: x, {1: lambda x: "one", "a": lambda x: "text", None: lambda x: "none"})
    for key, arm in ((1, "one"), (True, "one"), (1.0, "one"), (np.int64(1), "one"), ("a", "text"), (None, "none")):
        for run in run_all_ways(flow, key):
            assert run() == arm
    for key in (2, "b", [1], np.arange(2), {}, float("nan"), Awkward()):
        for run in run_all_ways(flow, key):
            with pytest.raises(RoutingError, match="'a'"):
                run()
    for run in run_all_ways(df.switch(lambda x: x, {0: abs}, default=lambda x: "other"), [1]):
        assert run() == "other"


def test_an_items_own_error_keeps_its_type_and_traceback() -> None:
    class Unshowable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

        __repr__ = __str__

    def raises(x: Any) -> Any:
        raise Unshowable

    for flow in (df.stage(raises), df.stage(abs) >> raises, df.stage(raises, batch=4), df.stage(raises).retry(1)):
        for run in run_all_ways(flow, 1):
            with pytest.raises(Unshowable) as caught:
                run()
            assert caught.traceback[-1].name == "raises"
            assert any(raises.__qualname__ in note for note in caught.value.__notes__)
        results = list(flow.map(range(4), executor="inline", on_error="record"))
        assert [type(result.error) for result in results] == [Unshowable] * 4


def test_a_flow_runs_inside_a_stage_of_another() -> None:
    inner = df.stage(lambda xs: [x + 1 for x in xs], batch=3)

    def runs_inner(x: int) -> int:
        return sum(inner.map([x, x + 1], executor="inline")) + inner(x)

    flow = df.stage(runs_inner) >> df.stage(lambda xs: [runs_inner(x) for x in xs], batch=2)
    expected = [reference(flow, x) for x in range(5)]
    assert list(flow.map(range(5), executor="inline")) == expected
    assert [flow(x) for x in range(5)] == expected


# ------------------------------------------------------------------ sizes

MANY = 10_000
DEEP = 200


@pytest.mark.parametrize("batch", [None, 4])
def test_long_chains_run(batch: int | None) -> None:
    one = df.stage(lambda x: x + 1) if batch is None else df.stage(lambda xs: [x + 1 for x in xs], batch=batch)
    flow: Any = functools.reduce(lambda left, right: left >> right, [one] * MANY)
    assert flow(0) == MANY
    assert list(flow.map([0, 1, 2], executor="inline")) == [MANY, MANY + 1, MANY + 2]
    assert len(flow.optimize(passes=()).steps) == MANY


def add(*parts: int) -> int:
    return sum(parts) % 1009


NESTED: dict[str, Callable[[Any], Any]] = {
    "each": lambda flow: df.stage(lambda x: [x]) >> df.each(flow) >> sum,
    "retry": lambda flow: flow.retry(1),
    "timeout": lambda flow: flow.timeout(600),
    "fallback": lambda flow: flow.fallback(abs),
    "handler": lambda flow: df.stage(fails).fallback(flow),
    "named": lambda flow: (flow >> abs).named("n"),
    "race": lambda flow: df.race(flow),
    "fanout": lambda flow: df.fanout(flow, abs) >> df.combine(add),
    "named fanout": lambda flow: df.fanout(x=flow) >> df.combine(lambda x: x),
    "diamond": lambda flow: (flow | flow) >> df.combine(add),
    "switch": lambda flow: df.switch(lambda x: 0, {0: flow, 1: abs}),
    "switch, both": lambda flow: df.switch(lambda x: x % 2, {0: flow, 1: flow}),
    "switch, key": lambda flow: df.switch(flow, {}, default=abs),
    "quorum": lambda flow: (flow | abs) >> df.combine(add, quorum=1),
}


@pytest.mark.parametrize("around", NESTED.values(), ids=NESTED.keys())
@pytest.mark.parametrize("leaf", [df.stage(abs) >> int, df.stage(list, batch=4) >> int], ids=["one by one", "batched"])
def test_constructs_nested_deep_run(around: Callable[[Any], Any], leaf: Any) -> None:
    deep = functools.reduce(lambda flow, _: around(flow), range(DEEP), leaf)
    expected = deep(3)
    assert type(expected) is int
    assert list(deep.map([3, 3, 3], executor="inline")) == [expected] * 3
    assert deep.graph().number_of_nodes() > 0
    assert len(deep.optimize().digest) == 16
    assert deep.explain("inline")


def test_stacked_switches_that_share_their_branches_are_linear() -> None:
    """What the expression shares is shared to the end: in the graph, the digest, the text and the code."""
    flow: Any = df.stage(abs)
    for _ in range(60):
        flow = df.switch(lambda x: x % 2, {0: flow, 1: flow})
    assert flow(3) == 3
    assert flow.graph().number_of_nodes() < 10
    assert len(flow.optimize().digest) == 16
    assert len(flow.explain("inline", format="json")) < 1_000_000
    assert len(flow.explain("inline")) < 1_000_000


def test_the_digest_does_not_depend_on_the_hash_seed() -> None:
    code = (
        "import sys, test_expr_structure as t\n"
        "sys.stdout.write(' '.join(flow.optimize().digest for flow in t.PICKLED.values()))"
    )
    printed = set()
    for seed in ("0", "1", "12345"):
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment(seed), capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        printed.add(done.stdout)
    assert len(printed) == 1


def test_parts_that_come_by_name_through_a_construct_are_given_by_name(run: Callable[[Any, Any], Any]) -> None:
    """Whatever the order in which they are written."""
    parts: Any = df.fanout(b=df.stage(abs), a=df.stage(str)).retry(1)
    assert run(parts >> df.combine(lambda a, b: (a, b)), -3) == ("-3", 3)
