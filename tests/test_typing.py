"""What two type checkers say of expressions: nothing of right ones, and something of each wrong line.

The expressions are in tests/typing: right.py; wrong.py, whose wrong lines end in ``# wrong: ...``; decorated.py, which
pyright alone understands; and limits.py, which says what a checker cannot see, and marks lines by who flags them.
"""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "tests" / "typing"
SECONDS = 110  # for one run of a checker, on a machine that has other work

FILES = {
    "mypy": ["right.py", "wrong.py", "limits.py"],
    "pyright": ["right.py", "wrong.py", "limits.py", "decorated.py"],
}
Complaints = dict[str, dict[int, str]]  # by file and line

# Both checkers read the whole library first: each is run once, and by one process.
pytestmark = pytest.mark.xdist_group("typing")


def tool(name: str) -> str:
    found = shutil.which(name, path=Path(sys.executable).parent)
    if found is None:
        missing = f"{name} is not installed beside this Python: pip install -e '.[lint]'"
        if "CI" in os.environ:
            pytest.fail(missing)
        pytest.skip(missing)
    return found


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode in (0, 1), done.stdout + done.stderr  # 1: there are complaints
    return done.stdout


@functools.cache
def mypy(cache: Path) -> Complaints:
    """Check as ``mypy --strict`` does; the folder's configuration says what it need not read."""
    said: Complaints = {}
    options = ["--config-file", str(FOLDER / "mypy.ini"), "--output=json", f"--cache-dir={cache}"]
    for line in run(tool("mypy"), *options, *(str(FOLDER / file) for file in FILES["mypy"])).splitlines():
        if line.startswith("{"):
            found = json.loads(line)
            if found["severity"] == "error":
                said.setdefault(Path(found["file"]).name, {})[found["line"]] = found["message"]
    return said


@functools.cache
def pyright(cache: Path) -> Complaints:
    """Check as pyright does by default, which basedpyright does not: the folder's configuration says so."""
    said: Complaints = {}
    output = run(tool("basedpyright"), "--outputjson", "--pythonpath", sys.executable, "-p", str(FOLDER))
    for found in json.loads(output)["generalDiagnostics"]:
        if found["severity"] != "information":
            line = found["range"]["start"]["line"] + 1
            said.setdefault(Path(found["file"]).name, {})[line] = found["message"]
    return said


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkers")


@pytest.mark.timeout(SECONDS + 10)
@pytest.mark.parametrize(
    ("checker", "file"),
    [
        pytest.param(checker, file, id=f"{checker.__name__}-{file}")
        for checker in (mypy, pyright)
        for file in FILES[checker.__name__]
    ],
)
def test_a_type_checker_flags_what_is_wrong_and_nothing_else(
    checker: Callable[[Path], Complaints], file: str, cache: Path
) -> None:
    lines = (FOLDER / file).read_text(encoding="utf-8").splitlines()
    marks = re.compile(rf"  # (wrong: |flagged by (both|{checker.__name__})$)")
    wrong = {number for number, line in enumerate(lines, 1) if marks.search(line)}
    said = checker(cache).get(file, {})
    missed = [f"{file}:{number}: {lines[number - 1]}" for number in sorted(wrong - said.keys())]
    false = [f"{file}:{number}: {lines[number - 1]}: {said[number]}" for number in sorted(said.keys() - wrong)]
    assert (missed, false) == ([], [])
    assert bool(wrong) == (file != "right.py")
