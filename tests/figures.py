"""``python -m tests.figures``: how many random flows go wrong, optimized, on threads, and by the laws; and how long.

Every flow is compared with the oracle, item by item. ``--suite`` runs the tests that seeded bugs are held to, too, in
the balanced profile, and says how long that takes.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import dataflow as df
from dataflow.testing import flows, laws, outcome_of, outcomes, to_python
from dataflow.testing.equivalence import recorded

from .mutants.catalogue import OF_SIZE, SUITE

ROOT = Path(__file__).parent.parent
JOBS = st.lists(st.integers(-20, 60), min_size=1, max_size=12)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.figures", description=__doc__)
    parser.add_argument("--flows", type=int, default=2000, help="random flows to compare with the oracle (2000)")
    parser.add_argument("--laws", type=int, default=200, help="random flows for each law (200)")
    parser.add_argument("--seed", type=int, default=0, help="Hypothesis' seed (0)")
    parser.add_argument("--suite", action="store_true", help="time the suite in its balanced profile as well")
    arguments = parser.parse_args()
    print("| random flows | drawn | different | items | mismatches | seconds | of them CPU |")
    print("|---|---|---|---|---|---|---|", flush=True)
    wrong = compared("optimized, against the oracle", optimized, arguments.flows, arguments.seed)
    wrong += compared("on threads, against the oracle", on_threads, arguments.flows, arguments.seed)
    for law in laws.LAWS:
        wrong += held(law, arguments.laws, arguments.seed)
    return (timed_suite() if arguments.suite else 0) or (1 if wrong else 0)


def optimized(flow: Any, xs: list[int], workers: int, window: int) -> list[Any]:
    """Run a flow as a call and as a job, in this thread; the outcomes of the calls, then those of the job."""
    job = flow.map(xs, df.Inline(), on_error="record", progress=False)
    return [*[outcome_of(lambda x=x: flow(x)) for x in xs], *recorded(job)]


def on_threads(flow: Any, xs: list[int], workers: int, window: int) -> list[Any]:
    """Run a flow as a job on threads, and in a session, item by item."""
    executor = df.Threads(workers=workers, max_in_flight=window)
    found = list(recorded(flow.map(xs, executor, on_error="record", progress=False)))
    with flow.open(executor) as session:
        return [*found, *[outcome_of(future.result) for future in [session.submit(x) for x in xs]]]


def compared(name: str, run: Callable[..., list[Any]], count: int, number: int) -> int:
    """Run so many random flows, print a row, and return how many give what they may not."""
    drawn = items = wrong = 0
    different: set[Any] = set()

    @seed(number)
    @settings(max_examples=count, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=HEALTH)
    @given(flows(), JOBS, st.integers(1, 3), st.integers(1, 16))
    def check(flow: Any, xs: list[int], workers: int, window: int) -> None:
        nonlocal drawn, items, wrong
        drawn, items = drawn + 1, items + len(xs)
        different.add(flow)
        allowed = [outcomes(flow, x) for x in xs] * 2
        found = run(flow, xs, workers, window)
        if len(found) != len(allowed) or any(f not in may for f, may in zip(found, allowed, strict=False)):
            wrong += 1
            print(f"{to_python(flow)} on {xs}, workers={workers}, max_in_flight={window}", file=sys.stderr)

    row(name, check, lambda: f"{drawn} | {len(different)} | {items} | {wrong}")
    return wrong


HEALTH = list(HealthCheck)


def held(law: laws.Law, count: int, number: int) -> int:
    """Hold so many random flows to a law, print a row, and return 1 if one breaks it."""
    drawn = items = 0

    def counted(*given_flows: Any, items: Any = ()) -> None:
        nonlocal drawn
        drawn += 1
        law(*given_flows, items=items)

    flow = st.tuples(*[flows(max_depth=2)] * law.flows)

    @seed(number)
    @settings(max_examples=count, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=HEALTH)
    @given(flow, st.lists(st.integers(-20, 60), max_size=6))
    def check(given_flows: Any, xs: list[int]) -> None:
        nonlocal items
        items += len(xs)
        counted(*given_flows, items=xs)

    broken: list[BaseException] = []

    def run() -> None:
        try:
            check()
        except AssertionError as error:
            broken.append(error)
            print(error, *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)

    row(f"law {law.number}, {law.name}", run, lambda: f"{drawn} | {drawn * law.flows} | {items} | {len(broken)}")
    return len(broken)


def row(name: str, run: Callable[[], None], says: Callable[[], str]) -> None:
    """Run something and print a row of the table."""
    began, used = time.monotonic(), time.process_time()
    run()
    seconds, cpu = time.monotonic() - began, time.process_time() - used
    print(f"| {name} | {says()} | {seconds:.0f} | {cpu:.0f} |", flush=True)


def timed_suite() -> int:
    """Run the suite in its balanced profile, without the tests of size, and print how long it takes."""
    began = time.monotonic()
    code = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadgroup", "--hypothesis-profile=balanced", "-k"]
        + [f"not ({OF_SIZE})"]
        + [f"tests/{name}" for name in SUITE],
        cwd=ROOT,
    ).returncode
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime
    print(f"The balanced profile: {time.monotonic() - began:.0f} s in two processes, {cpu:.0f} s of CPU,", end=" ")
    print(f"on {os.cpu_count()} cores, niceness {os.nice(0)}.")
    return code


if __name__ == "__main__":
    sys.exit(main())
