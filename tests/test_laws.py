"""The ten laws of the design, each on random flows: the structure, the results, and how often the stages run."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import dataflow as df
from dataflow.graph import lower, to_text
from dataflow.passes import optimize
from dataflow.testing import Outcome, flows, outcome_of, outcomes, pool

some = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
flow = flows(max_depth=2)
items = st.integers(-20, 60)
jobs = st.lists(items, max_size=8)
windows = st.integers(1, 9)
PASSES = ("canonicalize", "merge", "drop", "hoist", "fuse", "batch")


def identical(one: Any, other: Any) -> None:
    """Check that two expressions are one and the same, and that the same runs."""
    assert one == other
    assert hash(one) == hash(other)
    assert one.optimize().digest == other.optimize().digest


def alike(one: Any, other: Any, xs: Sequence[Any]) -> None:
    """Check that two expressions may give the same values and fail for the same items, and that they do so.

    Which error arrives may differ: where several stages fail, that is left open.
    """
    for flow in (one, other):
        results = flow.map(xs, "inline", on_error="record", progress=False)
        for x, result in zip(xs, results, strict=True):
            allowed = outcomes(flow, x)
            assert outcome_of(lambda x=x, flow=flow: flow(x)) in allowed
            assert (Outcome(None, type(result.error)) if isinstance(result, df.Failure) else Outcome(result)) in allowed
    for x in xs:
        assert summary(one, x) == summary(other, x)


def summary(flow: Any, x: Any) -> tuple[list[str], bool]:
    """Return the values that a flow may give, and whether it may fail."""
    allowed = outcomes(flow, x)
    values = sorted(repr(outcome.value) for outcome in allowed if not outcome.error)
    return values, any(outcome.error for outcome in allowed)


class Counted:
    """A pure stage that counts its calls by the item that it is called with."""

    def __init__(self, then: Callable[[int], int] = lambda x: x) -> None:
        self.calls: Counter[int] = Counter()
        self.then = then

    def __call__(self, x: int) -> int:
        self.calls[x] += 1
        return self.then(x)

    def taken(self) -> Counter[int]:
        calls, self.calls = self.calls, Counter()
        return calls


@some
@given(flow, flow, flow)
def test_1_chaining_is_associative(f: Any, g: Any, h: Any) -> None:
    identical((f >> g) >> h, f >> (g >> h))


@some
@given(flow)
def test_2_identity_is_neutral(f: Any) -> None:
    identical(df.identity >> f, f)
    identical(f >> df.identity, f)


@some
@given(flow, flow, flow)
def test_3_branching_is_associative(f: Any, g: Any, h: Any) -> None:
    identical((f | g) | h, f | (g | h))


@some
@given(flow, flow, flow, jobs)
def test_4_a_head_can_be_written_in_each_branch(f: Any, g: Any, h: Any, xs: list[int]) -> None:
    alike(f >> (g | h), (f >> g) | (f >> h), xs)


@some
@given(flow, flow, st.lists(items, unique=True, max_size=8))
def test_4_after_optimization_the_head_runs_once_for_each_item(g: Any, h: Any, xs: list[int]) -> None:
    head = Counted()
    for both in (head >> (g | h), (head >> g) | (head >> h)):
        for x in xs:
            outcome_of(lambda x=x, both=both: both(x))
        assert head.taken() == Counter(xs)
        list(both.map(xs, "inline", on_error="skip", progress=False))
        assert head.taken() == Counter(xs)


@some
@given(flow, flow, jobs)
def test_5_combine_calls_with_the_parts(f: Any, g: Any, xs: list[int]) -> None:
    gathered = (f | g) >> df.combine(pool.difference)
    named = df.fanout(b=g, a=f) >> df.combine(pool.difference)
    alike(gathered, named, xs)
    for x in xs:
        one, other = outcome_of(lambda x=x: f(x)), outcome_of(lambda x=x: g(x))
        result = outcome_of(lambda x=x: gathered(x))
        if one.error or other.error:
            assert result.error in {outcome.error for part in (f, g) for outcome in outcomes(part, x)}
        elif len(outcomes(gathered, x)) == 1:
            assert result.value == one.value - other.value


@some
@given(flow, flow, flow, st.none() | flow, jobs)
def test_6_what_follows_a_switch_can_be_written_in_each_branch(f: Any, g: Any, h: Any, d: Any, xs: list[int]) -> None:
    key = pool.modulo(3)
    behind = df.switch(key, {0: f, 1: g}, d) >> h
    inside = df.switch(key, {0: f >> h, 1: g >> h}, None if d is None else d >> h)
    alike(behind, inside, xs)


@some
@given(flow, flow, st.lists(st.lists(items, max_size=4), max_size=5))
def test_7_each_after_each_is_each_of_both(f: Any, g: Any, xs: list[list[int]]) -> None:
    alike(df.each(f) >> df.each(g), df.each(f >> g), xs)


@some
@given(flow, jobs)
def test_8_a_job_gives_what_calls_give(f: Any, xs: list[int]) -> None:
    assume(all(not outcome.error for x in xs for outcome in outcomes(f, x)))
    assert list(f.map(xs, "inline", progress=False)) == [f(x) for x in xs]
    assert list(f.map(iter(xs), progress=False)) == [f(x) for x in xs]


@some
@given(flow, jobs, st.sets(st.sampled_from(PASSES)), st.sets(st.sampled_from(PASSES)), windows, windows)
def test_9_neither_passes_nor_windows_change_results(
    f: Any, xs: list[int], some_passes: set[str], others: set[str], window: int, other: int
) -> None:
    """Batch sizes as well: those of the random stages' batches differ, and test_differential.py changes them."""
    assume(all(len(outcomes(f, x)) == 1 for x in xs))

    def results(passes: set[str], window: int) -> list[Any]:
        executor = df.Inline(passes=[name for name in PASSES if name in passes], max_in_flight=window)
        return [
            type(result.error) if isinstance(result, df.Failure) else result
            for result in f.map(xs, executor, on_error="record", progress=False)
        ]

    assert results(some_passes, window) == results(others, other)


@some
@given(flows())
def test_10_optimizing_twice_changes_nothing_more(f: Any) -> None:
    once, _ = optimize(lower(f), check=True)
    twice, remarks = optimize(once, check=True)
    assert to_text(twice) == to_text(once)
    assert twice is once
    assert [remark for remark in remarks if remark.verdict == "did"] == []
