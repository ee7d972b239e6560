"""The simulated executor: virtual time, the same again from the same seed, and every interleaving a legal one."""

import random
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dataflow as df
from dataflow.executors.schedule import Schedule
from dataflow.executors.stats import step_stats
from dataflow.testing import Fault, Simulated, VirtualClock, faults, flows, outcome_of, outcomes, pool, reference
from dataflow.testing.equivalence import recorded
from dataflow.testing.simulated import SimulatedSession, Stuck
from dataflow.testing.simulated.world import World

ITEMS = st.lists(st.integers(-20, 60), max_size=8)
SEEDS = st.integers(0, 2**32)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def taking(clock: VirtualClock, seconds: float, result: Any = None) -> Any:
    """Return a stage that takes so long, and gives the result or else its item."""

    def take(x: Any) -> Any:
        clock.sleep(seconds)
        return x if result is None else result

    return df.stage(take)


def opened(flow: Any, **options: Any) -> SimulatedSession:
    session: SimulatedSession = flow.open(Simulated(**options))
    return session


# ------------------------------------------------------------------ what it gives


@given(flows(), ITEMS, SEEDS, st.integers(1, 3), st.integers(1, 9))
def test_random_flows_give_what_they_may(flow: Any, xs: list[int], seed: int, workers: int, window: int) -> None:
    executor = Simulated(seed=seed, workers=workers, max_in_flight=window)
    found = list(recorded(flow.map(xs, executor, on_error="record", progress=False)))
    assert len(found) == len(xs)
    assert all(outcome in outcomes(flow, x) for x, outcome in zip(xs, found, strict=True))


@given(flows(max_depth=2), faults("raise on items", "raise on call", "wrong length", "mutate"), ITEMS, SEEDS)
def test_with_faults_as_well(flow: Any, fault: Fault, xs: list[int], seed: int) -> None:
    broken = fault.into(flow)
    found = list(recorded(broken.map(xs, Simulated(seed=seed), on_error="record", progress=False)))
    assert all(outcome in outcomes(broken, x) for x, outcome in zip(xs, found, strict=True))


@given(flows(), ITEMS, SEEDS)
def test_items_that_come_one_by_one(flow: Any, xs: list[int], seed: int) -> None:
    with opened(flow, seed=seed) as session:
        futures = [session.submit(x) for x in xs]
        for x, future in zip(xs, futures, strict=True):
            assert outcome_of(future.result) in outcomes(flow, x)


