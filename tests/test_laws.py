"""The ten laws of the design on random flows: the structure, the results, and how often the stages run."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import dataflow as df
from dataflow.testing import flows, laws, outcome_of, pool

flow = flows(max_depth=2)
items = st.integers(-20, 60)


@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: f"{law.number}-{law.name}")
def test_law(law: laws.Law) -> None:
    law.test()


def test_there_are_ten() -> None:
    assert [law.number for law in laws.LAWS] == list(range(1, 11))
    assert all(getattr(laws, law.name) is law for law in laws.LAWS)


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


@given(flow, flow, st.lists(items, unique=True, max_size=8))
def test_after_optimization_the_head_runs_once_for_each_item(g: Any, h: Any, xs: list[int]) -> None:
    head = Counted()
    for both in (head >> (g | h), (head >> g) | (head >> h)):
        for x in xs:
            outcome_of(lambda x=x, both=both: both(x))
        assert head.taken() == Counter(xs)
        list(both.map(xs, "inline", on_error="skip", progress=False))
        assert head.taken() == Counter(xs)


# ------------------------------------------------------------------ the laws as checks


def test_a_law_takes_as_many_flows_as_it_speaks_of() -> None:
    with pytest.raises(TypeError, match="law 1, chaining_is_associative, speaks of 3 flows, and was given 1"):
        laws.chaining_is_associative(df.identity)


def test_a_flow_of_ones_own_is_held_to_all_of_them() -> None:
    words: Any = df.stage(str.split) >> df.each(df.stage(batch=2)(lambda batch: [len(word) for word in batch])) >> sum
    laws.check(words, ["to be", "", "or not to be"])


def test_what_breaks_a_law_is_told_with_the_law_and_the_flows() -> None:
    wrong = df.stage(batch=4)(lambda xs: [x + len(xs) for x in xs])  # what it gives depends on its batch
    with pytest.raises(AssertionError, match="gives 5, and may give 2") as caught:
        laws.nothing_but_the_flow_decides_the_results(wrong, items=[1, 2, 3, 4])
    notes = "\n".join(caught.value.__notes__)
    assert "law 9: any batch size" in notes
    assert "f = " in notes
    assert "items = [1, 2, 3, 4]" in notes


def test_a_function_that_is_not_pure_as_it_says_breaks_a_law() -> None:
    seen: list[int] = []

    def rank(x: int) -> int:
        seen.append(x)
        return len(seen)

    with pytest.raises(AssertionError):
        laws.check(df.stage(rank), [5, 6])


def test_a_law_fails_on_random_flows_with_the_smallest_ones() -> None:
    def spoilt(f: Any) -> Any:
        return f >> df.stage(batch=2)(lambda xs: [x + len(xs) for x in xs])

    with pytest.raises(AssertionError) as caught:
        law = laws.nothing_but_the_flow_decides_the_results
        law.test(flows(max_depth=1).map(spoilt), settings=settings(phases=list(Phase)))
    notes = "\n".join(caught.value.__notes__)
    assert "items = [0, 0]" in notes
    assert pool.__name__ not in notes, "no stage of the random flow has anything to do with it"
