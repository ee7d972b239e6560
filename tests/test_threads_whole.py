"""Chunks that go through all steps as one piece of work: when they do, and that nothing else changes by it."""

import contextlib
import threading
from typing import Any

import pytest

import dataflow as df
from dataflow.executors.schedule import Schedule, Ticket
from dataflow.executors.schedule.pace import Pace
from dataflow.executors.schedule.whole import MOST_SECONDS
from dataflow.executors.stats import step_stats
from dataflow.executors.threads.contention import Contention
from dataflow.executors.threads.learned import keep, learned_of
from dataflow.expr.run import program_of


def double(xs: list[int]) -> list[int]:
    return [2 * x for x in xs]


def steps() -> Any:
    return df.stage(abs) >> df.stage(double, batch=4) >> df.stage(double, batch=6) >> str


def schedule_of(flow: Any, *, debug: bool = False) -> Schedule:
    program = df.Threads().program(flow)
    return Schedule(program, step_stats(program.plan), debug=debug)


def learn(schedule: Schedule, seconds: float) -> None:
    """Let every step take so many seconds a row."""
    for slot in schedule.layouts.of(schedule.program.plan.block).slots:
        (schedule.pace.learn_batch if slot.step.batches else schedule.pace.learn)(slot, 1, seconds)


@pytest.mark.parametrize(
    "flow",
    [
        df.stage(abs),
        df.stage(abs) >> df.switch(bool, {True: df.stage(double, batch=4)}, default=str),
        (df.stage(abs) >> df.stage(double, batch=4)).timeout(1.0),
        df.stage(abs) >> df.each(df.stage(double, batch=4)),
    ],
    ids=["one step", "a switch", "a timeout", "an each"],
)
def test_chunks_of_other_plans_go_from_step_to_step(flow: Any) -> None:
    assert schedule_of(flow).whole.layout is None


def test_so_do_those_whose_stages_are_looked_at_one_by_one() -> None:
    assert schedule_of(steps()).whole.layout is not None
    assert schedule_of(steps(), debug=True).whole.layout is None


def test_a_chunk_fills_the_batches_of_every_step() -> None:
    schedule = schedule_of(steps())
    assert schedule.whole.undecided
    assert schedule.whole.rows(1.0, 1000) is None, "nothing is known of the steps"
    learn(schedule, 1e-6)
    assert not schedule.whole.undecided
    assert schedule.whole.unit == 12
    assert schedule.whole.rows(0.0, 1000) == 12
    assert schedule.whole.rows(1.0, 1000) == 1000 // 12 * 12
    assert schedule.whole.rows(1.0, 11) is None, "so many are not to be in flight"


def test_slow_steps_are_run_one_by_one() -> None:
    schedule = schedule_of(steps())
    learn(schedule, MOST_SECONDS / 12)
    assert schedule.whole.rows(1.0, 1000) is None


def ticket(count: int, *, patient: bool = True, deadline: float | None = None) -> Ticket:
    import contextvars

    return Ticket(list(range(count)), patient=patient, context=contextvars.copy_context(), deadline=deadline)


def test_what_is_taken_as_a_whole() -> None:
    schedule = schedule_of(steps())
    assert not schedule.whole.takes(ticket(12))
    learn(schedule, 1e-6)
    assert schedule.whole.takes(ticket(12))
    assert schedule.whole.takes(ticket(24))
    assert not schedule.whole.takes(ticket(13)), "the last of a job shares its batches with whatever else there is"
    assert not schedule.whole.takes(ticket(12, patient=False))
    assert not schedule.whole.takes(ticket(12, deadline=60.0))


def fail_some(x: int) -> int:
    if x % 50 == 7:
        raise ValueError(x)
    return x


@pytest.mark.parametrize("ordered", [True, False])
def test_results_failures_and_counts_are_the_same(ordered: bool) -> None:
    flow = df.stage(fail_some) >> df.stage(double, batch=8, name="one") >> df.stage(double, batch=8, name="two")
    wanted = list(flow.map(range(3000), "inline", on_error="skip"))
    with flow.open(df.Threads()) as session:
        for _ in range(2):  # the second time it is known what the steps take
            found = list(session.map(range(3000), on_error="record", ordered=ordered))
            failures = [each for each in found if isinstance(each, df.Failure)]
            found = [each for each in found if not isinstance(each, df.Failure)]
            assert (found if ordered else sorted(found)) == wanted
            assert sorted(failure.index for failure in failures) == list(range(7, 3000, 50))
            assert {failure.stage for failure in failures} == {"fail_some"}
        report = session.stats()
    assert report["items"] == 6000
    assert report["failures"] == 120
    first, *others = report["steps"].values()
    assert (first["items"], first["failures"]) == (6000, 120)
    for step in others:
        assert step["items"] == 5880
        stages = sum(size * calls for size, calls in step["batches"].items()) / step["items"]
        assert stages == int(stages), "each item was in one batch of each stage"
        assert sum(step["dispatched"].values()) * stages >= 5880 / 8


def test_instances_are_called_by_one_thread_at_a_time() -> None:
    class Alone:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def __call__(self, xs: list[int]) -> list[int]:
            assert self.lock.acquire(blocking=False), "two threads at once"
            made = double(xs)
            self.lock.release()
            return made

    alone: Any = df.stage(Alone, batch=16)
    flow = df.stage(abs) >> alone() >> str
    for _ in range(3):
        assert list(flow.map(range(4000), df.Threads(workers=4))) == [str(2 * x) for x in range(4000)]


def test_a_job_goes_on_with_what_the_one_before_it_has_learned() -> None:
    flow = steps()
    assert learned_of(program_of(flow)) is None
    list(flow.map(range(100)))
    learned = learned_of(program_of(flow))
    assert learned is not None
    assert learned.pace.rows_in(1.0)
    with flow.open() as other:  # which has a program of its own
        assert list(other.map(range(100))) == list(flow.map(range(100)))


def test_a_function_on_a_gpu_is_called_by_as_many_threads_as_it_has_replicas() -> None:
    lock, met = threading.Lock(), threading.Barrier(2)

    def alone(xs: list[int]) -> list[int]:
        assert lock.acquire(blocking=False), "two threads at once"
        with contextlib.suppress(threading.BrokenBarrierError):  # a second thread would come in here
            met.wait(0.02)
        lock.release()
        return double(xs)

    schedule = schedule_of(df.stage(abs) >> df.stage(alone, batch=4, device="cuda"))
    learn(schedule, 1e-6)
    for _ in range(2):
        schedule.accept(ticket(4))
    works = [schedule.take(), schedule.take()]
    threads = [threading.Thread(target=work.run) for work in works if work is not None]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [work.faults for work in works if work is not None] == [{}, {}]


def test_the_next_job_has_as_many_threads_as_did_most_in_the_last() -> None:
    flow = steps()
    program = program_of(flow)
    contention = Contention(2)
    contention.unbind()
    keep(program, Pace(), contention)
    session = df.Threads()._session(program)
    try:
        assert session.pool.contention.limit is None
    finally:
        session.cancel()
