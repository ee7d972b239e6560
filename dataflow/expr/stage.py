"""`Stage`: the user's unit of work, and its names."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar, overload

from dataflow.errors import CompositionError
from dataflow.expr.flow import Flow
from dataflow.expr.keys import callable_key, value_key
from dataflow.expr.options import Options
from dataflow.expr.origin import Origin, caller, definition
from dataflow.expr.typed import A, B, Called, In, Out, P

Class = TypeVar("Class", covariant=True)  # the user's class: its constructor, and what its instances take and give
Batch = TypeVar("Batch", covariant=True)  # None where an instance is called with one item, int where with a list

_set = object.__setattr__


class Stage(Flow[In, Out]):
    """The user's unit of work: a callable, or a class to be constructed where it runs, with its options.

    Attributes
    ----------
    fn : callable
        The function, or the class of a class stage.
    args, kwargs : tuple, dict
        What a class stage is constructed with.
    constructed : bool
        Whether `fn` is a class to be constructed once per replica.
    options : Options
        Name, batch size, device and so on.
    """

    __slots__ = ("_key", "args", "constructed", "fn", "kwargs", "options")

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    constructed: bool
    options: Options
    _key: Hashable

    def __init__(
        self,
        fn: Callable[..., Any],
        options: Options,
        *,
        constructed: bool = False,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        origin: Origin | None = None,
    ) -> None:
        super().__init__(origin or definition(fn.__call__ if constructed else fn) or caller())  # type: ignore[operator]
        _set(self, "fn", fn)
        _set(self, "options", options)
        _set(self, "constructed", constructed)
        _set(self, "args", args)
        _set(self, "kwargs", dict(kwargs or {}))
        _set(self, "_key", None)

    @property
    def name(self) -> str:
        """The stage's name in graphs, errors and metrics: the callable's qualified name unless it was given one."""
        return self.options.name or qualified_name(self.fn)

    def __hash__(self) -> int:
        if self._hash is None:
            _set(self, "_hash", hash((Stage, self.params(), ())))  # as Flow.__hash__ does, without a walk
        return self._hash  # type: ignore[return-value]

    def params(self) -> Hashable:
        if self._key is None:
            extra = (value_key(self.args), value_key(dict(self.kwargs))) if self.constructed else ()
            _set(self, "_key", (callable_key(self.fn), self.constructed, extra, self.options))
        return self._key

    def spec(self) -> tuple[Any, ...]:
        return (self.fn, self.options, self.constructed, self.args, self.kwargs, self.origin)

    @classmethod
    def make(cls, children: tuple[Flow[Any, Any], ...], *spec: Any) -> Flow[Any, Any]:
        fn, options, constructed, args, kwargs, origin = spec
        return Stage(fn, options, constructed=constructed, args=args, kwargs=kwargs, origin=origin)

    def pieces(self) -> Iterator[str | Flow[Any, Any]]:
        text = short_name(self.name)
        if self.constructed and self.options.name is None:
            given = [short_repr(arg) for arg in self.args]
            given += [f"{key}={short_repr(arg)}" for key, arg in self.kwargs.items()]
            text += f"({', '.join(given)})"
        yield text


def qualified_name(fn: Callable[..., Any]) -> str:
    """Return a callable's name as Python spells it: of a partial, that of its function; of an object, its class's."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    name = getattr(fn, "__qualname__", None)
    return name if isinstance(name, str) else type(fn).__qualname__


def short_name(name: str) -> str:
    """Return a qualified name without the functions that it was defined inside of."""
    return name.rpartition("<locals>.")[2]


def short_repr(value: object, limit: int = 40) -> str:
    """Return a value's ``repr`` on one line, cut to `limit` characters; a broken ``__repr__`` shows the type."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a user's __repr__ may raise anything
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else text[: limit - 1] + "…"


class StageClass(Generic[Class, Batch]):
    """A class made into a stage: calling it gives a flow that constructs the class where it runs.

    Parameters
    ----------
    fn : type
        The user's class; its instances are called with an item, or with a list of items.
    options : Options
        What `stage` was given.
    """

    def __init__(self, fn: type[Any], options: Options) -> None:
        self.fn = fn
        self.options = options
        functools.update_wrapper(self, fn, updated=())  # pyright: ignore[reportArgumentType]

    @overload
    def __call__(
        self: StageClass[Callable[P, Called[A, B]], None], *args: P.args, **kwargs: P.kwargs
    ) -> Stage[A, B]: ...
    @overload
    def __call__(
        self: StageClass[Callable[P, Called[list[A], Iterable[B]]], int], *args: P.args, **kwargs: P.kwargs
    ) -> Stage[A, B]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            inspect.signature(self.fn).bind(*args, **kwargs)
        except TypeError as error:
            raise CompositionError(
                f"{self.fn.__qualname__} cannot be constructed so ({caller()}): {error}; "
                f"its constructor is {self.fn.__qualname__}{_signature(self.fn)}"
            ) from None
        except ValueError:  # a class without a signature
            pass
        return Stage(self.fn, self.options, constructed=True, args=args, kwargs=kwargs)

    def __repr__(self) -> str:
        return f"<stage class {self.fn.__qualname__}>"

    def __reduce__(self) -> Any:
        module: Any = sys.modules.get(self.fn.__module__)
        try:
            named = functools.reduce(getattr, self.fn.__qualname__.split("."), module)
        except AttributeError:
            named = None
        if named is self and self.fn.__module__ != "__main__":
            return self.fn.__qualname__  # a global, by its name
        return StageClass, (self.fn, self.options)


def _signature(cls: type[Any]) -> str:
    return str(inspect.signature(cls))
