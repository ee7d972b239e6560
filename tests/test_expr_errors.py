"""What is refused when an expression is written: what was given, where, and what to write instead.

And, as important, what is not refused: everything that may be right.
"""

# ruff: noqa: UP007, UP045 (both spellings of an optional are tested)

import abc
import collections.abc
import contextlib
import functools
import operator
import typing
from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, NewType, Optional, Protocol, TypedDict, TypeVar, Union

import numpy as np
import numpy.typing as npt
import pytest
import torch

import dataflow as df
from dataflow.errors import CompositionError, DataflowError, OptionError

T = TypeVar("T")

f: Any = df.stage(abs)
g: Any = df.stage(bin)


def one(x: Any) -> Any:
    return x


def two(x: Any, y: Any) -> Any:
    return x


def three(x: Any, y: Any, z: Any) -> Any:
    return x


def parts(*values: Any) -> Any:
    return values


async def coroutine(x: Any) -> Any:
    return x


async def generator(x: Any) -> Any:
    yield x


class Model:
    def __init__(self, arch: str, *, depth: int = 1) -> None:
        self.arch = arch

    def __call__(self, x: Any) -> Any:
        return x


model: Any = df.stage(Model)


def refused(write: Callable[[], object]) -> str:
    """Return the message with which an expression is refused, which names this file and the expression's line."""
    with pytest.raises(CompositionError) as caught:
        write()
    message = str(caught.value)
    lines = {line for _, _, line in write.__code__.co_lines() if line is not None}
    assert any(f"{__file__}:{line}" in message for line in lines), message
    return message


def check(write: Callable[[], object], *words: str) -> None:
    message = refused(write)
    for word in words:
        assert word in message, message


Case = tuple[Callable[[], object], tuple[str, ...]]


def cases(table: dict[str, Case]) -> Any:
    return pytest.mark.parametrize(("write", "words"), table.values(), ids=table.keys())


# ------------------------------------------------------------------ what is no flow

FITS = "what fits is a flow, or a callable"
ARRAY = np.arange(3)

NOT_CALLABLE: dict[str, Case] = {
    ">> a number": (lambda: f >> 5, (">> was given 5", "int", FITS)),
    "a number >>": (lambda: 5 >> f, (">> was given 5", "int", FITS)),
    "| a number": (lambda: f | 5, ("| was given 5", "int", FITS)),
    "a number |": (lambda: 5 | f, ("| was given 5", "int", FITS)),
    "text": (lambda: f >> "preprocess", (">> was given 'preprocess'", "str", FITS)),
    "text first": (lambda: "preprocess" >> f, (">> was given 'preprocess'", "str", FITS)),
    "None": (lambda: f >> None, (">> was given None", "NoneType", FITS)),
    "None first": (lambda: None | f, ("| was given None", "NoneType", FITS)),
    "a list": (lambda: f >> [g, g], (">> was given [bin, bin]", "list", FITS)),
    "a list first": (lambda: [f, g] >> g, (">> was given [abs, bin]", "list", FITS)),
    "a dict": (lambda: f | {"a": g}, ("| was given {'a': bin}", "dict", FITS)),
    "a dict first": (lambda: {"a": g} | f, ("| was given {'a': bin}", "dict", FITS)),
    "a set first": (lambda: {1} | f, ("| was given {1}", "set", FITS)),
    "a tuple": (lambda: f >> (f, g), (">> was given (abs, bin)", "tuple", FITS)),
    "an array": (lambda: f >> ARRAY, (">> was given array([0, 1, 2])", "ndarray", FITS)),
    "an array first": (lambda: ARRAY >> f, (">> was given array([0, 1, 2])", "ndarray", FITS)),
    "| an array": (lambda: f | ARRAY, ("| was given array", "ndarray", FITS)),
    "an array |": (lambda: ARRAY | f, ("| was given array", "ndarray", FITS)),
    "an array scalar first": (lambda: np.int64(3) >> f, (">> was given", "int64", FITS)),
    "a matrix |": (lambda: np.ones((40, 40)) | f, ("| was given array", "ndarray", FITS)),
    "a tensor": (lambda: f >> torch.ones(2), (">> was given tensor([1., 1.])", "Tensor", FITS)),
    "a tensor first": (lambda: torch.ones(2) >> f, (">> was given tensor", "Tensor", FITS)),
    "a tensor |": (lambda: torch.ones(2, dtype=torch.int64) | f, ("| was given tensor", "Tensor", FITS)),
    "a class stage, not constructed": (lambda: f >> model, (">> was given the class Model itself", "Model(...)")),
    "a class stage first": (lambda: model | f, ("| was given the class Model itself", "Model(...)")),
    "a class whose instances are called": (lambda: f >> Model, (">> was given the class", "stage(Model)(...)")),
    "fanout": (lambda: df.fanout(f, 3), ("fanout was given 3", "int", FITS)),
    "a named branch": (lambda: df.fanout(a=f, b="x"), ("fanout was given 'x'", "str", FITS)),
    "each": (lambda: df.each([f]), ("each was given [abs]", "list", FITS)),
    "race": (lambda: df.race(f, None), ("race was given None", "NoneType", FITS)),
    "fallback": (lambda: f.fallback(0), ("fallback was given 0", "int", FITS)),
    "a switch's key": (lambda: df.switch("kind", {1: f}), ("switch, as its key, was given 'kind'", FITS)),
    "a switch's case": (lambda: df.switch(len, {"a": 1}), ("switch, for the key 'a', was given 1", FITS)),
    "a switch's default": (lambda: df.switch(len, {1: f}, default=1), ("switch, as its default, was given 1", FITS)),
    "a switch's class": (lambda: df.switch(len, {1: model}), ("switch, for the key 1,", "Model(...)")),
    "stage": (lambda: df.stage(3), ("stage was given 3", "a callable or a class")),
    "stage of None by name": (lambda: df.stage()(None), ("stage was given None", "a callable or a class")),
    "stage of a flow": (lambda: df.stage(f >> g), ("stage was given abs >> bin", "give its options where it is made")),
    "stage of a stage class": (lambda: df.stage(model, batch=2), ("give its options where it is made",)),
    "combine": (lambda: df.combine(3), ("combine was given 3", "a function")),
    "combine of a flow": (lambda: df.combine(f), ("combine was given abs", "a function")),
    "combine of a class stage": (lambda: df.combine(model), ("combine was given", "a function")),
}


