"""Flows as Python: the code that makes a flow again, to be pasted into a test."""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import inspect
import math
import sys
import textwrap
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from dataflow.expr.flow import Flow
from dataflow.expr.nodes import (
    Chain,
    Combine,
    Each,
    Fallback,
    Fanout,
    Identity,
    Named,
    Race,
    Retry,
    Switch,
    Timeout,
)
from dataflow.expr.stage import Stage, StageClass, short_repr

Piece = str | Flow[Any, Any]

_POOL = "dataflow.testing.pool"


class NotWritable(ValueError):
    """Something that no Python expression makes again, such as a lambda."""


def to_python(flow: Flow[Any, Any]) -> str:
    """Return a flow as the Python expression that makes it again.

    Parameters
    ----------
    flow : Flow
        Its functions can be imported by name, and what else it holds can be written down.

    Returns
    -------
    str
        An expression over ``df``, ``pool`` (of `dataflow.testing`) and whatever modules its functions are in.

    Raises
    ------
    ValueError
        Where it holds a lambda, a local function, or an object that cannot be written.

    Examples
    --------
    >>> import dataflow as df
    >>> both = (df.stage(abs) | str.strip) >> df.combine(max, quorum=1)
    >>> to_python(both.retry(2))
    '((df.stage(abs) | df.stage(str.strip)) >> df.combine(max, quorum=1)).retry(2)'
    >>> eval(to_python(both)) == both
    True
    """
    return Writer().flow(flow)


