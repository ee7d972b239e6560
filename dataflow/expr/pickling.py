"""Pickling expressions: as a flat list of distinct nodes, children first.

The list keeps shared parts shared and needs no recursion however deep the expression is. A function that a decorator
has replaced by its stage (``@df.stage def f``) is no longer found under its own name; it travels as the name of the
stage, which is importable wherever the function was.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any

from dataflow.expr.flow import Flow
from dataflow.expr.stage import Stage, StageClass
from dataflow.expr.walk import postorder

_Row = tuple[type[Flow[Any, Any]], tuple[Any, ...], tuple[int, ...]]


def reduce(flow: Flow[Any, Any]) -> tuple[Any, ...]:
    """Return what pickle needs to build `flow` again."""
    index: dict[int, int] = {}
    rows: list[_Row] = []
    for node in postorder(flow):
        index[id(node)] = len(rows)
        spec = node.spec()
        if isinstance(node, Stage):
            spec = (_Portable(node.fn), *spec[1:])
        rows.append((node.kind, spec, tuple(index[id(child)] for child in node.children)))
    return _restore, (tuple(rows),)


def _restore(rows: tuple[_Row, ...]) -> Flow[Any, Any]:
    nodes: list[Flow[Any, Any]] = []
    for kind, spec, children in rows:
        nodes.append(kind.make(tuple(nodes[child] for child in children), *spec))
    return nodes[-1]


class _Portable:
    """A function, or the name of the stage that took the function's name; it unpickles as the function itself."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def __reduce__(self) -> tuple[Any, ...]:
        module, name = getattr(self.fn, "__module__", None), getattr(self.fn, "__qualname__", None)
        if module in sys.modules and module != "__main__" and name is not None and "<" not in name:
            holder = _look_up(sys.modules[module], name)
            if any(fn is self.fn for fn in _functions(holder)):
                return _by_name, (module, name)
        return _itself, (self.fn,)


def _look_up(module: Any, name: str) -> Any:
    try:
        return functools.reduce(getattr, name.split("."), module)
    except AttributeError:
        return None


def _functions(holder: Any) -> list[Any]:
    """Return the functions of the stage, or of the larger flow, that took a function's name."""
    if isinstance(holder, StageClass):
        return [holder.fn]
    return [node.fn for node in postorder(holder) if isinstance(node, Stage)] if isinstance(holder, Flow) else []


def _by_name(module: str, name: str) -> Any:
    found = _functions(_look_up(importlib.import_module(module), name))
    return next(fn for fn in found if fn.__module__ == module and fn.__qualname__ == name)


def _itself(fn: Any) -> Any:
    return fn
