"""Reports as JSON lines: one line for the run, then one for each row and goal, for programs to read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dataflow.bench.tables import (
    AnyTable,
    Curve,
    Curves,
    Findings,
    Goal,
    Latencies,
    LatencyRow,
    LatencyTable,
    Point,
    Report,
    Row,
    Table,
    TimeRow,
    TimeTable,
)

FORMAT = 1

_KINDS: dict[str, type[Any]] = {"speed": Table, "latency": LatencyTable, "time": TimeTable, "curves": Curves}


def lines(report: Report) -> Iterator[str]:
    """Yield a report as JSON, a line at a time.

    Examples
    --------
    >>> for line in lines(Report({"python": "3.11"}, {"w": Findings(goals=(Goal("speed", 2.0, 1.0),))})):
    ...     print(line)
    {"kind": "run", "format": 1, "about": {"python": "3.11"}}
    {"kind": "goal", "workload": "w", "what": "speed", "value": 2.0, "limit": 1.0, "unit": "x", "at_least": false}
    """
    yield _json({"kind": "run", "format": FORMAT, "about": dict(report.about)})
    for workload, findings in report.findings.items():
        for table in findings.tables:
            kind = next(kind for kind, cls in _KINDS.items() if isinstance(table, cls))
            rows = table.curves if isinstance(table, Curves) else table.rows
            head = {
                field.name: getattr(table, field.name)
                for field in dataclasses.fields(table)
                if field.name not in ("rows", "curves")
            }
            for row in rows:
                yield _json({"kind": kind, "workload": workload, "table": head, **dataclasses.asdict(row)})
        for goal in findings.goals:
            yield _json({"kind": "goal", "workload": workload, **dataclasses.asdict(goal)})
        for note in findings.notes:
            yield _json({"kind": "note", "workload": workload, "note": note})


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def write(report: Report, path: str | Path) -> None:
    """Write a report to a file."""
    Path(path).write_text("".join(f"{line}\n" for line in lines(report)), encoding="utf-8")


def read(path: str | Path) -> Report:
    """Read a report from the file that `write` has made of it."""
    text = Path(path).read_text(encoding="utf-8").splitlines()
    try:
        entries = [json.loads(line) for line in text if line.strip()]
        if not entries or entries[0]["kind"] != "run":
            raise ValueError("its first line is not that of a run")
        return _restored(entries)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no report of this benchmark: {error}") from error


def _restored(entries: list[dict[str, Any]]) -> Report:
    tables: dict[str, dict[str, tuple[type[Any], dict[str, Any], list[Any]]]] = {}
    goals: dict[str, list[Goal]] = {}
    notes: dict[str, list[str]] = {}
    for entry in entries[1:]:
        kind, workload = entry.pop("kind"), entry.pop("workload")
        mine = tables.setdefault(workload, {})
        if kind == "goal":
            goals.setdefault(workload, []).append(Goal(**entry))
        elif kind == "note":
            notes.setdefault(workload, []).append(entry["note"])
        else:
            head = entry.pop("table")
            mine.setdefault(head["title"], (_KINDS[kind], head, []))[2].append(_row(kind, entry))
    findings = {
        workload: Findings(
            tuple(_table(*made) for made in mine.values()),
            tuple(goals.get(workload, ())),
            tuple(notes.get(workload, ())),
        )
        for workload, mine in tables.items()
    }
    return Report(entries[0]["about"], findings)


def _table(cls: type[Any], head: dict[str, Any], rows: list[Any]) -> AnyTable:
    held = "curves" if cls is Curves else "rows"
    table: AnyTable = cls(**head, **{held: tuple(rows)})
    return table


def _row(kind: str, entry: dict[str, Any]) -> Row | LatencyRow | TimeRow | Curve:
    if kind == "speed":
        return Row(**{**entry, "samples": tuple(entry["samples"])})
    if kind == "time":
        return TimeRow(**entry)
    if kind == "curves":
        points = tuple(Point(point["x"], tuple(point["samples"])) for point in entry["points"])
        return Curve(**{**entry, "points": points})
    found = entry["latencies"]
    if found is not None:
        found = Latencies(**{**found, "quantiles": tuple(found["quantiles"]), "parts": tuple(found["parts"])})
    return LatencyRow(**{**entry, "latencies": found})
