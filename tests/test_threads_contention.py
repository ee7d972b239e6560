"""How many threads may work: the choice, from works whose times are made up."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest

import dataflow as df
from dataflow.executors.threads.contention import Contention

STEP = SimpleNamespace(name="step")
PROGRAM = object()
CORES = 2


def run(
    contention: Contention, speed: dict[int | None, float], cpu: float, works: int = 2000, start: float = 0.0
) -> list[int | None]:
    """Note works of one solo millisecond each, of which `speed` are done at a time; return the limits in force."""
    work: Any = SimpleNamespace(program=PROGRAM, slot=SimpleNamespace(step=STEP), size=1)
    now, limits = start, []
    for _ in range(works):
        limit = contention.limit
        limits.append(limit)
        took = 0.001 / speed[limit]
        now += took
        contention.note(work, now, 0.001, cpu * took, limit == 1)
    return limits


@pytest.mark.parametrize(
    ("speed", "tried", "best"),
    [
        ({None: 0.4, 2: 0.7, 1: 1.0}, {1, 2}, 1),
        ({None: 1.2, 2: 1.8, 1: 1.0}, {1, 2, None}, 2),
        ({None: 2.5, 2: 1.8, 1: 1.0}, {1, 2, None}, None),
    ],
    ids=["they hold the lock", "they let go of it", "more are better"],
)
def test_the_limit_under_which_most_gets_done_is_kept(
    speed: dict[int | None, float], tried: set[int | None], best: int | None
) -> None:
    limits = run(Contention(CORES), speed, cpu=0.75)
    assert set(limits) == tried
    assert limits.count(best) > 0.7 * len(limits)


def test_more_threads_than_cores_are_not_tried_where_these_are_busy() -> None:
    limits = run(Contention(CORES), {None: 1.2, 2: 1.8, 1: 1.0}, cpu=1.8)
    assert set(limits) == {1, 2}


def test_threads_that_wait_are_not_held_back() -> None:
    contention = Contention(CORES)
    limits = run(contention, {None: 6.0, 2: 2.0, 1: 1.0}, cpu=0.1)
    assert limits.index(None) < 20
    assert set(limits[limits.index(None) :]) == {None}
    run(contention, {None: 0.4, 2: 0.7, 1: 1.0}, cpu=1.0)
    limits = run(contention, {None: 6.0, 2: 2.0, 1: 1.0}, cpu=0.1, works=100, start=60.0)
    assert limits[0] == 1
    assert limits[-1] is None, "nor when they begin to wait"


def test_no_limit_where_none_is_to_be() -> None:
    assert set(run(Contention(None), {None: 0.4}, cpu=0.4)) == {None}


def test_a_thread_that_is_blocked_makes_room_for_another() -> None:
    other = threading.Event()

    def stage(item: int) -> int:
        if item == 0:
            assert other.wait(30)
        other.set()
        return item

    assert list(df.stage(stage).map(range(2), df.Threads(workers=2))) == [0, 1]
