"""How two things become one expression: lifting plain callables, and the operators' meaning."""

from __future__ import annotations

import inspect
from typing import Any

from dataflow.errors import CompositionError
from dataflow.expr import fit
from dataflow.expr.flow import Flow
from dataflow.expr.nodes import Chain, Fanout, Identity, Named
from dataflow.expr.options import Options
from dataflow.expr.origin import caller
from dataflow.expr.stage import Stage, StageClass, qualified_name, short_name, short_repr

_PLAIN = Options()


def lift(thing: Any, place: str) -> Flow[Any, Any]:
    """Return `thing` as a flow: a flow as it is, a plain callable as a stage of it.

    Parameters
    ----------
    thing : object
        What the user wrote.
    place : str
        The operator or function that it was given to, for the error.

    Raises
    ------
    CompositionError
        Where `thing` is neither, with what would fit.
    """
    if isinstance(thing, Flow):
        return thing
    if isinstance(thing, StageClass) or is_stage_class(thing):
        name = thing.fn.__qualname__ if isinstance(thing, StageClass) else f"stage({thing.__qualname__})"
        raise CompositionError(
            f"{place} was given the class {name} itself ({caller()}): it is constructed where it runs, "
            f"so write {name}(...) with its constructor's arguments"
        )
    if not callable(thing):
        raise CompositionError(
            f"{place} was given {short_repr(thing)}, of type {type(thing).__name__} ({caller()}): "
            "what fits is a flow, or a callable that takes one item"
        )
    return make_stage(thing, _PLAIN)


def is_stage_class(thing: Any) -> bool:
    """Return whether `thing` is a class whose instances are called, rather than a converter such as `int`."""
    return (
        isinstance(thing, type)
        and not issubclass(thing, type)
        and any("__call__" in vars(cls) for cls in thing.__mro__)
    )


def make_stage(fn: Any, options: Options) -> Stage[Any, Any]:
    """Return a stage around a callable, after checking that it can be called with one item."""
    refuse_async(fn)
    fit.check_one_argument(fn, batched=options.batch is not None)
    return Stage(fn, options)


def make_stage_class(cls: type[Any], options: Options) -> StageClass[Any, Any]:
    """Return a factory of stages for a class, after checking that its instances can be called with one item."""
    refuse_async(cls)
    fit.check_one_argument(cls, batched=options.batch is not None, instance=True)
    return StageClass(cls, options)


def refuse_async(fn: Any) -> None:
    """Refuse what gives a coroutine when it is called."""
    inner = getattr(fn, "func", fn)
    for target in (inner, getattr(inner if isinstance(inner, type) else type(inner), "__call__", None)):
        if inspect.iscoroutinefunction(target) or inspect.isasyncgenfunction(target):
            raise CompositionError(
                f"{short_name(qualified_name(fn))} is an async function, or is called as one ({caller()}): a stage is "
                "called and gives its result; wrap it, for instance with lambda item: asyncio.run(fn(item))"
            )


def chain(left: Flow[Any, Any], right: Flow[Any, Any]) -> Flow[Any, Any]:
    """Return ``left >> right``."""
    if isinstance(left, Identity):
        return right
    if isinstance(right, Identity):
        return left
    fit.check_chain(left, right)
    return Chain(left, right)


def branch(left: Flow[Any, Any], right: Flow[Any, Any]) -> Fanout[Any, *tuple[Any, ...]]:
    """Return ``left | right``."""
    return Fanout(pair=(left, right))


def name(flow: Flow[Any, Any], text: str) -> Flow[Any, Any]:
    """Return `flow` under a name: a stage is renamed, anything larger becomes a group."""
    if isinstance(flow, Stage):
        options = flow.options.renamed(text)
        return Stage(
            flow.fn, options, constructed=flow.constructed, args=flow.args, kwargs=flow.kwargs, origin=flow.origin
        )
    return Named(flow, text)