@cases(NOT_CALLABLE)
def test_what_is_no_flow(write: Callable[[], object], words: tuple[str, ...]) -> None:
    check(write, *words)


def test_what_was_given_is_shown_on_one_short_line() -> None:
    for message in (refused(lambda: f >> np.ones((100, 100))), refused(lambda: "x" * 5000 >> f)):
        assert "\n" not in message
        assert len(message) < 400
    assert "<Broken>" in refused(lambda: f >> Broken())


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def test_the_errors_are_what_a_caller_expects() -> None:
    with pytest.raises(TypeError):
        f >> 5
    with pytest.raises(DataflowError):
        f >> 5
    with pytest.raises(ValueError, match="batch"):
        df.stage(one, batch=0)
    assert issubclass(OptionError, CompositionError)


def test_nothing_of_ours_is_in_the_way_of_the_users_line() -> None:
    """The traceback's last frame of another file is the user's: the message names the same line."""
    with pytest.raises(CompositionError) as caught:
        f >> 5
    own = [frame for frame in caught.traceback if str(frame.path) == __file__]
    assert f"{__file__}:{own[-1].lineno + 1}" in str(caught.value)


def flow_in_a_loop() -> Any:
    for _ in f:
        pass


TRUTH: dict[str, Case] = {
    "bool": (lambda: bool(f), ("no truth value", ">> and |")),
    "and": (lambda: f and g, ("no truth value", "`and`")),
    "or": (lambda: f or g, ("no truth value", "`or`")),
    "not": (lambda: not f, ("no truth value", "`not`")),
    "if": (lambda: 1 if f else 2, ("no truth value", "switch()")),
    "all": (lambda: all([f]), ("no truth value",)),
    "iter": (lambda: iter(f), ("cannot be iterated or unpacked", "flow.map(items)")),
    "unpacking": (lambda: [*f], ("cannot be iterated or unpacked", "flow.map(items)")),
    "arguments": (lambda: parts(*f), ("cannot be iterated or unpacked", "flow.map(items)")),
    "list": (lambda: list(f >> g), ("cannot be iterated or unpacked",)),
    "each of it": (flow_in_a_loop, ("cannot be iterated or unpacked",)),
    "stars of a fan-out": (lambda: df.race(*(f | g)), ("cannot be iterated or unpacked",)),
}


@cases(TRUTH)
def test_a_flow_is_neither_true_nor_iterable(write: Callable[[], object], words: tuple[str, ...]) -> None:
    check(write, *words)


@pytest.mark.parametrize("write", [lambda: 1 in f, lambda: f[0], lambda: len(f), lambda: f + g, lambda: f < g])
def test_other_operators_are_type_errors(write: Callable[[], object]) -> None:
    with pytest.raises(TypeError):
        write()


def test_two_bare_functions_are_pythons_business() -> None:
    with pytest.raises(TypeError):
        one >> two  # type: ignore[operator]


# ------------------------------------------------------------------ what cannot be a stage

PARTIAL = "functools.partial or a lambda"


class Method:
    def two(self, x: Any, y: Any) -> Any:
        return x

    def none(self) -> Any:
        return None

    async def later(self, x: Any) -> Any:
        return x


class AsyncCall:
    async def __call__(self, x: Any) -> Any:
        return x


class TwoCall:
    def __call__(self, x: Any, y: Any) -> Any:
        return x


