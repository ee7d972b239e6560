"""``python -m benchmarks``: all the figures, side by side, in one run."""

from __future__ import annotations

import argparse
import dataclasses
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from benchmarks.peers import PEERS
from benchmarks.summary import summary
from dataflow.bench import Findings, Goal, Report, files, html, text
from dataflow.bench.changes import changes
from dataflow.bench.machine import VERSIONS, machine, versions

WORKLOADS = (
    "overhead",
    "fanout",
    "switch",
    "many",
    "stream",
    "overlap",
    "online",
    "http",
    "race",
    "digits",
    "photographs",
    "video",
    "social",
    "recommender",
    "payloads",
    "serve",
    "hops",
    "memory",
    "reaction",
    "build",
    "import_time",
)

SLOW = ("photographs", "serve", "hops")
"""Left out of a quick run, unless named: there is no quick way to run them."""

DISTRIBUTIONS = dict.fromkeys((*VERSIONS, *(peer.distribution for peer in PEERS if peer.distribution)))


def measured(workload: str, quick: bool) -> Findings:
    """Run one workload; one that cannot run is a goal that was missed."""
    try:
        found = import_module(f"benchmarks.{workload}").findings(quick)
    except ImportError as error:
        return Findings((), (Goal(workload, None, 0),), (f"not installed ({error})",))
    except Exception:
        return Findings((), (Goal(workload, None, 0),), (traceback.format_exc(),))
    assert isinstance(found, Findings)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the workloads asked for, print the figures, and write them out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "workloads",
        nargs="*",
        metavar="WORKLOAD",
        help=f"which to run, of {', '.join(WORKLOADS)}; all if none is given",
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds and items: wider intervals")
    parser.add_argument("--json", metavar="FILE", help="write JSON lines there")
    parser.add_argument("--html", metavar="FILE", help="write a report with plots there")
    parser.add_argument("--markdown", metavar="FILE", help="write the ratios and goals there, as tables")
    parser.add_argument("--compare", metavar="FILE", help="say what changed since these JSON lines were written")
    options = parser.parse_args(arguments)
    for workload in options.workloads:
        if workload not in WORKLOADS:
            parser.error(f"no workload {workload!r}; there are {', '.join(WORKLOADS)}")

    start = time.perf_counter()
    old = files.read(options.compare) if options.compare else None
    out = text.console()
    about = {"when": datetime.now(UTC).isoformat(timespec="seconds"), **machine(), **versions(DISTRIBUTIONS)}
    report = Report(about, {})
    text.show_about(report, out)
    usual = [workload for workload in WORKLOADS if not (options.quick and workload in SLOW)]
    for workload in options.workloads or usual:
        began = time.perf_counter()
        found = measured(workload, options.quick)
        found = dataclasses.replace(found, notes=(*found.notes, f"took {time.perf_counter() - began:.0f} s"))
        report = Report(about, {**report.findings, workload: found})
        text.show_findings(workload, found, out)
        if options.json:  # a run that is cut short leaves what it has
            files.write(report, options.json)
    if old:
        text.show_changes(changes(old, report), out)
    if options.markdown:
        Path(options.markdown).write_text(summary(report), encoding="utf-8")
    if options.html:
        html.write(report, options.html, old)
    met = sum(goal.met for goal in report.goals)
    out.print(f"\n{met} of {len(report.goals)} goals met, in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
