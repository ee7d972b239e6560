"""What calls cost, as far as it is known: to decide how many rows a call takes, and whether waiting for more pays."""

from __future__ import annotations

from collections.abc import Sequence

from dataflow.executors.schedule.layout import Slot

CALL_SECONDS = 0.004
"""About how long a piece of work should take, where there is a choice: long beside what it costs to hand it over, and
short for a person."""

APART_SECONDS = 0.001
"""From how many seconds a row on the branches of a fused step are run beside one another: handing a branch to another
thread and getting it back takes about a tenth of that."""

_MOST_ROWS = 1024
_MOST_BATCHES = 8
_BATCHES_SECONDS = CALL_SECONDS
_WEIGHT = 0.5
_WEIGHT_UP = 0.05
_FORGET = 0.9


class Pace:
    """Learns from the calls that have been made.

    Attributes
    ----------
    whole : float or None
        Seconds a row through the whole plan, where chunks go through it as one piece of work.
    """

    def __init__(self) -> None:
        self.whole: float | None = None
        self._rows: dict[int, float] = {}  # seconds a row, by step
        self._parts: set[int] = set()  # steps that are part of a fused one, whose seconds have theirs among them
        self._batches: dict[int, Fit] = {}

    def resume(self, other: Pace) -> None:
        """Learn all that another has learned of the same steps."""
        self.whole = other.whole
        self._rows.update(other._rows)
        self._parts |= other._parts
        self._batches.update((key, fit.copy()) for key, fit in other._batches.items())

    def learn(self, slot: Slot, rows: int, seconds: float) -> None:
        """Take note of a call with so many rows."""
        key = id(slot.step)
        if slot.part:
            self._parts.add(key)
        self._rows[key] = _nearer(self._rows.get(key), seconds / rows)

    def learn_batch(self, slot: Slot, rows: float, seconds: float) -> None:
        """Take note of a batch of so many rows."""
        self._batches.setdefault(id(slot.step), Fit()).add(rows, seconds)

    def learn_whole(self, rows: int, seconds: float) -> None:
        """Take note of so many rows that have gone through the whole plan."""
        self.whole = _nearer(self.whole, seconds / rows)

    def through(self, slots: Sequence[Slot]) -> float | None:
        """Return the seconds that a row takes in these steps; None where they are not known of each."""
        whole = 0.0
        for slot in slots:
            key = id(slot.step)
            fit = self._batches.get(key)
            each = self._rows.get(key) if fit is None else fit.each
            if each is None:
                return None
            whole += each
        return whole

    def rows_in(self, seconds: float) -> int | None:
        """Return how many rows go through all steps in that time; None where it is not known.

        What they take in batches does not count: those form by themselves.
        """
        if not self._rows and not self._batches:
            return None
        each = sum(seconds for key, seconds in self._rows.items() if key not in self._parts)
        return _MOST_ROWS if each * _MOST_ROWS <= seconds else int(seconds / each)

    def grain(self, slot: Slot, rows: int) -> int:
        """Return how many of so many rows to call a step on at once: few if they take long, one until it is known."""
        each = self._rows.get(id(slot.step))
        if each is None:
            return 1
        return rows if each * rows <= CALL_SECONDS else max(1, min(_MOST_ROWS, int(CALL_SECONDS / each)))

    def apart(self, slot: Slot) -> bool:
        """Return whether a fused step takes, or may take, so long that its branches should not wait for one another."""
        each = self._rows.get(id(slot.step))
        return each is None or each > APART_SECONDS

    def batches(self, slot: Slot) -> int:
        """Return how many full batches to call one after another as one piece of work: several where they are quick."""
        fit = self._batches.get(id(slot.step))
        return 1 if fit is None or not fit.mean else max(1, min(_MOST_BATCHES, int(_BATCHES_SECONDS / fit.mean)))

    def fixed(self, slot: Slot) -> float:
        """Return the seconds that a batch takes whatever its size, as far as known."""
        fit = self._batches.get(id(slot.step))
        return 0.0 if fit is None else fit.fixed


def _nearer(known: float | None, each: float) -> float:
    """Return what is known when there is one measurement more."""
    if known is None:
        return each
    # what makes a call take longer than usual is most often something else that the machine is doing
    return known + (_WEIGHT if each < known else _WEIGHT_UP) * (each - known)


class Fit:
    """A line through the times of batches: seconds = a·rows + b, the old ones counting less and less.

    Notes
    -----
    Weighted least squares over sums that are multiplied by a factor below 1 with every batch. With one size only, it
    cannot be known how much of the time is fixed: all of it might be, and is taken to be.
    """

    def __init__(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = 0.0

    def copy(self) -> Fit:
        """Return another that has seen the same so far."""
        other = Fit()
        other.__dict__.update(self.__dict__)
        return other

    def add(self, rows: float, seconds: float) -> None:
        """Take note of a batch."""
        self._n = self._n * _FORGET + 1
        self._x = self._x * _FORGET + rows
        self._y = self._y * _FORGET + seconds
        self._xx = self._xx * _FORGET + rows * rows
        self._xy = self._xy * _FORGET + rows * seconds

    @property
    def mean(self) -> float:
        """The seconds of a batch, on average."""
        return self._y / self._n

    @property
    def each(self) -> float:
        """The seconds of a row, on average."""
        return self._y / self._x

    @property
    def fixed(self) -> float:
        """The b of the line, at least 0 and at most the mean."""
        mean = self.mean
        spread = self._n * self._xx - self._x * self._x
        if spread < 1e-9 * self._xx * self._n:
            return mean
        slope = (self._n * self._xy - self._x * self._y) / spread
        return min(max(0.0, mean - slope * self._x / self._n), mean)
