"""What random flows are made of: small functions on ints, so few that equal stages meet and can be merged.

Some fail on some inputs, with errors of several kinds; a batched one fails alike whichever batch an input is in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable


def double(x: int) -> int:
    """Double an int."""
    return 2 * x


def successor(x: int) -> int:
    """Add one."""
    return x + 1


def shuffled(x: int) -> int:
    """Map all ints into a small range, so that numbers stay small however long the chain."""
    return x * x % 101 - 20


def not_third(x: int) -> int:
    """Fail on what divides by 3."""
    if x % 3 == 0:
        raise ValueError(f"{x} divides by 3")
    return x


def not_seventh(x: int) -> int:
    """Fail on what divides by 7."""
    if x % 7 == 0:
        raise ArithmeticError(f"{x} divides by 7")
    return x


def stops(x: int) -> int:
    """Let a StopIteration out for what divides by 11."""
    if x % 11 == 0:
        raise StopIteration
    return x - 1


def doubles(xs: list[int]) -> list[int]:
    """Double a batch, giving a list."""
    return [double(x) for x in xs]


def successors(xs: list[int]) -> tuple[int, ...]:
    """Add one to each of a batch, giving a tuple."""
    return tuple(successor(x) for x in xs)


def not_thirds(xs: list[int]) -> list[int]:
    """Fail on a batch with anything in it that divides by 3."""
    return [not_third(x) for x in xs]


class Add:
    """A class stage."""

    def __init__(self, amount: int) -> None:
        self.amount = amount

    def __call__(self, x: int) -> int:
        return x + self.amount


class AddAll:
    """A class stage that takes batches."""

    def __init__(self, amount: int) -> None:
        self.amount = amount

    def __call__(self, xs: list[int]) -> list[int]:
        return [x + self.amount for x in xs]


def up_to_three(x: int) -> list[int]:
    """Make a list of none to three ints."""
    return [x, x + 1, x + 2][: x % 4]


def total(*parts: int, **named: int) -> int:
    """Sum what is given, by position or by name."""
    return sum(parts) + sum(named.values())


def weighed(*parts: int, **named: int) -> int:
    """Sum what is given, each with a weight of its place or name: unlike a plain sum, it shows when parts are mixed up.

    Examples
    --------
    >>> weighed(1, 10, 100), weighed(b=10, a=1), weighed(a=10, b=1)
    (321, 21, 12)
    """
    places = sum(weight * part for weight, part in enumerate(parts, 1))
    return places + sum((ord(name[0]) - ord("a") + 1) * part for name, part in named.items())


def weighed_of(parts: dict[str, int]) -> int:
    """Sum a named fan-out's parts, as they are, each with its name's weight."""
    return weighed(**parts)


def weighed_all(parts: list[int]) -> int:
    """Sum a list, each element with the weight of its place."""
    return weighed(*parts)


def difference(a: int, b: int) -> int:
    """Subtract: unlike a sum, it shows when branches are exchanged."""
    return a - b


def pair_and_one(pair: tuple[int, ...], other: int) -> int:
    """Take a group's tuple beside a plain branch."""
    return pair[0] - pair[1] + 2 * other


@dataclasses.dataclass(frozen=True)
class Modulo:
    """A key function; those of one `n` are equal, and they fail on what divides by 7."""

    n: int

    def __call__(self, x: int) -> int:
        return not_seventh(x) % self.n


def modulo(n: int) -> Callable[[int], int]:
    """Return the key function of `n`."""
    return Modulo(n)
