"""Structural keys: when are two callables, or two arguments that a user gave, the same?

Users' data is never compared with ``==`` unless its type promises that ``==`` is a plain yes or no: an array has no
truth, and two floats that are equal may still differ (``0.0`` and ``-0.0``). What cannot be compared safely is compared
by identity, which can only make two equal flows unequal, never two different ones equal.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any


class Identical:
    """A key that is equal only to a key of the very same object."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identical) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


class ByValue:
    """A key for a hashable value: the same type, the same hash, and an ``==`` that answers ``True`` itself."""

    __slots__ = ("_hash", "value")

    def __init__(self, value: Hashable) -> None:
        self.value = value
        self._hash = hash((type(value), value))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ByValue):
            return False
        mine, theirs = self.value, other.value
        if mine is theirs:
            return True
        return type(mine) is type(theirs) and self._hash == other._hash and (mine == theirs) is True

    def __hash__(self) -> int:
        return self._hash


def value_key(value: Any) -> Hashable:
    """Return a hashable key of a value that a user gave, equal for values that cannot be told apart."""
    kind = type(value)
    if value is None or kind in (bool, int, str, bytes):
        return (kind, value)
    if kind is float:
        return (kind, value.hex())
    if kind in (tuple, list):
        return (kind, tuple(value_key(item) for item in value))
    if kind is dict:
        return (kind, tuple((value_key(key), value_key(item)) for key, item in value.items()))
    if kind in (set, frozenset):
        return (kind, frozenset(value_key(item) for item in value))
    if isinstance(value, functools.partial):
        return callable_key(value)
    try:
        return ByValue(value)
    except Exception:  # a user's __hash__ may raise anything
        return Identical(value)


def callable_key(fn: Callable[..., Any]) -> Hashable:
    """Return a hashable key of a callable; partials are equal when what they hold is."""
    if type(fn) is functools.partial:
        return (functools.partial, callable_key(fn.func), value_key(fn.args), value_key(fn.keywords))
    return value_key(fn)
