"""Time and blocking in a test's hands: a clock that moves only when it is told to, and a gate at which work stops.

With both, a test says what happens in which order, and never sleeps in the hope that it has.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

_TICK = 0.001
_LIMIT = 60.0


class VirtualClock:
    """A clock that stands still until it is moved: with it, a timeout of an hour passes at once, or never.

    It is what executors take as their ``clock``. A stage may move it too: one that calls ``clock.advance(5)`` takes
    five seconds, as far as timeouts are concerned.

    Parameters
    ----------
    frozen : bool
        Whether ``sleep`` blocks until somebody else has moved the clock. Otherwise sleeping moves it, and returns.

    Attributes
    ----------
    slept : list of float
        What `sleep` was asked for, in order.

    Examples
    --------
    >>> import dataflow as df
    >>> from dataflow.testing.clock import VirtualClock
    >>> clock = VirtualClock()
    >>> def fail(x):
    ...     raise OSError("out of reach")
    >>> results = df.stage(fail).retry(3, backoff=60).map([1], df.Inline(clock=clock), on_error="skip")
    >>> list(results), clock.slept, clock.now()
    ([], [60.0, 120.0, 240.0], 420.0)
    """

    def __init__(self, *, frozen: bool = False) -> None:
        self.slept: list[float] = []
        self._frozen = frozen
        self._now = 0.0
        self._waiting = 0
        self._changed = threading.Condition()

    def __repr__(self) -> str:
        return f"<VirtualClock at {self._now:g} s>"

    def now(self) -> float:
        """Return the seconds by which the clock has been moved."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock, and wake whoever waited for that moment."""
        if not seconds >= 0:
            raise ValueError(f"a clock never goes back, and was told to go on by {seconds!r} s")
        with self._changed:
            self._now += seconds
            self._changed.notify_all()

    def set(self, moment: float) -> None:
        """Put the clock to a moment, maybe an earlier one: for what keeps a time of its own and shows it here."""
        with self._changed:
            self._now = moment
            self._changed.notify_all()

    def sleep(self, seconds: float) -> None:
        """Return once the clock has been moved that far: by this call itself, unless the clock is frozen."""
        with self._changed:
            self.slept.append(seconds)
            until = self._now + seconds
            if not self._frozen:
                self._now = until
                self._changed.notify_all()
                return
            self._count(1)
            try:
                _expect(self._changed.wait_for(lambda: self._now >= until, _LIMIT), "nobody moved the clock")
            finally:
                self._count(-1)

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        """Wait until the event is set or the clock has been moved that far; return whether the event is set."""
        with self._changed:
            until = None if seconds is None else self._now + seconds
            self._count(1)
        try:
            # an event and a condition cannot be waited for at once, so the clock is looked at now and then
            while not event.wait(_TICK) and (until is None or self._now < until):
                pass
            return event.is_set()
        finally:
            with self._changed:
                self._count(-1)

    def await_waiters(self, count: int = 1, limit: float = _LIMIT) -> None:
        """Return once so many threads wait for the clock, in `sleep` or `wait`.

        Parameters
        ----------
        count : int
            How many, at least.
        limit : float
            Real seconds after which it is a TimeoutError.
        """
        with self._changed:
            met = self._changed.wait_for(lambda: self._waiting >= count, limit)
        _expect(met, f"{self._waiting} threads wait for the clock, not {count}")

    def _count(self, change: int) -> None:
        self._waiting += change
        self._changed.notify_all()


class Gate:
    """Where work stops until the test lets it go on. It is a stage's function: it gives its item back.

    Use it as a context manager: leaving the block opens it, so that no thread is left behind at it.

    Examples
    --------
    >>> import dataflow as df
    >>> from dataflow.testing.clock import Gate
    >>> with Gate() as gate:
    ...     df.race(gate, abs)(-3)
    3
    """

    def __init__(self) -> None:
        self._open = False
        self._arrived = 0
        self._changed = threading.Condition()

    def __repr__(self) -> str:
        return f"<{'open' if self._open else 'closed'} Gate, {self._arrived} arrived>"

    def __call__(self, item: Any) -> Any:
        """Return the item once the gate is open."""
        with self._changed:
            self._arrived += 1
            self._changed.notify_all()
            _expect(self._changed.wait_for(lambda: self._open, _LIMIT), "nobody opened the gate")
        return item

    @property
    def arrived(self) -> int:
        """How many calls have come to the gate, whether they have passed it or not."""
        return self._arrived

    def open(self) -> None:
        """Let everything pass, from now on."""
        with self._changed:
            self._open = True
            self._changed.notify_all()

    def await_arrivals(self, count: int = 1, limit: float = _LIMIT) -> None:
        """Return once so many calls have come to the gate.

        Parameters
        ----------
        count : int
            How many, at least.
        limit : float
            Real seconds after which it is a TimeoutError.
        """
        with self._changed:
            met = self._changed.wait_for(lambda: self._arrived >= count, limit)
        _expect(met, f"{self._arrived} calls have come to the gate, not {count}")

    def __enter__(self) -> Gate:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open()


def _expect(met: bool, otherwise: str) -> None:
    if not met:
        raise TimeoutError(otherwise)