class Slow:
    """Stages that take a time of their own for each item: seconds by the item's digits."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock

    def __call__(self, x: int) -> int:
        self.clock.sleep(abs(x) % 7)
        return x


@given(flows(max_depth=2), ITEMS, SEEDS)
def test_where_stages_take_time_limits_on_it_may_pass(flow: Any, xs: list[int], seed: int) -> None:
    clock = VirtualClock()
    slow: Any = df.stage(Slow(clock)) >> flow >> Slow(clock)
    limited = slow.timeout(5).fallback(flow)
    allowed = [outcomes(limited, x, timely=False) for x in xs]
    found = recorded(limited.map(xs, Simulated(seed=seed, clock=clock), on_error="record", progress=False))
    assert all(outcome in may for outcome, may in zip(found, allowed, strict=True))


# ------------------------------------------------------------------ the same again


@given(flows(), ITEMS, SEEDS)
def test_the_same_seed_runs_the_same_way_again(flow: Any, xs: list[int], seed: int) -> None:
    traces = []
    for _ in range(2):
        with opened(flow, seed=seed) as session:
            results = [repr(outcome) for outcome in recorded(session.map(xs, on_error="record", progress=False))]
            traces.append((session.trace, results))
    assert traces[0] == traces[1]


def test_different_seeds_run_different_ways() -> None:
    flow: Any = (df.stage(pool.double) | pool.successor | pool.shuffled) >> df.combine(pool.total)
    traces = set()
    for seed in range(20):
        with opened(flow, seed=seed, passes=()) as session:
            assert list(session.map(range(4))) == [reference(flow, x) for x in range(4)]
            traces.add("\n".join(session.trace))
    assert len(traces) == 20


def test_a_race_without_a_difference_in_time_goes_either_way() -> None:
    flow = df.race(pool.double, pool.successor)
    assert {flow.map([5], Simulated(seed=seed)).__next__() for seed in range(20)} == {10, 6}


# ------------------------------------------------------------------ time


def test_no_real_second_passes(clock: VirtualClock) -> None:
    began = time.monotonic()
    flow = taking(clock, 3600).retry(1) >> taking(clock, 1800).timeout(86400)
    assert list(flow.map(range(10), Simulated(clock=clock, workers=10))) == list(range(10))
    assert clock.now() == 5400, "ten items beside one another"
    assert time.monotonic() - began < 60


def test_workers_are_what_runs_at_once(clock: VirtualClock) -> None:
    list(taking(clock, 10).map(range(10), Simulated(clock=clock, workers=3)))
    assert clock.now() == 40


def test_branches_run_beside_one_another(clock: VirtualClock) -> None:
    flow: Any = (taking(clock, 10) | taking(clock, 7)) >> df.combine(max)
    with opened(flow, clock=clock, passes=()) as session:
        assert session.run(1) == 1
    assert clock.now() == 10


def test_the_quicker_competitor_wins(clock: VirtualClock) -> None:
    flow = df.race(taking(clock, 10, "slow"), taking(clock, 3, "quick"))
    assert [flow.map([0], Simulated(seed=seed, clock=clock)).__next__() for seed in range(5)] == ["quick"] * 5
    assert clock.now() == 15


def test_a_timeout_is_on_time(clock: VirtualClock) -> None:
    flow = taking(clock, 10).timeout(4).fallback(lambda x: "late")
    with opened(flow, clock=clock) as session:
        assert session.run(1) == "late"
        assert clock.now() == 4
    assert list(taking(clock, 10).timeout(11).map([1], Simulated(clock=clock))) == [1]


def test_queueing_counts_for_a_timeout(clock: VirtualClock) -> None:
    flow = taking(clock, 10).timeout(15)
    found = list(recorded(flow.map([1, 2, 3], Simulated(clock=clock, workers=1), on_error="record")))
    assert Counter(outcome.error for outcome in found) == {None: 1, df.DeadlineExceeded: 2}


def test_a_deadline(clock: VirtualClock) -> None:
    with opened(taking(clock, 10), clock=clock) as session:
        with pytest.raises(df.DeadlineExceeded):
            session.run(1, deadline=9)
        assert clock.now() == 9
        future = session.submit(1, deadline=9)
        assert session.run(1, deadline=11) == 1
        assert isinstance(future.exception(), df.DeadlineExceeded)


def test_backoff_doubles(clock: VirtualClock) -> None:
    def never(x: int) -> int:
        raise OSError

    with opened(df.stage(never).retry(3, backoff=1), clock=clock) as session:
        assert outcome_of(lambda: session.run(1)).error is OSError
    assert clock.now() == 7


def test_within_leaves_out_who_is_late(clock: VirtualClock) -> None:
    fan = df.fanout(a=taking(clock, 1, "a"), b=taking(clock, 5, "b"), c=taking(clock, 9, "c"))
    for within, wanted, ended in ((6, ["a", "b"], 6), (0.5, ["a"], 1), (60, ["a", "b", "c"], 9)):
        start = clock.now()
        with opened(fan >> df.combine(quorum=1, within=within), clock=clock) as session:
            assert list(session.run(0)) == wanted
        assert clock.now() - start == ended


def test_a_failing_branch_beside_a_slow_one_surfaces_now(clock: VirtualClock) -> None:
    flow: Any = (taking(clock, 100) | df.stage(int)) >> df.combine(max)
    with opened(flow, clock=clock, passes=()) as session:
        assert outcome_of(lambda: session.run("x")).error is ValueError
    assert clock.now() == 0


def test_what_waits_for_ever_is_told() -> None:
    clock = VirtualClock()
    program = Simulated(clock=clock).program(df.stage(abs))
    world = World(Schedule(program, step_stats(program.plan)), clock, random.Random(0), workers=1)
    with pytest.raises(Stuck, match="waits for ever"):
        world.go_on()
    world.go_on(moment=3.0)
    assert clock.now() == 3, "what else there is to wait for"


# ------------------------------------------------------------------ batches


@pytest.mark.parametrize(("max_wait", "sent"), [(0.0001, "2.0001 s"), (0.5, "2.0002 s")])
def test_items_wait_for_their_batch_where_it_pays(clock: VirtualClock, max_wait: float, sent: str) -> None:
    """No longer than they may, and no longer than more can be expected: it is the schedule of threads that decides."""

    def doubles(xs: list[int]) -> list[int]:
        clock.sleep(1)
        return [2 * x for x in xs]

    with opened(df.stage(doubles, batch=3, max_wait=max_wait, name="doubles"), clock=clock) as session:
        for xs in ([0, 1, 2, 3], [4, 5]):
            futures = [session.submit(x) for x in xs]
            assert [future.result() for future in futures] == [2 * x for x in xs]
        assert [line for line in session.trace if "begins" in line] == [
            "0 s: doubles begins, 3 items: full",
            "1 s: doubles begins, 1 item: waited",
            f"{sent}: doubles begins, 2 items: waited",
        ]
        assert session.stats()["steps"]["doubles"]["batches"] == {1: 1, 2: 1, 3: 1}


def test_who_is_given_up_leaves_its_batch(clock: VirtualClock) -> None:
    """Those beside it are sent off all the same: each waits no longer than it may."""
    flow: Any = df.fanout(df.stage(pool.doubles, batch=4), pool.not_third) >> df.combine(pool.total)
    for seed in range(10):
        with opened(flow, seed=seed, passes=()) as session:
            futures = [session.submit(x) for x in (3, 4, 6, 5)]
            assert [outcome_of(future.result).value for future in futures] == [None, 12, None, 15]


def test_a_job_never_waits_for_time_to_pass() -> None:
    flow = df.stage(pool.doubles, batch=3, max_wait=1000)
    with opened(flow) as session:
        assert list(session.map(range(4))) == [0, 2, 4, 6]
        assert session.trace[-1].startswith("0 s")


def test_an_instance_is_called_by_one_at_a_time(clock: VirtualClock) -> None:
    class Model:
        def __call__(self, x: int) -> int:
            clock.sleep(10)
            return x

    list(df.stage(Model)().map(range(3), Simulated(clock=clock, workers=3)))
    assert clock.now() == 30


# ------------------------------------------------------------------ the session


def test_cancelling_a_promise_and_a_session() -> None:
    seen: list[int] = []
    flow: Any = df.stage(lambda x: seen.append(x) or x)
    session = opened(flow)
    first, second, third = (session.submit(x) for x in range(3))
    assert second.cancel()
    assert third.result() == 2
    session.cancel()
    assert second.cancelled()
    assert first.done()
    assert 1 not in seen


@pytest.mark.parametrize("options", [{"workers": 0}, {"max_in_flight": 0}, {"max_queue": 0}])
def test_options_are_checked(options: Any) -> None:
    with pytest.raises(df.OptionError, match=next(iter(options))):
        Simulated(**options)


def test_stopping_the_program_stops_the_world() -> None:
    def stop(x: int) -> int:
        raise KeyboardInterrupt

    session = opened(df.stage(stop))
    future = session.submit(1)
    with pytest.raises(KeyboardInterrupt):
        session.run(2)
    assert future.done()
    with pytest.raises(df.SessionClosed):
        session.run(3)
