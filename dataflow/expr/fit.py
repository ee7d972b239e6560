"""Checks made when an expression is written: can these neighbours fit at all?

A check refuses only what is sure to fail. What it cannot see (no annotation, no signature, a protocol) passes.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from dataflow.errors import CompositionError
from dataflow.expr import hints
from dataflow.expr.nodes import Chain, Combine, Each, Fallback, Fanout, Identity, Named, Race, Retry, Switch, Timeout
from dataflow.expr.origin import Origin, caller, definition
from dataflow.expr.stage import Stage, qualified_name, short_name, short_repr

if TYPE_CHECKING:
    from dataflow.expr.flow import Flow

_Exit = tuple["Flow[Any, Any]", int]
_signatures: WeakKeyDictionary[Callable[..., Any], inspect.Signature] = WeakKeyDictionary()


def check_one_argument(fn: Callable[..., Any], *, batched: bool, instance: bool = False) -> None:
    """Refuse a callable, or a class by its `instance`, that cannot be called with exactly one positional argument."""
    if type(fn) is types.FunctionType:  # the common case, without building a signature
        code, defaults = fn.__code__, len(fn.__defaults__ or ())
        required_keywords = code.co_kwonlyargcount - len(fn.__kwdefaults__ or ())
        most = code.co_argcount >= 1 or code.co_flags & inspect.CO_VARARGS
        if most and code.co_argcount - defaults <= 1 and required_keywords <= 0:
            return
    called = getattr(fn, "__call__", fn) if instance else fn
    if accepts(called, 2 if instance else 1):
        return
    what = "a list of items" if batched else "one item"
    raise CompositionError(
        f"{describe(fn)} cannot be a stage ({caller()}): a stage is called with one argument, {what}, "
        f"and its signature is {signature(called)}; bind the others with functools.partial or a lambda"
    )


def check_chain(left: Flow[Any, Any], right: Flow[Any, Any]) -> None:
    """Refuse ``left >> right`` where what `left` gives can never fit what `right` takes."""
    for entry, depth in entries(right):
        if isinstance(entry, Combine):
            if entry.quorum is not None and not (entry is _unnamed(_first(right)) and _direct(left)):
                raise CompositionError(
                    f"{entry!r} ({entry.origin}) needs the branches themselves, to go on without some of them, so it "
                    "must stand directly behind its fan-out, which must stand directly before it: "
                    "write (f | g) >> combine(fn, quorum=k)"
                )
            if depth == 0:
                _check_combine(left, entry)
        elif isinstance(entry, Stage):
            takes = hints.taken(entry)
            if takes is not hints.UNKNOWN:
                _check_hints(left, entry, depth, takes)


def entries(flow: Flow[Any, Any]) -> Iterator[_Exit]:
    """Yield the stages and combines that a flow's input reaches first, and inside how many ``each`` they lie."""
    stack: list[_Exit] = [(flow, 0)]
    seen: set[int] = set()
    while stack:
        node, depth = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, (Stage, Combine)):
            yield node, depth
        elif isinstance(node, Chain):
            stack.append((node.first, depth))
        elif isinstance(node, Each):
            stack.append((node.body, depth + 1))
        else:
            stack.extend((child, depth) for child in reversed(node.children))


def exits(flow: Flow[Any, Any]) -> Iterator[_Exit]:
    """Yield the nodes whose result can be a flow's result, and inside how many ``each`` they lie."""
    stack: list[_Exit] = [(flow, 0)]
    seen: set[int] = set()
    while stack:
        node, depth = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Chain):
            stack.append((node.last, depth))
        elif isinstance(node, Each):
            stack.append((node.body, depth + 1))
        elif isinstance(node, (Named, Retry, Timeout)):
            stack.append((node.body, depth))
        elif isinstance(node, Switch):
            stack.extend((arm, depth) for arm in reversed(node.children[1:]))
        elif isinstance(node, (Race, Fallback)):
            stack.extend((child, depth) for child in reversed(node.children))
        else:
            yield node, depth


def _check_combine(left: Flow[Any, Any], entry: Combine[Any, Any]) -> None:
    for source, depth in exits(left):
        if isinstance(source, Identity) or (isinstance(source, Combine) and source.fn is None):
            continue
        if depth or not isinstance(source, Fanout):
            raise CompositionError(
                f"{entry!r} ({entry.origin}) gathers the branches of a fan-out, but what comes before it is "
                f"{short_repr(source)} ({source.origin}), which gives one value; "
                "put a fan-out before it (f | g), or use a plain stage that takes one argument"
            )
        _check_arity(source, entry)
        _check_parts(source, entry)


