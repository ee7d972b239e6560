"""The expression's other nodes: how stages are put together.

A node holds its own parameters and its children, and knows no graph, plan or executor.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Any, Generic, cast, overload

from dataflow.expr import options, walk
from dataflow.expr.flow import Flow
from dataflow.expr.keys import callable_key, value_key
from dataflow.expr.origin import Origin
from dataflow.expr.stage import qualified_name, short_name, short_repr
from dataflow.expr.typed import A, B, C, In, Out, T, Ts

_set = object.__setattr__


class Identity(Flow[Any, Any]):
    """The flow that gives its input back.

    Examples
    --------
    >>> import dataflow as df
    >>> (df.identity | abs)(-2)
    (-2, 2)
    """

    __slots__ = ()

    if TYPE_CHECKING:  # of any type, and then of that same type

        def __call__(self, item: T) -> T: ...
        def __rshift__(self, other: Callable[[A], B]) -> Flow[A, B]: ...
        def __rrshift__(self, other: Callable[[A], B]) -> Flow[A, B]: ...
        def __or__(self, other: Callable[[A], B]) -> Fanout[A, A, B]: ...  # type: ignore[override]
        def __ror__(self, other: Callable[[A], B]) -> Fanout[A, B, A]: ...

    def pieces(self) -> Iterator[str | Flow[Any, Any]]:
        yield "identity"


class Chain(Flow[In, Out]):
    """``f >> g >> h``: held as the pair it was written as, read as one flat sequence.

    The pair makes ``>>`` cost the same however long the chain already is; the flat reading makes it associative.
    """

    __slots__ = ("_left", "_parts", "_right")

    _left: Flow[Any, Any]
    _right: Flow[Any, Any]
    _parts: tuple[Flow[Any, Any], ...] | None

    def __init__(self, left: Flow[Any, Any], right: Flow[Any, Any], origin: Origin | None = None) -> None:
        super().__init__(left.origin if origin is None else origin)
        _set(self, "_left", left)
        _set(self, "_right", right)
        _set(self, "_parts", None)

    @property
    def children(self) -> tuple[Flow[Any, Any], ...]:
        if self._parts is None:
            _set(self, "_parts", walk.flatten(self, Chain))
        return cast("tuple[Flow[Any, Any], ...]", self._parts)

    @property
    def first(self) -> Flow[Any, Any]:
        """The part that the input reaches first."""
        node: Flow[Any, Any] = self
        while isinstance(node, Chain):
            node = node._left
        return node

    @property
    def last(self) -> Flow[Any, Any]:
        """The part whose result is the chain's."""
        node: Flow[Any, Any] = self
        while isinstance(node, Chain):
            node = node._right
        return node

    def spec(self) -> tuple[Any, ...]:
        return ()

    @classmethod
    def make(cls, children: tuple[Flow[Any, Any], ...], *spec: Any) -> Flow[Any, Any]:
        return functools.reduce(Chain, children)

    def pieces(self) -> Iterator[str | Flow[Any, Any]]:
        for index, part in enumerate(self.children):
            if index:
                yield " >> "
            yield part


