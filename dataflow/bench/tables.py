"""What was found out: tables of rows that hold their samples, goals, and the report of it all.

A row keeps what was measured and nothing that follows from it, so that a report read back from a file says no less than
the one that was written.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from dataflow.bench.samples import Interval, median, percentile, ratios

SHARES = (*(share / 100 for share in range(100)), 0.995, 0.999, 1.0)
"""The shares of the latencies of which the quantiles are kept."""


_PARTS = 5


@dataclasses.dataclass(frozen=True)
class Row:
    """What one contestant took.

    Parameters
    ----------
    name : str
        The contestant.
    samples : tuple of float
        Seconds per unit, round by round; none where it was not measured.
    note : str
        Why there is no figure, or a remark on it.
    facts : mapping of str to object
        What else is known: the plan's digest, batch sizes, peak memory.
    """

    name: str
    samples: tuple[float, ...] = ()
    note: str = ""
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def seconds(self) -> Interval | None:
        """Median seconds per unit."""
        return median(self.samples) if self.samples else None


@dataclasses.dataclass(frozen=True)
class Table:
    """The rows of one comparison.

    Parameters
    ----------
    title : str
        What was compared.
    reference : str
        The row that the others are set against.
    rows : tuple of Row
        In the order in which they are shown.
    rate : bool
        Whether units per second are shown, rather than seconds per unit.
    """

    title: str
    reference: str
    rows: tuple[Row, ...]
    rate: bool = False

    def row(self, name: str) -> Row:
        """Return the row of one contestant."""
        return next(row for row in self.rows if row.name == name)

    def ratio(self, name: str, to: str | None = None) -> Interval | None:
        """Return how many times as long one takes as another, by the rounds that both took part in.

        Parameters
        ----------
        name : str
            The one.
        to : str, optional
            The other; the table's reference by default.
        """
        names = {row.name: row.samples for row in self.rows}
        own, base = names.get(name), names.get(self.reference if to is None else to)
        return ratios(own, base) if own and base else None

    def best(self, name: str, to: str | None = None) -> float | None:
        """Return the ratio of the least that each has taken: what else the machine does only adds to that."""
        names = {row.name: row.samples for row in self.rows}
        own, base = names.get(name), names.get(self.reference if to is None else to)
        return min(own) / min(base) if own and base else None

    def speed(self, name: str, to: str | None = None) -> float | None:
        """Return how many times as fast one is as another: the middle of `ratio`, the other way round."""
        ratio = self.ratio(name, to)
        return None if ratio is None else 1 / ratio.middle

    def slowness(self, name: str, to: str | None = None) -> float | None:
        """Return how many times as long one takes as another: the middle of `ratio`."""
        ratio = self.ratio(name, to)
        return None if ratio is None else ratio.middle


@dataclasses.dataclass(frozen=True)
class Latencies:
    """How long requests took.

    Parameters
    ----------
    quantiles : tuple of float
        Seconds, at the `SHARES`.
    mean : float
        Seconds.
    count, failures : int
        Requests that were answered, and that failed.
    rate : float
        Requests answered a second.
    lag : float
        Seconds by which 99% of the requests were sent late at most, for the load generator was busy or slept too long.
        It is part of the latencies of an open loop, which are counted from when a request should have been sent.
    parts : tuple of float
        The medians of the fifths in which the requests came, one after another: how much they differ says how much the
        machine's mood counts.
    """

    quantiles: tuple[float, ...]
    mean: float
    count: int
    failures: int
    rate: float
    lag: float = 0.0
    parts: tuple[float, ...] = ()

    @classmethod
    def of(cls, seconds: Sequence[float], failures: int = 0, rate: float = 0.0, lag: float = 0.0) -> Latencies:
        """Summarize latencies, given in the order in which they were taken."""
        ordered = sorted(seconds)
        if not ordered:
            return cls((), 0.0, 0, failures, rate, lag)
        quantiles = tuple(percentile(ordered, share) for share in SHARES)
        return cls(quantiles, sum(ordered) / len(ordered), len(ordered), failures, rate, lag, _fifths(seconds))

    def at(self, share: float) -> float:
        """Return the latency that a share of the requests did not exceed.

        Examples
        --------
        >>> Latencies.of(range(1001)).at(0.99)
        990.0
        """
        return self.quantiles[SHARES.index(share)]


def _fifths(seconds: Sequence[float]) -> tuple[float, ...]:
    size = max(1, len(seconds) // _PARTS)
    starts = range(0, len(seconds), size)[:_PARTS]
    return tuple(statistics.median(seconds[start : start + size]) for start in starts)


@dataclasses.dataclass(frozen=True)
class LatencyRow:
    """The latencies of one contestant under one load; `note` says why there are none."""

    name: str
    latencies: Latencies | None = None
    note: str = ""
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class LatencyTable:
    """Latencies side by side."""

    title: str
    rows: tuple[LatencyRow, ...]

    def row(self, name: str) -> LatencyRow:
        """Return the row of one contestant."""
        return next(row for row in self.rows if row.name == name)


@dataclasses.dataclass(frozen=True)
class TimeRow:
    """Where one contestant's time went.

    Parameters
    ----------
    name : str
        The contestant.
    parts : mapping of str to float
        Seconds an item, by what took them, in order.
    queueing : float, optional
        Seconds that an item waited, while others were worked on: no part of what the work took. None if not known.
    note : str
        Why there is no figure.
    """

    name: str
    parts: Mapping[str, float] = dataclasses.field(default_factory=dict)
    queueing: float | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class TimeTable:
    """Where the time went, side by side."""

    title: str
    rows: tuple[TimeRow, ...]


@dataclasses.dataclass(frozen=True)
class Point:
    """One point of a curve: its x, and the samples of its y, in seconds per unit."""

    x: float
    samples: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Curve:
    """A contestant's speed as something is turned up, and what its own setting of that is."""

    name: str
    points: tuple[Point, ...]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Curves:
    """Curves over the same x."""

    title: str
    x: str
    curves: tuple[Curve, ...]


AnyTable = Table | LatencyTable | TimeTable | Curves


@dataclasses.dataclass(frozen=True)
class Goal:
    """A figure, and the limit that it is held to.

    Parameters
    ----------
    what : str
        What the figure is of.
    value : float, optional
        The figure; None where it could not be measured, which is a miss.
    limit : float
        The most that it may be, or with `at_least` the least.
    unit : str
        Behind the figure.
    at_least : bool
        Whether more is better.

    Examples
    --------
    >>> Goal("overhead", 1.2, 1.3).met, Goal("throughput", 0.9, 0.95, at_least=True).met
    (True, False)
    """

    what: str
    value: float | None
    limit: float
    unit: str = "x"
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the figure was measured and keeps to the limit."""
        if self.value is None:
            return False
        return self.value >= self.limit if self.at_least else self.value <= self.limit


@dataclasses.dataclass(frozen=True)
class Findings:
    """All that one workload has to say."""

    tables: tuple[AnyTable, ...] = ()
    goals: tuple[Goal, ...] = ()
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Report:
    """What was measured, on what machine, with which versions of what.

    Parameters
    ----------
    about : mapping of str to str
        The machine, the versions, the seed and the rest that a figure means nothing without.
    findings : mapping of str to Findings
        By workload.
    """

    about: Mapping[str, str]
    findings: Mapping[str, Findings]

    @property
    def goals(self) -> tuple[Goal, ...]:
        """The goals of all workloads."""
        return tuple(goal for found in self.findings.values() for goal in found.goals)