def _direct(left: Flow[Any, Any]) -> bool:
    return isinstance(_unnamed(left.last if isinstance(left, Chain) else left), Fanout)


def _first(flow: Flow[Any, Any]) -> Flow[Any, Any]:
    return flow.first if isinstance(flow, Chain) else flow


def _unnamed(flow: Flow[Any, Any]) -> Flow[Any, Any]:
    while isinstance(flow, Named):
        flow = flow.body
    return flow


def _check_arity(source: Fanout[Any, Any], entry: Combine[Any, Any]) -> None:
    count, names = len(source.children), source.names
    if entry.quorum is not None and entry.quorum > count:
        raise CompositionError(
            f"{entry!r} ({entry.origin}) wants {entry.quorum} successes, but the fan-out ({source.origin}) has only "
            f"{count} branches"
        )
    if entry.fn is None:
        return
    if names is not None:
        if entry.quorum is not None or accepts(entry.fn, 0, names):
            return
        gives = f"is called with the keywords {', '.join(names)}"
    else:
        fewest = count if entry.quorum is None else entry.quorum
        if any(accepts(entry.fn, parts) for parts in range(fewest, count + 1)):
            return
        gives = f"is called with {count} part{'s' if count != 1 else ''}"
    raise CompositionError(
        f"{describe(entry.fn)} cannot combine this fan-out: {entry!r} ({entry.origin}) {gives}, one a branch of "
        f"{short_repr(source, 120)} ({source.origin}), and its signature is {signature(entry.fn)}; "
        "change its parameters, or the branches"
    )


def _check_parts(source: Fanout[Any, Any], entry: Combine[Any, Any]) -> None:
    """Refuse a branch whose annotated result can never fit the parameter of the combining function."""
    if entry.fn is None or entry.quorum is not None:
        return
    wanted = hints.parameters(entry.fn, len(source.children), source.names)
    for part, takes in zip(source.children, wanted, strict=True):
        if takes is not hints.UNKNOWN:
            _check_hints(part, entry, 0, takes)


def _check_hints(left: Flow[Any, Any], entry: Stage[Any, Any] | Combine[Any, Any], depth: int, takes: Any) -> None:
    for source, level in exits(left):
        gives = _given(source)
        if gives is hints.UNKNOWN or level < depth:
            continue
        for _ in range(level - depth):
            gives = list[gives]  # type: ignore[valid-type]
        if hints.cannot_fit(gives, takes):
            raise CompositionError(
                f"{_label(source)} ({source.origin}) gives {hints.show(gives)}, and {_label(entry)} ({entry.origin}) "
                f"takes {hints.show(takes)}: they cannot follow one another ({caller()}); put a stage between them "
                "that converts, or correct the annotation that is wrong"
            )


def _given(source: Flow[Any, Any]) -> Any:
    if isinstance(source, Stage):
        return hints.given(source)
    if isinstance(source, Combine) and source.fn is not None:
        return hints.result(source.fn)
    if isinstance(source, Fanout):
        if source.names is not None:
            return dict
        if len(source.children) > 64:
            return tuple
        parts = []
        for part in source.children:
            last = part.last if isinstance(part, Chain) else part
            known = hints.given(last) if isinstance(last, Stage) else hints.UNKNOWN
            parts.append(Any if known is hints.UNKNOWN else known)
        return tuple[tuple(parts)]  # type: ignore[misc]
    return hints.UNKNOWN


def _label(node: Flow[Any, Any]) -> str:
    return f"stage {short_name(node.name)!r}" if isinstance(node, Stage) else short_repr(node, 80)


def accepts(fn: Callable[..., Any], count: int, names: tuple[str, ...] = ()) -> bool:
    """Return whether a call with `count` positional arguments and these keywords would bind; True where unknown."""
    known = _signature(fn)
    if known is None:
        return True
    try:
        known.bind(*(None,) * count, **dict.fromkeys(names))
    except TypeError:
        return False
    return True


def describe(fn: Callable[..., Any]) -> str:
    """Return a callable's name with where it was defined."""
    place: Origin | None = definition(fn)
    return short_name(qualified_name(fn)) + (f" ({place})" if place else "")


def signature(fn: Callable[..., Any]) -> str:
    """Return a callable's signature as text."""
    return str(_signature(fn))


def _signature(fn: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return _signatures[fn]
    except (KeyError, TypeError):
        pass
    try:
        found = inspect.signature(fn, follow_wrapped=False)  # a decorator may pass arguments of its own
    except (TypeError, ValueError):  # built-ins may have none
        return None
    try:
        _signatures[fn] = found
    except TypeError:  # not weakly referable or hashable
        pass
    return found
