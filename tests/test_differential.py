"""Random flows on the real thing against the oracle: one by one, as a batch job, with any passes and batch sizes."""

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dataflow as df
from dataflow.expr.nodes import Race
from dataflow.expr.stage import Stage
from dataflow.expr.walk import postorder
from dataflow.testing import Outcome, flows, outcome_of, outcomes, pool, reference
from dataflow.testing.counting import counted
from dataflow.testing.rebuild import rebuilt, with_options

PASSES = ("canonicalize", "merge", "drop", "hoist", "fuse", "batch")
SUBSETS = [subset for size in range(len(PASSES) + 1) for subset in itertools.combinations(PASSES, size)]

items = st.integers(-20, 60)
jobs = st.lists(items, max_size=12)


def judge(flow: Any, xs: Sequence[int], results: Iterable[Any]) -> None:
    """Check the results of a job under ``on_error="record"``, item by item and in order, against all that may be."""
    given = list(results)
    assert len(given) == len(xs)
    for index, (x, result) in enumerate(zip(xs, given, strict=True)):
        allowed = outcomes(flow, x)
        if isinstance(result, df.Failure):
            assert (result.index, result.item) == (index, x)
            assert Outcome(None, type(result.error)) in allowed
        else:
            assert Outcome(result) in allowed


def recorded(flow: Any, xs: Sequence[int], executor: Any = "inline", **options: Any) -> list[Any]:
    return list(flow.map(xs, executor, on_error="record", progress=False, **options))


def with_batch(flow: Any, size: int) -> Any:
    """Return a flow whose batched stages all take batches of another size."""
    return rebuilt(flow, lambda stage: stage if stage.options.batch is None else with_options(stage, batch=size))


# ------------------------------------------------------------------ random flows


@given(flows(), items)
def test_one_item(flow: Any, x: int) -> None:
    assert outcome_of(lambda: flow(x)) in outcomes(flow, x)
    assert outcome_of(lambda: flow(x)) in outcomes(flow, x), "a second call, which goes another way"


@given(flows(), jobs)
def test_a_job(flow: Any, xs: list[int]) -> None:
    judge(flow, xs, recorded(flow, xs))


@given(flows(), jobs, st.sets(st.sampled_from(PASSES)), st.integers(1, 9))
def test_any_passes_and_any_window(flow: Any, xs: list[int], passes: set[str], window: int) -> None:
    chosen = df.Inline(passes=[name for name in PASSES if name in passes])
    judge(flow, xs, recorded(flow, xs, chosen, max_in_flight=window))


@given(flows(), jobs, st.permutations(PASSES))
def test_passes_in_any_order(flow: Any, xs: list[int], passes: list[str]) -> None:
    judge(flow, xs, recorded(flow, xs, df.Inline(passes=passes)))


@given(flows(), jobs, st.sampled_from([1, 2, 3, 5, 64]))
def test_any_batch_size(flow: Any, xs: list[int], size: int) -> None:
    other = with_batch(flow, size)
    judge(flow, xs, recorded(other, xs))


@given(flows(), jobs)
def test_one_placement_for_all(flow: Any, xs: list[int]) -> None:
    """Batched stages of a GPU that share a placement share their batches."""
    other = rebuilt(
        flow,
        lambda stage: stage if stage.options.batch is None else with_options(stage, batch=3, placement="together"),
    )
    judge(flow, xs, recorded(other, xs))


@given(flows(), jobs, st.integers(1, 3), st.integers(1, 9))
def test_a_job_on_threads(flow: Any, xs: list[int], workers: int, window: int) -> None:
    judge(flow, xs, recorded(flow, xs, df.Threads(workers=workers, max_in_flight=window)))


@given(flows(), jobs)
def test_an_error_that_is_raised_ends_the_job(flow: Any, xs: list[int]) -> None:
    """What came before the first failing item is delivered; then its error is raised."""
    allowed = [outcomes(flow, x) for x in xs]
    results = flow.map(xs, "inline", progress=False)
    given: list[Outcome] = []
    while len(given) < len(xs) and not (given and given[-1].error):
        given.append(outcome_of(lambda: next(results)))
    assert all(outcome in may for outcome, may in zip(given, allowed, strict=False))
    assert not any(outcome.error for outcome in given[:-1])
    with pytest.raises(StopIteration):
        next(results)


