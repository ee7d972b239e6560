"""Running the tests on a copy of the library with one bug in it."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from .catalogue import OF_SIZE, SUITE, Mutant
from .verdicts import Verdict, digest

ROOT = Path(__file__).parent.parent.parent
LIMIT = 900.0  # seconds for one mutant, on a machine that may have much else to do
ONE_TEST = 120  # seconds for one test: one that makes a test hang is found by that


PYTEST = (
    *("-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", f"--timeout={ONE_TEST}"),
    *("-p", "tests.mutants.unshrunk", "--hypothesis-profile=unshrunk"),
)


def mutated(mutant: Mutant, source: str) -> str:
    """Return the file's text with the bug in it."""
    count = source.count(mutant.old)
    if count != 1:
        raise ValueError(
            f"{mutant.name!r} does not apply: its text is {count} times in dataflow/{mutant.file}, not once"
        )
    return source.replace(mutant.old, mutant.new)


@contextmanager
def copied(source: Path) -> Iterator[Path]:
    """Give a folder with the library as it is now, and its tests."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        for part in ("dataflow", "tests"):
            shutil.copytree(source / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("setup.cfg", "pyproject.toml", "CHANGELOG.md"):
            shutil.copy(source / file, copy / file)
        yield copy


@contextmanager
def broken_copy(mutant: Mutant, source: Path) -> Iterator[Path]:
    """Give a folder with the library, broken, and its tests."""
    with copied(source) as copy:
        target = copy / "dataflow" / mutant.file
        target.write_text(mutated(mutant, target.read_text(encoding="utf-8")), encoding="utf-8")
        yield copy


def python(folder: Path, *arguments: str, limit: float) -> tuple[int | None, str]:
    """Run Python in the copy; return its exit code, None where it took too long, and what it printed."""
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("CI", None)
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit,
        )
    except subprocess.TimeoutExpired as expired:
        return None, str(expired.stdout or "")
    return done.returncode, done.stdout


def applies(mutant: Mutant, source: Path = ROOT) -> bool:
    """Return whether the text that a mutant changes is still there."""
    return (source / "dataflow" / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1


def judge(mutant: Mutant, source: Path = ROOT, seed: int = 0) -> Verdict:
    """Run the likeliest tests on a mutant, and then all, until the first one fails."""
    began = time.monotonic()
    with broken_copy(mutant, source) as folder:
        for tests in ([mutant.likeliest], SUITE):
            paths = [f"tests/{name}" for name in tests]
            chosen = (f"--hypothesis-seed={seed}", *paths, "-k", f"not ({OF_SIZE})")
            code, printed = python(folder, *PYTEST, *chosen, limit=LIMIT)
            if code != 0:
                break
    return Verdict(mutant.name, digest(mutant), time.monotonic() - began, found_by(mutant, code, printed))


def found_by(mutant: Mutant, code: int | None, printed: str) -> str | None:
    """Return the test that has found a mutant, from what pytest came to."""
    if code == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) (?:tests/)?(\S.*?)(?: - (.*))?$", printed, re.MULTILINE)
    if found is not None:
        return found[1] + (", which hangs" if "Timeout" in (found[2] or "") else "")
    if code is None:
        return f"no end in {LIMIT:g} s"
    # pytest-timeout ends the process where a test cannot be interrupted
    hanging = re.search(r"^\S*?(test_\w+\.py)\S*.*\+{5,} Timeout", printed, re.MULTILINE | re.DOTALL)
    if hanging is None and "Timeout" not in printed:
        raise RuntimeError(f"{mutant.name!r}: the tests did not run\n{printed[-2000:]}")
    return "a test that hangs"


def judge_all(mutants: Sequence[Mutant], jobs: int = 2, seed: int = 0) -> Iterator[Verdict]:
    """Judge mutants of the library as it is now, some at a time, and yield the verdicts as they come."""
    with copied(ROOT) as source, ThreadPoolExecutor(jobs) as threads:
        for done in as_completed([threads.submit(judge, mutant, source, seed) for mutant in mutants]):
            yield done.result()


def shrunk(mutant: Mutant) -> str:
    """Return the smallest counterexample that Hypothesis comes to: how many stages, how many items, and which."""
    with broken_copy(mutant, ROOT) as folder:
        code, printed = python(folder, "-m", "tests.mutants.shrink", limit=LIMIT)
    return printed.strip().splitlines()[-1] if code == 0 else f"? ? {(printed.strip().splitlines() or ['hangs'])[-1]}"
