"""Reports in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dataflow.bench.changes import Change
from dataflow.bench.rounds import Watcher
from dataflow.bench.samples import Interval, median
from dataflow.bench.tables import (
    AnyTable,
    Curves,
    Findings,
    Goal,
    LatencyTable,
    Report,
    Row,
    Table,
    TimeTable,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

SHOWN = (0.5, 0.95, 0.99)


def console(**options: Any) -> Console:
    """Return a rich console; an ImportError says what to install where there is no rich."""
    try:
        from rich.console import Console
    except ImportError as error:
        raise ImportError("tables in the terminal need rich: pip install 'dataflow[bench]'") from error
    return Console(highlight=False, **options)


def show(report: Report, out: Console) -> None:
    """Print a whole report."""
    show_about(report, out)
    for workload, findings in report.findings.items():
        show_findings(workload, findings, out)


def show_about(report: Report, out: Console) -> None:
    """Print what the figures were taken on."""
    for name, value in report.about.items():
        out.print(f"[dim]{name:16}[/dim]{_plain(value)}")


def show_findings(workload: str, findings: Findings, out: Console) -> None:
    """Print all that one workload has to say."""
    from rich.rule import Rule

    out.print()
    out.print(Rule(_plain(workload), align="left", style="dim"))
    for table in findings.tables:
        out.print()
        out.print(_table(table))
    for note in findings.notes:
        out.print(f"[dim]{_plain(note)}[/dim]")
    for goal in findings.goals:
        out.print(goal_line(goal))


@contextmanager
def live(out: Console, watcher: Watcher) -> Iterator[Watcher]:
    """Show progress while the block runs, on a terminal; nothing of it is left afterwards.

    Parameters
    ----------
    out : Console
        Where.
    watcher : Watcher
        Whom to ask whether to stop.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        yield _Live(bar, watcher)


class _Live(Watcher):
    def __init__(self, bar: Any, watcher: Watcher) -> None:
        self._bar = bar
        self._task = bar.add_task("")
        self._watcher = watcher

    def progress(self, what: str, done: int, total: int) -> None:
        self._bar.update(self._task, description=_plain(what), completed=done, total=total)

    def stopped(self) -> bool:
        return self._watcher.stopped()


# -- tables ------------------------------------------------------------------------------------------------------------


def _plain(text: object) -> str:
    from rich.markup import escape

    return escape(str(text))


def _grid(title: str, columns: Sequence[str], rows: Sequence[tuple[Sequence[str], str]]) -> RenderableType:
    """Lay out figures in columns, with a note behind each row, or in the place of its figures."""
    from rich.console import Group
    from rich.table import Table as Grid

    grid = Grid(box=None, pad_edge=False)
    grid.add_column("")
    for column in columns:
        grid.add_column(column, justify="right", no_wrap=True)
    grid.add_column("", style="dim", overflow="fold")
    for cells, note in rows:
        filled = [*map(_plain, cells), *[""] * (len(columns) + 1 - len(cells))]
        grid.add_row(*filled, _plain(note))
    return Group(f"[bold]{_plain(title)}[/bold]", grid)


def _table(table: AnyTable) -> RenderableType:
    match table:
        case Table():
            return _speeds(table)
        case LatencyTable():
            return _latencies(table)
        case TimeTable():
            return _times(table)
        case Curves():
            return _curves(table)


def _speeds(table: Table) -> RenderableType:
    rows = []
    for row in table.rows:
        seconds, ratio, best = row.seconds, table.ratio(row.name), table.best(row.name)
        if seconds is None:
            rows.append(([row.name], row.note))
            continue
        if table.rate:
            seconds, ratio, best = seconds.inverse(), ratio and ratio.inverse(), best and 1 / best
        figure = count(seconds.middle) if table.rate else duration(seconds.middle)
        between = "" if ratio is None else f"{number(ratio.low)} - {number(ratio.high)}"
        middle, at_best = ("" if value is None else number(value) for value in (ratio and ratio.middle, best))
        rows.append(([row.name, figure, middle, between, at_best], remarks(row)))
    unit = "per second" if table.rate else "median"
    return _grid(table.title, (unit, "ratio", "95% sure", "at best"), rows)


def remarks(row: Row) -> str:
    """Return what else there is to say of a row."""
    said = [row.note] if row.note else []
    if "memory" in row.facts:
        said.append(f"+{row.facts['memory'] / 2**20:,.0f} MiB")
    if row.facts.get("processes"):
        processes = row.facts["processes"]
        said.append(f"{sum(processes) / 2**20:,.0f} MiB in {len(processes)} processes of its own")
    if row.facts.get("batches"):
        dispatched = row.facts.get("dispatched", {})
        sizes = [f"{size:.3g}{_reasons(dispatched.get(name, {}))}" for name, size in row.facts["batches"].items()]
        said.append("batches of " + ", ".join(sizes))
    return "; ".join(said)


