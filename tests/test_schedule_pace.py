"""What the schedule learns of how long steps take, with time in the test's hands."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping, Sequence
from typing import Any

import dataflow as df
from dataflow.executors.faults import Fault
from dataflow.executors.schedule import Schedule, Ticket
from dataflow.executors.stats import step_stats
from dataflow.testing import VirtualClock


class Items(Ticket):
    """Items of a job whose outcomes nobody wants."""

    def __init__(self, items: list[Any], *, patient: bool = True) -> None:
        super().__init__(items, patient=patient, context=contextvars.Context())

    def succeeded(self, positions: Sequence[int], values: list[Any]) -> None:
        pass

    def failed(self, faults: Mapping[int, Fault]) -> None:
        raise AssertionError(faults)


def run(schedule: Schedule, items: list[Any]) -> int:
    """Run items, and return how many works it took."""
    schedule.accept(Items(items))
    works = 0
    while (work := schedule.take()) is not None:
        work.run()
        schedule.finish(work)
        works += 1
    return works


def test_chunks_grow_after_a_fused_step_was_slow_at_first() -> None:
    """Its first row is run apart, branch by branch; what the branches took then must not count for ever."""
    clock = VirtualClock()
    called = []

    def warming(x: int) -> int:
        called.append(x)
        if len(called) <= 2:
            clock.advance(0.0003)
        return x

    flow = (df.stage(warming) | (lambda x: warming(x))) >> df.combine(max)
    program = df.Threads(clock=clock).program(flow)
    assert len(program.plan.steps) == 1
    schedule = Schedule(program, step_stats(program.plan))
    run(schedule, [0])
    few = schedule.pace.rows_in(0.001)
    for _ in range(20):
        run(schedule, list(range(10)))
    many = schedule.pace.rows_in(0.001)
    assert few is not None and many is not None
    assert few == 1 and many > 100


def test_rows_that_fail_are_called_many_at_once_too() -> None:
    """One work for each of them would cost a look at all the others each time: the square of their number."""

    def fail(x: int) -> int:
        raise ValueError(x)

    flow = df.each(df.stage(fail).retry(1).fallback(abs))
    program = df.Threads(clock=VirtualClock()).program(flow)
    works = run(Schedule(program, step_stats(program.plan)), [list(range(2000))])
    assert works < 100


def test_a_lone_caller_waits_no_more_for_callers_who_have_left() -> None:
    """What a batch costs is more than the longest wait, so that no wait could show that to wait does not pay."""
    clock = VirtualClock()

    def slow(xs: list[int]) -> list[int]:
        clock.advance(0.1 + 0.001 * len(xs))
        return xs

    program = df.Threads(clock=clock).program(df.stage(slow, batch=64, max_wait=0.002))
    schedule = Schedule(program, step_stats(program.plan))

    def waits() -> bool:
        """Run what there is, and return whether it was kept waiting."""
        waited = False
        while (work := schedule.take()) is None:
            waited = True
            clock.advance(schedule.look()[1] - clock.now())
        work.run()
        schedule.finish(work)
        return waited

    for count in (10, 20, 30):
        for x in range(count):
            schedule.accept(Items([x], patient=False))
            clock.advance(0.0001)
        waits()
    alone = []
    for x in range(10):
        schedule.accept(Items([x], patient=False))
        alone.append(waits())
        clock.advance(1)
    assert alone[0], "others might have come"
    assert not any(alone[5:])