class Writer:
    """Writes flows and values as Python, and keeps account of what the code needs.

    Parameters
    ----------
    homeless : collection of str
        Names of modules that cannot be imported elsewhere: what they define is written out in full.

    Attributes
    ----------
    imports : dict of str to None
        The import statements, in the order of their first use.
    definitions : dict of str to str
        Source of what had to be written out, by name.
    """

    def __init__(self, homeless: Iterable[str] = ()) -> None:
        self._homeless = frozenset(homeless)
        self.imports: dict[str, None] = {}
        self.definitions: dict[str, str] = {}

    def flow(self, root: Flow[Any, Any]) -> str:
        """Return a flow as an expression."""
        self.imports["import dataflow as df"] = None
        out: list[str] = []
        stack: list[Piece | Iterator[Piece]] = [root]
        while stack:
            top = stack.pop()
            if isinstance(top, str):
                out.append(top)
            elif isinstance(top, Iterator):
                piece = next(top, None)
                if piece is not None:
                    stack += (top, piece)
            else:
                stack.append(self._pieces(top))
        return "".join(out)

    def _pieces(self, flow: Flow[Any, Any]) -> Iterator[Piece]:
        match flow:
            case Identity():
                yield "df.identity"
            case Stage():
                yield self._stage(flow)
            case Chain():
                yield from _joined(flow.children, " >> ")
            case Fanout() if flow.grouped:
                yield "df.fanout("
                yield from self._branches(flow)
                yield ")"
            case Fanout():
                yield "("
                yield from _joined(flow.children, " | ")
                yield ")"
            case Combine():
                given = [] if flow.fn is None else [self.value(flow.fn)]
                given += [] if flow.quorum is None else [f"quorum={flow.quorum}"]
                given += [] if flow.within is None else [f"within={flow.within:g}"]
                yield f"df.combine({', '.join(given)})"
            case Switch():
                yield "df.switch("
                yield flow.key
                yield ", {"
                for index, (key, arm) in enumerate(zip(flow.keys, flow.arms, strict=True)):
                    yield f"{', ' if index else ''}{self.value(key)}: "
                    yield arm
                yield "}"
                if flow.default is not None:
                    yield ", default="
                    yield flow.default
                yield ")"
            case Each() | Race():
                yield f"df.{'each' if isinstance(flow, Each) else 'race'}("
                yield from _joined(flow.children, ", ")
                yield ")"
            case Retry():
                yield from _receiver(flow.body)
                backoff = f", backoff={flow.backoff:g}" if flow.backoff else ""
                yield f".retry({flow.times}{self._on(flow.on)}{backoff})"
            case Timeout():
                yield from _receiver(flow.body)
                yield f".timeout({flow.seconds:g})"
            case Fallback():
                yield from _receiver(flow.body)
                yield ".fallback("
                yield flow.handler
                yield f"{self._on(flow.on)})"
            case Named():
                yield from _receiver(flow.body)
                yield f".named({flow.name!r})"
            case _:
                raise NotWritable(f"no Python for a {type(flow).__name__}")

    def _branches(self, flow: Fanout[Any, *tuple[Any, ...]]) -> Iterator[Piece]:
        if flow.names is None:
            yield from _joined(flow.children, ", ")
            return
        plain = all(name.isidentifier() for name in flow.names)
        yield "" if plain else "**{"
        for index, (name, part) in enumerate(zip(flow.names, flow.children, strict=True)):
            yield f"{', ' if index else ''}{f'{name}=' if plain else f'{name!r}: '}"
            yield part
        yield "" if plain else "}"

    def _on(self, on: tuple[type[Exception], ...]) -> str:
        if on == (Exception,):
            return ""
        names = [self.value(cls) for cls in on]
        return f", on={names[0]}" if len(names) == 1 else f", on=({', '.join(names)})"

    def _stage(self, stage: Stage[Any, Any]) -> str:
        named = _holder(stage.fn)
        given = [self.value(arg) for arg in stage.args]
        given += [f"{name}={self.value(value)}" for name, value in stage.kwargs.items()]
        made = f"({', '.join(given)})" if stage.constructed else ""
        if isinstance(named, Stage) and named.params() == stage.params():
            return self._by_name(stage.fn)
        if isinstance(named, StageClass) and named.options == stage.options:
            return f"{self._by_name(stage.fn)}{made}"
        options = "".join(f", {name}={self.value(value)}" for name, value in stage.options.given().items())
        held = ".fn" if isinstance(named, (Stage, StageClass)) else ""
        return f"df.stage({self.value(stage.fn)}{held}{options}){made}"

    def value(self, value: Any) -> str:
        """Return a value as an expression."""
        kind = type(value)
        if value is None or value is ... or kind in (bool, int, str, bytes, complex):
            return repr(value)
        if kind is float:
            return repr(value) if math.isfinite(value) else f"float({str(value)!r})"
        if kind in (list, tuple, set, frozenset):
            return self._collection(value)
        if kind is dict:
            return f"{{{', '.join(f'{self.value(key)}: {self.value(item)}' for key, item in value.items())}}}"
        if isinstance(value, enum.Enum):
            return f"{self._by_name(kind)}.{value.name}"
        if isinstance(value, Flow):
            return self.flow(value)
        if kind is functools.partial:
            self.imports["import functools"] = None
            given = [self.value(part) for part in (value.func, *value.args)]
            given += [f"{name}={self.value(item)}" for name, item in value.keywords.items()]
            return f"functools.partial({', '.join(given)})"
        if kind in (types.MethodType, types.BuiltinMethodType) and not isinstance(value.__self__, types.ModuleType):
            return f"{self.value(value.__self__)}.{value.__name__}"
        if dataclasses.is_dataclass(kind):
            fields = [field for field in dataclasses.fields(kind) if field.init]
            given = [f"{field.name}={self.value(getattr(value, field.name))}" for field in fields]
            return f"{self._by_name(kind)}({', '.join(given)})"
        if callable(value):
            return self._by_name(value)
        if kind.__module__ == "numpy" and hasattr(value, "tolist"):
            self.imports["import numpy as np"] = None
            return f"np.array({self.value(value.tolist())}, dtype={str(value.dtype)!r})"
        raise NotWritable(f"{short_repr(value)}, a {kind.__qualname__}, cannot be written as Python")

    def _collection(self, value: Any) -> str:
        parts = [
            self.value(item) for item in (sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value)
        ]
        if isinstance(value, list):
            return f"[{', '.join(parts)}]"
        if isinstance(value, tuple):
            return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
        inside = f"{{{', '.join(parts)}}}" if parts else ""
        return inside if isinstance(value, set) and parts else f"{type(value).__name__}({inside})"

    def _by_name(self, thing: Any) -> str:
        owner = getattr(thing, "__objclass__", None)  # of str.strip, say
        module = getattr(owner or thing, "__module__", None)
        name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
        if module in self._homeless and isinstance(name, str) and "<" not in name and "." not in name:
            return self._written_out(thing, name)
        if module is None or name is None or not _found(thing, module, name):
            raise NotWritable(
                f"{short_repr(thing)} cannot be imported by name: define it at the top level of a module, in place of "
                "a lambda or a local function"
            )
        if module in ("builtins", "__main__"):
            return str(name)
        if module == _POOL:
            self.imports["from dataflow.testing import pool"] = None
            return f"pool.{name}"
        self.imports[f"import {module}"] = None
        return f"{module}.{name}"

    def _written_out(self, thing: Any, name: str) -> str:
        if name not in self.definitions:
            self.definitions[name] = ""  # it may refer to itself
            try:
                source = textwrap.dedent(inspect.getsource(thing))
            except (OSError, TypeError) as error:
                raise NotWritable(f"the source of {name} is not to be had: {error}") from error
            needed = dict(_globals_of(thing))
            self.definitions.pop(name)
            for other, value in needed.items():
                self._needed(other, value)
            self.definitions[name] = source
        return name

    def _needed(self, name: str, value: Any) -> None:
        """Take in what a function that is written out uses."""
        if name in self.definitions or name == "df":
            return
        if isinstance(value, types.ModuleType):
            self.imports[f"import {value.__name__}" + (f" as {name}" if name != value.__name__ else "")] = None
        elif isinstance(value, (Stage, StageClass)) and getattr(value.fn, "__module__", None) in self._homeless:
            self._by_name(value.fn)
        elif getattr(value, "__module__", None) in self._homeless and callable(value):
            self._by_name(value)
        elif getattr(value, "__module__", None) in sys.modules and hasattr(value, "__qualname__"):
            self.imports[f"from {value.__module__} import {value.__qualname__} as {name}"] = None
        else:
            self.definitions[name] = f"{name} = {self.value(value)}\n"


