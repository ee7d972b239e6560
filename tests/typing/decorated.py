"""Classes made into stages by a decorator: right, and checked by pyright alone.

Mypy takes no notice of what a decorator makes of a class (python/mypy#3135): to it ``Classifier("x")`` remains an
instance of the user's class, so it knows no operator of it, and takes the list that a batched class is called with for
the item. What both checkers understand is `df.stage` called with the class; see right.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_type

import dataflow as df
from dataflow.expr import Stage


@df.stage
class Cleaner:
    def __init__(self, alphabet: str) -> None: ...

    def __call__(self, text: str) -> str:
        return text


@df.stage(batch=32, device="cuda")
class Classifier:
    def __init__(self, arch: str, layers: int = 18) -> None: ...

    def __call__(self, texts: list[str]) -> Sequence[int]:
        return [len(text) for text in texts]


@df.stage(batch=32)
class Bare:
    def __call__(self, texts: Sequence[str]) -> list[float]:
        return [0.0 for _ in texts]


@df.stage(batch=32, device="cuda")
class Untyped:
    def __init__(self, arch):
        self.arch = arch

    def __call__(self, images):
        return [image + 1 for image in images]


def vote(a: int, b: int) -> int:
    return max(a, b)


assert_type(Cleaner("abc"), Stage[str, str])
assert_type(Classifier("resnet18"), Stage[str, int])
assert_type(Classifier("resnet18", layers=34), Stage[str, int])
assert_type(Bare(), Stage[str, float])
assert_type(Cleaner("a") >> (Classifier("b") | Classifier("c")) >> df.combine(vote), df.Flow[str, int])
assert_type(Cleaner("a") >> Bare().retry(2), df.Flow[str, float])
Cleaner("a") >> (Untyped("b") | Untyped("c")) >> df.combine(max) >> Cleaner("d")

Classifier()  # wrong: the constructor's arguments
Classifier(18)  # wrong: the constructor's arguments
Classifier("a") >> Cleaner("b")  # wrong: an int where a str is wanted
Cleaner("a") >> (Classifier("b") | Bare()) >> df.combine(vote)  # wrong: a float where an int is wanted