NO_STAGE: dict[str, Case] = {
    "no argument": (lambda: df.stage(lambda: 1), ("<lambda>", "cannot be a stage", "()", PARTIAL)),
    "two": (lambda: df.stage(two), ("two", f"{__file__}:", "one argument, one item", "(x: Any, y: Any)", PARTIAL)),
    "two, lifted": (lambda: f >> two, ("two", "one argument", "(x: Any, y: Any)", PARTIAL)),
    "two, lifted on the left": (lambda: two | f, ("two", "one argument", PARTIAL)),
    "two, in each": (lambda: df.each(two), ("two", "one argument", PARTIAL)),
    "two, batched": (lambda: df.stage(two, batch=2), ("two", "a list of items", PARTIAL)),
    "a required keyword": (lambda: df.stage(lambda x, *, k: x), ("cannot be a stage", "(x, *, k)", PARTIAL)),
    "keywords only": (lambda: df.stage(lambda **k: k), ("cannot be a stage", PARTIAL)),
    "a method": (lambda: df.stage(Method().two), ("two", "cannot be a stage", "(x: Any, y: Any)")),
    "a method of none": (lambda: df.stage(Method().none), ("none", "cannot be a stage")),
    "a partial": (lambda: df.stage(functools.partial(two, 1, 2)), ("two", "cannot be a stage")),
    "a partial that leaves two": (lambda: df.stage(functools.partial(three, 1)), ("three", "cannot be a stage")),
    "an object": (lambda: df.stage(TwoCall()), ("TwoCall", "cannot be a stage", "(x: Any, y: Any)")),
    "a class": (lambda: df.stage(TwoCall), ("TwoCall", "cannot be a stage")),
    "a builtin": (lambda: df.stage(divmod), ("divmod", "cannot be a stage")),
    "async": (lambda: df.stage(coroutine), ("coroutine", "async function", "asyncio.run")),
    "async, lifted": (lambda: f >> coroutine, ("coroutine", "async function", "asyncio.run")),
    "an async generator": (lambda: df.stage(generator), ("generator", "async function")),
    "an async method": (lambda: df.stage(Method().later), ("later", "async function")),
    "an async partial": (lambda: df.stage(functools.partial(coroutine)), ("async function",)),
    "an async object": (lambda: df.stage(AsyncCall()), ("AsyncCall", "async function")),
    "an async class": (lambda: df.stage(AsyncCall), ("AsyncCall", "async function")),
    "async, combining": (lambda: df.combine(coroutine), ("coroutine", "async function")),
}


@cases(NO_STAGE)
def test_what_cannot_be_a_stage(write: Callable[[], object], words: tuple[str, ...]) -> None:
    check(write, *words)


CONSTRUCTORS: dict[str, Case] = {
    "nothing": (lambda: model(), ("Model cannot be constructed so", "'arch'", "(arch: str, *, depth: int = 1)")),
    "too many": (lambda: model("a", "b"), ("Model cannot be constructed so", "too many positional")),
    "unknown": (lambda: model("a", width=1), ("Model cannot be constructed so", "'width'")),
}


@cases(CONSTRUCTORS)
def test_a_constructor_is_checked_where_it_is_written(write: Callable[[], object], words: tuple[str, ...]) -> None:
    check(write, *words)


# ------------------------------------------------------------------ options

OPTIONS: dict[str, Case] = {
    "batch 0": (lambda: df.stage(one, batch=0), ("batch", "whole number of at least 1", "0")),
    "batch -1": (lambda: df.stage(one, batch=-1), ("batch", "whole number", "-1")),
    "batch True": (lambda: df.stage(one, batch=True), ("batch", "whole number", "True")),
    "batch 2.0": (lambda: df.stage(one, batch=2.0), ("batch", "whole number", "2.0")),
    "batch '8'": (lambda: df.stage(one, batch="8"), ("batch", "whole number", "'8'")),
    "max_wait": (lambda: df.stage(one, max_wait=-0.1), ("max_wait", "at least 0", "-0.1")),
    "max_wait nan": (lambda: df.stage(one, max_wait=float("nan")), ("max_wait", "seconds", "nan")),
    "max_wait inf": (lambda: df.stage(one, max_wait=float("inf")), ("max_wait", "seconds", "inf")),
    "max_wait None": (lambda: df.stage(one, max_wait=None), ("max_wait", "seconds", "None")),
    "name": (lambda: df.stage(one, name=""), ("name", "non-empty string", "''")),
    "name 3": (lambda: df.stage(one, name=3), ("name", "non-empty string", "3")),
    "device": (lambda: df.stage(one, device="cuda:"), ("device", '"cuda:1"', "'cuda:'")),
    "device 0": (lambda: df.stage(one, device=0), ("device", '"cuda"', "0")),
    "device upper": (lambda: df.stage(one, device="CUDA"), ("device", '"cuda"', "'CUDA'")),
    "pure": (lambda: df.stage(one, pure=0), ("pure", "True or False", "0")),
    "pure None": (lambda: df.stage(one, pure=None), ("pure", "True or False", "None")),
    "replicas": (lambda: df.stage(one, replicas=0), ("replicas", "whole number", "0")),
    "replicas backwards": (lambda: df.stage(one, replicas=(8, 1)), ("replicas", "at least 8", "1")),
    "replicas of three": (lambda: df.stage(one, replicas=(1, 2, 3)), ("replicas", "(1, 8)", "(1, 2, 3)")),
    "replicas 0 to 2": (lambda: df.stage(one, replicas=(0, 2)), ("replicas", "at least 1", "0")),
    "a list of replicas": (lambda: df.stage(one, replicas=[1, 2]), ("replicas", "[1, 2]")),
    "cpus": (lambda: df.stage(one, cpus=-1), ("cpus", "at least 0", "-1")),
    "gpus": (lambda: df.stage(one, gpus="1"), ("gpus", "number", "'1'")),
    "gpus nan": (lambda: df.stage(one, gpus=float("nan")), ("gpus", "number", "nan")),
    "memory": (lambda: df.stage(one, memory=True), ("memory", "number", "True")),
    "memory inf": (lambda: df.stage(one, memory=float("inf")), ("memory", "number", "inf")),
    "placement": (lambda: df.stage(one, placement=""), ("placement", "non-empty string")),
    "as a decorator": (lambda: df.stage(batch=0), ("batch", "whole number")),
    "retry 0": (lambda: f.retry(0), ("retry", "times", "whole number of at least 1", "0")),
    "retry 1.5": (lambda: f.retry(1.5), ("retry", "times", "1.5")),
    "retry on": (lambda: f.retry(1, on="ValueError"), ("retry", "on", "exception type", "'ValueError'")),
    "retry on one": (lambda: f.retry(1, on=ValueError()), ("retry", "on", "exception type")),
    "retry on none": (lambda: f.retry(1, on=()), ("retry", "on", "exception type")),
    "retry on a list": (lambda: f.retry(1, on=[ValueError]), ("retry", "on", "tuple")),
    "retry on Ctrl-C": (lambda: f.retry(1, on=KeyboardInterrupt), ("retry", "on", "below Exception")),
    "retry on all": (lambda: f.retry(1, on=BaseException), ("retry", "on", "below Exception")),
    "backoff": (lambda: f.retry(1, backoff=-1), ("retry", "backoff", "at least 0", "-1")),
    "timeout 0": (lambda: f.timeout(0), ("timeout", "more than 0", "0")),
    "timeout nan": (lambda: f.timeout(float("nan")), ("timeout", "nan")),
    "timeout inf": (lambda: f.timeout(float("inf")), ("timeout", "inf")),
    "timeout text": (lambda: f.timeout("1s"), ("timeout", "'1s'")),
    "fallback on": (lambda: f.fallback(g, on=3), ("fallback", "on", "exception type", "3")),
    "quorum 0": (lambda: df.combine(parts, quorum=0), ("combine", "quorum", "at least 1", "0")),
    "quorum 1.0": (lambda: df.combine(parts, quorum=1.0), ("combine", "quorum", "whole number")),
    "within": (lambda: df.combine(parts, quorum=1, within=-1), ("combine", "within", "-1")),
    "within alone": (lambda: df.combine(parts, within=1), ("within", "quorum=k")),
    "a name": (lambda: f.named(""), ("name", "non-empty string", "''")),
    "a name of none": (lambda: (f >> g).named(None), ("name", "non-empty string", "None")),
}


