"""The stages and flows that executors are tested with: at the top level of a module, so that they can be sent away."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

from dataflow.expr.words import combine, each, fanout, race, stage, switch
from dataflow.testing import pool
from dataflow.testing.clock import Gate, VirtualClock


def same(x: Any) -> Any:
    """Return the item."""
    return x


def all_same(xs: list[Any]) -> list[Any]:
    """Return the items."""
    return xs


def refuses_three(x: int) -> int:
    """Fail on 3."""
    if x == 3:
        raise LookupError("three")
    return x


def refuse_three(xs: list[int]) -> list[int]:
    """Fail on a batch with 3 in it."""
    return [refuses_three(x) for x in xs]


def one_short(xs: list[int]) -> list[int]:
    """Return a result too few."""
    return xs[1:]


def exhausted(x: int) -> int:
    """Let a StopIteration out."""
    raise StopIteration(x)


def interrupted(x: int) -> int:
    """Do as if somebody had pressed Ctrl-C."""
    raise KeyboardInterrupt


def batch_sizes(xs: list[int]) -> list[int]:
    """Return for each item how many are in its batch."""
    return [len(xs)] * len(xs)


def runs_another(depth: int) -> int:
    """Run a flow inside a stage of a flow, so many deep."""
    return 0 if depth == 0 else 1 + sum(stage(runs_another).map([depth - 1], progress=False))


def slow_three(clock: VirtualClock, gate: Gate) -> Callable[[int], int]:
    """Return a stage that takes a minute for 3, and then stops at the gate."""

    def slow(x: int) -> int:
        if x == 3:
            clock.advance(60)
            gate(x)
        return x

    return slow


class Once:
    """A class stage that fails when it is called while it is being called; gives the number of its instance."""

    def __init__(self) -> None:
        self._busy = threading.Lock()
        self._number = id(self)

    def __call__(self, x: int) -> int:
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("one instance was called by two at once")
        try:
            return self._number
        finally:
            self._busy.release()


class Broken:
    """A class stage that cannot be constructed."""

    def __init__(self) -> None:
        raise OSError("no weights")

    def __call__(self, x: int) -> int:
        return x


def numbers() -> Iterator[int]:
    """Yield 0, 1 and so on, without end."""
    number = 0
    while True:
        yield number
        number += 1


A: Any = stage(pool.double)
B: Any = stage(pool.successor)
C: Any = stage(pool.not_third)
BATCH: Any = stage(pool.doubles, batch=3)
ON_GPU: Any = stage(pool.not_thirds, batch=4, device="cuda", placement="g")
BESIDE: Any = stage(pool.successors, batch=4, device="cuda", placement="g")
ADD: Any = stage(pool.AddAll, batch=2)
TOTAL: Any = combine(pool.total)

FLOWS: dict[str, Any] = {
    "a chain": A >> C >> B,
    "batches": BATCH >> ON_GPU >> BESIDE >> BATCH,
    "a diamond": (A >> B | A >> BATCH) >> combine(pool.difference),
    "an ensemble": BATCH >> (ON_GPU | BESIDE | ADD(1)) >> TOTAL,
    "a named fan-out": fanout(b=C, a=BATCH) >> TOTAL,
    "a switch": switch(pool.modulo(2), {0: ON_GPU >> A, 1: C}, default=B),
    "a switch that may not match": switch(pool.modulo(3), {0: A, 2: BATCH}),
    "an each": stage(pool.up_to_three) >> each(BATCH >> C) >> sum,
    "a retry": (BATCH >> ON_GPU).retry(2),
    "a fallback": (C >> BATCH).fallback(B),
    "a quorum": fanout(C, ON_GPU, BATCH) >> combine(pool.total, quorum=2),
    "a race": race(C >> BATCH, C >> BATCH),
    "a timeout": (BATCH >> C).timeout(600),
    "a class": stage(pool.Add)(2) >> ADD(1),
    "impure stages": stage(pool.double, pure=False) >> stage(pool.successors, batch=2, pure=False),
    "deep": functools.reduce(lambda flow, _: (flow >> A | flow >> B) >> combine(pool.difference), range(5), C),
}
"""One flow for each construct, from int to int."""
