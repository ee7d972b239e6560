"""The digest of a plan: equal wherever the same is run, different where anything that is run differs."""

import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given

import dataflow as df
from dataflow.testing import flows


class Color(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass(frozen=True)
class Config:
    size: int
    names: frozenset[str] = frozenset()


class Opaque:
    """An object that says nothing of itself but where it is in memory."""


@df.stage
class Model:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __call__(self, x: Any) -> Any:
        return x


class Called:
    def __init__(self, amount: int) -> None:
        self.amount = amount

    def __call__(self, x: Any) -> Any:
        return x + self.amount


class Other:
    def __call__(self, x: Any) -> Any:
        return x - 1


def adds(amount: Any) -> Callable[[Any], Any]:
    return lambda x: x + amount


def calls(fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(fn)
    def run(x: Any) -> Any:
        return fn(x)

    return run


def counts_down() -> Callable[[int], int]:
    def run(x: int) -> int:
        return run(x - 1) if x > 0 else x

    return run


def listed() -> list[Any]:
    """Return a list that holds itself."""
    held: list[Any] = [1]
    held.append(held)
    return held


WORDS = {"one", "two", "three", "four", "five", "six", "seven"}
stage: Any = df.stage

FLOWS: dict[str, Any] = {
    "functions": stage(abs) >> str.upper >> len,
    "a lambda": stage(lambda x: x in {"a", "b", "c", "d", "e"}),
    "a closure": stage(adds(frozenset(WORDS))) >> calls(adds(2)),
    "a closure of itself": stage(counts_down()),
    "a flow in a closure": stage(calls(stage(abs) >> (lambda x: x))),
    "a partial": stage(functools.partial(max, 3, key=len)),
    "methods": stage("abc".count) >> Called(1).__call__ >> Called(1),
    "a class with sets": Model(WORDS, frozenset(WORDS), words={"all": WORDS, "nested": (WORDS, [WORDS])}),
    "a class with values": Model(1, 1.5, 2j, None, True, b"x", Color.RED, Config(3, frozenset(WORDS))),
    "a class with more values": Model(
        datetime.date(2024, 1, 1), decimal.Decimal("1.50"), pathlib.Path("a/b"), np.int8(3)
    ),
    "a class with opaque objects": Model(Opaque(), object(), abs, Opaque, np.zeros(3), listed()),
    "a switch": df.switch(abs, {"a": abs, Color.RED: len, (1, frozenset(WORDS)): str, None: repr}, default=hash),
    "named fan-outs": df.fanout(b=abs, a=len, c=df.fanout(z=abs, y=len)) >> df.combine(lambda b, a, c: (a, b, c)),
    "policies": df.race(abs, stage(len).retry(2, on=(OSError, ValueError), backoff=0.1).timeout(1)).fallback(str),
    "a quorum": df.fanout(a=abs, b=len) >> df.combine(dict, quorum=1, within=0.5),
    "options": stage(batch=8, device="cuda", placement="p", replicas=(1, 4), gpus=0.5)(list) >> stage(list, batch=8),
    "each": df.each(df.each(stage(abs) >> len)).named("all"),
}


def digests() -> str:
    return " ".join(flow.optimize(passes).digest for flow in FLOWS.values() for passes in (None, ()))


@pytest.mark.parametrize("seed", ["0", "1", "4711"])
def test_other_processes_have_the_same_digests(seed: str) -> None:
    code = "import sys, test_digest; sys.stdout.write(test_digest.digests())"
    path = os.pathsep.join((str(pathlib.Path(__file__).parent), *sys.path))
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == digests(), done.stderr


def test_different_flows_have_different_digests() -> None:
    known = digests().split()
    assert len(set(known[::2])) == len(FLOWS)
    assert all(len(each) == 16 and int(each, 16) >= 0 for each in known)


def test_running_a_flow_leaves_its_digest() -> None:
    flow = stage(Called(1)) >> (lambda x: x * 2)
    before = flow.optimize().digest
    assert [flow(x) for x in range(100)][-1] == 200
    assert flow.optimize().digest == before


@given(flows())
def test_the_digest_is_one_for_equal_flows_and_for_any_number_of_looks(flow: Any) -> None:
    assert flow.optimize().digest == flow.optimize().digest == (df.identity >> flow).optimize().digest


switch: Callable[..., Any] = df.switch
a, b = stage(abs), stage(len)

PAIRS: dict[str, tuple[Any, Any]] = {
    "a constant in the code": (stage(lambda x: x + 1), stage(lambda x: x + 2)),
    "an operator": (stage(lambda x: x + 1), stage(lambda x: x - 1)),
    "a constant of another type": (stage(lambda x: x + 1), stage(lambda x: x + 1.0)),
    "a constant set": (stage(lambda x: x in {1, 2}), stage(lambda x: x in {1, 3})),
    "a function within": (stage(lambda x: (lambda: x + 1)()), stage(lambda x: (lambda: x + 2)())),
    "an attribute": (stage(lambda x: x.one), stage(lambda x: x.other)),
    "a default": (stage(lambda x, y=1: x), stage(lambda x, y=2: x)),
    "a keyword's default": (stage(lambda x, *, y=1: x), stage(lambda x, *, y=2: x)),
    "what is closed over": (stage(adds(1)), stage(adds(2))),
    "a function closed over": (stage(calls(adds(1))), stage(calls(adds(2)))),
    "a flow closed over": (stage(calls(a >> b)), stage(calls(b >> a))),
    "what a partial holds": (stage(functools.partial(max, 1)), stage(functools.partial(max, 2))),
    "a builtin": (stage(str.upper), stage(str.lower)),
    "a builtin's self": (stage("abc".count), stage("abd".count)),
    "the class of what is called": (stage(Called(1)), stage(Other())),
    "a ufunc": (stage(np.sqrt), stage(np.exp)),
    "arguments of a class": (Model(1), Model(2)),
    "arguments' types": (Model(1), Model(True)),
    "a keyword of a class": (Model(x=1), Model(y=1)),
    "nested arguments": (Model({"a": [(1, {2})]}), Model({"a": [(1, {3})]})),
    "lists and tuples": (Model([1]), Model((1,))),
    "frozen dataclasses": (Model(Config(1)), Model(Config(2))),
    "members": (Model(Color.RED), Model(Color.BLUE)),
    "dates": (Model(datetime.date(2024, 1, 1)), Model(datetime.date(2024, 1, 2))),
    "numbers": (Model(fractions.Fraction(1, 2)), Model(fractions.Fraction(1, 3))),
    "zeros": (Model(0.0), Model(-0.0)),
    "paths": (Model(pathlib.Path("a")), Model(pathlib.Path("b"))),
    "types": (Model(Called), Model(Other)),
    "a batch": (stage(abs, batch=1), stage(abs, batch=2)),
    "batches or none": (stage(abs, batch=1), a),
    "a device": (stage(abs, device="cuda"), stage(abs, device="cuda:1")),
    "a placement": (stage(abs, placement="p"), stage(abs, placement="q")),
    "purity": (stage(abs, pure=False), a),
    "replicas": (stage(abs, replicas=2), stage(abs, replicas=(1, 2))),
    "a wait": (stage(abs, batch=2, max_wait=0.1), stage(abs, batch=2, max_wait=0.1000001)),
    "a name": (a.named("x"), a.named("y")),
    "a name around": ((a >> b).named("x"), a >> b),
    "order": (a >> b, b >> a),
    "branches' order": (a | b, b | a),
    "groups": (df.fanout(a, b) | a, a | b | a),
    "names of branches": (df.fanout(x=a, y=b), df.fanout(x=a, z=b)),
    "names or none": (df.fanout(x=a), df.fanout(a)),
    "a combining function": ((a | b) >> df.combine(max), (a | b) >> df.combine(min)),
    "a quorum": ((a | b) >> df.combine(max, quorum=1), (a | b) >> df.combine(max, quorum=2)),
    "time for a quorum": (
        (a | b) >> df.combine(max, quorum=1, within=1),
        (a | b) >> df.combine(max, quorum=1, within=1.0000001),
    ),
    "keys": (switch(abs, {1: a, 2: b}), switch(abs, {1: a, 3: b})),
    "keys' types": (switch(abs, {1: a}), switch(abs, {True: a})),
    "keys that are members": (switch(abs, {Color.RED: a}), switch(abs, {Color.BLUE: a})),
    "a default branch": (switch(abs, {1: a, 2: b}), switch(abs, {1: a}, default=b)),
    "branches": (switch(abs, {1: a, 2: b}), switch(abs, {1: b, 2: a})),
    "a key function": (switch(abs, {1: a, 2: b}), switch(len, {1: a, 2: b})),
    "retries": (a.retry(1), a.retry(2)),
    "what is retried": (a.retry(1, on=OSError), a.retry(1, on=ValueError)),
    "a backoff": (a.retry(1, backoff=1), a.retry(1, backoff=1.0000001)),
    "a timeout": (a.timeout(1), a.timeout(1.0000001)),
    "a fallback": (a.fallback(b), b.fallback(a)),
    "what falls back": (a.fallback(b, on=OSError), a.fallback(b, on=ValueError)),
    "competitors": (df.race(a, b), df.race(b, a)),
    "each or not": (df.each(a), a),
    "constructs": (df.each(a), a.retry(1)),
}


@pytest.mark.parametrize("one, other", PAIRS.values(), ids=PAIRS.keys())
@pytest.mark.parametrize("passes", [None, ()], ids=["optimized", "plain"])
def test_the_digest_differs_where_something_that_is_run_does(one: Any, other: Any, passes: Any) -> None:
    assert one.optimize(passes).digest != other.optimize(passes).digest
    assert one.optimize(passes).digest == one.optimize(passes).digest


def test_the_code_of_a_class_stage_counts() -> None:
    def made(amount: int) -> Any:
        class Adder:
            def __call__(self, x: int) -> int:
                return x + amount

        return df.stage(Adder)()

    assert made(1).optimize().digest == made(1).optimize().digest
    assert made(1).optimize().digest != made(2).optimize().digest


def test_where_a_function_is_written_does_not_count() -> None:
    one = stage(lambda x: x + 1)

    other = stage(lambda x: x + 1)
    assert one.optimize().digest == other.optimize().digest


def test_the_digest_is_of_the_optimized_plan() -> None:
    assert (a >> b).optimize().digest != (a >> b).optimize(()).digest
    assert (a >> b | a >> b).optimize("-fuse").digest == (a >> b >> (df.identity | df.identity)).optimize(
        "-fuse"
    ).digest


def test_calling_a_flow_changes_no_digest() -> None:
    first, second = df.stage(abs), df.stage(str)
    flow = first >> second
    before = flow.optimize().digest
    assert first(-1) == 1
    assert flow(-1) == "1"
    assert flow.optimize().digest == before
    assert (first >> second).optimize().digest == before


def test_a_class_made_in_a_function_has_the_same_digest_elsewhere() -> None:
    import cloudpickle

    class Local:
        def __call__(self, x: int) -> int:
            return x + 1

    made: Any = stage(Local)
    flow = made() >> abs
    sent = cloudpickle.dumps(flow).hex()
    code = f"import pickle; print(pickle.loads(bytes.fromhex({sent!r})).optimize().digest)"
    path = os.pathsep.join((str(pathlib.Path(__file__).parent), *sys.path))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == flow.optimize().digest, done.stderr