@cases(OPTIONS)
def test_options_out_of_range(write: Callable[[], object], words: tuple[str, ...]) -> None:
    check(write, *words)


def test_an_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="batch_size"):
        df.stage(one, batch_size=3)  # type: ignore[call-overload]


def test_numbers_of_numpy_are_numbers() -> None:
    assert df.stage(one, batch=np.int64(4)).options.batch == 4
    assert df.stage(one, replicas=np.int32(2)).options.replicas == 2
    assert f.timeout(np.float32(0.5)) == f.timeout(0.5)
    assert f.retry(np.int64(2)) == f.retry(2)


def test_a_cpu_with_a_number_is_no_gpu() -> None:
    with contextlib.suppress(CompositionError):  # it may be refused, too
        assert not df.stage(one, device="cpu:0").options.gpu


# ------------------------------------------------------------------ fan-outs and what gathers them

GROUPS: dict[str, Case] = {
    "nothing in fanout": (lambda: df.fanout(), ("fanout", "0 positional and 0 named")),
    "both kinds in fanout": (lambda: df.fanout(f, b=g), ("fanout", "1 positional and 1 named")),
    "nothing in race": (lambda: df.race(), ("race", "at least one")),
    "no cases": (lambda: df.switch(len, {}), ("switch", "at least one key", "{}")),
    "cases in a list": (lambda: df.switch(len, [("a", f)]), ("switch", "mapping", "[('a', abs)]")),
}


@cases(GROUPS)
def test_groups_that_cannot_be(write: Callable[[], object], words: tuple[str, ...]) -> None:
    check(write, *words)


def test_a_switch_of_nothing_but_a_default() -> None:
    assert repr(df.switch(len, {}, default=f))


