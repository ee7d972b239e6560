"""A report as two tables of Markdown, for the page of the documentation that shows the latest."""

from __future__ import annotations

from collections.abc import Iterator

from dataflow.bench import Report, Table
from dataflow.bench.text import count, duration, number


def summary(report: Report) -> str:
    """Return every ratio, and every goal."""
    lines = ["| workload | contestant | figure | ratio (95% sure) | at best |", "|---|---|---|---|---|"]
    for found in report.findings.values():
        for table in found.tables:
            if isinstance(table, Table):
                lines += _rows(table)
    lines += ["", "| workload | goal | limit | measured | |", "|---|---|---|---|---|"]
    for workload, found in report.findings.items():
        for goal in found.goals:
            value = "not measured" if goal.value is None else f"{goal.value:.3g}{goal.unit}"
            limit = f"{'at least' if goal.at_least else 'at most'} {goal.limit:g}{goal.unit}"
            lines.append(f"| {workload} | {goal.what} | {limit} | {value} | {'met' if goal.met else '**missed**'} |")
    return "\n".join(lines) + "\n"


def _rows(table: Table) -> Iterator[str]:
    title = table.title
    for row in table.rows:
        seconds, ratio, best = row.seconds, table.ratio(row.name), table.best(row.name)
        if seconds is None:
            yield f"| {title} | {row.name} | {row.note} | | |"
        else:
            if table.rate:
                seconds, ratio, best = seconds.inverse(), ratio and ratio.inverse(), best and 1 / best
            figure = f"{count(seconds.middle)} /s" if table.rate else duration(seconds.middle)
            low_high = "" if ratio is None else f"{number(ratio.middle)} ({number(ratio.low)} - {number(ratio.high)})"
            yield f"| {title} | {row.name} | {figure} | {low_high} | {'' if best is None else number(best)} |"
        title = ""
