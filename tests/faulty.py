"""Stages that note their calls and fail where they are told to, items that are awkward, and outcomes in short."""

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import dataflow as df


class Batched:
    """A batched function that notes the batches it is called with."""

    def __init__(self, one: Callable[[Any], Any] = lambda x: x) -> None:
        self.one = one
        self.seen: list[list[Any]] = []

    def __call__(self, items: list[Any]) -> list[Any]:
        self.seen.append(list(items))
        return [self.one(item) for item in items]

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.seen]

    @property
    def items(self) -> Counter[Any]:
        """How often each item was in a batch."""
        return Counter(itertools.chain.from_iterable(self.seen))

    @property
    def further(self) -> int:
        """How many calls were given items that an earlier one had: those made to split a batch."""
        seen: set[Any] = set()
        calls = 0
        for batch in self.seen:
            calls += not seen.isdisjoint(batch)
            seen.update(batch)
        return calls


class Counting:
    """A function that counts its calls."""

    def __init__(self, one: Callable[[Any], Any] = lambda x: x) -> None:
        self.one = one
        self.seen: list[Any] = []

    def __call__(self, item: Any) -> Any:
        self.seen.append(item)
        return self.one(item)


class Poison(ValueError):
    """What a bad item raises."""


def refusing(*bad: Any) -> Callable[[Any], Any]:
    """Return a function that gives its item back, unless it is one of these."""

    def refuse(x: Any) -> Any:
        if x in bad:
            raise Poison(x)
        return x

    return refuse


def same(x: Any) -> Any:
    return x


def fails(x: Any) -> Any:
    raise ValueError(f"no {x}")


def marks(outcomes: list[Any]) -> list[Any]:
    """Return outcomes with the type of its error in each failure's place."""
    return [type(outcome.error) if isinstance(outcome, df.Failure) else outcome for outcome in outcomes]


def failures(outcomes: list[Any]) -> list[df.Failure]:
    return [outcome for outcome in outcomes if isinstance(outcome, df.Failure)]


class Awkward:
    """Neither compared, nor tested for truth, nor measured, nor hashed."""

    def __eq__(self, other: object) -> bool:
        raise TypeError("compared")

    def __bool__(self) -> bool:
        raise TypeError("tested for truth")

    def __len__(self) -> int:
        raise TypeError("measured")

    __hash__ = None  # type: ignore[assignment]
