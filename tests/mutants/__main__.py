"""``python -m tests.mutants [--only TEXT ...] [--again] [--jobs N] [--shrink]``: which seeded bugs do the tests find?

The verdicts are kept in ``tests/mutants/verdicts.txt``: a mutant that has one is judged again only where that is asked
for, so that a run which was stopped goes on where it was.
"""

import argparse
import signal
import statistics
import sys
from collections.abc import Sequence

from . import verdicts
from .catalogue import MUTANTS, Mutant
from .run import applies, judge_all, shrunk

MOST_SHRUNK = 10


def main() -> int:
    # where it is started in the background, which ignores it, so would the tests of what an interrupt does
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[""], help="only mutants with one of these in their name or file")
    parser.add_argument("--again", action="store_true", help="judge those that have a verdict once more")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time (2)")
    parser.add_argument("--seed", type=int, default=0, help="Hypothesis' seed (0)")
    parser.add_argument("--shrink", action="store_true", help="the table of shrunk counterexamples alone")
    arguments = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if any(text in f"{mutant.name} {mutant.file}" for text in arguments.only)]
    if not arguments.shrink:
        known = {} if arguments.again else verdicts.read()
        judged([m for m in chosen if verdicts.digest(m) not in known], arguments.jobs, arguments.seed)
    few = arguments.shrink or table(chosen)
    shrinking([mutant for mutant in chosen if mutant.shrinks and applies(mutant)][:MOST_SHRUNK])
    return 0 if few else 1


def judged(chosen: Sequence[Mutant], jobs: int, seed: int) -> None:
    """Judge mutants, and keep the verdicts."""
    for number, verdict in enumerate(judge_all([m for m in chosen if applies(m)], jobs, seed), 1):
        verdicts.write(MUTANTS, verdicts.read() | {verdict.digest: verdict})
        print(f"{number:3} of {len(chosen)}  {verdict.line()}", file=sys.stderr, flush=True)


def table(chosen: Sequence[Mutant]) -> bool:
    """Print the verdicts, and return whether at least nine in ten mutants have been found."""
    known, killed = verdicts.read(), 0
    print("| bug | in | found by |\n|---|---|---|")
    for mutant in chosen:
        verdict = known.get(verdicts.digest(mutant))
        found = "not judged" if applies(mutant) else "does not apply: the file has changed"
        if verdict is not None:
            killed += verdict.killed_by is not None
            found = verdict.killed_by or "**no test**"
        print(f"| {mutant.name} | `{mutant.file}` | {found} |")
    print(f"\n{killed} of {len(chosen)} are found ({killed / max(1, len(chosen)):.0%}).\n", flush=True)
    return killed * 10 >= len(chosen) * 9


def shrinking(chosen: Sequence[Mutant]) -> None:
    """Print how small the counterexamples are."""
    sizes: list[tuple[int, int]] = []
    print("| bug | stages | items | smallest counterexample |\n|---|---|---|---|")
    for mutant in chosen:
        stages, items, example = shrunk(mutant).split(maxsplit=2)
        print(f"| {mutant.name} | {stages} | {items} | `{example}` |", flush=True)
        if stages != "?":
            sizes.append((int(stages), int(items)))
    if sizes:
        medians = (statistics.median(column) for column in zip(*sizes, strict=True))
        print("\nThe median is {:g} stages and {:g} items.".format(*medians))


if __name__ == "__main__":
    sys.exit(main())
