"""A batch job in a simulated world: its source is read bit by bit, between the other things that happen."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from dataflow.executors.aside import own_context
from dataflow.executors.faults import Fault, outcome
from dataflow.executors.schedule import Schedule, Ticket
from dataflow.executors.schedule.pace import CALL_SECONDS
from dataflow.executors.threads.source import PATIENCE
from dataflow.testing.clock import VirtualClock

_MOST = 4  # items read at once, where they are quick: as few as make a difference


class Taken(NamedTuple):
    """What has become of an item."""

    number: int
    item: Any
    value: Any
    fault: Fault | None


class Chunk(Ticket):
    """Items of a job that were read together."""

    __slots__ = ("_job", "_start", "failures")

    def __init__(self, job: Job, start: int, items: list[Any]) -> None:
        super().__init__(items, patient=True, context=job.context)
        self._job = job
        self._start = start
        self.failures = 0

    def succeeded(self, positions: Sequence[int], values: list[Any]) -> None:
        for position, value in zip(positions, values, strict=True):
            self._note(position, value, None)

    def failed(self, faults: Mapping[int, Fault]) -> None:
        self.failures += len(faults)
        for position, fault in faults.items():
            self._note(position, None, fault)

    def _note(self, position: int, value: Any, fault: Fault | None) -> None:
        index = self._start + position
        self._job.done[index] = Taken(index, self.items[position], value, fault)


class Job:
    """One run over many items.

    Parameters
    ----------
    schedule : Schedule
        What runs them.
    clock : VirtualClock
        The time. What the source adds to it is the time that it takes to be read.
    chance : random.Random
        Says how much is read at once.
    items : iterable
        The source.
    ordered : bool
        Whether outcomes are taken in the order of the items, or as they come.
    limit : int
        The most items that are read and whose outcomes have not been taken.
    start : int
        The number of the first item.
    one_by_one : bool
        Whether an item is read when there is something to do for it, for its time begins then.

    Attributes
    ----------
    done : dict of int to Taken
        What has had its outcome and has not been taken, as it came.
    error : Exception or None
        What the source raised in the end.
    context : contextvars.Context
        In which stages run.
    """

    def __init__(
        self,
        schedule: Schedule,
        clock: VirtualClock,
        chance: random.Random,
        items: Iterable[Any],
        *,
        ordered: bool,
        limit: int,
        start: int,
        one_by_one: bool,
    ) -> None:
        self.done: dict[int, Taken] = {}
        self.error: Exception | None = None
        self.context = own_context()
        self._schedule = schedule
        self._clock = clock
        self._random = chance
        self._items = iter(items)
        self._ordered = ordered
        self._limit = limit
        self._one_by_one = one_by_one
        self._read = self._next = start  # how far it has been read, and its outcomes taken
        self._most = 1  # items of a chunk wait for one another: one, until it is known that they are quick
        self._ended = False
        self._chunks: list[Chunk] = []
        self._coming: list[Any] | None = None  # what is being read, until the moment `due`
        self._since = self.due = math.inf

    @property
    def moves(self) -> list[Any]:
        """What could happen to it now."""
        if self._coming is not None:
            return [self._accept] if self.due <= self._clock.now() else []
        return [self._begin] if self._wanted else []

    @property
    def expected(self) -> float:
        """The moment until which it may be expected to bring items; before all time where it brings none soon."""
        if self._coming is not None:
            return self._since + PATIENCE
        return math.inf if self._room else -math.inf

    @property
    def ready(self) -> bool:
        """Whether there is something to take, or nothing more to come."""
        self._chunks = [chunk for chunk in self._chunks if chunk.frame is not None]
        if self._next in self.done if self._ordered else self.done:
            return True
        return self._ended and self._coming is None and not self._chunks and not self.done

    def take(self) -> Taken | None:
        """Take the next outcome; None where there is none any more."""
        if not self.done:
            return None
        self._next += 1
        return self.done.pop(self._next - 1 if self._ordered else next(iter(self.done)))

    def cancel(self) -> None:
        """Forget what is under way."""
        self._ended, self._coming, self._items = True, None, iter(())
        for chunk in self._chunks:
            self._schedule.cancel(chunk)
        self.done.clear()

    @property
    def _room(self) -> int:
        """How many more items may be read."""
        return 0 if self._ended else self._limit - (self._read - self._next)

    @property
    def _wanted(self) -> bool:
        return self._room > 0 and (not self._one_by_one or self._schedule.hungry)

    def _begin(self) -> None:
        size = self._random.randint(1, min(self._room, self._most))
        self._coming, self._since = [], self._clock.now()
        # what came before an error is delivered first
        _, self.error = outcome(self._coming.extend, itertools.islice(self._items, size))
        self._ended = len(self._coming) < size
        self.due = self._clock.now()
        self._clock.set(self._since)
        if self.due <= self._since:
            self._accept()

    def _accept(self) -> None:
        items, self._coming, self.due = self._coming, None, math.inf
        if items:
            chunk = Chunk(self, self._read, items)
            self._read += len(items)
            self._chunks.append(chunk)
            self._schedule.accept(chunk)
        rows = self._schedule.pace.rows_in(CALL_SECONDS)
        if rows is not None and not self._one_by_one:
            self._most = max(1, min(rows, _MOST))