ARITY: dict[str, Case] = {
    "too few parts": (lambda: (f | g) >> df.combine(three), ("three", "2 parts", "(x: Any, y: Any, z: Any)")),
    "too many parts": (lambda: (f | g | f) >> df.combine(two), ("two", "3 parts", "(x: Any, y: Any)")),
    "one": (lambda: df.fanout(f) >> df.combine(two), ("two", "1 part,", "(x: Any, y: Any)")),
    "no parameters": (lambda: (f | g) >> df.combine(lambda: 0), ("<lambda>", "2 parts", "()")),
    "a class": (lambda: (f | g) >> df.combine(Point), ("Point", "2 parts")),
    "a partial": (lambda: (f | g) >> df.combine(functools.partial(two, 1)), ("two", "2 parts")),
    "a required keyword": (lambda: (f | g) >> df.combine(lambda a, b, *, k: a), ("2 parts", "(a, b, *, k)")),
    "other names": (lambda: df.fanout(x=f, z=g) >> df.combine(two), ("two", "keywords x, z", "(x: Any, y: Any)")),
    "names for positions": (lambda: df.fanout(x=f) >> df.combine(parts), ("parts", "keywords x", "(*values: Any)")),
    "inside a branch": (lambda: (f | g) >> (df.combine(three) | df.combine(two)), ("three", "2 parts")),
    "in a switch": (lambda: (f | g) >> df.switch(len, {1: df.combine(three)}), ("three", "2 parts")),
    "as a key": (lambda: (f | g) >> df.switch(df.combine(three), {1: f}), ("three", "2 parts")),
    "retried": (lambda: (f | g) >> df.combine(three).retry(1), ("three", "2 parts")),
    "named": (lambda: (f | g).named("n") >> df.combine(three).named("m"), ("three", "2 parts")),
    "later in a chain": (lambda: f >> (f | g) >> (df.combine(three) >> f), ("three", "2 parts")),
    "a fan-out in a switch": (lambda: df.switch(len, {1: f | g}) >> df.combine(three), ("three", "2 parts")),
    "a quorum too large": (lambda: (f | g) >> df.combine(parts, quorum=3), ("3 successes", "only 2 branches")),
    "a named quorum too large": (lambda: df.fanout(a=f) >> df.combine(quorum=2), ("2 successes", "only 1")),
    "a quorum never right": (lambda: (f | g) >> df.combine(three, quorum=1), ("three", "2 parts")),
}


class Point(NamedTuple):
    x: int


@cases(ARITY)
def test_arity_that_cannot_fit(write: Callable[[], object], words: tuple[str, ...]) -> None:
    check(write, *words)


def test_both_places_are_named() -> None:
    fan = f | g  # where the branches were written
    there = f"{__file__}:{fan.origin.line}"
    gather: Any = df.combine(three)
    here = f"{__file__}:{gather.origin.line}"
    assert there != here
    with pytest.raises(CompositionError) as caught:
        fan >> gather
    assert there in str(caught.value)
    assert here in str(caught.value)
    assert f"{__file__}:{three.__code__.co_firstlineno}" in str(caught.value)
    with pytest.raises(CompositionError) as caught:
        fan >> df.combine(parts, quorum=3)
    assert there in str(caught.value)


NO_FANOUT: dict[str, Case] = {
    "a stage": (lambda: f >> df.combine(two), ("combine(two)", "abs", "one value", "f | g")),
    "a chain": (lambda: f >> g >> df.combine(two), ("combine(two)", "bin", "one value")),
    "a combined fan-out": (lambda: (f | g) >> df.combine(two) >> df.combine(two), ("combine(two)", "one value")),
    "each": (lambda: df.each(f) >> df.combine(two), ("combine(two)", "one value")),
    "each of a fan-out": (lambda: df.each(f | g) >> df.combine(two), ("combine(two)", "one value")),
    "a race": (lambda: df.race(f | g, f) >> df.combine(two), ("combine(two)", "abs", "one value")),
    "a retried stage": (lambda: f.retry(1) >> df.combine(two), ("combine(two)", "one value")),
    "a switch": (lambda: df.switch(len, {1: f | g, 2: f}) >> df.combine(two), ("combine(two)", "abs", "one value")),
}


@cases(NO_FANOUT)
def test_combine_gathers_a_fanout(write: Callable[[], object], words: tuple[str, ...]) -> None:
    check(write, *words)


QUORUMS: dict[str, Case] = {
    "a retried fan-out": (lambda: (f | g).retry(1) >> df.combine(parts, quorum=1), ("stand directly before",)),
    "a fan-out in a switch": (
        lambda: df.switch(len, {1: f | g}) >> df.combine(parts, quorum=1),
        ("stand directly before",),
    ),
    "gathered already": (lambda: (f | g) >> df.combine() >> df.combine(parts, quorum=1), ("combine(parts, quorum=1)",)),
    "one of two": (
        lambda: (f | g) >> (df.combine(parts, quorum=1) | df.combine(parts, quorum=1)),
        ("combine(parts, quorum=1)",),
    ),
    "retried": (lambda: (f | g) >> df.combine(parts, quorum=1).retry(1), ("combine(parts, quorum=1)",)),
    "in a switch": (
        lambda: (f | g) >> df.switch(len, {2: df.combine(parts, quorum=1)}),
        ("combine(parts, quorum=1)",),
    ),
    "in each": (lambda: (f | g) >> df.each(df.combine(parts, quorum=1)), ("combine(parts, quorum=1)",)),
}


@cases(QUORUMS)
def test_a_quorum_needs_the_branches_themselves(write: Callable[[], object], words: tuple[str, ...]) -> None:
    """Elsewhere the parts have all succeeded, or one has failed: the quorum would silently mean nothing."""
    check(write, *words)


