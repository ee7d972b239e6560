"""The digest of a plan: equal in every process that would run the same thing.

It is taken of the graph's ops and of what identifies each user function: its module, name and code. Nothing that
differs between processes (addresses, hash seeds, the order of sets) goes in.
"""

from __future__ import annotations

import functools
import hashlib
import types
from typing import Any

from dataflow.graph import Region, ops, regions


def digest(region: Region) -> str:
    """Return the digest of a graph as 16 hexadecimal digits.

    Examples
    --------
    >>> import dataflow as df
    >>> from dataflow.graph import lower
    >>> digest(lower(df.stage(abs) >> str)) == digest(lower(df.stage(abs) >> str))
    True
    """
    done: dict[int, str] = {}  # by the identity of regions, for one that is shared counts once
    for part in regions(region):
        state = hashlib.sha256()
        for node in part.nodes:
            state.update(f"{node.op.head()} {node.op.tail()} {node.inputs} {node.after}".encode())
            for body in node.op.bodies:
                state.update(done[id(body)].encode())
            for thing in _identifying(node.op):
                state.update(_identify(thing).encode())
        done[id(part)] = state.hexdigest()
    return done[id(region)][:16]


def _identifying(op: ops.Op) -> tuple[Any, ...]:
    match op:
        case ops.Call():
            stage = op.stage
            return (stage.fn, stage.args, tuple(sorted(stage.kwargs.items())), str(stage.options))
        case ops.Spread() | ops.Apply() | ops.Quorum():
            return (op.fn,)
        case ops.Route() | ops.Switch():
            return (op.keys,)
    return ()


def _identify(value: Any) -> str:
    """Return text that tells a value from others as far as can be done the same in every process."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return f"{type(value).__name__}:{value!r};"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__}({''.join(_identify(item) for item in value)})"
    if isinstance(value, dict):
        return f"dict({''.join(_identify(key) + _identify(item) for key, item in value.items())})"
    if isinstance(value, (set, frozenset)):
        return f"set({''.join(sorted(_identify(item) for item in value))})"
    if isinstance(value, functools.partial):
        return f"partial({_identify(value.func)}{_identify(value.args)}{_identify(value.keywords)})"
    if isinstance(value, types.CodeType):
        names = (*value.co_names, *value.co_varnames, *value.co_freevars)
        return f"code({value.co_code.hex()}{_identify(value.co_consts)}{_identify(names)})"
    if isinstance(value, types.FunctionType):
        held = tuple(cell.cell_contents for cell in value.__closure__ or () if _plain(cell))
        return f"{_name(value)}{_identify((value.__code__, value.__defaults__, value.__kwdefaults__, held))}"
    if isinstance(value, types.MethodType):
        return f"method({_name(type(value.__self__))}{_identify(value.__func__)})"
    if isinstance(value, type) or callable(value):
        return _name(value if hasattr(value, "__qualname__") else type(value))
    return f"{_name(type(value))};"


def _plain(cell: types.CellType) -> bool:
    try:
        return isinstance(cell.cell_contents, (bool, int, float, complex, str, bytes, tuple, type(None)))
    except ValueError:  # not filled yet
        return False


def _name(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__qualname__)};"
