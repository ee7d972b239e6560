"""Structural keys: when are two callables, or two arguments that a user gave, the same?

Users' data is never compared with ``==``: an array has no truth, and values that are equal may still be told apart
(``0.0`` and ``-0.0``, ``1`` and ``True``, two spellings of one decimal). Values of the types below are compared by what
they hold; anything else by identity, which can make two equal flows unequal, never two different ones equal.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import types
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


def value_key(value: Any, inside: tuple[int, ...] = ()) -> Hashable:
    """Return a hashable key of a value that a user gave, equal for values that cannot be told apart.

    Parameters
    ----------
    value : object
        The value.
    inside : tuple of int
        The identities of the containers around it; one that holds itself is compared by identity.
    """
    kind = type(value)
    if value is None or kind in (bool, int, str, bytes):
        return (kind, value)
    if kind is float:
        return (kind, value.hex())
    if kind is complex:
        return (kind, value.real.hex(), value.imag.hex())
    if id(value) in inside:
        return Identical(value)
    inside = (*inside, id(value))
    if kind in (tuple, list) or (isinstance(value, tuple) and hasattr(kind, "_fields")):
        return (kind, tuple(value_key(item, inside) for item in value))
    if kind is dict:
        return (kind, tuple((value_key(key, inside), value_key(item, inside)) for key, item in value.items()))
    if kind in (set, frozenset):
        return (kind, frozenset(value_key(item, inside) for item in value))
    if kind is functools.partial:
        return (kind, *(value_key(part, inside) for part in (value.func, value.args, value.keywords)))
    if kind is types.MethodType:
        return (kind, value.__func__, Identical(value.__self__))
    if kind is types.BuiltinMethodType and type(value.__self__) in (str, bytes, int, float):  # such as "abc".count
        return (kind, value.__name__, value_key(value.__self__, inside))
    if kind is types.BuiltinMethodType and value.__self__ is not None:
        return (kind, value.__name__, Identical(value.__self__))
    if isinstance(value, pathlib.PurePath):
        return (kind, str(value))
    if dataclasses.is_dataclass(value) and kind.__dataclass_params__.frozen:
        return (kind, tuple(value_key(getattr(value, field.name), inside) for field in dataclasses.fields(value)))
    return Identical(value)


def callable_key(fn: Callable[..., Any]) -> Hashable:
    """Return a hashable key of a callable: of a function its identity, of a partial or method what it holds."""
    return fn if type(fn) is types.FunctionType else value_key(fn)
