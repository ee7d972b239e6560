"""How soon it notices: an error beside a slow sibling, a Ctrl-C, a timeout."""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

from dataflow.bench import Findings, Goal
from dataflow.bench.rounds import problem
from dataflow.bench.samples import percentile

EXECUTORS = ("threads", "inline")
SIBLING = 5.0
TIMEOUT = 0.02

INTERRUPTED = """
import itertools, sys, time
import dataflow as df

def nap(x):
    time.sleep(0.05)
    return x

def nap_again(x):
    time.sleep(0.05)
    return x

flow = df.stage(nap) >> df.stage(nap_again, placement="other")
for number, _ in enumerate(flow.map(itertools.count(), executor=sys.argv[1])):
    if number == 2:
        print("running", flush=True)
"""


def first_error(executor: str) -> float:
    """Return the seconds to an error that is raised at once, beside a sibling that takes `SIBLING` seconds."""
    import dataflow as df

    gate = threading.Event()

    def slow(_: int) -> bool:
        return gate.wait(SIBLING)

    def fails(_: int) -> int:
        raise LookupError("at once")

    with (df.stage(slow) | fails).open(executor) as session:
        start = time.perf_counter()
        try:
            session.submit(1).result()
        except LookupError:
            return time.perf_counter() - start
        finally:
            gate.set()  # so that what is measured is not what closing the session waits for
    raise AssertionError("the error was lost")


def ctrl_c(executor: str) -> float:
    """Return the seconds from a Ctrl-C to the end of the process, whose stages sleep 50 ms."""
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, executor], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        if process.stdout.readline().strip() != "running":
            raise RuntimeError(process.stderr.read().strip().splitlines()[-1])
        start = time.perf_counter()
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        return time.perf_counter() - start
    finally:
        process.kill()
        process.communicate()


def overshoots(executor: str, times: int) -> list[float]:
    """Return by how many seconds timeouts of `TIMEOUT` seconds were late."""
    import dataflow as df

    gate = threading.Event()

    def hang(_: int) -> bool:
        return gate.wait(60)

    late = []
    with df.stage(hang).timeout(TIMEOUT).open(executor) as session:
        for number in range(times):
            start = time.perf_counter()
            try:
                session.run(number)
            except df.DeadlineExceeded:
                late.append(time.perf_counter() - start - TIMEOUT)
        gate.set()
    return late


def findings(quick: bool = False) -> Findings:
    """Measure."""
    goals: list[Goal] = []
    notes: list[str] = []

    def goal(what: str, limit: float, unit: str, measure: Any) -> None:
        try:
            value = measure()
        except Exception as error:
            value = None
            notes.append(f"{what}: {problem(error)}")
        goals.append(Goal(what, value, limit, unit))

    for executor in EXECUTORS:
        tries = 1 if executor == "inline" or quick else 5  # inline has to do the sibling first

        def error(executor: str = executor, tries: int = tries) -> float:
            return statistics.median(first_error(executor) for _ in range(tries))

        def stop(executor: str = executor) -> float:
            return statistics.median(ctrl_c(executor) for _ in range(1 if quick else 3))

        def late(executor: str = executor) -> float:
            return 1e3 * percentile(sorted(overshoots(executor, 50 if quick else 200)), 0.99)

        if executor != "inline":
            goal(f"{executor}: first error, beside a sibling of {SIBLING:g} s", 0.1, " s", error)
        goal(f"{executor}: from one Ctrl-C to the end, stages sleeping 50 ms", 0.5, " s", stop)
        goal(f"{executor}: timeout overshoot, p99", 50.0, " ms", late)
    return Findings((), tuple(goals), tuple(notes))