@given(flows(), jobs)
def test_failed_items_are_skipped(flow: Any, xs: list[int]) -> None:
    certain = [outcomes(flow, x) for x in xs]
    if all(len(may) == 1 for may in certain):
        expected = [may[0].value for may in certain if not may[0].error]
        assert list(flow.map(xs, "inline", on_error="skip", progress=False)) == expected


@given(flows(), jobs)
def test_a_session(flow: Any, xs: list[int]) -> None:
    with flow.open("inline") as session:
        for x in xs:
            assert outcome_of(lambda x=x: session.run(x)) in outcomes(flow, x)
            assert outcome_of(session.submit(x).result) in outcomes(flow, x)
        judge(flow, xs, session.map(xs, on_error="record", progress=False))


@given(flows(max_depth=2), items)
def test_impure_stages_run_as_they_are_written(flow: Any, x: int) -> None:
    """Never merged, never reordered, never run twice: the calls are those of the oracle, in its order."""
    if any(isinstance(node, Race) for node in postorder(flow)):
        return  # in a race, how far a loser gets is left open
    trace: list[tuple[str, int]] = []

    def traced(stage: Stage[Any, Any]) -> Stage[Any, Any]:
        def run(value: int) -> Any:
            trace.append((stage.name, value))
            return stage.fn(value)

        return with_options(Stage(run, stage.options), pure=False) if plain(stage) else stage

    def plain(stage: Stage[Any, Any]) -> bool:
        return stage.options.batch is None and not stage.constructed and stage.fn in IMPURE

    watched = rebuilt(flow, traced)
    if outcome_of(lambda: reference(watched, x)).error:
        return  # what else runs of an item that fails is left open
    expected = list(trace)
    for run in (
        lambda: watched(x),
        lambda: list(watched.map([x], "inline", progress=False)),
        lambda: list(watched.map([x], df.Inline(passes=()), progress=False)),
    ):
        trace.clear()
        run()
        assert trace == expected


IMPURE = (pool.double, pool.successor, pool.shuffled, pool.not_third, pool.not_seventh, pool.up_to_three)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda flow: flow,
        lambda flow: flow.named("group"),
        lambda flow: flow.retry(1),
        lambda flow: flow.fallback(abs),
        lambda flow: df.switch(pool.modulo(2), {0: flow}, default=flow),
        lambda flow: df.fanout(flow) >> df.combine(pool.total),
        lambda flow: df.fanout(flow, abs) >> df.combine(pool.total, quorum=1),
        lambda flow: df.stage(lambda x: [x]) >> df.each(flow) >> sum,
    ],
    ids=["chain", "name", "retry", "fallback", "switch", "fan-out", "quorum", "each"],
)
def test_an_impure_flow_written_twice_runs_twice(wrap: Callable[[Any], Any]) -> None:
    """Though it be one and the same object."""
    seen: list[int] = []

    def see(x: int) -> int:
        seen.append(x)
        return x

    once = wrap(df.stage(see, pure=False) >> pool.double)
    flow: Any = (once >> pool.successor | once >> pool.shuffled | once) >> df.combine(pool.total)
    for run in (flow, lambda x: list(flow.map([x], "inline")), lambda x: list(flow.map([x], df.Inline(passes=())))):
        seen.clear()
        run(3)
        assert seen == [3, 3, 3]


def test_what_one_pass_uncovers_another_takes() -> None:
    """A head that is hoisted out of a switch is then the same as the stage beside it, and runs once."""
    both: Any = A | df.switch(pool.modulo(2), {0: A >> B, 1: A >> C})
    watched, tally = counted(both >> df.combine(pool.difference))
    for run in (watched, lambda x: list(watched.map([x], "inline"))):
        tally.clear()
        run(4)
        assert tally.items[A] == 1


# ------------------------------------------------------------------ every subset of the passes

