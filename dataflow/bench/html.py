"""A report as one page that needs nothing else: plots to look at, and the figures behind them to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from dataflow.bench.changes import Change, changes
from dataflow.bench.plots import plot
from dataflow.bench.samples import median
from dataflow.bench.tables import AnyTable, Curves, Findings, Goal, LatencyTable, Report, Table, TimeTable
from dataflow.bench.text import SHOWN, count, duration, interval, number, remarks

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ --ink: #1d2430; --soft: #69717f; --line: #dfe3e8; --page: #ffffff; --good: #2f855a; --bad: #c0392b; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e6e9ee; --soft: #98a1af; --line: #313844; --page: #14181f; --good: #68c08f; --bad: #ee8175; }}
}}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
       max-width: 62rem; margin: 2.5rem auto; padding: 0 1.25rem; }}
h1 {{ font-size: 1.5rem; margin-bottom: .25rem; }}
h2 {{ font-size: 1.2rem; margin: 2.75rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--line); }}
h3 {{ font-size: 1rem; margin: 1.75rem 0 .25rem; }}
svg {{ max-width: 100%; height: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }}
th, td {{ padding: .2rem .9rem .2rem 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }}
td.note {{ text-align: left; color: var(--soft); white-space: normal; }}
th {{ color: var(--soft); font-weight: 500; }}
.about, .note, summary {{ color: var(--soft); font-size: .9rem; }}
.scroll {{ overflow-x: auto; }}
.good {{ color: var(--good); font-weight: 600; }}
.bad {{ color: var(--bad); font-weight: 600; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def write(report: Report, path: str | Path, old: Report | None = None) -> None:
    """Write a report as a page; with an older one, what has changed since then is on it too."""
    Path(path).write_text(page(report, old), encoding="utf-8")


def page(report: Report, old: Report | None = None) -> str:
    """Return a report as a page.

    Parameters
    ----------
    report : Report
        What to show.
    old : Report, optional
        What to compare it with.
    """
    title = report.about.get("flow", "Benchmarks")
    body = [f"<h1>{escape(title)}</h1>", _about(report)]
    if report.goals:
        body.append(_goals(report.findings))
    if old is not None:
        body.append(_changes(changes(old, report)))
    for workload, findings in report.findings.items():
        if len(report.findings) > 1 or workload != title:
            body.append(f"<h2>{escape(workload)}</h2>")
        body += _findings(workload, findings)
    return _PAGE.format(title=escape(title), body="\n".join(body))


def _about(report: Report) -> str:
    facts = " · ".join(f"{escape(name)} {escape(value)}" for name, value in report.about.items() if name != "flow")
    return f'<p class="about">{facts}</p>'


def _findings(workload: str, findings: Findings) -> Iterator[str]:
    for number_, table in enumerate(findings.tables):
        yield f"<h3>{escape(table.title)}</h3>"
        yield plot(table, f"{workload}-{number_}")
        yield "<details><summary>figures</summary>" + _table(table) + "</details>"
    for note in findings.notes:
        yield f'<p class="note">{escape(note)}</p>'


def _goals(findings: Mapping[str, Findings]) -> str:
    rows = [
        [workload, goal.what, _limit(goal), _value(goal), _word("met" if goal.met else "missed", good=goal.met)]
        for workload, found in findings.items()
        for goal in found.goals
    ]
    return "<h2>Goals</h2>" + _grid(("workload", "goal", "limit", "measured", ""), rows)


def _limit(goal: Goal) -> str:
    return f"{'≥' if goal.at_least else '≤'} {goal.limit:g}{goal.unit}"


def _value(goal: Goal) -> str:
    return "not measured" if goal.value is None else f"{goal.value:.3g}{goal.unit}"


def _changes(found: Sequence[Change]) -> str:
    told = [change for change in found if change.verdict != "same"]
    rows = [
        [
            change.workload,
            change.table,
            change.name,
            interval(change.ratio),
            _word(change.verdict, good=change.verdict == "faster"),
        ]
        for change in told
    ]
    rest = f"{len(found) - len(told)} of {len(found)} rows are as fast as they were, within the noise."
    grid = _grid(("workload", "table", "row", "time, new over old", ""), rows) if rows else ""
    return f'<h2>Since then</h2>{grid}<p class="note">{rest}</p>'


class _Markup(str):
    """Text that is HTML already."""


def _word(word: str, *, good: bool) -> _Markup:
    return _Markup(f'<span class="{"good" if good else "bad"}">{word}</span>')


def _grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["".join(f"<th>{escape(head)}</th>" for head in heads)]
    for row in rows:
        cells = [cell if isinstance(cell, _Markup) else escape(cell) for cell in row]
        lines.append("".join(f"<td>{cell}</td>" for cell in cells))
    return '<div class="scroll"><table>' + "".join(f"<tr>{line}</tr>" for line in lines) + "</table></div>"


def _table(table: AnyTable) -> str:
    match table:
        case Table():
            heads: Sequence[str] = ("", "a second" if table.rate else "seconds", "ratio (95% sure)", "at best", "")
            rows = [_speed(table, row.name) for row in table.rows]
        case LatencyTable():
            heads = ("", *(f"p{share * 100:g}" for share in SHOWN), "mean", "a second", "")
            rows = []
            for row in table.rows:
                found = row.latencies
                cells = [""] * 5
                if found is not None:
                    cells = [*(duration(found.at(share)) for share in SHOWN), duration(found.mean), count(found.rate)]
                rows.append([row.name, *cells, row.note])
        case TimeTable():
            heads = ("", *dict.fromkeys(name for row in table.rows for name in row.parts), "queueing", "")
            rows = []
            for time in table.rows:
                parts = [duration(time.parts[name]) if name in time.parts else "" for name in heads[1:-2]]
                waited = "" if time.queueing is None else duration(time.queueing)
                rows.append([time.name, *parts, waited, time.note])
        case Curves():
            places = sorted({point.x for curve in table.curves for point in curve.points})
            heads = ("items a second", *(f"{x:g}" for x in places), "")
            rows = []
            for curve in table.curves:
                rates = {point.x: count(1 / median(point.samples).middle) for point in curve.points}
                rows.append([curve.name, *(rates.get(x, "") for x in places), curve.note])
    return _grid(heads, rows)


def _speed(table: Table, name: str) -> list[str]:
    row = table.row(name)
    seconds, ratio, best = row.seconds, table.ratio(name), table.best(name)
    if seconds is None:
        return [name, "", "", "", row.note]
    if table.rate:
        seconds, ratio, best = seconds.inverse(), ratio and ratio.inverse(), best and 1 / best
    figure = count(seconds.middle) if table.rate else duration(seconds.middle)
    digest = f"plan {row.facts['digest']}" if "digest" in row.facts else ""
    notes = "; ".join(note for note in (remarks(row), digest) if note)
    return [name, figure, "" if ratio is None else interval(ratio), "" if best is None else number(best), notes]
