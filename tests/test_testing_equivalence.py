"""`assert_equivalent`: what it lets pass, and how it shows the smallest difference."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dataflow as df
from dataflow.testing import assert_equivalent, flows, pool
from dataflow.testing.counting import counted, decided
from dataflow.testing.equivalence import PASSES, fewest, subsets
from dataflow.testing.outcomes import same_value

ITEMS = st.lists(st.integers(-20, 60), max_size=4)


@given(flows(max_depth=2), ITEMS, st.sets(st.sampled_from(PASSES)))
def test_random_flows_are_equivalent(flow: Any, items: list[int], passes: set[str]) -> None:
    assert_equivalent(flow, items, passes=[[name for name in PASSES if name in passes]])


def test_every_set_of_passes_is_run() -> None:
    assert len(list(subsets())) == 2 ** len(PASSES)
    seen: list[int] = []
    assert_equivalent(df.stage(lambda x: seen.append(x) or x), [1], executors=[], calls=False)
    assert len(seen) == 2 ** len(PASSES) + 1, "the oracle's and each set's"


def test_passes_and_executors_can_be_chosen() -> None:
    seen: list[int] = []
    flow = df.stage(lambda x: seen.append(x) or x)
    assert_equivalent(flow, [1], passes=None, executors=["inline", df.Inline(max_in_flight=1)], calls=False)
    assert len(seen) == 3
    with pytest.raises(ValueError, match="passes is 'powerset'"):
        assert_equivalent(flow, [1], passes="all")


def shifted(xs: Sequence[int]) -> list[int]:
    """Wrong as soon as an even number is beside another in its batch."""
    return [x + (len(xs) > 1 and x % 2 == 0) for x in xs]


def test_the_smallest_difference_is_shown() -> None:
    flow: Any = df.stage(abs) >> df.stage(shifted, batch=8)
    with pytest.raises(AssertionError) as caught:
        assert_equivalent(flow, [1, 3, 5, 6, 7, 9, 8])
    assert str(caught.value).splitlines() == [
        "the flow does not give what it means",
        f"  flow      df.stage(abs) >> df.stage({__name__}.shifted, batch=8)",
        "  executor  Inline(passes=(), max_in_flight=1024, clock=None)",
        "  items     [6, 9]",
        "  item      0: 6",
        "  wanted    6",
        "  given     7",
    ]


def test_a_difference_in_errors_is_shown() -> None:
    def fragile(xs: list[int]) -> list[int]:
        if len(xs) == 1:
            raise ValueError(xs)
        return xs

    with pytest.raises(AssertionError, match="wanted    a ValueError\n  given     1"):
        assert_equivalent(df.stage(fragile, batch=8), [1, 2])


def test_calls_of_impure_stages_are_counted() -> None:
    impure: Any = df.stage(pool.double, pure=False)
    flow = (impure | impure) >> df.combine(pool.total)
    assert_equivalent(flow, [1, 2])
    again = df.each(impure) >> df.each(df.stage(pool.doubles, batch=2, pure=False))
    assert_equivalent(again, [[1], [], [2, 3]])


def test_a_stage_that_runs_too_often_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataflow.graph.ops import Call

    monkeypatch.setattr(Call, "pure", lambda self: True)  # as if nobody looked: the impure stages are merged
    impure: Any = df.stage(pool.double, pure=False)
    with pytest.raises(AssertionError) as caught:
        assert_equivalent((impure | impure) >> df.combine(pool.total), [5, 6])
    told = str(caught.value).splitlines()
    assert told.pop(2).startswith("  executor  Inline(passes=('merge'")
    assert told == [
        "a stage does not run as often as it should",
        "  flow      (df.stage(pool.double, pure=False) | df.stage(pool.double, pure=False)) >> df.combine(pool.total)",
        "  items     [5, 6]",
        f"  stage     double ({impure.origin})",
        "  wanted    4 items to reach it, for it is not pure",
        "  given     2",
    ]


def test_what_a_race_leaves_open_is_not_counted() -> None:
    assert decided(df.stage(abs).retry(1).fallback(abs))
    for flow in (df.race(abs, abs), df.stage(abs).timeout(1), df.fanout(abs) >> df.combine(quorum=1, within=1)):
        assert not decided(flow >> abs)


def test_what_runs_beside_a_branch_that_fails_is_not_counted() -> None:
    beside = df.fanout(pool.not_third, df.stage(pool.AddAll, batch=2)(0)) | df.stage(pool.successor)
    flow: Any = (beside >> df.combine(pool.pair_and_one)).fallback(df.stage(pool.successor))
    assert_equivalent(flow, [0])
    turn = itertools.count()
    cases = {number: df.stage(pool.successor, pure=False, name=f"case {number}") for number in range(2)}
    with pytest.raises(AssertionError, match="as often as it should"):
        assert_equivalent(df.stage(pool.not_third).fallback(df.switch(lambda x: next(turn) % 2, cases)), [0])


def test_equal_stages_stay_equal_when_they_are_counted() -> None:
    add: Any = df.stage(pool.AddAll, batch=2)
    flow: Any = (add(1) | add(1) | add(2)) >> df.combine(pool.total)
    watched, tally = counted(flow)
    assert watched(1) == flow(1)
    assert sorted(tally.items.values()) == [1, 1], "two distinct stages, one call each"


def test_results_that_are_nearly_the_same() -> None:
    def mean(xs: list[float]) -> list[float]:
        return [x + 1e-12 * len(xs) for x in xs]

    flow = df.stage(mean, batch=4)
    with pytest.raises(AssertionError):
        assert_equivalent(flow, [1.0, 2.0])
    assert_equivalent(flow, [1.0, 2.0], same=lambda a, b: abs(a - b) < 1e-9)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1, True),
        (1, 1.0, False),
        (1, True, False),
        (None, None, True),
        (float("nan"), float("nan"), True),
        ([1, (2, {"a": None})], [1, (2, {"a": None})], True),
        ([1], [1, 2], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False),
        (np.array([1.0, np.nan]), np.array([1.0, np.nan]), True),
        (np.array([1.0]), np.array([1], dtype=int), False),
        (np.array([1, 2]), np.array([[1, 2]]), False),
        ([np.array([1, 2])], [np.array([1, 3])], False),
    ],
)
def test_what_is_the_same(one: Any, other: Any, same: bool) -> None:
    assert same_value(one, other) is same


@given(st.sets(st.integers(0, 30), min_size=1))
def test_the_fewest_that_fail(needed: set[int]) -> None:
    assert fewest(list(range(31)), lambda some: needed <= set(some)) == sorted(needed)