def injects(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate as frameworks do that pass a further argument of their own."""

    @functools.wraps(fn)
    def wrapper(*given: Any) -> Any:
        return fn(*given, None)

    return wrapper


FITTING: dict[str, Callable[[], object]] = {
    "as many parts": lambda: (f | g) >> df.combine(two),
    "any number": lambda: (f | g | f) >> df.combine(parts),
    "defaults": lambda: (f | g) >> df.combine(lambda a, b, c=0: a),
    "a builtin": lambda: (f | g) >> df.combine(max),
    "an operator": lambda: (f | g) >> df.combine(operator.add),
    "a class": lambda: df.fanout(f) >> df.combine(Point),
    "a dict": lambda: df.fanout(x=f, y=g) >> df.combine(dict),
    "keywords": lambda: df.fanout(x=f, y=g) >> df.combine(two),
    "any keywords": lambda: df.fanout(x=f, y=g) >> df.combine(lambda **named: named),
    "a ufunc": lambda: (f | g) >> df.combine(np.add),
    "a method": lambda: (f | g) >> df.combine(Method().two),
    "a partial": lambda: (f | g) >> df.combine(functools.partial(three, z=1)),
    "a wrapper that adds an argument": lambda: (f | g) >> df.combine(injects(three)),
    "a stage that adds an argument": lambda: f >> injects(two),
    "nothing": lambda: (f | g) >> df.combine(),
    "nothing twice": lambda: (f | g) >> df.combine() >> df.combine(two),
    "after a named fan-out": lambda: (f | g).named("n") >> df.combine(two),
    "a named combine": lambda: (f | g) >> df.combine(two).named("n"),
    "after a retried fan-out": lambda: (f | g).retry(1).timeout(1) >> df.combine(two),
    "after a switch of fan-outs": lambda: df.switch(len, {1: f | g, 2: g | f}) >> df.combine(two),
    "after a race of fan-outs": lambda: df.race(f | g, g | f) >> df.combine(two),
    "on its own": lambda: df.combine(two) >> f,
    "in each": lambda: df.each(df.combine(two)),
    "after identity": lambda: df.identity >> df.combine(two),
    "after a flow that may give anything": lambda: df.identity.retry(1) >> df.combine(two),
    "of each's fan-outs": lambda: df.each(f | g) >> df.each(df.combine(two)),
    "a quorum": lambda: (f | g) >> df.combine(parts, quorum=2),
    "a quorum that may be more": lambda: (f | g | f) >> df.combine(two, quorum=2),
    "a quorum by name": lambda: df.fanout(x=f, y=g) >> df.combine(lambda x=0, y=0: x, quorum=1),
    "a quorum alone": lambda: (f | g) >> df.combine(quorum=1),
    "a named quorum": lambda: (f | g) >> df.combine(parts, quorum=1).named("n"),
    "a quorum of a named fan-out": lambda: (f | g).named("n") >> df.combine(parts, quorum=1),
    "a quorum later": lambda: f >> (f | g) >> (df.combine(parts, quorum=1) >> f),
}


@pytest.mark.parametrize("write", FITTING.values(), ids=FITTING.keys())
def test_combines_that_fit(write: Callable[[], object]) -> None:
    assert write() is not None


# ------------------------------------------------------------------ annotations

Gives = Callable[[Any], Any]


def gives(hint: Any) -> Gives:
    """Return a function that is annotated to give `hint`."""

    def giver(x: Any) -> Any:
        return x

    giver.__annotations__["return"] = hint
    return giver


def takes(hint: Any) -> Gives:
    """Return a function that is annotated to take `hint`."""

    def taker(x: Any) -> Any:
        return x

    taker.__annotations__["x"] = hint
    return taker


class Animal: ...


class Dog(Animal): ...


class Stone: ...


class Sized2(Protocol):
    def size(self) -> int: ...


class Box(Generic[T]):
    pass


class Abstract(abc.ABC):
    @abc.abstractmethod
    def run(self) -> None: ...


class Registered: ...


Abstract.register(Registered)


class Movie(TypedDict):
    title: str


UserId = NewType("UserId", int)

MISFITS: dict[str, tuple[Any, Any]] = {
    "int and str": (int, str),
    "float and int": (float, int),
    "str and bytes": (str, bytes),
    "None and int": (None, int),
    "unrelated classes": (Dog, Stone),
    "an optional of another": (Optional[int], str),
    "a union of others": (int | None, str | bytes),
    "a list of others": (list[int], list[str]),
    "a list and a dict": (list[int], dict[str, int]),
    "a tuple of others": (tuple[int, str], tuple[str, int]),
    "a longer tuple": (tuple[int, int, int], tuple[int, int]),
    "a dict of others": (dict[str, int], dict[str, str]),
    "deep inside": (list[dict[str, list[int]]], list[dict[str, list[str]]]),
    "a forward reference": ("int", "str"),
    "an array and text": (np.ndarray, str),
}


@pytest.mark.parametrize(("given", "wanted"), MISFITS.values(), ids=MISFITS.keys())
def test_annotations_that_can_never_fit(given: Any, wanted: Any) -> None:
    for write in (
        lambda: gives(given) >> df.stage(takes(wanted)),
        lambda: df.stage(gives(given)) >> (df.stage(takes(wanted)) | abs),
        lambda: df.race(gives(given), gives(given)) >> df.stage(takes(wanted)),
        lambda: df.stage(gives(given)).retry(1) >> df.stage(takes(wanted)).timeout(1),
        lambda: df.each(gives(given)) >> df.each(takes(wanted)),
        lambda: df.stage(gives(list[given]), batch=2) >> df.stage(takes(list[wanted]), batch=3),
        lambda: df.stage(abs) >> gives(given) >> df.switch(takes(wanted), {1: abs}),
        lambda: df.switch(abs, {1: gives(given)}) >> df.fanout(takes(wanted)),
    ):
        message = refused(write)
        assert "giver" in message
        assert "taker" in message
        assert "a stage between them" in message
        assert message.count(__file__) >= 3, "the two functions and the place where they meet"


def test_what_is_annotated_is_named() -> None:
    message = refused(lambda: gives(int) >> df.stage(takes(str)))
    assert "stage 'giver'" in message
    assert "gives int" in message
    assert "stage 'taker'" in message
    assert "takes str" in message


MISFIT_PARTS: dict[str, Callable[[], object]] = {
    "by position": lambda: (df.stage(gives(int)) | gives(str)) >> df.combine(takes_two),
    "by name": lambda: df.fanout(y=gives(int), x=gives(str)) >> df.combine(takes_two),
    "by star": lambda: (df.stage(gives(int)) | gives(str)) >> df.combine(takes_ints),
    "a part of a chain": lambda: (df.stage(abs) >> gives(str) | gives(int)) >> df.combine(takes_two),
    "what combine gives": lambda: (f | g) >> df.combine(gives_text) >> takes(int),
    "a fan-out as an item": lambda: (df.stage(gives(int)) | gives(str)) >> df.stage(takes(tuple[str, str])),
    "a fan-out as a number": lambda: (f | g) >> df.stage(takes(int)),
    "names as a list": lambda: df.fanout(x=f) >> df.stage(takes(list)),
    "a converter": lambda: df.stage(int) >> takes(str),
    "a class stage": lambda: df.stage(gives(int)) >> df.stage(Speller)(),
    "from a class stage": lambda: df.stage(Speller)() >> takes(int),
    "a list as an element": lambda: df.each(gives(int)) >> takes(int),
}


def takes_two(x: int, y: int) -> int:
    return x + y


def takes_ints(*x: int) -> int:
    return sum(x)


def gives_text(x: Any, y: Any) -> str:
    return ""


class Speller:
    def __call__(self, text: str) -> str:
        return text


@pytest.mark.parametrize("write", MISFIT_PARTS.values(), ids=MISFIT_PARTS.keys())
def test_parts_that_can_never_fit(write: Callable[[], object]) -> None:
    refused(write)


FITS_WELL: dict[str, tuple[Any, Any]] = {
    "the same": (int, int),
    "int and float": (int, float),
    "int and complex": (int, complex),
    "bool and int": (bool, int),
    "bool and float": (bool, float),
    "a subclass": (Dog, Animal),
    "a narrower class": (Animal, Dog),
    "registered": (Registered, Abstract),
    "an optional": (Optional[int], int),
    "into an optional": (int, Optional[int]),
    "None into an optional": (None, Optional[int]),
    "a union in part": (Union[int, str], Union[str, bytes]),
    "a new union": (int | str, str | bytes),
    "promoted in a union": (int, float | str),
    "Any": (Any, int),
    "into Any": (int, Any),
    "object": (object, int),
    "into object": (int, object),
    "a protocol": (Dog, Sized2),
    "from a protocol": (Sized2, int),
    "a standard protocol": (Dog, typing.SupportsFloat),
    "a type variable": (T, int),
    "into a type variable": (int, T),
    "a list of a type variable": (list[int], list[T]),
    "a generic": (Box[int], Box[T]),
    "a generic and its class": (Box[int], Box),
    "a reference that does not resolve": ("Unheard", int),
    "into one that does not": (int, "list[Unheard]"),
    "a reference that resolves": ("int", "float"),
    "a new type": (UserId, int),
    "into a new type": (int, UserId),
    "a literal": (typing.Literal["a"], str),
    "into a literal": (str, typing.Literal["a", "b"]),
    "annotated": (typing.Annotated[int, "cm"], float),
    "into annotated": (int, typing.Annotated[float, "cm"]),
    "annotated in a list": (list[typing.Annotated[int, "cm"]], list[int]),
    "a type": (type[int], Callable[[Any], int]),
    "a list and an iterable": (list[int], collections.abc.Iterable[int]),
    "an iterable and a list": (collections.abc.Iterable[int], list[int]),
    "an iterable and something sized": (collections.abc.Iterable[int], collections.abc.Sized),
    "a sequence and something hashable": (collections.abc.Sequence[int], collections.abc.Hashable),
    "something hashable and a sequence": (collections.abc.Hashable, collections.abc.Sequence[int]),
    "an iterator and a reversible": (collections.abc.Iterable[int], collections.abc.Reversible[int]),
    "something sized and something called": (collections.abc.Sized, Callable[[int], int]),
    "old spelling": (typing.List[int], list[int]),  # noqa: UP006
    "text and a sequence of it": (str, collections.abc.Sequence[str]),
    "a list of anything": (list[Any], list[int]),
    "into a list of anything": (list[int], list[Any]),
    "a dict of anything": (dict[str, Any], dict[str, int]),
    "into a dict of anything": (dict[str, int], dict[str, Any]),
    "a tuple with anything": (tuple[Any, int], tuple[str, int]),
    "an optional anything": (Optional[Any], int),
    "a list of optionals": (list[Optional[int]], list[int]),
    "a list of ints and of floats": (list[int], list[float]),
    "a list of objects": (list[object], list[int]),
    "bare and filled": (list, list[int]),
    "a tuple of any length": (tuple[int, ...], tuple[int, int]),
    "a bare tuple": (tuple, tuple[int, int]),
    "a named tuple": (Point, tuple[int]),
    "a dict and a mapping": (dict[str, int], collections.abc.Mapping[str, int]),
    "a dict and a typed dict": (dict[str, str], Movie),
    "a typed dict and a dict": (Movie, dict[str, str]),
    "a typed dict": (Movie, Movie),
    "a typed dict and a mapping": (Movie, collections.abc.Mapping[str, Any]),
    "a list of typed dicts": (list[Movie], list[Movie]),
    "arrays": (npt.NDArray[np.float32], npt.NDArray[np.float32]),
    "an array and any": (npt.NDArray[np.float32], npt.NDArray[Any]),
    "an array and its class": (npt.NDArray[np.float32], np.ndarray),
    "an array and what makes one": (np.ndarray, npt.ArrayLike),
    "a NumPy number and a float": (np.float32, float),
    "an int and a NumPy number": (int, np.float64),
    "a NumPy int and an int": (np.int64, int),
    "never": (typing.NoReturn, int),
}


@pytest.mark.parametrize(("given", "wanted"), FITS_WELL.values(), ids=FITS_WELL.keys())
def test_annotations_that_may_fit_are_not_refused(given: Any, wanted: Any) -> None:
    for flow in (
        gives(given) >> df.stage(takes(wanted)),
        df.each(gives(given)) >> df.each(takes(wanted)),
        (df.stage(gives(given)) | gives(given)) >> df.combine(lambda a, b: a) >> takes(wanted),
    ):
        assert isinstance(flow, df.Flow)


class Annotated:
    """An object that is called, with a field of the same name as its parameter."""

    x: str = "a field"
    value: int

    def __call__(self, x: int) -> int:
        return x


def typed_batch(xs: list[int]) -> Iterator[str]:
    return iter([str(x) for x in xs])


def wrong_annotation(x: int) -> "no such thing":  # type: ignore[syntax]  # noqa: F722
    return x


RIGHT: dict[str, Callable[[], object]] = {
    "no annotations": lambda: df.stage(gives(int)) >> one >> takes(str),
    "a type as a function": lambda: df.stage(type) >> (lambda cls: cls.__name__),
    "a type as a key": lambda: df.switch(type, {int: f}, default=g),
    "builtins": lambda: df.stage(len) >> str >> str.strip >> int >> abs >> bin,
    "a builtin that has no signature": lambda: df.stage(gives(int)) >> int >> min >> dict.fromkeys,
    "a partial": lambda: df.stage(gives(str)) >> functools.partial(int, base=2) >> takes(int),
    "a bound method": lambda: df.stage(gives(int)) >> [].append >> "abc".count,
    "a ufunc": lambda: df.stage(gives(float)) >> np.sqrt >> np.exp,
    "a NumPy function": lambda: df.stage(gives(list)) >> np.asarray >> np.sum,
    "an object that is called": lambda: df.stage(gives(int)) >> Annotated() >> takes(int),
    "a module": lambda: df.stage(takes(int)) >> torch.nn.Identity() >> takes(str),
    "a list as a batch": lambda: df.stage(list, batch=4) >> takes(int),
    "a tuple as a batch": lambda: df.stage(gives(int)) >> df.stage(tuple, batch=4) >> takes(int),
    "a batch's elements": lambda: df.stage(gives(int)) >> df.stage(typed_batch, batch=4) >> takes(str),
    "a broken annotation": lambda: df.stage(wrong_annotation) >> takes(str),
    "each of a list": lambda: df.stage(gives(list[int])) >> df.each(takes(int)),
    "a list of each": lambda: df.each(gives(int)) >> takes(list[int]),
    "a list, and each": lambda: df.each(gives(list[int])) >> df.each(df.each(takes(int))),
    "one exit that fits": lambda: df.stage(gives(int)).fallback(gives(int)) >> takes(float),
    "parts": lambda: (df.stage(gives(int)) | gives(bool)) >> df.combine(takes_two),
    "parts by name": lambda: df.fanout(y=gives(int), x=gives(int)) >> df.combine(takes_two),
    "parts of unknown type": lambda: (f | g) >> df.combine(takes_two),
    "survivors": lambda: (df.stage(gives(str)) | gives(int) | gives(int)) >> df.combine(takes_two, quorum=2),
    "a fan-out as an item": lambda: (df.stage(gives(int)) | one) >> takes(tuple[int, str]),
    "a fan-out's dict": lambda: df.fanout(x=f, y=g) >> takes(dict[str, int]),
    "a fan-out as a sequence": lambda: (f | g) >> takes(collections.abc.Sequence),
    "a fan-out as it is": lambda: (f | g) >> df.combine() >> takes(tuple),
}


@pytest.mark.parametrize("write", RIGHT.values(), ids=RIGHT.keys())
def test_what_may_be_right_is_not_refused(write: Callable[[], object]) -> None:
    assert isinstance(write(), df.Flow)


def test_a_long_chain_is_checked_only_where_it_is_joined() -> None:
    """Composing costs the same however long the chain already is."""
    calls = 0

    class Counted:
        @property
        def __annotations__(self) -> dict[str, Any]:  # type: ignore[override]
            nonlocal calls
            calls += 1
            return {}

        def __call__(self, x: int) -> int:
            return x

    flow: Any = df.stage(Counted())
    for _ in range(200):
        flow = flow >> takes(int)
    assert calls < 20