A, B, C = (df.stage(fn) for fn in (pool.double, pool.successor, pool.not_third))
BATCH: Any = df.stage(pool.doubles, batch=2)
ON_GPU: Any = df.stage(pool.not_thirds, batch=2, device="cuda", placement="g")
BESIDE: Any = df.stage(pool.successors, batch=2, device="cuda", placement="g")
ADD: Any = df.stage(pool.AddAll, batch=3)
TOTAL: Any = df.combine(pool.total)
KEY = pool.modulo(2)

RICH: dict[str, Any] = {
    "diamonds": functools.reduce(lambda flow, _: (flow >> A | flow >> B) >> df.combine(pool.difference), range(6), A),
    "an ensemble": BATCH >> (ON_GPU | BESIDE | ADD(1) | ADD(1)) >> TOTAL,
    "a chain of batches": ON_GPU >> BESIDE >> ON_GPU >> BATCH >> BESIDE,
    "a switch with common ends": df.switch(
        pool.modulo(2), {0: ON_GPU >> A >> BESIDE, 1: ON_GPU >> C >> BESIDE}, default=ON_GPU >> BESIDE
    ),
    "a switch that may not match": df.switch(pool.modulo(3), {0: C >> A >> BATCH, 2: C >> BATCH}),
    "a switch in a switch": df.switch(
        pool.modulo(2), {n: df.switch(pool.modulo(3), {0: C >> BATCH, 1: C >> A, 2: C}) >> BESIDE for n in (0, 1)}
    ),
    "switches that only decide": (df.switch(C, {1: A}, default=A) | A | df.switch(pool.modulo(2), {0: A, 1: A}))
    >> TOTAL,
    "a switch that only refuses": (df.switch(pool.modulo(2), {0: df.identity}) | df.identity) >> TOTAL,
    "each of batches": df.stage(pool.up_to_three)
    >> df.each(ON_GPU >> BESIDE)
    >> df.each(A | BATCH)
    >> df.each(TOTAL)
    >> sum,
    "a batch that is tried again": (BATCH >> ON_GPU).retry(2).fallback(BATCH >> A) >> BESIDE,
    "a quorum of batches": df.fanout(a=ON_GPU, b=C, c=BATCH >> BESIDE) >> df.combine(pool.total, quorum=2) >> BATCH,
    "a race": df.race(BATCH >> ON_GPU, BATCH >> ON_GPU).timeout(600) >> B,
    "impure among equals": (A >> df.stage(pool.double, pure=False) | A >> df.stage(pool.double, pure=False) | A >> A)
    >> TOTAL,
    "groups": (df.fanout(A, B) | C) >> df.combine(pool.pair_and_one) >> df.fanout(a=A >> B, b=A >> C) >> TOTAL,
    "two switches of one key": (
        df.switch(pool.modulo(2), {0: A, 1: B})
        | df.switch(pool.modulo(2), {0: B, 1: C})
        | df.switch(pool.modulo(2), {0: C, 1: A})
    )
    >> TOTAL,
    "two switches of one key that is no number": (
        df.switch(str, {"1": A, "2": B}, default=C) | df.switch(str, {"1": B, "2": C}, default=A)
    )
    >> TOTAL,
    "unused and neutral": df.identity.named("nothing") >> (A | df.identity.retry(1)) >> df.combine() >> sum,
}


@pytest.mark.parametrize("flow", RICH.values(), ids=RICH.keys())
def test_every_subset_of_the_passes(flow: Any) -> None:
    xs = list(range(-6, 16))
    for passes in SUBSETS:
        judge(flow, xs, recorded(flow, xs, df.Inline(passes=passes)))


@pytest.mark.parametrize("flow", RICH.values(), ids=RICH.keys())
def test_every_window_and_batch_size(flow: Any) -> None:
    xs = list(range(-6, 16))
    for size in (1, 2, 3, 7, 100):
        other = with_batch(flow, size)
        for window in (1, 2, 5, 22, 1000):
            judge(flow, xs, recorded(other, xs, max_in_flight=window))


@pytest.mark.parametrize("flow", RICH.values(), ids=RICH.keys())
def test_calls_of_rich_flows(flow: Any) -> None:
    for x in range(-6, 16):
        assert outcome_of(lambda x=x: flow(x)) in outcomes(flow, x)
