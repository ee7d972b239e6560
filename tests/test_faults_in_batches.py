"""What must be survived in batches: poison items, wrong numbers of results, too little memory, data that is awkward.

Each test runs on every executor, in every way to run a flow there (`executors.py`).
"""

import math
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from executors import Kind
from faulty import Awkward, Batched, Poison, fails, failures, marks, refusing, same

import dataflow as df

Run = Callable[..., Any]


# ------------------------------------------------------------------ a poison item


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 10, 64, 100])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_poison_item_fails_alone_and_costs_few_further_calls(job: Run, size: int, place: str) -> None:
    bad = {"first": 0, "middle": size // 2, "last": size - 1}[place]
    fn = Batched(refusing(bad))
    outcomes = job(df.stage(fn, batch=size), range(size), "record")
    assert marks(outcomes) == [Poison if x == bad else x for x in range(size)]
    assert (outcomes[bad].index, outcomes[bad].item, outcomes[bad].error.args) == (bad, bad, (bad,))
    assert fn.further <= 2 * math.log2(size)


def test_each_of_several_poison_items_fails_with_its_own_error(job: Run) -> None:
    bad = (0, 7, 8, 31, 40)
    flow = df.stage(Batched(refusing(*bad)), batch=16)
    outcomes = job(flow, range(50), "record")
    assert marks(outcomes) == [Poison if x in bad else x for x in range(50)]
    assert [failure.error.args for failure in failures(outcomes)] == [(x,) for x in bad]
    assert job(flow, range(50), "skip") == [x for x in range(50) if x not in bad]


def test_a_poison_item_that_is_raised_ends_the_job_after_what_came_before_it(executor: Kind) -> None:
    results = df.stage(Batched(refusing(5)), batch=4).map(range(100), executor(max_in_flight=8))
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(Poison, match="5") as caught:
        next(results)
    assert "on item 5" in "".join(caught.value.__notes__)
    with pytest.raises(StopIteration):
        next(results)


def test_what_follows_never_sees_a_poison_item(job: Run) -> None:
    first, left, right = Batched(refusing(3)), Batched(refusing(6)), Batched(refusing(9))
    head, *heads = (
        df.stage(fn, batch=4, name=name) for fn, name in ((first, "first"), (left, "left"), (right, "right"))
    )
    outcomes = job(head >> (heads[0] | heads[1]), range(12), "record")
    assert marks(outcomes) == [Poison if x in (3, 6, 9) else (x, x) for x in range(12)]
    assert 3 not in left.items
    assert 3 not in right.items
    assert [(failure.item, failure.stage) for failure in failures(outcomes)] == [
        (3, "first"),
        (6, "left"),
        (9, "right"),
    ]


def test_items_that_fail_one_stage_after_another_of_one_batch_are_told_apart(job: Run) -> None:
    first, left, right = (df.stage(Batched(refusing(bad)), batch=8, name=str(bad)) for bad in (1, 5, 6))
    outcomes = job(first >> (left | right >> left), range(8), "record")
    assert marks(outcomes) == [Poison if x in (1, 5, 6) else (x, x) for x in range(8)]
    assert [(failure.index, failure.item, failure.error.args) for failure in failures(outcomes)] == [
        (x, x, (x,)) for x in (1, 5, 6)
    ]


INSIDE: dict[str, tuple[Callable[[Any], Any], list[Any]]] = {
    "switch": (lambda f: df.switch(lambda x: x % 2, {0: f, 1: f >> abs}), [0, 1, 2, 3, Poison, 5, 6, 7]),
    "each": (lambda f: df.stage(lambda x: [x, x + 1]) >> df.each(f) >> sum, [1, 3, 5, Poison, Poison, 11, 13, 15]),
    "retry": (lambda f: f.retry(2), [0, 1, 2, 3, Poison, 5, 6, 7]),
    "fallback": (lambda f: f.fallback(lambda x: -x), [0, 1, 2, 3, -4, 5, 6, 7]),
    "timeout": (lambda f: f.timeout(600), [0, 1, 2, 3, Poison, 5, 6, 7]),
    "race": (lambda f: df.race(f, f >> abs), [0, 1, 2, 3, Poison, 5, 6, 7]),
    "quorum of all": (lambda f: (f | abs) >> df.combine(max, quorum=2), [0, 1, 2, 3, Poison, 5, 6, 7]),
    "quorum of one": (
        lambda f: (f | abs) >> df.combine(lambda *parts: len(parts), quorum=1),
        [2, 2, 2, 2, 1, 2, 2, 2],
    ),
}


@pytest.mark.parametrize(("around", "expected"), INSIDE.values(), ids=INSIDE.keys())
def test_inside_a_construct_too_only_the_poison_item_fails(job: Run, around: Any, expected: list[Any]) -> None:
    flow = around(df.stage(Batched(refusing(4)), batch=4))
    assert marks(job(flow, range(8), "record")) == expected


def test_only_the_poison_item_is_tried_again(job: Run) -> None:
    fn = Batched(refusing(4))
    outcomes = job(df.stage(fn, batch=8).retry(2), range(8), "record")
    assert marks(outcomes) == [0, 1, 2, 3, Poison, 5, 6, 7]
    assert fn.seen.count([4]) == 3
    assert max(times for x, times in fn.items.items() if x != 4) <= 1 + math.log2(8)


def test_what_a_batch_failed_with_is_noted_on_the_item_that_fails_otherwise(executor: Kind) -> None:
    def unequal(items: list[int]) -> list[int]:
        if len(items) > 1 and 3 in items:
            raise TypeError("they do not go together")
        return [refusing(3)(x) for x in items]

    with df.stage(unequal, batch=4).open(executor()) as session:
        outcomes = list(session.map(range(4), on_error="record"))
    assert marks(outcomes) == [0, 1, 2, Poison]
    if executor.in_turn:
        assert any("TypeError('they do not go together')" in note for note in outcomes[3].error.__notes__)


def test_a_batch_that_goes_together_in_halves_fails_nobody(job: Run) -> None:
    def alike(items: list[int]) -> list[int]:
        if len({x % 3 for x in items}) > 1:
            raise ValueError("they do not go together")
        return items

    assert job(df.stage(alike, batch=16), range(50)) == list(range(50))


def test_an_impure_batch_fails_whole_and_says_so(job: Run) -> None:
    fn = Batched(refusing(5))
    outcomes = job(df.stage(fn, batch=4, pure=False), range(12), "record")
    (batch,) = (batch for batch in fn.seen if 5 in batch)
    assert marks(outcomes) == [Poison if x in batch else x for x in range(12)]
    assert fn.items == Counter(range(12)), "no item twice"
    if len(batch) > 1:
        for failure in failures(outcomes):
            notes = "".join(failure.error.__notes__)
            assert f"is not pure, so its failed batch of {len(batch)} was not split" in notes


def test_one_item_alone_is_not_called_again(run: Run) -> None:
    for pure in (True, False):
        fn = Batched(refusing(1))
        with pytest.raises(Poison) as caught:
            run(df.stage(fn, batch=8, pure=pure), 1)
        assert fn.seen == [[1]]
        assert "not pure" not in "".join(caught.value.__notes__)


# ------------------------------------------------------------------ the wrong number of results

WRONG: dict[str, Callable[[list[Any]], Any]] = {
    "one too few": lambda xs: xs[1:],
    "one too many": lambda xs: [*xs, 0],
    "none": lambda xs: [],
    "None": lambda xs: None,
    "a number": lambda xs: 3,
    "a generator": lambda xs: (x for x in xs),
    "a text": lambda xs: "x" * len(xs),
    "a set": lambda xs: {object() for _ in xs},
    "a dict": lambda xs: dict.fromkeys(range(len(xs))),
    "an array of no dimensions": lambda xs: np.array(1.0),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_results_of_the_wrong_number_name_the_stage_and_both_numbers(job: Run, executor: Kind, wrong: Any) -> None:
    outcomes = job(df.stage(wrong, batch=4, name="the wrong one"), range(4), "record")
    assert marks(outcomes) == [df.BatchSizeError] * 4
    for failure in failures(outcomes):
        text = str(failure.error)
        given = int(text.partition("was given ")[2].split()[0])
        made = wrong(list(range(given)))
        gave = f"a {type(made).__name__}, which is no sequence"
        if isinstance(made, list):
            gave = f"{len(made)} result{'s' if len(made) != 1 else ''}"
        assert text.startswith(f"stage 'the wrong one' ({__file__}:")
        assert f"returned {gave}: a batched stage returns" in text
        assert given == 4 or not executor.in_turn, "the numbers of the whole batch say it best"


def test_one_item_with_results_of_the_wrong_number(run: Run) -> None:
    with pytest.raises(df.BatchSizeError, match=r"'w' .* was given 1 item and returned 2 results"):
        run(df.stage(lambda xs: [*xs, 0], batch=4, name="w"), 1)
    with pytest.raises(ValueError, match="returned 0 results"):
        run(df.stage(lambda xs: [], batch=4), 1)


def test_a_stage_that_makes_one_result_of_a_batch_fails_though_single_items_would_pass(executor: Kind) -> None:
    outcomes = list(df.stage(lambda xs: [sum(xs)], batch=4).map(range(8), executor(), on_error="record"))
    if executor.in_turn:  # elsewhere a batch may be one item, which nothing can tell from a right one
        assert marks(outcomes) == [df.BatchSizeError] * 8
        assert all("was given 4 items and returned 1 result:" in str(failure.error) for failure in failures(outcomes))


def test_an_item_that_is_left_out_fails_alone(job: Run) -> None:
    flow = df.stage(lambda xs: [x for x in xs if x != 5], batch=4)
    assert marks(job(flow, range(12), "record")) == [df.BatchSizeError if x == 5 else x for x in range(12)]


@pytest.mark.parametrize("sequence", [tuple, np.array, deque], ids=["tuple", "array", "deque"])
def test_any_sequence_of_the_right_length_will_do(job: Run, sequence: Any) -> None:
    assert job(df.stage(lambda xs: sequence(xs), batch=4), range(6)) == list(range(6))


def test_a_stage_may_change_the_list_it_is_given(job: Run) -> None:
    def consuming(items: list[int]) -> list[int]:
        results = []
        while items:
            results.append(refusing(5)(items.pop(0)))
        return results

    flow = df.stage(consuming, batch=4) | df.stage(Batched(), batch=4)
    assert marks(job(flow, range(8), "record")) == [Poison if x == 5 else (x, x) for x in range(8)]


# ------------------------------------------------------------------ collating, partial batches, order


def test_items_that_cannot_be_collated_fail_and_the_others_live(job: Run) -> None:
    items = [np.zeros(3 if x != 6 else 4) for x in range(10)]
    weights = np.ones(3)
    outcomes = job(df.stage(lambda rows: list(np.stack(rows) @ weights), batch=4), items, "record")
    assert marks(outcomes) == [0, 0, 0, 0, 0, 0, ValueError, 0, 0, 0]
    assert outcomes[6].item is items[6]


class Collates:
    """A stage that takes whole batches, as tuples, and whose parts can be made to fail."""

    space = "tuples"

    def __init__(self, part: str, bad: int) -> None:
        self.part = part
        self.bad = bad

    def check(self, part: str, items: Any) -> None:
        if part == self.part and self.bad in items:
            raise Poison(part)

    def collate(self, items: list[int]) -> tuple[int, ...]:
        self.check("collate", items)
        return tuple(items)

    def forward(self, batch: tuple[int, ...], *, keep: bool = True) -> tuple[int, ...]:
        self.check("forward", batch)
        return batch

    def size(self, batch: tuple[int, ...]) -> int:
        self.check("size", batch)
        return len(batch)

    def split(self, batch: tuple[int, ...], size: int) -> list[int]:
        self.check("split", batch)
        return list(batch)

    def __call__(self, items: list[int]) -> list[int]:
        batch = self.forward(self.collate(items))
        return self.split(batch, self.size(batch))


@pytest.mark.parametrize(
    ("part", "place"),
    [(part, "alone") for part in ("collate", "forward", "size", "split")]
    + [(part, "first") for part in ("collate", "forward", "size")]
    + [(part, "last") for part in ("forward", "size", "split")],
)
def test_whatever_a_collating_stage_fails_at_only_the_bad_item_fails(job: Run, part: str, place: str) -> None:
    bad = df.stage(Collates, batch=4, name="bad")(part, 5)
    other = df.stage(Collates, batch=4)("", -1)
    flow = {"alone": bad, "first": bad >> other, "last": other >> bad}[place]
    outcomes = job(flow, range(10), "record")
    assert marks(outcomes) == [Poison if x == 5 else x for x in range(10)]
    assert failures(outcomes)[0].stage == "bad"


def test_a_partial_last_batch_is_flushed_and_nothing_calls_nothing(job: Run) -> None:
    fn = Batched()
    assert job(df.stage(fn, batch=8), range(19)) == list(range(19))
    assert fn.items == Counter(range(19))
    assert max(fn.sizes) <= 8
    fn.seen.clear()
    for flow in (df.stage(fn, batch=8), df.each(df.stage(fn, batch=8)), df.stage(fn, batch=8).retry(1)):
        assert job(flow, []) == []
    assert fn.seen == []


def test_batches_are_full_but_for_the_last(executor: Kind) -> None:
    fn = Batched()
    assert list(df.stage(fn, batch=8).map(range(19), executor())) == list(range(19))
    if executor.in_turn:
        assert fn.sizes == [8, 8, 3]


@pytest.mark.parametrize("inner", [None, 4], ids=["one by one", "batched"])
def test_order_is_kept_under_retry_and_batches(job: Run, inner: int | None) -> None:
    seen: Counter[int] = Counter()
    lock = threading.Lock()

    def flaky(x: int) -> int:
        with lock:
            seen[x] += 1
        if seen[x] <= x * 7 % 3:
            raise OSError("not yet")
        return x

    fn: Any = df.stage(flaky) if inner is None else df.stage(Batched(flaky), batch=inner)
    # a batch that is split calls an item up to 1 + log2(4) times in one attempt, so every attempt gets it further
    flow = df.stage(lambda x: x) >> fn.retry(2) >> df.stage(Batched(), batch=8) >> fn.retry(2)
    assert job(flow, range(100)) == list(range(100))


# ------------------------------------------------------------------ out of memory


class OutOfMemoryError(RuntimeError):
    """As torch's, by its name."""


class Weights:
    """What the frames of a failed call hold."""


class Hungry:
    """Runs out of memory on more items than fit, and notes what of it was still held when it was called next."""

    def __init__(self, fits: int, error: Exception) -> None:
        self.fits = fits
        self.error = error
        self.sizes: list[int] = []
        self.held: list[int] = []
        self._weights: weakref.WeakSet[Weights] = weakref.WeakSet()

    def __call__(self, items: list[Any]) -> list[Any]:
        self.held.append(len(self._weights))
        self.sizes.append(len(items))
        weights = Weights()
        self._weights.add(weights)
        if len(items) > self.fits:
            raise type(self.error)(*self.error.args)
        return items


MEMORY = [MemoryError(), OutOfMemoryError("tried to allocate 2.00 GiB"), RuntimeError("CUDA error: out of memory")]


@pytest.mark.parametrize("error", MEMORY, ids=lambda error: type(error).__name__)
def test_out_of_memory_halves_the_batch_lets_go_of_the_frames_and_remembers(executor: Kind, error: Exception) -> None:
    fn = Hungry(5, error)
    with df.stage(fn, batch=16).open(executor()) as session:
        assert list(session.map(range(64))) == list(range(64))
        learnt = len(fn.sizes)
        assert list(session.map(range(64))) == list(range(64))
    assert max(fn.sizes[learnt:]) <= 5, "what did not fit is not tried again"
    if executor.in_turn:
        assert fn.sizes == [16, 8, *[4] * (64 // 4), *[4] * (64 // 4)]
        assert set(fn.held) == {0}, "the frames of what failed are gone when the next is called"


def test_one_item_that_is_too_large_by_itself_fails_alone(job: Run) -> None:
    def heavy(items: list[int]) -> list[int]:
        if 3 in items:
            raise MemoryError
        return items

    assert marks(job(df.stage(heavy, batch=4), range(12), "record")) == [
        MemoryError if x == 3 else x for x in range(12)
    ]


def test_an_impure_stage_that_runs_out_of_memory_fails_its_batch_and_is_given_smaller_ones(executor: Kind) -> None:
    fn = Hungry(4, MemoryError())
    with df.stage(fn, batch=8, pure=False).open(executor()) as session:
        first = list(session.map(range(8), on_error="record"))
        assert list(session.map(range(8))) == list(range(8))
    if executor.in_turn:
        assert marks(first) == [MemoryError] * 8
        assert fn.sizes == [8, 4, 4]


# ------------------------------------------------------------------ awkward data


AWKWARD = {
    "NaN": float("nan"),
    "array": np.arange(3),
    "empty array": np.array([]),
    "None": None,
    "False": False,
    "empty list": [],
    "awkward": Awkward(),
    "an error": ValueError("a value"),
    "an error class": StopIteration,
    "NotImplemented": NotImplemented,
}


PASSING: dict[str, Any] = {
    "stage": df.stage(same),
    "fused": df.stage(same) >> same,
    "batched": df.stage(lambda xs: xs, batch=2),
    "region": df.stage(lambda xs: xs, batch=2) >> df.stage(lambda xs: list(xs), batch=2),
    "fan-out": (df.stage(same) | df.stage(lambda xs: xs, batch=2)) >> df.combine(lambda a, b: b),
    "named fan-out": df.fanout(a=same, b=same) >> df.combine(lambda a, b: a),
    "switch": df.switch(lambda x: 1, {1: df.stage(lambda xs: xs, batch=2)}, default=fails),
    "each": df.stage(lambda x: [x, x]) >> df.each(df.stage(lambda xs: xs, batch=3)) >> (lambda xs: xs[1]),
    "race": df.race(same, df.stage(lambda xs: xs, batch=2)),
    "retry": df.stage(lambda xs: xs, batch=2).retry(1),
    "timeout": df.stage(same).timeout(600),
    "fallback": df.stage(same).fallback(fails),
    "handler": df.stage(fails).fallback(same),
    "quorum": (df.stage(same) | fails) >> df.combine(lambda a: a, quorum=1),
    "quorum in time": (df.stage(same) | fails) >> df.combine(lambda a: a, quorum=1, within=600),
}


@pytest.mark.parametrize("value", AWKWARD.values(), ids=AWKWARD.keys())
def test_any_value_is_data_for_one_item(run: Run, value: Any) -> None:
    for name, flow in PASSING.items():
        assert run(flow, value) is value, name


@pytest.mark.parametrize("value", AWKWARD.values(), ids=AWKWARD.keys())
def test_any_value_is_data_in_a_job(job: Run, value: Any) -> None:
    for name, flow in PASSING.items():
        results = job(flow, [value] * 5, "record")
        assert len(results) == 5, name
        assert all(result is value for result in results), name


@pytest.mark.parametrize("value", AWKWARD.values(), ids=AWKWARD.keys())
def test_any_value_that_fails_is_recorded_as_it_is(job: Run, value: Any) -> None:
    for flow in (df.stage(fails), df.stage(fails, batch=2), df.stage(fails).retry(1), df.race(fails)):
        outcomes = job(flow, [value] * 3, "record")
        assert all(isinstance(outcome, df.Failure) and outcome.item is value for outcome in outcomes)
        assert job(flow, [value] * 3, "skip") == []


def test_failures_of_awkward_items_are_compared_by_identity(job: Run) -> None:
    first, second = job(df.stage(fails), [np.arange(3)] * 2, "record")
    assert first == first
    assert first != second
    assert len({first, second}) == 2
