"""The command line."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

import dataflow as df
from dataflow import cli

ROOT = Path(__file__).parent.parent

SHOP = """
import dataflow as df

def words(line):
    return line.split()

flow = df.stage(str.strip) >> words >> len
lines = ["a b", " c "]
number = 7

def made():
    return flow

def many():
    return lines * 10

def by_hand(items):
    return [len(item.strip().split()) for item in items]
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    return tmp_path


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"dataflow {df.__version__}\n"


@pytest.mark.parametrize("path", ["shop:flow", "shop:made"])
def test_explain_says_what_the_flow_says(path: str, shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shop as module  # type: ignore[import-not-found]

    assert cli.main(["explain", path, "--executor", "inline"]) == 0
    assert capsys.readouterr().out == module.flow.explain("inline") + "\n"
    assert cli.main(["explain", path, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == module.flow.optimize().digest


def test_bench_prints_and_writes(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["bench", "shop:flow", "--items", "shop:many", "--baseline", "shop:by_hand", "--seconds", "0.02"]
    assert cli.main([*given, "--executors", "inline,abacus", "--json", "a.jsonl", "--html", "a.html"]) == 0
    printed = capsys.readouterr().out
    assert "shop:flow" in printed and "by hand" in printed and "there is no executor 'abacus'" in printed
    entries = [json.loads(line) for line in (shop / "a.jsonl").read_text().splitlines()]
    about = entries[0]["about"]
    assert {"cpu", "cores", "python", "numpy", "ray", "seed", "digest", "when"} <= set(about)
    assert {entry["kind"] for entry in entries} >= {"run", "speed", "latency", "time"}
    assert (shop / "a.html").read_text().count("<svg") >= 3
    assert cli.main([*given, "--executors", "inline", "--compare", "a.jsonl"]) == 0
    assert "since then" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["explain", "shop"], "write MODULE:NAME"),
        (["explain", "nowhere.at.all:flow"], "there is no module 'nowhere'"),
        (["explain", "shop:flaw"], "module 'shop' has no 'flaw'"),
        (["explain", "shop:number"], "neither a flow nor a function that makes one, but a int"),
        (["explain", "shop:flow", "--executor", "abacus"], "there is no executor 'abacus'"),
        (["bench", "shop:flow", "--items", "shop:number"], "neither items nor a function that makes them"),
        (["bench", "shop:flow", "--items", "shop:lines", "--scenarios", "offlin"], "there are offline, single"),
        (["bench", "shop:flow", "--items", "shop:lines", "--limit", "fast"], "write p99<50ms"),
        (["bench", "shop:flow", "--items", "shop:lines", "--batches", "1,two"], "two"),
        (["bench", "shop:flow", "--items", "shop:lines", "--compare", "shop.py"], "no report"),
    ],
)
def test_what_is_wrong_is_said(given: list[str], said: str, shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(given)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_an_import_that_fails_inside_the_module_is_the_modules_own(shop: Path) -> None:
    (shop / "broken.py").write_text("import no_such_thing\n")
    with pytest.raises(SystemExit):
        cli.main(["explain", "broken:flow"])


# ------------------------------------------------------------------ signals

STARTED = "the first item has been run"

SLOW = f"""
import os, sys, time
import dataflow as df

def slow(x):
    if not os.path.exists("started"):
        open("started", "w").close()
        print({STARTED!r}, flush=True)
    time.sleep(SECONDS)
    return x

flow = df.stage(slow)
items = [1, 2]
"""


def started(folder: Path, seconds: float, *given: str) -> "subprocess.Popen[str]":
    """Start a benchmark in a process of its own, and return once it has run an item."""
    (folder / "slow.py").write_text(textwrap.dedent(SLOW.replace("SECONDS", str(seconds))))
    command = [sys.executable, "-m", "dataflow", "bench", "slow:flow", "--items", "slow:items", "--executors", "inline"]
    process = subprocess.Popen(
        [*command, "--seconds", "60", *given],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while STARTED not in (line := process.stdout.readline()):
        assert line, process.stderr and process.stderr.read()
    return process


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, out, err


def test_sigterm_drains_and_reports(tmp_path: Path) -> None:
    process = started(tmp_path, 0.01, "--json", "a.jsonl")
    process.send_signal(signal.SIGTERM)
    code, out, err = ended(process)
    assert (code, err) == (cli.TERMINATED, "")
    assert "stopped before the end" in out
    assert (tmp_path / "a.jsonl").exists()


def test_what_outlasts_the_grace_is_cancelled(tmp_path: Path) -> None:
    process = started(tmp_path, 3600, "--grace", "0.1")
    process.send_signal(signal.SIGTERM)
    code, out, _ = ended(process)
    assert code == cli.TERMINATED
    assert "offline" not in out


def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    process = started(tmp_path, 3600)
    process.send_signal(signal.SIGINT)
    code, _, err = ended(process)
    assert (code, err) == (cli.INTERRUPTED, "")


def test_the_handlers_of_signals_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with cli.Drain() as drain:
        assert signal.getsignal(signal.SIGTERM) != before
        assert not drain.stopped()
        signal.raise_signal(signal.SIGTERM)
        assert drain.stopped()
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_library_installs_no_handlers() -> None:
    handlers: Callable[[], list[object]] = lambda: [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]  # noqa: E731
    before = handlers()
    with df.stage(abs).open() as session:
        assert handlers() == before
        session.run(-1)
    assert handlers() == before
