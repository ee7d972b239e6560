"""What ``import dataflow`` costs a fresh interpreter, and what it drags in."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks.peers import PEERS
from dataflow.bench import Findings, Goal
from dataflow.bench.rounds import rotated, tabulate

HEAVY = ("ray", "torch", "networkx")
REPEATS = 3

PROBE = """
import json, sys, time
before = len(sys.modules)
start = time.perf_counter()
try:
    import {module} as module
except ImportError as error:
    found = {{"problem": f"not installed ({{error}})"}}
else:
    seconds = time.perf_counter() - start
    loaded = [name for name in {heavy!r} if name in sys.modules]
    modules = len(sys.modules) - before
    found = {{"seconds": seconds, "modules": modules, "heavy": loaded}}
    if module.__file__ is None:
        found = {{"problem": "not installed (a folder of that name is no package)"}}
print(json.dumps(found))
"""


def probe(module: str) -> dict[str, Any]:
    """Import a module in an interpreter of its own, timed in there."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(module=module, heavy=HEAVY)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"problem": f"failed: {last}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def findings(quick: bool = False) -> Findings:
    """Measure; the first import of each is not counted, it may have to compile."""
    modules = {"dataflow": "dataflow", **{peer.name: peer.module for peer in PEERS if peer.distribution}}
    first = {name: probe(module) for name, module in modules.items()}
    problems = {name: found["problem"] for name, found in first.items() if "problem" in found}
    ready = [name for name in modules if name not in problems]
    samples: dict[str, list[float]] = {name: [] for name in ready}
    for turn in range(1 if quick else REPEATS):
        for name in rotated(ready, turn):
            samples[name].append(probe(modules[name])["seconds"])
    table = tabulate(
        "import, in a fresh interpreter",
        list(modules),
        samples,
        notes=problems | {name: f"{first[name]['modules']} modules" for name in ready},
    )
    ours, ours_took = first["dataflow"], table.row("dataflow").seconds
    heavy = ours.get("heavy")
    note = "after import dataflow, of " + ", ".join(HEAVY)
    if heavy is None:
        note = "import dataflow: " + ours["problem"]
    else:
        note += " are loaded: " + (", ".join(heavy) or "none")
    return Findings(
        (table,),
        (
            Goal("import dataflow", ours_took and ours_took.middle, 0.15, unit=" s"),
            Goal(
                "heavy packages imported with it",
                None if heavy is None else float(len(heavy)),
                0,
                unit="",
            ),
        ),
        (note,),
    )
