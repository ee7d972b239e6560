"""Expressions that are right: neither type checker may say a word about any line. Checked by tests/test_typing.py.

What a line's flow takes and gives is stated with `assert_type` wherever both checkers infer the same.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, assert_type

import numpy as np
import numpy.typing as npt

import dataflow as df
from dataflow.expr import Stage

N = TypeVar("N", int, float)
X = TypeVar("X")


# ------------------------------------------------------------------ stages


@df.stage
def clean(text: str) -> str:
    return text.strip()


@df.stage(name="length", cpus=0.5, replicas=(1, 8))
def length(text: str) -> int:
    return len(text)


@df.stage(pure=False, placement="gpu", memory=2**30)
def show(thing: object) -> int:
    return hash(thing)


@df.stage
def half(number: int) -> float:
    return number / 2


@df.stage(batch=8)
def score(texts: list[str]) -> list[float]:
    return [0.0 for _ in texts]


@df.stage(batch=8, max_wait=0.1)
def embed(texts: Sequence[str]) -> npt.NDArray[np.float64]:
    return np.zeros((len(texts), 3))


@df.stage(batch=8, device="cuda:1")
def rank(texts: Sequence[str]) -> tuple[int, ...]:
    return tuple(len(text) for text in texts)


@df.stage
def untyped(x):  # type: ignore[no-untyped-def]
    return x


@df.stage(batch=4)
def untyped_batch(xs):  # type: ignore[no-untyped-def]
    return xs


@df.stage
def optional(text: str, suffix: str = "") -> str:
    return text + suffix


@df.stage
def same(x: X) -> X:
    return x


@df.stage
def tokens(text: str) -> list[str]:
    return text.split()


class Counter:
    def __call__(self, text: str) -> int:
        return len(text)

    def method(self, text: str) -> int:
        return len(text)


def plain(text: str) -> str:
    return text


def plain_untyped(x):  # type: ignore[no-untyped-def]
    return x


batch_size: int | None = 8

assert_type(clean, Stage[str, str])
assert_type(length, Stage[str, int])
assert_type(show, Stage[object, int])
assert_type(score, Stage[str, float])
assert_type(embed, Stage[str, Any])
assert_type(rank, Stage[str, int])
assert_type(optional, Stage[str, str])
assert_type(df.stage(plain), Stage[str, str])
assert_type(df.stage(str.strip), Stage[str, str])
assert_type(df.stage(Counter()), Stage[str, int])
assert_type(df.stage(Counter().method), Stage[str, int])
assert_type(df.stage(lambda x: 3), Stage[Any, int])
assert_type(df.stage(lambda xs: [3 for _ in xs], batch=8), Stage[Any, int])
df.stage(lambda record: record.field + 1)("anything")
df.stage(lambda records: [record.field for record in records], batch=8)("anything")
df.stage(name="field")(lambda record: record.field)("anything")
df.stage(plain_untyped)("x")
df.stage(min)([3, 1, 2])
df.stage("-".join)(["a", "b"])
df.stage(functools.partial(pow, exp=2))(3)
df.stage(operator.itemgetter("a"))({"a": 1})
df.stage(operator.attrgetter("a"))(3)
df.stage(print)
df.stage(plain, device="cpu")
df.stage(plain_untyped, batch=batch_size)


# ------------------------------------------------------------------ class stages
# Applied as a decorator a class stage is in decorated.py: mypy takes no notice of what a decorator makes of a class.


class PlainModel:
    def __init__(self, arch: str, layers: int = 3) -> None: ...

    def __call__(self, text: str) -> int:
        return len(text)


class BatchModel:
    def __init__(self, arch: str) -> None: ...

    def __call__(self, texts: list[str]) -> Sequence[int]:
        return [len(text) for text in texts]


class BareModel:
    def __call__(self, texts: list[str]) -> list[int]:
        return [len(text) for text in texts]


class UntypedModel:
    def __init__(self, arch):  # type: ignore[no-untyped-def]
        self.arch = arch

    def __call__(self, texts):  # type: ignore[no-untyped-def]
        return texts


Model = df.stage(PlainModel)
Batched = df.stage(BatchModel, batch=8, device="cuda")
Bare = df.stage(BareModel, batch=2)
Untyped = df.stage(UntypedModel, batch=2, device="cuda")

assert_type(Model("resnet18"), Stage[str, int])
assert_type(Model("resnet18", layers=5), Stage[str, int])
assert_type(Batched("resnet18"), Stage[str, int])
assert_type(Batched(arch="resnet18"), Stage[str, int])
assert_type(Bare(), Stage[str, int])
assert_type(df.stage(batch=8)(BatchModel)("resnet18"), Stage[str, int])
assert_type(df.stage(pure=False)(PlainModel)("resnet18"), Stage[str, int])
assert_type(clean >> Batched("resnet18") >> half, df.Flow[str, float])
assert_type(clean >> (Batched("a") | Batched("b") | Model("c")), df.Flow[str, tuple[int, int, int]])
clean >> (Untyped("a") | Untyped("b")) >> df.combine(max) >> half


# ------------------------------------------------------------------ chains

assert_type(clean >> length, df.Flow[str, int])
assert_type(clean >> length >> half, df.Flow[str, float])
assert_type(clean >> (length >> half), df.Flow[str, float])
assert_type(clean >> show, df.Flow[str, int])  # contravariance: show takes anything
assert_type(clean >> untyped >> half, df.Flow[str, float])
assert_type(length >> half >> show, df.Flow[str, int])
assert_type(str.strip >> clean, df.Flow[str, str])
assert_type(clean >> str.upper, df.Flow[str, str])
assert_type(clean >> len, df.Flow[str, int])
assert_type(length >> str, df.Flow[str, str])
assert_type(length >> (lambda n: n + 1) >> half, df.Flow[str, float])
assert_type(plain >> length, df.Flow[str, int])
assert_type((lambda x: x.text) >> length, df.Flow[Any, int])
assert_type(tokens >> df.each(clean), df.Flow[str, list[str]])
plain_untyped >> length >> plain_untyped
open >> df.stage(lambda file: file.read()) >> clean
clean >> Counter() >> half
clean >> Counter().method >> half
clean >> functools.partial(operator.add, "x") >> clean
tokens >> sorted >> df.each(clean)
tokens >> min
tokens >> set
tokens >> "-".join >> clean
clean >> same >> clean
clean >> optional
length >> float >> (lambda x: x.is_integer())

assert_type(df.identity >> length, df.Flow[str, int])
assert_type(length >> df.identity, df.Flow[str, int])
assert_type(df.identity >> length >> df.identity >> half, df.Flow[str, float])
assert_type(df.identity >> plain, df.Flow[str, str])
assert_type(plain >> df.identity, df.Flow[str, str])
assert_type(df.identity("x"), str)

wants: df.Flow[str, int]
wants = show
wants = length
wants = df.stage(len)
wants = clean >> length
wants = length.retry(2)
wants_float: df.Flow[str, float] = length
callback: Callable[[str], int] = length
any_flows: list[df.Flow[Any, Any]] = [clean, length, df.identity, df.combine(max), clean | length]
same_flows: list[df.Flow[str, Any]] = [clean, length, show]


def wrap(inner: df.Flow[str, X]) -> df.Flow[str, X]:
    return clean >> inner.retry(1)


assert_type(wrap(length), df.Flow[str, int])
functools.reduce(operator.rshift, [clean, clean])


# ------------------------------------------------------------------ fan-outs

half_of_length = length >> half

assert_type((clean | length)(""), tuple[str, int])
assert_type((clean | length | show)(""), tuple[str, int, int])
assert_type((clean | (length | half_of_length))(""), tuple[str, int, float])
assert_type(((clean | length) | (length | show))(""), tuple[str, int, int, int])
assert_type(((clean | length) | (length | show | clean))(""), tuple[str, int, int, int, str])
assert_type((clean | len)(""), tuple[str, int])
assert_type((clean | len | str.upper)(""), tuple[str, int, str])
assert_type((len | clean)(""), tuple[int, str])
assert_type((str.upper | (clean | length))(""), tuple[str, str, int])
assert_type((clean | (lambda text: len(text)))(""), tuple[str, int])
assert_type((show | length)(""), tuple[int, int])  # the narrower of the two inputs
assert_type((length | show)(""), tuple[int, int])
assert_type((show | clean | length)(""), tuple[int, str, int])
assert_type((df.identity | length)(""), tuple[str, int])
assert_type((length | df.identity)(""), tuple[int, str])
assert_type((length | df.identity | clean)(""), tuple[int, str, str])
assert_type((clean >> length | length)(""), tuple[int, int])  # >> binds more strongly
assert_type(clean >> (length | show), df.Flow[str, tuple[int, int]])
untyped | untyped_batch | plain_untyped
clean | untyped | score | embed

assert_type(df.fanout(clean, length), df.Flow[str, tuple[str, int]])
assert_type(df.fanout(clean), df.Flow[str, tuple[str]])
assert_type(df.fanout(clean, len, str.upper, show), df.Flow[str, tuple[str, int, str, int]])
assert_type(df.fanout(show, clean), df.Flow[str, tuple[int, str]])
assert_type((clean | df.fanout(length, show))(""), tuple[str, tuple[int, int]])  # a group is one branch
assert_type((df.fanout(length, show) | clean)(""), tuple[tuple[int, int], str])
assert_type(((clean | length).named("pair") | show)(""), tuple[tuple[str, int], int])
assert_type(df.fanout(a=clean, b=length), df.Flow[str, Any])
df.fanout(min, max)([3, 1, 2])
df.fanout(lambda record: record.one, lambda record: record.other)("x")
df.fanout(one=lambda record: record.one, other=lambda record: record.other)("x")
clean >> df.fanout(lambda text: text.upper(), lambda text: text.lower())
df.fanout(clean, length, clean, length, clean, length) >> df.combine(lambda *parts: len(parts))
df.fanout(*[clean, clean]) >> df.combine(lambda one, other: one + other)
df.fanout(*[clean, clean, clean]) >> df.combine(max)
df.fanout(clean, lambda text: text + "x")
df.fanout(clean, untyped, plain_untyped)
df.fanout(low=min, high=max)([3, 1, 2])
df.fanout(**{"a": clean, "b": clean})


# ------------------------------------------------------------------ combine


def two(text: str, number: int) -> bytes:
    return text.encode() * number


def three(text: str, number: float, other: object) -> bytes:
    return b""


def with_default(text: str, number: int, weight: float = 1.0) -> bytes:
    return b""


def one_default(text: str, number: int = 3) -> bytes:
    return b""


def with_keyword(text: str, number: int, *, weight: float = 1.0) -> bytes:
    return b""


def any_number(*numbers: int) -> bytes:
    return b""


def first_and_rest(first: int, *rest: int) -> bytes:
    return b""


def by_name(*, text: str, number: int) -> bytes:
    return b""


def vote(a, b):  # type: ignore[no-untyped-def]
    return a or b


def pick(a: X, b: X) -> X:
    return a


def add(a: N, b: N) -> N:
    return a + b


@dataclass
class Pair:
    text: str
    number: int


pair = clean | length
numbers = length | show

assert_type(pair >> df.combine(two), df.Flow[str, bytes])
assert_type((clean | length | show) >> df.combine(three), df.Flow[str, bytes])  # int where float is wanted
assert_type(pair >> df.combine(with_default), df.Flow[str, bytes])
assert_type((clean | length | half_of_length) >> df.combine(with_default), df.Flow[str, bytes])
assert_type(pair >> df.combine(one_default), df.Flow[str, bytes])
assert_type(df.fanout(clean) >> df.combine(one_default), df.Flow[str, bytes])
assert_type(numbers >> df.combine(any_number), df.Flow[str, bytes])
assert_type(numbers >> df.combine(first_and_rest), df.Flow[str, bytes])
assert_type(pair >> df.combine(Pair), df.Flow[str, Pair])
assert_type(pair >> df.combine(), df.Flow[str, tuple[str, int]])
assert_type(pair >> df.combine(two, quorum=1, within=0.1), df.Flow[str, bytes])
assert_type(clean >> (length | show) >> df.combine(any_number), df.Flow[str, bytes])
assert_type(pair >> df.combine(two) >> bytes.decode >> length, df.Flow[str, int])
assert_type(pair >> (df.combine(two) >> bytes.decode), df.Flow[str, str])
assert_type(pair >> df.combine(two).named("glue"), df.Flow[str, bytes])
pair >> df.combine(with_keyword)
pair >> df.combine(functools.partial(with_default, weight=2.0))
pair >> df.combine(functools.partial(three, other=3))
pair >> df.combine(lambda text, number: text * number)
pair >> df.combine(lambda *parts: parts)
pair >> df.combine(lambda text, number, weight=2: text * number * weight)
pair >> df.combine(vote)
pair >> df.combine(quorum=1)
numbers >> df.combine(max) >> half
numbers >> df.combine(min) >> show
numbers >> df.combine(operator.add) >> half
numbers >> df.combine(pick) >> half
numbers >> df.combine(add) >> half
numbers >> df.combine(print)
df.fanout(text=clean, number=length) >> df.combine(two) >> bytes.decode
df.fanout(text=clean, number=length) >> df.combine(by_name)
df.fanout(text=clean, number=length) >> df.combine(Pair)
df.fanout(text=clean, number=length) >> df.combine(dict)
df.fanout(text=clean, number=length) >> df.combine(lambda text, number: text * number)
df.fanout(text=clean, number=length) >> df.combine(lambda **parts: parts)
df.fanout(text=clean, number=length) >> df.combine()
df.fanout(text=clean, number=length) >> df.combine(two, quorum=2)
df.each(pair) >> df.each(df.combine(two))
pair >> df.switch(lambda parts: parts[1] > 3, {True: df.combine(two), False: df.combine(lambda a, b: b"")})
biggest = df.combine(max)  # of a name of its own: no fan-out is in sight when it is inferred
picked = df.combine(pick)
plus = df.combine(with_default)
numbers >> biggest >> half
numbers >> picked >> half
pair >> plus


# ------------------------------------------------------------------ switch


def size(text: str) -> Literal["small", "large"]:
    return "small"


def maybe(text: str) -> str | None:
    return None


def label(text: str) -> np.int64:
    return np.int64(3)


assert_type(df.switch(size, {"small": clean, "large": clean}), df.Flow[str, str])
assert_type(df.switch(size, {"small": clean, "large": plain}, default=str.upper), df.Flow[str, str])
assert_type(df.switch(len, {1: clean, 2: str.upper}, default=plain), df.Flow[str, str])
assert_type(df.switch(length, {1: length, 2: length >> df.identity}), df.Flow[str, int])
assert_type(df.switch(lambda text: text[0], {"a": clean}, default=plain), df.Flow[str, str])
assert_type(df.switch(size, {}, default=clean), df.Flow[str, str])
assert_type(clean >> df.switch(size, {"small": length}) >> half, df.Flow[str, float])
df.switch(maybe, {"x": clean, None: plain})
df.switch(label, {0: clean, 1: plain})
df.switch(size, {"small": clean, "large": lambda text: text.upper()})
df.switch(lambda text: text.upper(), {"A": clean, "B": lambda text: text.lower()})
mixed: df.Flow[str, int] = df.switch(length, {1: length, 2: show, 3: len, 4: Counter(), 5: lambda text: 3})
df.switch(plain_untyped, {0: plain_untyped, 1: clean})
df.switch(untyped, {0: untyped, 1: clean, 2: score})
df.switch(size, {"small": clean, "large": df.identity})
df.switch(size, {"small": clean}, default=df.identity)
df.switch(size, {"small": clean, "large": length})  # of two types: mypy joins them to object, pyright to str | int
df.switch(size, {"small": pair >> df.combine(two), "large": str.encode}) >> bytes.decode
arms: dict[str, df.Flow[str, str]] = {"small": clean}
df.switch(size, arms, default=plain)


# ------------------------------------------------------------------ the other constructs

assert_type(df.each(clean), df.Flow[Iterable[str], list[str]])
assert_type(df.each(str.upper), df.Flow[Iterable[str], list[str]])
assert_type(df.each(len)(["a", "b"]), list[int])
assert_type(df.each(clean) >> df.each(length), df.Flow[Iterable[str], list[int]])
assert_type(df.each(df.each(length)), df.Flow[Iterable[Iterable[str]], list[list[int]]])
assert_type(df.each(clean | length)([""]), list[tuple[str, int]])
assert_type(tokens >> df.each(score), df.Flow[str, list[float]])
df.each(lambda record: record.field)([3])
df.each(untyped)("abc")
df.each(df.identity)("abc")
tokens >> df.each(lambda word: word.upper())

assert_type(df.race(clean, plain), df.Flow[str, str])
assert_type(df.race(clean, length), df.Flow[str, str | int])
assert_type(df.race(length, len, show), df.Flow[str, int])
assert_type(df.race(show, length), df.Flow[str, int])
assert_type(df.race(*[clean, clean]), df.Flow[str, str])
assert_type(df.race(clean), df.Flow[str, str])
df.race(clean, plain, clean, plain)
df.race(clean, lambda text: text)
df.race(clean, untyped, plain_untyped)
df.race(int, float)("2.5")

assert_type(length.retry(2, on=OSError, backoff=0.1), df.Flow[str, int])
assert_type(length.retry(2, on=(OSError, ValueError)), df.Flow[str, int])
assert_type(length.timeout(1.5), df.Flow[str, int])
assert_type(length.timeout(1).retry(3).named("x") >> half, df.Flow[str, float])
assert_type(length.fallback(len), df.Flow[str, int])
assert_type(length.fallback(show), df.Flow[str, int])
assert_type(length.fallback(clean, on=ValueError), df.Flow[str, int | str])
assert_type(length.fallback(lambda text: len(text) + 1), df.Flow[str, int])
assert_type(length.named("x"), df.Flow[str, int])
length.fallback(untyped)
df.stage(int).fallback(lambda text: -1, on=ValueError)


# ------------------------------------------------------------------ running

assert_type(length("x"), int)
assert_type((clean >> length >> half)("x"), float)
assert_type(length.map(["x"]), Iterator[int])
assert_type(
    length.map(["x"], "threads", ordered=False, on_error="skip", max_in_flight=8, progress=False), Iterator[int]
)
assert_type(length.map(["x"], on_error="record"), Iterator[Any])
assert_type((clean | length).map(["x"]), Iterator[tuple[str, int]])
for number in length.map(iter(["x"])):
    assert_type(number, int)
assert_type(length.explain(), str)
with length.open("inline") as session:
    session.run("x")
