"""Annotations of neighbouring stages: which pairs of types can never fit.

The rule is one-sided. Two types are refused only if no ordinary value can be of both: neither is below the other, and
no numeric promotion leads from one to the other. Everything that is not plainly a class (protocols, type variables,
forward references that do not resolve) is unknown, and fits.
"""

from __future__ import annotations

import abc
import collections.abc
import inspect
import numbers
import types
import typing
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Union
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from dataflow.expr.stage import Stage


class _Unknown:
    def __repr__(self) -> str:
        return "unknown"


UNKNOWN: Final = _Unknown()

_cache: WeakKeyDictionary[Callable[..., Any], dict[str, Any]] = WeakKeyDictionary()
_PROMOTIONS = {(int, float), (int, complex), (float, complex), (bool, float), (bool, complex)}
_SEQUENCES = (list, tuple, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)


def taken(stage: Stage[Any, Any]) -> Any:
    """Return the annotated type of one item that a stage takes, or UNKNOWN."""
    fn = _called(stage)
    found = _hints(fn)
    if not found:
        return UNKNOWN
    first = next(iter(_parameters(fn, fn is not stage.fn)), None)
    hint = found.get(first, UNKNOWN) if first is not None else UNKNOWN
    return _element(hint) if stage.options.batch is not None else hint


def given(stage: Stage[Any, Any]) -> Any:
    """Return the annotated type of one result that a stage gives, or UNKNOWN."""
    if isinstance(stage.fn, type) and not stage.constructed:
        # calling int, str or a dataclass gives one of it; calling type itself gives anything's type
        return UNKNOWN if stage.options.batch is not None or issubclass(stage.fn, type) else stage.fn
    hint = _hints(_called(stage)).get("return", UNKNOWN)
    return _element(hint) if stage.options.batch is not None else hint


def result(fn: Callable[..., Any]) -> Any:
    """Return the annotated result of a function, or UNKNOWN."""
    return _hints(fn).get("return", UNKNOWN)


def parameters(fn: Callable[..., Any], count: int, names: tuple[str, ...] | None) -> list[Any]:
    """Return the annotated types of the parameters that `count` parts, or these keywords, would go to."""
    found = _hints(fn)
    if not found:
        return [UNKNOWN] * count
    if names is not None:
        return [found.get(name, UNKNOWN) for name in names]
    wanted: list[Any] = []
    for parameter in inspect.signature(fn).parameters.values():
        hint = found.get(parameter.name, UNKNOWN)
        if parameter.kind is parameter.VAR_POSITIONAL:
            wanted += [hint] * (count - len(wanted))
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            wanted.append(hint)
    return (wanted + [UNKNOWN] * count)[:count]


def cannot_fit(gives: Any, takes: Any) -> bool:
    """Return whether a value of type `gives` can never be one of type `takes`.

    Examples
    --------
    >>> cannot_fit(int, str), cannot_fit(int, float), cannot_fit(list[int], list[str])
    (True, False, True)
    """
    givers, takers = _members(gives), _members(takes)
    return not any(_may_fit(one, other) for one in givers for other in takers)


def show(hint: Any) -> str:
    """Return an annotation as a person would write it."""
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


def _may_fit(gives: Any, takes: Any) -> bool:
    one, other = _plain(gives), _plain(takes)
    if one is None or other is None:
        return True
    if (one, other) in _PROMOTIONS or issubclass(one, other):
        return _arguments_may_fit(gives, takes, one, other)
    if issubclass(other, one):
        return True  # a narrower type is wanted: it may well be one
    if _number_of_numpy(one) or _number_of_numpy(other):
        return True  # they stand for one another, more or less, and convert
    return abc.ABC in one.__mro__ or isinstance(one, abc.ABCMeta)  # some subclass may be the other as well


def _arguments_may_fit(gives: Any, takes: Any, one: type, other: type) -> bool:
    mine, theirs = typing.get_args(gives), typing.get_args(takes)
    if not mine or not theirs:
        return True
    if one is tuple and other is tuple:
        if Ellipsis in mine or Ellipsis in theirs:
            return True
        pairs = len(mine) == len(theirs)
        return pairs and not any(cannot_fit(a, b) for a, b in zip(mine, theirs, strict=True))
    if one in (list, set, frozenset) and len(mine) == len(theirs) == 1:
        return not cannot_fit(mine[0], theirs[0])
    if one is dict and other is dict:
        return not any(cannot_fit(a, b) for a, b in zip(mine, theirs, strict=True))
    return True


def _members(hint: Any) -> Sequence[Any]:
    if typing.get_origin(hint) in (Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def _plain(hint: Any) -> type | None:
    """Return the class behind an annotation, None where there is none to speak of."""
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if hint is None:
        return type(None)
    origin = typing.get_origin(hint) or hint
    if typing.is_typeddict(origin):
        return dict
    if not isinstance(origin, type) or origin in (object, type, Any):
        return None
    return None if getattr(origin, "_is_protocol", False) else origin


def _element(hint: Any) -> Any:
    """Return the element type of a batch's annotation."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in _SEQUENCES and arguments and Ellipsis not in arguments[:1]:
        return arguments[0]
    return UNKNOWN


def _number_of_numpy(cls: type) -> bool:
    return cls.__module__ == "numpy" and issubclass(cls, numbers.Number)


def _called(stage: Stage[Any, Any]) -> Callable[..., Any]:
    fn = stage.fn
    if stage.constructed or not isinstance(fn, (types.FunctionType, types.MethodType, types.BuiltinFunctionType, type)):
        return getattr(fn if stage.constructed else type(fn), "__call__", fn)
    return fn


def _parameters(fn: Callable[..., Any], bound_later: bool) -> list[str]:
    try:
        names = list(inspect.signature(fn).parameters)
    except (TypeError, ValueError):
        return []
    return names[1:] if bound_later else names


def _hints(fn: Callable[..., Any]) -> dict[str, Any]:
    if not getattr(fn, "__annotations__", None) or isinstance(fn, type):
        return {}
    try:
        return _cache[fn]
    except (KeyError, TypeError):
        pass
    try:
        found = typing.get_type_hints(fn)
    except Exception:  # a forward reference that does not resolve, or anything a user's annotation may do
        found = {}
    known = {name: UNKNOWN if hint is Any else hint for name, hint in found.items()}
    try:
        _cache[fn] = known
    except TypeError:
        pass
    return known
