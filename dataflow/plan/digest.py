"""The digest of a plan: equal in every process that would run the same thing, different where something else is run.

It is taken of the graph's ops, and of what users gave: functions by their name, code, defaults and closure; values that
flows compare by what they hold (`dataflow.expr.keys`) by that; other objects by their type, for nothing but their place
in memory tells them apart. What differs between processes does not go in: no address, no ``repr`` of what may hold one,
no order of a set. A Python of another version compiles to other code and gives another digest.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import functools
import hashlib
import numbers
import pathlib
import types
from collections.abc import Callable
from typing import Any, cast

from dataflow.expr.flow import Flow
from dataflow.expr.stage import Stage
from dataflow.graph import Region, lower, regions

_PLAIN = (type(None), bool, int, float, str, bytes)
_BY_REPR = (*_PLAIN, numbers.Number, datetime.date, datetime.time, datetime.timedelta, range)
_ELSEWHERE = ("origin", "body", "handler", "arms", "competitors", "branches")
"""The fields of ops that say nothing of what is run, or hold regions, whose digests go in."""


def digest(region: Region) -> str:
    """Return the digest of a graph as 16 hexadecimal digits.

    Examples
    --------
    >>> import dataflow as df
    >>> from dataflow.graph import lower
    >>> digest(lower(df.stage(abs) >> str)) == digest(lower(df.stage(abs) >> str))
    True
    """
    return _digest(region, ())[:16]


def _digest(root: Region, inside: tuple[int, ...]) -> str:
    done: dict[int, str] = {}  # by the identity of regions, for one that is shared counts once
    stages: dict[int, str] = {}
    for region in regions(root):
        state = hashlib.sha256()
        for node in region.nodes:
            op, kind = node.op, cast("Any", type(node.op))
            state.update(f"{op.name} {node.inputs} {node.after}".encode())
            for body in op.bodies:
                state.update(done[id(body)].encode())
            for name in _fields(kind):
                value = getattr(op, name)
                if isinstance(value, Stage):
                    if id(value) not in stages:
                        stages[id(value)] = _identify(value, inside)
                    state.update(stages[id(value)].encode())
                else:
                    state.update(_identify(value, inside).encode())
        done[id(region)] = state.hexdigest()
    return done[id(root)]


@functools.cache
def _fields(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind) if field.name not in _ELSEWHERE)


def _identify(value: Any, inside: tuple[int, ...]) -> str:
    """Return text that tells a value from others as far as can be done the same in every process."""
    kind = type(value)
    if kind in _PLAIN:
        return f"{kind.__name__}:{value!r};"
    if isinstance(value, enum.Enum):
        return f"{_name(kind)}{value.name};"
    if isinstance(value, _BY_REPR):
        return f"{_name(kind)}{value!r};"
    if isinstance(value, pathlib.PurePath):
        return f"{_name(kind)}{value};"
    if id(value) in inside:  # a function that calls itself, a list that holds itself
        return f"inside {len(inside) - inside.index(id(value))};"
    inside = (*inside, id(value))
    if isinstance(value, (set, frozenset)):
        return f"{_name(kind)}({''.join(sorted(_identify(item, inside) for item in value))})"
    parts = _parts(value)
    # a flow that has been called is of a class of its own: see `first_call`
    named = value.kind if isinstance(value, Flow) else value if callable(value) else kind
    return f"{_name(named)}({''.join(_identify(part, inside) for part in parts)})"


def _parts(value: Any) -> tuple[Any, ...]:
    """Return what an object is told from others of its type or name by."""
    match value:
        case tuple() | list():
            return tuple(value)
        case dict():
            return tuple(value.items())
        case Stage():
            made = _methods(value.fn) if value.constructed else ()
            return (value.fn, *made, value.args, tuple(sorted(value.kwargs.items())), value.options.given())
        case Flow():
            return (_digest(lower(value), ()),)
        case functools.partial():
            return (value.func, value.args, value.keywords)
        case types.FunctionType():
            cells = tuple(_contents(cell) for cell in value.__closure__ or ())
            return (value.__code__, value.__defaults__, value.__kwdefaults__, cells)
        case types.CodeType():
            names = (value.co_names, value.co_varnames, value.co_freevars)
            return (value.co_code, value.co_consts, repr(names))
        case types.MethodType():
            return (value.__func__, type(value.__self__))
        case types.BuiltinMethodType():
            return (value.__self__,) if isinstance(value.__self__, (str, bytes)) else ()
        case type():
            return ()
    kind: Any = type(value)
    if dataclasses.is_dataclass(value) and kind.__dataclass_params__.frozen:
        return tuple(getattr(value, field.name) for field in dataclasses.fields(kind))
    return _methods(kind) if callable(value) else ()


def _methods(cls: Any) -> tuple[Callable[..., Any], ...]:
    """Return the functions that a class itself defines, in the order of their names."""
    return tuple(member for _, member in sorted(vars(cls).items()) if isinstance(member, types.FunctionType))


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _name(thing: Any) -> str:
    """Return a callable's or a type's full name; of another object that is called, its type's."""
    named = thing if hasattr(thing, "__qualname__") or hasattr(thing, "__name__") else type(thing)
    # where a class is written gets lost on its way to another process, if it is in a function
    name = named.__name__ if isinstance(named, type) else getattr(named, "__qualname__", None) or named.__name__
    return f"{getattr(named, '__module__', None)}.{name}:"