def _joined(parts: Iterable[Flow[Any, Any]], between: str) -> Iterator[Piece]:
    for index, part in enumerate(parts):
        if index:
            yield between
        yield part


def _receiver(body: Flow[Any, Any]) -> Iterator[Piece]:
    yield from ("(", body, ")") if isinstance(body, Chain) else (body,)


def _holder(fn: Callable[..., Any]) -> Any:
    """Return what is found under a function's name: itself, or the stage that a decorator made of it."""
    return _look_up(getattr(fn, "__module__", None), getattr(fn, "__qualname__", None))


def _look_up(module: Any, name: Any) -> Any:
    if not isinstance(module, str) or not isinstance(name, str) or "<" in name:
        return None
    try:
        return functools.reduce(getattr, name.split("."), sys.modules.get(module) or importlib.import_module(module))
    except (AttributeError, ImportError):
        return None


def _found(thing: Any, module: str, name: str) -> bool:
    found = _look_up(module, name)
    return found is thing or getattr(found, "fn", None) is thing


def _globals_of(thing: Any) -> Iterator[tuple[str, Any]]:
    """Yield the global names that a function, or a class's methods, use, with their values."""
    functions = (
        [thing]
        if isinstance(thing, types.FunctionType)
        else [member for member in vars(thing).values() if isinstance(member, types.FunctionType)]
    )
    for function in functions:
        codes = [function.__code__]
        while codes:
            code = codes.pop()
            codes += [const for const in code.co_consts if isinstance(const, types.CodeType)]
            for name in code.co_names:
                if name in function.__globals__:
                    yield name, function.__globals__[name]
