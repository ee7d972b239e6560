"""What got faster or slower between two reports, beyond noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from dataflow.bench.samples import Interval, median
from dataflow.bench.tables import Findings, LatencyTable, Report, Table

LEAST = 0.03
"""The change below which nothing is said, however sure: machines differ by as much from one day to the next."""

SAME_MACHINE = ("cpu", "cores", "memory", "system")


@dataclasses.dataclass(frozen=True)
class Change:
    """How one row's time has changed.

    Parameters
    ----------
    workload, table, name : str
        Which row it is.
    ratio : Interval
        New time over old.
    relative : bool
        Whether times relative to the table's reference were compared, for the machines are not the same.
    """

    workload: str
    table: str
    name: str
    ratio: Interval
    relative: bool = False

    @property
    def verdict(self) -> str:
        """``"faster"``, ``"slower"``, or ``"same"`` where it is within the noise."""
        if self.ratio.high < 1 - LEAST:
            return "faster"
        return "slower" if self.ratio.low > 1 + LEAST else "same"


def changes(old: Report, new: Report) -> list[Change]:
    """Return how every row that both reports have has changed, in the new one's order.

    Where both were taken on one machine, times are compared as they are; otherwise their ratios to the reference of
    their table, for a hand-written loop is no faster than its machine either. The interval is what the intervals of
    the two medians allow, so that it errs towards "same".

    Parameters
    ----------
    old, new : Report
        Of the same workloads.

    Examples
    --------
    >>> from dataflow.bench.tables import Row
    >>> def report(*samples):
    ...     return Report({}, {"w": Findings((Table("t", "a", (Row("a", samples),)),))})
    >>> [change.verdict for change in changes(report(1.0, 1.01, 0.99), report(2.0, 2.02, 1.98))]
    ['slower']
    """
    here = all(old.about.get(name) == new.about.get(name) for name in SAME_MACHINE)
    return [
        change
        for workload, findings in new.findings.items()
        if workload in old.findings
        for change in _of_workload(workload, old.findings[workload], findings, relative=not here)
    ]


def _of_workload(workload: str, old: Findings, new: Findings, *, relative: bool) -> Iterator[Change]:
    before = {(type(table), _kind(table.title)): table for table in old.tables}
    for table in new.tables:
        was = before.get((type(table), _kind(table.title)))
        if isinstance(table, Table) and isinstance(was, Table):
            yield from _of_speeds(workload, was, table, relative=relative)
        elif isinstance(table, LatencyTable) and isinstance(was, LatencyTable) and not relative:
            yield from _of_latencies(workload, was, table)


def _kind(title: str) -> str:
    """Return what a table is of, without how many items there were."""
    return title.partition(",")[0]


def _of_speeds(workload: str, old: Table, new: Table, *, relative: bool) -> Iterator[Change]:
    known = {row.name for row in old.rows}
    for row in new.rows:
        if row.name not in known or (relative and row.name == new.reference):
            continue
        now = new.ratio(row.name) if relative else row.seconds
        was = old.ratio(row.name) if relative else old.row(row.name).seconds
        if now is not None and was is not None:
            yield Change(workload, new.title, row.name, _over(now, was), relative)


def _of_latencies(workload: str, old: LatencyTable, new: LatencyTable) -> Iterator[Change]:
    known = {row.name: row.latencies for row in old.rows}
    for row in new.rows:
        now, was = row.latencies, known.get(row.name)
        if now is not None and was is not None:
            yield Change(workload, new.title, f"{row.name}, p50", _over(median(now.parts), median(was.parts)))


def _over(now: Interval, was: Interval) -> Interval:
    return Interval(now.middle / was.middle, now.low / was.high, now.high / was.low)
