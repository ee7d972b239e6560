"""What a type checker cannot be brought to see: wrong lines that pass, and right ones that are flagged.

A comment says who flags a line: ``# flagged by mypy``, by ``pyright`` or by ``both``; where there is none, nobody does.
Where catching more would have flagged what is right, it was left. What is wrong and passes is a `CompositionError` when
the expression is written, where Python can tell, and otherwise fails when it is run. A line that a newer checker comes
to judge rightly belongs in right.py or wrong.py.
"""

from __future__ import annotations

import operator

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


@df.stage(batch=8)
class Model:
    def __call__(self, texts: list[str]) -> list[int]:
        return [len(text) for text in texts]


def shout(text: str) -> str:
    return text.upper()


def numbers(a: int, b: int) -> int:
    return a + b


def either(thing: int | str) -> str:
    return str(thing)


def weighed(a: int, b: int, weight: float = 1.0) -> float:
    return (a + b) * weight


pair = clean | length

# ------------------------------------------------------------------ wrong, and not flagged by all

# What several callables accept together is Never to mypy where they have nothing in common, and any callable accepts
# that. It says so where the flow is used: one character more, and both flag the line.
df.race(clean, half)  # flagged by pyright
df.race(clean, half)("x")  # flagged by both
df.switch(length, {1: half})  # flagged by pyright
df.switch(length, {1: half})("x")  # flagged by both

# Pyright reads a lambda in which nothing is known of x as ``lambda x: object``, and flags what is done with x. Fan-outs
# made of lambdas are too common for that, so it is told less of `fanout`; of ``f | g`` it is told all.
df.fanout(clean, half)
df.fanout(clean, half)("x")  # flagged by mypy
clean | half  # flagged by both

# It does not read a lambda beside an operator with the type that the operator will call it with.
length >> (lambda number: number.upper())  # flagged by mypy

# The arms of a switch that are not all of one kind (stages and a function) are to mypy an object, so it takes what they
# give to be Any.
df.switch(length, {1: clean, 2: shout}) >> half  # flagged by pyright
df.switch(length, {1: clean, 2: clean}) >> half  # flagged by both

# A switch's keys match as a dict's do: a numpy integer, an enum's member or a None is a fine key.
df.switch(length, {"one": clean, "two": clean})

# How many parts a function with a default, ``*args``, overloads or type variables takes is known only when it is
# called; nor do types say what a named fan-out holds by name, or how many branches of a quorum succeed.
pair >> df.combine(weighed)
pair >> df.combine(max)
df.fanout(a=clean, b=length) >> df.combine(numbers)
pair >> df.combine(numbers, quorum=2)

# ------------------------------------------------------------------ right, and flagged all the same

# Mypy takes no notice of what a decorator makes of a class; see decorated.py. To it these are the instances themselves.
clean >> Model()  # flagged by mypy
Model() | Model()  # flagged by mypy

# What is both Sized and Iterable has no name: there are no intersections of types. Begin with an annotated stage.
df.stage(len) | sum  # flagged by both

# As above, where no branch says what x is. Annotate one: make it a function.
df.switch(lambda n: n % 2, {0: lambda n: n + 1, 1: lambda n: n - 1})  # flagged by pyright
df.race(lambda n: n + 1, lambda n: n - 1)  # flagged by pyright
clean >> df.race(lambda text: text.upper(), lambda text: text.lower())  # flagged by pyright

# The input of the first flow is what the second must take, though the result could ask for less.
df.stage(object.__repr__).fallback(shout)  # flagged by both

# Mypy does not infer generic functions whose type variable lies inside another type: it makes it Never. Wrap them.
df.stage(sorted)([3, 1, 2])  # flagged by mypy
(length | length) >> df.combine(divmod)  # flagged by mypy
(length | length) >> df.combine(operator.add)

# The results of a switch's arms are joined by mypy, and the join of an int and a str is object.
df.switch(length, {1: length, 2: clean}) >> either  # flagged by mypy
