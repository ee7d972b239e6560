"""Moments at which something is to happen."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

_FEW = 64


class Timer:
    """A moment and what is to happen then."""

    __slots__ = ("call", "when")

    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when = when
        self.call: Callable[[], None] | None = call


class Timers:
    """All moments that are still to come."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._cancelled = 0

    def at(self, when: float, call: Callable[[], None]) -> Timer:
        """Ask for a call at a moment."""
        timer = Timer(when, call)
        heapq.heappush(self._heap, (when, next(self._numbers), timer))
        return timer

    def cancel(self, timer: Timer) -> None:
        """Take a timer back. Most timeouts end so, long before their time, and must not pile up until then."""
        if timer.call is None:
            return
        timer.call = None
        self._cancelled += 1
        if self._cancelled > _FEW and self._cancelled > len(self._heap) // 2:
            self._heap = [row for row in self._heap if row[2].call is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    @property
    def next(self) -> float | None:
        """The next moment, if there is one."""
        while self._heap and self._heap[0][2].call is None:
            heapq.heappop(self._heap)
            self._cancelled -= 1
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[Callable[[], None]]:
        """Take out the timers whose moment has come, and return their calls in order."""
        calls = []
        while (when := self.next) is not None and when <= now:
            timer = heapq.heappop(self._heap)[2]
            if timer.call is not None:
                calls.append(timer.call)
                timer.call = None
        return calls