def _reasons(dispatched: Mapping[str, int]) -> str:
    """Say why batches were dispatched, the commonest reason first."""
    total = sum(dispatched.values())
    shares = sorted(dispatched.items(), key=lambda pair: -pair[1])
    said = ", ".join(f"{calls / total:.0%} {reason}" for reason, calls in shares if calls / total > 0.005)
    return f" ({said})" if said else ""


def _latencies(table: LatencyTable) -> RenderableType:
    rows: list[tuple[list[str], str]] = []
    for row in table.rows:
        found = row.latencies
        if found is None:
            rows.append(([row.name], row.note))
            continue
        cells = [duration(found.at(share)) for share in SHOWN]
        said = [row.note] if row.note else []
        if "highest rate" in row.facts:
            said.append(f"up to {count(row.facts['highest rate'])} a second")
        if found.failures:
            said.append(f"{found.failures} failed")
        if found.lag > 0.1 * found.at(0.5):
            said.append(f"99% were sent within {duration(found.lag)} of their time")
        rows.append(([row.name, *cells, duration(found.mean), count(found.rate)], "; ".join(said)))
    return _grid(table.title, (*(f"p{share * 100:g}" for share in SHOWN), "mean", "per second"), rows)


def _times(table: TimeTable) -> RenderableType:
    measured = [row for row in table.rows if row.parts]
    rows = []
    for name in dict.fromkeys(name for row in measured for name in row.parts):
        cells = [name]
        for row in measured:
            seconds = row.parts.get(name)
            share = 0.0 if seconds is None else seconds / sum(row.parts.values())
            cells.append("" if seconds is None else f"{duration(seconds)}  {share:4.0%}")
        rows.append((cells, ""))
    if any(row.queueing for row in measured):
        waited = ["" if row.queueing is None else f"{duration(row.queueing)}      " for row in measured]
        rows.append((["queueing, meanwhile", *waited], ""))
    rows += [([], f"{row.name}: {row.note}") for row in table.rows if not row.parts]
    return _grid(f"{table.title}, an item", [row.name for row in measured], rows)


def _curves(table: Curves) -> RenderableType:
    places = sorted({point.x for curve in table.curves for point in curve.points})
    rows = []
    for curve in table.curves:
        figures = {point.x: count(1 / median(point.samples).middle) for point in curve.points}
        rows.append(([curve.name, *(figures.get(x, "") for x in places)], curve.note))
    return _grid(table.title + ", items a second", [f"{x:g}" for x in places], rows)


# -- figures -----------------------------------------------------------------------------------------------------------


def goal_line(goal: Goal) -> str:
    """Return a goal and whether it is met, in rich's markup."""
    sign = ">=" if goal.at_least else "<="
    value = "not measured" if goal.value is None else f"{goal.value:.3g}{goal.unit}"
    word = "[green]PASS[/green]" if goal.met else "[red]MISS[/red]"
    return f"{word}  {_plain(goal.what)} {sign} {goal.limit:g}{goal.unit}: {value}"


def number(value: float) -> str:
    """Return a ratio with the digits that mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def count(value: float) -> str:
    """Return a rate with the digits that mean something.

    Examples
    --------
    >>> count(123456.7), count(12.345)
    ('123,457', '12.3')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return a time in its own unit.

    Examples
    --------
    >>> duration(2.5e-5), duration(0.25), duration(3e-8)
    ('25 µs', '250 ms', '30 ns')
    """
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def interval(value: Interval) -> str:
    """Return a ratio with the interval in which it lies."""
    return f"{number(value.middle)} ({number(value.low)} - {number(value.high)})"


def show_changes(found: Sequence[Change], out: Console) -> None:
    """Print what got faster or slower."""
    from rich.rule import Rule

    out.print()
    out.print(Rule("since then", align="left", style="dim"))
    told = [change for change in found if change.verdict != "same"]
    for change in told:
        colour = "green" if change.verdict == "faster" else "red"
        what = f"{change.workload}: {change.table}: {change.name}"
        how = "times the reference's time" if change.relative else "times the time"
        out.print(f"[{colour}]{change.verdict}[/{colour}]  {_plain(what)}: {interval(change.ratio)} {how}")
    out.print(f"[dim]{len(found) - len(told)} of {len(found)} rows are as fast as they were, within the noise[/dim]")
