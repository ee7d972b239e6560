"""`capture`: the file that it writes fails in the same way when it is run, and passes when the failure is mended."""

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dataflow as df
from dataflow.executors.faults import UNKNOWN, add_trail, trail_of
from dataflow.testing import Gate, capture, flows, inputs_for, outcome_of, pool

ROOT = Path(__file__).parent.parent

SCRIPT = """
import math
from collections import Counter

import dataflow as df
from dataflow.testing import capture

LEAST = 2


def halved(x):
    return x / LEAST


@df.stage
def counted(words):
    return Counter(words)


@df.stage(batch=4)
class Rooted:
    def __init__(self, shift):
        self.shift = shift

    def __call__(self, xs):
        return [helper(x + self.shift) for x in xs]


def helper(x):
    return math.sqrt(x)


flow = df.stage(sum) >> halved >> Rooted(-1) >> df.fanout(round, helper) >> df.combine(max)
failure = list(flow.map([[9, 9], [1, 0]], on_error="record", progress=False))[1]
capture(failure, path="test_captured.py")
"""


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


def pytest_on(file: Path) -> tuple[int, str]:
    return run(file.parent, "-m", "pytest", "-q", "-p", "no:cacheprovider", file.name)


def refuse(x: int) -> int:
    if x == 3:
        raise LookupError("three")
    return x


