"""Expressions that are wrong: each line that ends in ``# wrong: ...`` must be flagged by both type checkers, no other.

What a checker cannot see, and why, is in limits.py.
"""

from __future__ import annotations

from collections.abc import Callable

import dataflow as df


@df.stage
def clean(text: str) -> str:
    return text.strip()


@df.stage
def length(text: str) -> int:
    return len(text)


@df.stage
def half(number: int) -> float:
    return number / 2


@df.stage
def show(thing: object) -> str:
    return str(thing)


@df.stage(batch=8)
def score(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


@df.stage
def tokens(text: str) -> list[str]:
    return text.split()


class Model:
    def __init__(self, arch: str) -> None: ...

    def __call__(self, texts: list[str]) -> list[int]:
        return [len(text) for text in texts]


def shout(text: str) -> str:
    return text.upper()


def double(number: int) -> int:
    return 2 * number


def two(text: str, number: int) -> bytes:
    return text.encode() * number


def three(text: str, number: int, other: int) -> bytes:
    return b""


def numbers(a: int, b: int) -> int:
    return a + b


pair = clean | length

# ------------------------------------------------------------------ chains

clean >> half  # wrong: str, where an int is wanted
clean >> length >> clean  # wrong: int, where a str is wanted
length >> (clean >> length)  # wrong: int, where a str is wanted
half >> double  # wrong: float, where an int is wanted
clean >> double  # wrong: a plain function on the right
double >> clean  # wrong: a plain function on the left
shout >> half  # wrong: a plain function on the left
length >> str.upper  # wrong: a method on the right
length >> len  # wrong: a builtin on the right
length >> score  # wrong: the items of a batched stage are str
score >> clean  # wrong: the results of a batched stage are int
tokens >> clean  # wrong: list[str], where a str is wanted
clean >> two  # wrong: a stage is called with one argument
clean >> 3  # wrong: no flow and no callable
3 >> clean  # wrong: no flow and no callable
clean >> [half]  # wrong: no flow and no callable
clean >> df.identity >> half  # wrong: identity changes no type
df.identity >> clean >> half  # wrong: after identity too
clean >> (length | half)  # wrong: one of the branches
clean | length >> df.combine(two)  # wrong: >> binds more strongly than |
clean >> half.retry(2)  # wrong: retry changes no type
clean >> half.timeout(1).named("x")  # wrong: nor do timeout and named
clean >> Model("x")  # wrong: an instance is called with one item, and this one takes a list
clean >> df.stage(Model, batch=8)("x") >> clean  # wrong: int, where a str is wanted

# ------------------------------------------------------------------ fan-outs and combine

clean | half  # wrong: the branches take different things
clean | double  # wrong: the branches take different things
double | clean  # wrong: the branches take different things
clean | 3  # wrong: no flow and no callable
clean >> df.fanout(length, length) >> df.combine(three)  # wrong: two branches, three parameters
pair >> df.combine(three)  # wrong: two branches, three parameters
(clean | length | length) >> df.combine(two)  # wrong: three branches, two parameters
pair >> df.combine(numbers)  # wrong: str, where an int is wanted
(length | clean) >> df.combine(two)  # wrong: the branches are in another order
pair >> df.combine(two) >> clean  # wrong: bytes, where a str is wanted
clean >> df.combine(two)  # wrong: no fan-out before it
(clean | df.fanout(length, length)) >> df.combine(three)  # wrong: a group is one branch
pair.named("pair") >> df.combine(numbers)  # wrong: under a name too
pair >> df.combine() >> half  # wrong: a tuple, where an int is wanted
df.combine(3)  # wrong: no callable
df.combine(two, within=1.0, quorum="1")  # wrong: quorum is a number

# ------------------------------------------------------------------ switch, race, fallback, each

df.switch(length, {1: clean, 2: half})("x")  # wrong: an arm takes something else
clean >> df.switch(length, {1: clean, 2: double})  # wrong: an arm takes something else
clean >> df.switch(length, {1: clean}, default=half)  # wrong: the default takes something else
clean >> df.switch(double, {1: clean})  # wrong: the key takes something else
clean >> df.switch(length, {1: half, 2: double})  # wrong: the arms take something else
df.switch(length, {1: clean}) >> half  # wrong: str, where an int is wanted
clean >> df.switch(length, {1: 3})  # wrong: no flow and no callable
clean >> df.race(clean, half)  # wrong: a competitor takes something else
clean >> df.race(shout, double)  # wrong: a competitor takes something else
df.race(clean, half)("x")  # wrong: a competitor takes something else
df.race(clean, shout) >> half  # wrong: str, where an int is wanted
df.race(clean, length) >> half  # wrong: str or int, where an int is wanted
clean.fallback(half)  # wrong: takes something else
clean.fallback(double)  # wrong: takes something else
clean.fallback(3)  # wrong: no flow and no callable
length.fallback(shout) >> half  # wrong: int or str, where an int is wanted
clean.fallback(shout, on="ValueError")  # wrong: no exception type
df.each(3)  # wrong: no flow and no callable
df.each(two)  # wrong: an element is one argument
tokens >> df.each(half)  # wrong: the elements are str
clean >> df.each(length) >> half  # wrong: list[int], where an int is wanted
length >> df.each(clean)  # wrong: an int has no elements

# ------------------------------------------------------------------ stages and their options

df.stage(3)  # wrong: no callable
df.stage(two)  # wrong: a stage is called with one argument
df.stage(double, batch=8)  # wrong: a batched function takes a list
df.stage(shout, batch="8")  # wrong: batch is a number
df.stage(shout, device=0)  # wrong: device is a word
df.stage(shout, devices="cuda")  # wrong: no such option
df.stage(Model, batch=8)(3)  # wrong: the constructor's arguments
df.stage(Model, batch=8)()  # wrong: the constructor's arguments
length.retry("2")  # wrong: times is a number
length.named(3)  # wrong: a name is a str

# ------------------------------------------------------------------ what a flow is

length(3)  # wrong: takes a str
length.map([1, 2])  # wrong: takes str
length.map(["x"], on_error="ignore")  # wrong: no such word
half(length("x")).upper()  # wrong: gives a float
as_text: df.Flow[str, str] = length  # wrong: gives an int
takes_more: df.Flow[object, int] = length  # wrong: takes only str
callback: Callable[[int], int] = length  # wrong: takes only str
