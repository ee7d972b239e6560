"""The oracle against values worked out by hand: each row of the design's table, and the corners around it."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dataflow as df
from dataflow import testing
from dataflow.errors import BatchSizeError, RoutingError
from dataflow.testing import Failed, Outcome, flows, outcome_of, outcomes, reference, reference_map

ROOT = Path(__file__).parent.parent


def double(x: int) -> int:
    return 2 * x


def successor(x: int) -> int:
    return x + 1


def fail(x: Any) -> Any:
    raise ValueError(f"no {x}")


def fail_otherwise(x: Any) -> Any:
    raise KeyError(x)


def negative(x: int) -> int:
    return -x


class OneByOne:
    """An iterable that has no length."""

    def __iter__(self) -> Iterator[int]:
        yield 1
        yield 2


def call_with(*parts: Any, **named: Any) -> tuple[Any, ...]:
    return (*parts, *named.items())


@df.stage(batch=3)
def doubles(xs: list[int]) -> list[int]:
    assert type(xs) is list
    return [2 * x for x in xs]


f: Any = df.stage(double)
g: Any = df.stage(successor)
bad: Any = df.stage(fail)
worse: Any = df.stage(fail_otherwise)

# expression, item, value
TABLE: dict[str, tuple[Any, Any, Any]] = {
    "stage": (f, 3, 6),
    "stage of a builtin": (df.stage(len), "abc", 3),
    "batched stage": (doubles, 3, 6),
    "batched stage, tuple": (df.stage(tuple, batch=8), 3, 3),
    "batched stage, array": (df.stage(np.sqrt, batch=8), 9.0, 3.0),
    "batched stage, values of a dict": (
        df.stage(lambda xs: dict(enumerate(x + 1 for x in xs)).values(), batch=8),
        3,
        4,
    ),
    "identity": (df.identity, None, None),
    "f >> g": (f >> g, 3, 7),
    "g >> f": (g >> f, 3, 8),
    "f >> g >> f": (f >> g >> f, 3, 14),
    "f | g": (f | g, 3, (6, 4)),
    "f | g | h": (f | g | negative, 3, (6, 4, -3)),
    "f | (g | h)": (f | (g | negative), 3, (6, 4, -3)),
    "a >> b | c >> d": (f >> g | g >> f, 3, (7, 8)),
    "fanout": (df.fanout(f, g), 3, (6, 4)),
    "a group in a fan-out": (f | df.fanout(g, f), 3, (6, (4, 6))),
    "a fan-out of one": (df.fanout(f), 3, (6,)),
    "named fan-out": (df.fanout(a=f, b=g), 3, {"a": 6, "b": 4}),
    "combine": ((f | g) >> df.combine(lambda a, b: a - b), 3, 2),
    "combine many": ((f | g | f) >> df.combine(call_with), 3, (6, 4, 6)),
    "combine by name": (df.fanout(b=f, a=g) >> df.combine(lambda a, b: a - b), 3, -2),
    "combine of nothing": ((f | g) >> df.combine(), 3, (6, 4)),
    "combine of nothing, named": (df.fanout(a=f) >> df.combine(), 3, {"a": 6}),
    "combine on its own": (df.combine(call_with), (1, 2), (1, 2)),
    "combine on its own, by name": (df.combine(call_with), {"a": 1, "b": 2}, (("a", 1), ("b", 2))),
    "combine of nothing on its own": (df.combine(), (1, 2), (1, 2)),
    "combine later": ((f | g) >> df.combine() >> df.combine(call_with), 3, (6, 4)),
    "each and combine": (df.each(df.combine(call_with)), [(1, 2), {"a": 3}], [(1, 2), (("a", 3),)]),
    "combine twice": ((f | g) >> (df.combine(max) | df.combine(min)), 3, (6, 4)),
    "switch": (df.switch(lambda x: x % 2, {0: f, 1: g}), 3, 4),
    "switch, other case": (df.switch(lambda x: x % 2, {0: f, 1: g}), 4, 8),
    "switch, default": (df.switch(lambda x: x, {0: f}, default=g), 3, 4),
    "switch, None as a key": (df.switch(lambda x: None, {None: f}, default=g), 3, 6),
    "switch, keys as a dict's": (df.switch(np.int64, {3: f}), 3, 6),
    "switch, unhashable key": (df.switch(lambda x: [x], {0: f}, default=g), 3, 4),
    "switch on a flow": (df.switch(f >> g, {7: f}), 3, 6),
    "switch of nothing": (df.switch(f, {}, default=g), 3, 4),
    "each": (df.each(f), [1, 2, 3], [2, 4, 6]),
    "each of none": (df.each(f), [], []),
    "each of any iterable": (df.each(f), range(3), [0, 2, 4]),
    "each of what only iterates": (df.each(f), OneByOne(), [2, 4]),
    "each of each": (df.each(df.each(f)), [[1], [], [2, 3]], [[2], [], [4, 6]]),
    "each batched": (df.each(doubles), [1, 2, 3, 4], [2, 4, 6, 8]),
    "race": (df.race(f, g), 3, 6),
    "race, first fails": (df.race(bad, g), 3, 4),
    "race, second fails": (df.race(g, bad), 3, 4),
    "retry of what works": (f.retry(3), 3, 6),
    "timeout": (f.timeout(600), 3, 6),
    "fallback": (bad.fallback(g), 3, 4),
    "fallback, not needed": (f.fallback(bad), 3, 6),
    "fallback on its error": (bad.fallback(g, on=(OSError, ValueError)), 3, 4),
    "fallback gets the same input": ((f >> bad).fallback(g), 3, 4),
    "fallback twice": (bad.fallback(worse).fallback(g), 3, 4),
    "quorum": ((f | bad | g) >> df.combine(call_with, quorum=2), 3, (6, 4)),
    "quorum of all": ((f | g) >> df.combine(call_with, quorum=1), 3, (6, 4)),
    "quorum by name": (df.fanout(a=bad, b=f, c=g) >> df.combine(call_with, quorum=1), 3, (("b", 6), ("c", 4))),
    "quorum of nothing": ((f | bad) >> df.combine(quorum=1), 3, (6,)),
    "quorum of nothing, named": (df.fanout(a=bad, b=f) >> df.combine(quorum=1), 3, {"b": 6}),
    "quorum, named": ((bad | f).named("fan") >> df.combine(call_with, quorum=1).named("sum"), 3, (6,)),
    "quorum and within": ((f | bad) >> df.combine(call_with, quorum=1, within=0), 3, (6,)),
    "quorum in the middle": (g >> (f | bad | g) >> df.combine(max, quorum=1) >> g, 3, 9),
    "named": ((f >> g).named("n"), 3, 7),
}


@pytest.mark.parametrize(("flow", "item", "value"), TABLE.values(), ids=TABLE.keys())
def test_values(flow: Any, item: Any, value: Any) -> None:
    result = reference(flow, item)
    assert result == value
    assert type(result) is type(value) or isinstance(result, np.generic)


FAILING: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "stage": (bad, 3, ValueError, "no 3"),
    "chain": (f >> bad >> worse, 3, ValueError, "no 6"),
    "fan-out": (f | bad | worse, 3, ValueError, "no 3"),
    "combine": ((f | g) >> df.combine(lambda a, b: fail(a)), 3, ValueError, "no 6"),
    "combine of a list": (df.identity >> df.combine(call_with), [1, 2], TypeError, "tuple or dict.*list"),
    "combine of a number": (df.combine(call_with), 3, TypeError, "tuple or dict.*int"),
    "switch": (df.switch(lambda x: x, {0: f, "a": g}), 3, RoutingError, "3.*0, 'a'"),
    "switch, unhashable": (df.switch(lambda x: [x], {0: f}), 3, RoutingError, r"\[3\].*0"),
    "switch, None": (df.switch(lambda x: None, {0: f}), 3, RoutingError, "None.*0"),
    "switch, key": (df.switch(fail, {0: f}, default=g), 3, ValueError, "no 3"),
    "each": (df.each(bad), [1, 2], ValueError, "no 1"),
    "each of no iterable": (df.each(f), 3, TypeError, "int"),
    "race": (df.race(bad, worse), 3, KeyError, "3"),
    "retry": (bad.retry(2), 3, ValueError, "no 3"),
    "fallback": (bad.fallback(worse), 3, KeyError, "3"),
    "fallback on others": (bad.fallback(f, on=(KeyError, OSError)), 3, ValueError, "no 3"),
    "quorum": ((f | bad | worse) >> df.combine(call_with, quorum=2), 3, ValueError, "no 3"),
    "quorum, all": ((worse | bad) >> df.combine(call_with, quorum=1), 3, KeyError, "3"),
    "too few results": (df.stage(lambda xs: [], batch=2), 3, BatchSizeError, "0"),
    "too many results": (df.stage(lambda xs: xs * 2, batch=2), 3, BatchSizeError, "2"),
    "one number": (df.stage(lambda xs: xs[0], batch=2), 3, BatchSizeError, "int"),
    "None": (df.stage(lambda xs: None, batch=2), 3, BatchSizeError, "NoneType"),
    "text": (df.stage(lambda xs: "x", batch=2), 3, BatchSizeError, "str"),
    "bytes": (df.stage(lambda xs: b"x", batch=2), 3, BatchSizeError, "bytes"),
    "a set": (df.stage(set, batch=2), 3, BatchSizeError, "set"),
    "a dict": (df.stage(dict.fromkeys, batch=2), 3, BatchSizeError, "dict"),
    "a generator": (df.stage(lambda xs: (x for x in xs), batch=2), 3, BatchSizeError, "generator"),
    "an array of no dimension": (df.stage(lambda xs: np.array(1), batch=2), 3, BatchSizeError, "ndarray"),
    "StopIteration": (df.stage(next), iter(()), RuntimeError, "StopIteration"),
    "StopIteration in each": (df.each(next), [iter("a"), iter("")], RuntimeError, "StopIteration"),
    "StopIteration combining": ((f | g) >> df.combine(lambda a, b: next(iter(()))), 3, RuntimeError, "StopIteration"),
    "StopIteration, tried again": (df.stage(next).retry(1, on=RuntimeError), iter(()), RuntimeError, "StopIteration"),
}


@pytest.mark.parametrize(("flow", "item", "error", "text"), FAILING.values(), ids=FAILING.keys())
def test_errors(flow: Any, item: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        reference(flow, item)
    assert type(caught.value) is error


def test_the_stage_is_named_where_its_batch_has_the_wrong_size() -> None:
    with pytest.raises(BatchSizeError, match=r"my stage.*1 item.*2 results"):
        reference(df.stage(lambda xs: xs * 2, batch=2, name="my stage"), 3)


def test_retry_tries_again_up_to_times() -> None:
    attempts: list[int] = []

    def flaky(x: int) -> int:
        attempts.append(x)
        if len(attempts) < 3:
            raise OSError("not yet")
        return x

    assert reference(df.stage(flaky).retry(2), 5) == 5
    assert attempts == [5, 5, 5]
    attempts.clear()
    with pytest.raises(OSError, match="not yet"):
        reference(df.stage(flaky).retry(1), 5)
    assert attempts == [5, 5]
    attempts.clear()
    with pytest.raises(OSError, match="not yet"):
        reference(df.stage(flaky).retry(5, on=ValueError), 5)
    assert attempts == [5]


def test_only_the_chosen_branch_runs() -> None:
    ran: list[str] = []

    def arm(name: str) -> Callable[[int], int]:
        return lambda x: ran.append(name) or x

    flow = df.switch(lambda x: x, {0: arm("zero"), 1: arm("one")}, default=arm("default"))
    assert [reference(flow, x) for x in (0, 1, 2)] == [0, 1, 2]
    assert ran == ["zero", "one", "default"]


def test_what_stops_the_program_is_no_failure() -> None:
    def interrupted(x: int) -> int:
        raise KeyboardInterrupt

    for flow in (
        df.stage(interrupted).retry(2),
        df.stage(interrupted).fallback(f),
        df.race(interrupted, f),
        (f | interrupted) >> df.combine(call_with, quorum=1),
    ):
        with pytest.raises(KeyboardInterrupt):
            reference(flow, 1)


def test_class_stages_are_constructed_once_where_they_are_equal() -> None:
    made: list[int] = []

    class Plus:
        def __init__(self, amount: int) -> None:
            made.append(amount)
            self.amount = amount

        def __call__(self, x: int) -> int:
            return x + self.amount

    pure: Any = df.stage(Plus)
    flow = pure(1) >> pure(1) >> df.each(df.identity).fallback(pure(2)) >> pure(2)
    assert made == []
    assert reference(flow, 0) == 6
    assert made == [1, 2]
    assert reference(flow, 0) == 6
    assert made == [1, 2, 1, 2]
    made.clear()
    impure: Any = df.stage(Plus, pure=False)
    shared = impure(1)
    assert reference(shared >> impure(1) >> shared, 0) == 3
    assert made == [1, 1]


def test_a_constructor_that_fails_is_the_items_failure() -> None:
    class Broken:
        def __init__(self) -> None:
            raise OSError("no weights")

        def __call__(self, x: int) -> int:
            return x

    with pytest.raises(OSError, match="no weights"):
        reference(df.stage(Broken)(), 1)


# ------------------------------------------------------------------ jobs


def test_a_job_reads_item_after_item() -> None:
    def source() -> Iterator[int]:
        yield 1
        read.append(2)
        yield 2

    read: list[int] = []
    results = reference_map(f >> g, source())
    assert next(results) == 3
    assert read == []
    assert list(results) == [5]
    assert list(reference_map(f, [])) == []


def test_a_failing_item_ends_the_job_is_recorded_or_is_left_out() -> None:
    flow = df.stage(lambda x: x if x != 2 else fail(x), name="no two") >> g
    results = reference_map(flow, [1, 2, 3])
    assert next(results) == 2
    with pytest.raises(ValueError, match="no 2"):
        next(results)
    assert list(reference_map(flow, [1, 2, 3], on_error="skip")) == [2, 4]
    first, failed, last = reference_map(flow, [1, 2, 3], on_error="record")
    assert (first, last) == (2, 4)
    assert isinstance(failed, Failed)
    assert (failed.index, failed.item, failed.stage, type(failed.error)) == (1, 2, "no two", ValueError)
    with pytest.raises(ValueError, match="on_error is 'raise', 'record' or 'skip'"):
        list(reference_map(flow, [1], on_error="ignore"))  # type: ignore[arg-type]


def test_what_is_no_stages_fault_is_nobodys() -> None:
    (failed,) = reference_map(df.switch(lambda x: x, {0: f}), [1], on_error="record")
    assert (failed.stage, type(failed.error)) == (None, RoutingError)


def test_a_source_that_raises() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise OSError("torn")

    results = reference_map(f, source(), on_error="record")
    assert next(results) == 2
    with pytest.raises(OSError, match="torn"):
        next(results)


def test_a_job_constructs_a_class_once() -> None:
    made: list[int] = []

    class Plus:
        def __init__(self, amount: int) -> None:
            made.append(amount)
            self.amount = amount

        def __call__(self, x: int) -> int:
            return x + self.amount

    stage: Any = df.stage(Plus)
    assert list(reference_map(stage(1) >> stage(1), [1, 2])) == [3, 4]
    assert made == [1]


@given(flows(max_depth=2), st.lists(st.integers(-20, 60), max_size=6))
def test_a_job_of_the_executor_fails_where_the_oracles_does(flow: Any, xs: list[int]) -> None:
    """And blames a stage that fails there, where there is no other."""
    read = list(reference_map(flow, xs, on_error="record"))
    ran = list(flow.map(xs, "inline", on_error="record", progress=False))
    for x, one, other in zip(xs, read, ran, strict=True):
        if len(outcomes(flow, x)) == 1:
            assert isinstance(one, Failed) == isinstance(other, df.Failure)
            if isinstance(one, Failed):
                assert (one.index, one.item, type(one.error)) == (other.index, other.item, type(other.error))


# ------------------------------------------------------------------ all that may come of it


def errors(flow: Any, x: Any) -> set[type[Exception] | None]:
    return {outcome.error for outcome in outcomes(flow, x)}


def values(flow: Any, x: Any) -> list[Any]:
    return [outcome.value for outcome in outcomes(flow, x) if not outcome.error]


def test_any_of_several_errors_may_arrive() -> None:
    assert errors(f | bad | worse, 3) == {ValueError, KeyError}
    assert errors(df.each(df.switch(abs, {1: bad, 2: worse}, default=f)), [1, 2, 3]) == {ValueError, KeyError}
    assert errors(bad >> worse, 3) == {ValueError}
    assert errors(df.race(bad, worse), 3) == {ValueError, KeyError}
    assert errors((bad | worse | f) >> df.combine(call_with, quorum=2), 3) == {ValueError, KeyError}
    assert errors((bad | worse).retry(1), 3) == {ValueError, KeyError}


def test_what_follows_depends_on_the_error_that_arrived() -> None:
    flow = (bad | worse).fallback(g, on=ValueError)
    assert errors(flow, 3) == {None, KeyError}
    assert values(flow, 3) == [4]
    assert errors(flow >> bad, 3) == {ValueError, KeyError}


def test_any_competitor_may_win() -> None:
    assert values(df.race(f, g, bad), 3) == [6, 4]
    assert errors(df.race(f, bad), 3) == {None}
    assert values(df.race(f, g) >> g, 3) == [7, 5]
    assert values(df.race(f, f), 3) == [6]


def test_time_that_passes_leaves_more_open() -> None:
    assert outcomes(f.timeout(1), 3, timely=False) == [Outcome(6), Outcome(None, df.DeadlineExceeded)]
    assert outcomes(f.timeout(1), 3) == [Outcome(6)]
    flow = df.fanout(a=f, b=g, c=bad) >> df.combine(quorum=1, within=1)
    found = [outcome.value for outcome in outcomes(flow, 3, timely=False)]
    assert found == [{"a": 6}, {"b": 4}, {"a": 6, "b": 4}]
    assert [outcome.value for outcome in outcomes(flow, 3)] == [{"a": 6, "b": 4}]
    whole = df.fanout(a=f, b=bad) >> df.combine(quorum=2, within=1)
    assert errors(whole, 3) == {ValueError}


@given(flows(), st.integers(-20, 60))
def test_the_oracle_gives_one_of_the_outcomes(flow: Any, x: int) -> None:
    assert outcome_of(lambda: reference(flow, x)) in outcomes(flow, x)


@pytest.mark.parametrize(("flow", "item", "value"), TABLE.values(), ids=TABLE.keys())
def test_there_is_one_outcome_where_nothing_is_left_open(flow: Any, item: Any, value: Any) -> None:
    if "race(" not in repr(flow):
        assert outcomes(flow, item) == [Outcome(value)]


# ------------------------------------------------------------------ the module


def test_the_oracle_needs_no_hypothesis() -> None:
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import dataflow as df\n"
        "from dataflow.testing import reference, outcomes\n"
        "import dataflow.testing as t\n"
        "assert reference(df.stage(abs), -3) == 3\n"
        "try: t.flows\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "dataflow[testing]" in done.stdout


def test_what_needs_no_pytest_does_without() -> None:
    code = (
        "import sys; sys.modules['hypothesis'] = sys.modules['pytest'] = None\n"
        "import dataflow as df\n"
        "import dataflow.testing as t\n"
        "t.assert_equivalent(df.stage(abs), [-1])\n"
        "t.laws.check(df.stage(abs), [-1])\n"
        "with t.assert_no_leaks(): print(list(df.stage(abs).map([-1], t.Simulated())))\n"
        "print(t.capture(OSError(), df.stage(abs), 1).count('ITEM'), t.Fault('mutate').into(df.stage(abs))(-2))\n"
        "try: t.ExecutorConformance\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["[1]", "2 2"]
    assert "needs pytest" in done.stdout


def test_the_oracle_shares_nothing_with_what_it_judges() -> None:
    code = "import sys, dataflow.testing; print(*sorted(m for m in sys.modules if m.startswith('dataflow.')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    layers = {name.split(".")[1] for name in done.stdout.split()}
    assert not layers & {"graph", "passes", "plan"}
    source = (ROOT / "dataflow/testing/reference.py").read_text(encoding="utf-8")
    assert not any(f"dataflow.{layer}" in source for layer in ("graph", "passes", "plan", "executors"))


# What `dataflow.testing` offers. A name is added here, to the docs and to the changelog together.
PUBLIC = {
    "ExecutorConformance",
    "Failed",
    "Fault",
    "Gate",
    "Injected",
    "Outcome",
    "Simulated",
    "VirtualClock",
    "assert_equivalent",
    "assert_no_leaks",
    "capture",
    "faults",
    "flows",
    "inputs_for",
    "laws",
    "load_profile",
    "outcome_of",
    "outcomes",
    "reference",
    "reference_map",
    "stages",
    "to_python",
}


def test_names_of_the_module() -> None:
    assert set(testing.__all__) == PUBLIC
    assert list(testing.__all__) == sorted(testing.__all__)
    page = (ROOT / "docs/reference/testing.md").read_text(encoding="utf-8")
    assert [name for name in sorted(PUBLIC) if name not in page] == []
    assert all(hasattr(testing, name) for name in testing.__all__)
    assert set(testing.__all__) <= set(dir(testing))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        testing.nothing  # type: ignore[attr-defined]  # noqa: B018
