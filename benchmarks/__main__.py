"""``python -m benchmarks``: all the figures, side by side, in one run."""

from __future__ import annotations

import argparse
import json
import time
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.measure import Goal, Report, as_json, machine, show, versions
from benchmarks.peers import PEERS

WORKLOADS = ("overhead", "fanout", "switch", "stream", "build", "import_time")

DISTRIBUTIONS = (
    "dataflow",
    "networkx",
    "numpy",
    "torch",
    *(peer.distribution for peer in PEERS),
)


def measured(workload: str) -> Report:
    """Run one workload; one that cannot run is a goal that was missed."""
    try:
        report = import_module(f"benchmarks.{workload}").report()
    except ImportError as error:
        return Report((), (Goal(workload, None, 0),), (f"not installed ({error})",))
    except Exception:
        return Report((), (Goal(workload, None, 0),), (traceback.format_exc(),))
    assert isinstance(report, Report)
    return report


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the workloads asked for, print the figures, and write them out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "workloads",
        nargs="*",
        metavar="WORKLOAD",
        help=f"which to run, of {', '.join(WORKLOADS)}; all if none is given",
    )
    parser.add_argument("--json", metavar="FILE", help="write all the numbers there")
    options = parser.parse_args(arguments)
    for workload in options.workloads:
        if workload not in WORKLOADS:
            parser.error(f"no workload {workload!r}; there are {', '.join(WORKLOADS)}")

    start = time.perf_counter()
    about, packages = machine(), versions(DISTRIBUTIONS)
    for name, value in {**about, **packages}.items():
        print(f"{name:16}{value}")

    reports = {}
    for workload in options.workloads or WORKLOADS:
        reports[workload] = measured(workload)
        print("\n" + show(workload, reports[workload]), flush=True)

    goals = [goal for report in reports.values() for goal in report.goals]
    met = sum(goal.met for goal in goals)
    seconds = time.perf_counter() - start
    print(f"\n{met} of {len(goals)} goals met, in {seconds:.0f} s")
    if options.json:
        numbers = {
            "machine": about,
            "versions": packages,
            "reports": {name: as_json(report) for name, report in reports.items()},
        }
        Path(options.json).write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