def test_the_file_fails_as_the_item_did(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    assert run(tmp_path, "script.py") == (0, "")
    captured = tmp_path / "test_captured.py"
    script.unlink()  # it can do without what it was captured from
    code, printed = pytest_on(captured)
    assert code == 1
    assert "2 failed" in printed
    assert printed.count("ValueError: math domain error") >= 2
    assert "test_the_stage_alone" in printed
    text = captured.read_text()
    assert "# In the stage 'Rooted'" in text
    assert "INPUT = 0.5" in text
    assert "counted" not in text, "what the flow does not use is not written out"


def test_the_file_passes_when_it_is_mended(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    run(tmp_path, "script.py")
    captured = tmp_path / "test_captured.py"
    captured.write_text(captured.read_text().replace("math.sqrt(x)", "math.sqrt(abs(x))"))
    code, printed = pytest_on(captured)
    assert code == 0, printed
    assert "2 passed" in printed


def test_what_can_be_imported_is() -> None:
    flow: Any = df.stage(pool.double) >> df.stage(pool.not_thirds, batch=2)
    (failure,) = flow.map([3], on_error="record")
    assert capture(failure, flow).splitlines() == [
        "# In the stage 'not_thirds', on its item of that moment:",
        "#     ValueError('6 divides by 3')",
        "# Each test fails until that has been mended.",
        "",
        "import dataflow as df",
        "from dataflow.testing import pool",
        "",
        "FLOW = df.stage(pool.double) >> df.stage(pool.not_thirds, batch=2)",
        "ITEM = 3",
        "STAGE = df.stage(pool.not_thirds, batch=2)",
        "INPUT = 6",
        "",
        "",
        "def test_the_item():",
        "    FLOW(ITEM)",
        "",
        "",
        "def test_the_stage_alone():",
        "    STAGE(INPUT)",
    ]


def test_an_error_that_was_raised() -> None:
    flow = df.stage(refuse)
    with pytest.raises(LookupError) as caught:
        flow(3)
    text = capture(caught.value)
    assert "LookupError('three')" in text
    assert "ITEM = 3" in text
    assert "alone" not in text, "the flow is that one stage"
    assert capture(caught.value, flow, 3) == text
    assert "ITEM = 4" in capture(caught.value, flow, 4), "what is given counts"


# ------------------------------------------------------------------ what an error leads to


def raised(call: Callable[[], Any]) -> Exception:
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_an_error_leads_to_its_flow_and_item_however_it_was_run(run: Callable[..., Any]) -> None:
    flows: list[Any] = [df.stage(refuse), df.stage(refuse).retry(1), df.stage(pool.successor) >> refuse >> pool.double]
    for flow, item in zip(flows, (3, 3, 2), strict=True):
        trail = trail_of(raised(lambda flow=flow, item=item: run(flow, item)))
        assert trail is not None
        assert (trail.flow, trail.item) == (flow, item)


def test_a_failed_item_of_a_job_leads_to_its_flow(job: Callable[..., Any]) -> None:
    flow: Any = df.stage(pool.double) >> df.stage(pool.not_thirds, batch=2)
    (failure,) = (found for found in job(flow, [1, 3, 5], "record") if isinstance(found, df.Failure))
    assert capture(failure) == capture(failure, flow)
    assert capture(raised(lambda: job(flow, [1, 3, 5]))).count("ITEM = 3\n") == 1


def test_what_came_too_late_leads_to_its_flow(executor: Any) -> None:
    with Gate() as gate:
        flow: Any = df.stage(gate)
        with flow.open(executor()) as session:
            late = raised(lambda: session.run(4, deadline=0.001))
            gate.open()
    trail = trail_of(late)
    assert isinstance(late, df.DeadlineExceeded)
    assert trail is not None
    assert (trail.flow, trail.item) == (flow, 4)


def test_a_flow_that_runs_others_is_what_was_run() -> None:
    inner = df.stage(refuse)

    def through(x: int) -> int:
        return inner(x + 1)

    outer = df.stage(through)
    trail = trail_of(raised(lambda: outer(2)))
    assert trail is not None
    assert (trail.flow, trail.item) == (outer, 2)


def test_what_an_error_leads_to_does_not_travel() -> None:
    """A lambda, say, would keep the error from being sent to another process."""
    flow: Any = df.stage(lambda x: refuse(x[0]))
    error = raised(lambda: flow([3, object()]))
    for other in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert (type(other), other.args, other.__notes__) == (LookupError, ("three",), error.__notes__)
        with pytest.raises(TypeError, match="does not lead to the flow that was run"):
            capture(other)
    with pytest.raises(TypeError, match="does not lead to the item that failed"):
        capture(OSError(), flow)


class Closed(Exception):
    """An error that takes no attributes."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "__traceback__":  # contextlib sets it
            raise TypeError(name)


def test_an_error_that_takes_no_attributes_arrives_all_the_same(run: Callable[..., Any]) -> None:
    def fail(x: int) -> int:
        raise Closed

    assert type(raised(lambda: run(df.stage(fail), 1))) is Closed


def test_an_error_that_is_its_own_item_makes_no_cycle() -> None:
    error = ValueError()
    add_trail(error, df.identity, error)
    trail = trail_of(error)
    assert trail is not None
    assert trail.item is UNKNOWN


# ------------------------------------------------------------------ what it writes


def test_a_failure_that_does_not_come_again() -> None:
    text = capture(OSError("the network"), df.stage(pool.double) >> pool.successor, 3)
    assert "stage '?'" in text
    assert "alone" not in text


@pytest.mark.parametrize(
    "item",
    [None, {"a": [1, (2.5, {3})]}, float("inf"), np.array([[1, 2], [3, 4]], dtype=np.int16), range(3), 1 + 2j, b"\x00"],
)
def test_items_of_any_kind(item: Any) -> None:
    space: dict[str, Any] = {}
    exec(capture(OSError(), df.stage(repr) >> str, item), space)
    assert repr(space["ITEM"]) == repr(item)
    assert type(space["ITEM"]) is type(item)


def test_what_can_be_neither_written_nor_pickled() -> None:
    with pytest.raises(ValueError, match="neither be written as Python nor pickled"):
        capture(OSError(), df.stage(repr), (x for x in "ab"))
    with pytest.raises(ValueError, match="in place of a lambda or a local function"):
        capture(OSError(), df.stage(lambda x: x), 1)


@given(flows(max_depth=2, without=["race"]), st.data())
def test_the_file_of_a_random_failure_fails(flow: Any, data: Any) -> None:
    item = data.draw(inputs_for(flow))
    failures = [found for found in flow.map([item], on_error="record", progress=False) if isinstance(found, df.Failure)]
    for failure in failures:
        space: dict[str, Any] = {}
        exec(capture(failure), space)
        assert outcome_of(space["test_the_item"]).error is not None
        if "test_the_stage_alone" in space:
            assert outcome_of(space["test_the_stage_alone"]).error is not None
