"""What a long job holds on to, and what is left of jobs that were abandoned: each in an interpreter of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from dataflow.bench import Findings, Goal

EXECUTORS = ("inline", "threads")

GROWTH = """
import gc, json, sys
import dataflow as df
from dataflow.bench.machine import resident

def double(x):
    return 2 * x

def successors(xs):
    return [x + 1 for x in xs]

flow = double >> df.stage(successors, batch=64) >> str
executor, few, many = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
after_few = 0
for count, _ in enumerate(flow.map(range(many), executor=executor), 1):
    if count == few:
        gc.collect()
        after_few = resident()
gc.collect()
print(json.dumps({"growth": resident() - after_few}))
"""

ABANDONED = """
import gc, itertools, json, os, sys, threading, time
import dataflow as df

def double(x):
    return 2 * x

def successors(xs):
    return [x + 1 for x in xs]

flow = double >> df.stage(successors, batch=4)
executor, jobs = sys.argv[1], int(sys.argv[2])

def held():
    return len(threading.enumerate()), len(os.listdir("/proc/self/fd"))

def abandon():
    results = flow.map(itertools.count(), executor=executor)
    next(results)

abandon()
gc.collect()
before = held()
for _ in range(jobs):
    abandon()
gc.collect()
deadline = time.monotonic() + 5
while held() != before and time.monotonic() < deadline:
    time.sleep(0.01)
after = held()
print(json.dumps({"threads": after[0] - before[0], "descriptors": after[1] - before[1]}))
"""


def probe(code: str, *arguments: object) -> dict[str, Any]:
    """Run code in an interpreter of its own, and return what it found."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode != 0:
        return {"problem": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def findings(quick: bool = False) -> Findings:
    """Measure."""
    few, many, jobs = (10_000, 100_000, 100) if quick else (100_000, 1_000_000, 1_000)
    goals, notes = [], []
    for executor in EXECUTORS:
        grown, left = probe(GROWTH, executor, few, many), probe(ABANDONED, executor, jobs)
        notes += [f"{executor}: {found['problem']}" for found in (grown, left) if "problem" in found]
        growth = grown.get("growth")
        what = f"{executor}: resident memory from {few:,} to {many:,} items"
        goals.append(Goal(what, None if growth is None else growth / 1e6, 5.0, unit=" MB"))
        for kind in ("threads", "descriptors"):
            goals.append(Goal(f"{executor}: {kind} left by {jobs:,} abandoned iterators", left.get(kind), 0, unit=""))
    return Findings((), tuple(goals), tuple(notes))