class Fanout(Flow[In, tuple[*Ts]], Generic[In, *Ts]):
    """Several flows over one input. ``f | g`` stays open, so that ``| h`` joins it; `fanout` makes a closed group."""

    __slots__ = ("_left", "_parts", "_right", "names")

    names: tuple[str, ...] | None
    _left: Flow[Any, Any] | None
    _right: Flow[Any, Any] | None
    _parts: tuple[Flow[Any, Any], ...] | None

    def __init__(
        self,
        parts: tuple[Flow[Any, Any], ...] | None = None,
        names: tuple[str, ...] | None = None,
        *,
        pair: tuple[Flow[Any, Any], Flow[Any, Any]] | None = None,
        origin: Origin | None = None,
    ) -> None:
        super().__init__(origin)
        _set(self, "names", names)
        _set(self, "_parts", parts)
        _set(self, "_left", pair[0] if pair else None)
        _set(self, "_right", pair[1] if pair else None)

    @property
    def grouped(self) -> bool:
        """Whether it is a group of its own, made by `fanout`; one written with ``|`` takes in further branches."""
        return self._left is None

    @property
    def children(self) -> tuple[Flow[Any, Any], ...]:
        if self._parts is None:
            _set(self, "_parts", walk.flatten(self, Fanout))
        return cast("tuple[Flow[Any, Any], ...]", self._parts)

    def params(self) -> Hashable:
        return (self.grouped, self.names)

    def spec(self) -> tuple[Any, ...]:
        return (self.names, self.grouped, self.origin)

    @classmethod
    def make(cls, children: tuple[Flow[Any, Any], ...], *spec: Any) -> Flow[Any, Any]:
        names, grouped, origin = spec
        if grouped:
            return Fanout(children, names, origin=origin)
        return functools.reduce(lambda left, right: Fanout(pair=(left, right), origin=origin), children)

    @overload  # type: ignore[override]
    def __or__(self, other: Fanout[In, A, B]) -> Fanout[In, *Ts, A, B]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __or__(self, other: Fanout[In, A, B, C]) -> Fanout[In, *Ts, A, B, C]: ...
    @overload
    def __or__(self, other: Fanout[In, *tuple[Any, ...]]) -> Fanout[In, *tuple[Any, ...]]: ...
    @overload
    def __or__(self, other: Callable[[In], T]) -> Fanout[In, *Ts, T]: ...
    def __or__(self, other: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().__or__(other)

    if TYPE_CHECKING:

        def __ror__(self, other: Callable[[In], T]) -> Fanout[In, T, *Ts]: ...  # type: ignore[override]

    def pieces(self) -> Iterator[str | Flow[Any, Any]]:
        yield "fanout(" if self.grouped else "("
        for index, part in enumerate(self.children):
            if index:
                yield ", " if self.grouped else " | "
            if self.names is not None:
                yield f"{self.names[index]}="
            yield part
        yield ")"


class Combine(Flow[In, Out]):
    """What gathers the branches of a fan-out."""

    __slots__ = ("fn", "quorum", "within")

    fn: Callable[..., Any] | None
    quorum: int | None
    within: float | None

    def __init__(
        self, fn: Callable[..., Any] | None, quorum: int | None, within: float | None, origin: Origin | None = None
    ) -> None:
        super().__init__(origin)
        _set(self, "fn", fn)
        _set(self, "quorum", quorum)
        _set(self, "within", within)

    def params(self) -> Hashable:
        return (None if self.fn is None else callable_key(self.fn), self.quorum, self.within)

    def spec(self) -> tuple[Any, ...]:
        return (self.fn, self.quorum, self.within, self.origin)

    def pieces(self) -> Iterator[str | Flow[Any, Any]]:
        given = [] if self.fn is None else [short_name(qualified_name(self.fn))]
        given += [] if self.quorum is None else [f"quorum={self.quorum}"]
        given += [] if self.within is None else [f"within={self.within}"]
        yield f"combine({', '.join(given)})"


class Switch(Flow[In, Out]):
    """Routing by the data: ``cases[key(x)](x)``."""

    __slots__ = ("arms", "default", "key", "keys")

    key: Flow[Any, Any]
    keys: tuple[Hashable, ...]
    arms: tuple[Flow[Any, Any], ...]
    default: Flow[Any, Any] | None

    def __init__(
        self,
        key: Flow[Any, Any],
        keys: tuple[Hashable, ...],
        arms: tuple[Flow[Any, Any], ...],
        default: Flow[Any, Any] | None,
        origin: Origin | None = None,
    ) -> None:
        super().__init__(origin)
        _set(self, "key", key)
        _set(self, "keys", keys)
        _set(self, "arms", arms)
        _set(self, "default", default)

    @property
    def children(self) -> tuple[Flow[Any, Any], ...]:
        return (self.key, *self.arms, *(() if self.default is None else (self.default,)))

    def params(self) -> Hashable:
        return (tuple(value_key(key) for key in self.keys), self.default is not None)

    def spec(self) -> tuple[Any, ...]:
        return (self.keys, self.default is not None, self.origin)

    @classmethod
    def make(cls, children: tuple[Flow[Any, Any], ...], *spec: Any) -> Flow[Any, Any]:
        keys, has_default, origin = spec
        arms = children[1 : len(keys) + 1]
        return Switch(children[0], keys, arms, children[-1] if has_default else None, origin)

    def pieces(self) -> Iterator[str | Flow[Any, Any]]:
        yield "switch("
        yield self.key
        yield ", {"
        for index, (key, arm) in enumerate(zip(self.keys, self.arms, strict=True)):
            yield f"{', ' if index else ''}{short_repr(key)}: "
            yield arm
        yield "}"
        if self.default is not None:
            yield ", default="
            yield self.default
        yield ")"


class Each(Flow[In, Out]):
    """A flow over each element of an item."""

    __slots__ = ("body",)

    body: Flow[Any, Any]

    def __init__(self, body: Flow[Any, Any], origin: Origin | None = None) -> None:
        super().__init__(origin)
        _set(self, "body", body)

    @property
    def children(self) -> tuple[Flow[Any, Any], ...]:
        return (self.body,)

    def pieces(self) -> Iterator[str | Flow[Any, Any]]:
        yield "each("
        yield self.body
        yield ")"


class Race(Flow[In, Out]):
    """The first success among several flows over one input."""

    __slots__ = ("bodies",)

    bodies: tuple[Flow[Any, Any], ...]

    def __init__(self, bodies: tuple[Flow[Any, Any], ...], origin: Origin | None = None) -> None:
        super().__init__(origin)
        _set(self, "bodies", bodies)

    @property
    def children(self) -> tuple[Flow[Any, Any], ...]:
        return self.bodies

    @classmethod
    def make(cls, children: tuple[Flow[Any, Any], ...], *spec: Any) -> Flow[Any, Any]:
        return Race(children, *spec)

    def pieces(self) -> Iterator[str | Flow[Any, Any]]:
        yield "race("
        for index, body in enumerate(self.bodies):
            if index:
                yield ", "
            yield body
        yield ")"


class Retry(Flow[In, Out]):
    """A flow that is tried again where it fails."""

    __slots__ = ("backoff", "body", "on", "times")

    body: Flow[Any, Any]
    times: int
    on: tuple[type[Exception], ...]
    backoff: float

    def __init__(
        self,
        body: Flow[Any, Any],
        times: int,
        on: type[Exception] | tuple[type[Exception], ...],
        backoff: float,
        origin: Origin | None = None,
    ) -> None:
        super().__init__(origin)
        _set(self, "body", body)
        _set(self, "times", options.whole_number("retry", "times", times, 1))
        _set(self, "on", options.exception_types("retry", on))
        _set(self, "backoff", options.duration("retry", "backoff", backoff, zero=True))

    @property
    def children(self) -> tuple[Flow[Any, Any], ...]:
        return (self.body,)

    def params(self) -> Hashable:
        return (self.times, self.on, self.backoff)

    def spec(self) -> tuple[Any, ...]:
        return (self.times, self.on, self.backoff, self.origin)

    def pieces(self) -> Iterator[str | Flow[Any, Any]]:
        yield from _receiver(self.body)
        yield f".retry({self.times}{_on(self.on)}{f', backoff={self.backoff}' if self.backoff else ''})"


class Timeout(Flow[In, Out]):
    """A flow with a limit on its time."""

    __slots__ = ("body", "seconds")

    body: Flow[Any, Any]
    seconds: float

    def __init__(self, body: Flow[Any, Any], seconds: float, origin: Origin | None = None) -> None:
        super().__init__(origin)
        _set(self, "body", body)
        _set(self, "seconds", options.duration("timeout", "seconds", seconds, zero=False))

    @property
    def children(self) -> tuple[Flow[Any, Any], ...]:
        return (self.body,)

    def params(self) -> Hashable:
        return (self.seconds,)

    def spec(self) -> tuple[Any, ...]:
        return (self.seconds, self.origin)

    def pieces(self) -> Iterator[str | Flow[Any, Any]]:
        yield from _receiver(self.body)
        yield f".timeout({self.seconds:g})"


class Fallback(Flow[In, Out]):
    """A flow, and another that takes over where it fails."""

    __slots__ = ("body", "handler", "on")

    body: Flow[Any, Any]
    handler: Flow[Any, Any]
    on: tuple[type[Exception], ...]

    def __init__(
        self,
        body: Flow[Any, Any],
        handler: Flow[Any, Any],
        on: type[Exception] | tuple[type[Exception], ...],
        origin: Origin | None = None,
    ) -> None:
        super().__init__(origin)
        _set(self, "body", body)
        _set(self, "handler", handler)
        _set(self, "on", options.exception_types("fallback", on))

    @property
    def children(self) -> tuple[Flow[Any, Any], ...]:
        return (self.body, self.handler)

    def params(self) -> Hashable:
        return self.on

    def spec(self) -> tuple[Any, ...]:
        return (self.on, self.origin)

    def pieces(self) -> Iterator[str | Flow[Any, Any]]:
        yield from _receiver(self.body)
        yield ".fallback("
        yield self.handler
        yield f"{_on(self.on)})"


class Named(Flow[In, Out]):
    """A flow larger than a stage, under a name of its own."""

    __slots__ = ("body", "name")

    body: Flow[Any, Any]
    name: str

    def __init__(self, body: Flow[Any, Any], name: str, origin: Origin | None = None) -> None:
        super().__init__(origin)
        _set(self, "body", body)
        _set(self, "name", name)

    @property
    def children(self) -> tuple[Flow[Any, Any], ...]:
        return (self.body,)

    def params(self) -> Hashable:
        return self.name

    def spec(self) -> tuple[Any, ...]:
        return (self.name, self.origin)

    def pieces(self) -> Iterator[str | Flow[Any, Any]]:
        yield from _receiver(self.body)
        yield f".named({self.name!r})"


def _receiver(body: Flow[Any, Any]) -> Iterator[str | Flow[Any, Any]]:
    """Yield `body` as it must be written before a ``.method``."""
    yield from ("(", body, ")") if isinstance(body, Chain) else (body,)


def _on(on: tuple[type[Exception], ...]) -> str:
    if on == (Exception,):
        return ""
    names = ", ".join(cls.__name__ for cls in on)
    return f", on={names}" if len(on) == 1 else f", on=({names})"
