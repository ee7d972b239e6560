"""``python -m tests.mutants [--only TEXT ...] [--jobs N] [--shrink]``: which of the seeded bugs do the tests find?"""

import argparse
import statistics
import sys
import time

from .catalogue import MUTANTS
from .run import applies, judge_all, shrunk

MOST_SHRUNK = 10


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[""], help="only mutants with one of these in their name or file")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time (2)")
    parser.add_argument("--seed", type=int, default=0, help="Hypothesis' seed (0)")
    parser.add_argument("--shrink", action="store_true", help="the table of shrunk counterexamples alone")
    arguments = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if any(text in f"{mutant.name} {mutant.file}" for text in arguments.only)]
    survivors = 0 if arguments.shrink else judged(chosen, arguments.jobs, arguments.seed)
    shrinking([mutant for mutant in chosen if mutant.shrinks and applies(mutant)][:MOST_SHRUNK])
    return 1 if survivors * 10 > len(chosen) else 0


def judged(chosen: list, jobs: int, seed: int) -> int:  # type: ignore[type-arg]
    """Print the table of verdicts, and return how many mutants survive."""
    stale = [mutant for mutant in chosen if not applies(mutant)]
    for mutant in stale:
        print(f"  -      - s  {mutant.name:56} does not apply: dataflow/{mutant.file} has changed")
    chosen = [mutant for mutant in chosen if mutant not in stale]
    began, survivors = time.monotonic(), 0
    for number, verdict in enumerate(judge_all(chosen, jobs, seed), 1):
        survivors += verdict.killed_by is None
        found = verdict.killed_by or "SURVIVES"
        print(f"{number:3}  {verdict.seconds:5.0f} s  {verdict.mutant.name:56} {found}", flush=True)
    killed = len(chosen) - survivors
    minutes = (time.monotonic() - began) / 60
    print(f"{killed} of {len(chosen)} found ({killed / max(1, len(chosen)):.0%}), in {minutes:.1f} minutes\n")
    return survivors


def shrinking(chosen: list) -> None:  # type: ignore[type-arg]
    """Print the table of counterexamples."""
    sizes: list[tuple[int, int]] = []
    for mutant in chosen:
        stages, items, example = shrunk(mutant).split(maxsplit=2)
        print(f"{stages:>3} stages {items:>2} items  {mutant.name:56} {example}", flush=True)
        if stages != "?":
            sizes.append((int(stages), int(items)))
    if sizes:
        medians = (statistics.median(column) for column in zip(*sizes, strict=True))
        print("median: {:g} stages, {:g} items".format(*medians))


if __name__ == "__main__":
    sys.exit(main())
