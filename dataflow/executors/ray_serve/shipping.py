"""Sending a flow to other processes: pickled once, looked at before, and planned again where it arrives."""

from __future__ import annotations

import dataclasses
import os
import pickle
import sys
import warnings
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

from dataflow.errors import LoweringError
from dataflow.executors.ray_serve.payload import pickled
from dataflow.expr.flow import Flow
from dataflow.expr.stage import Stage
from dataflow.expr.walk import postorder
from dataflow.passes import Pass
from dataflow.plan import Plan, make_plan

LARGE = 10 * 1024 * 1024
"""Bytes from which what is sent with every replica is worth a warning."""


@dataclasses.dataclass(frozen=True)
class Shipment:
    """A flow as it travels.

    Parameters
    ----------
    flow : bytes
        The flow and the passes of its plan, pickled.
    digest : str
        The plan's.
    paths : tuple of str
        Where the sender finds modules: a replica on the same machine finds them there too.
    """

    flow: bytes
    digest: str
    paths: tuple[str, ...]

    def plan(self) -> Plan:
        """Return the plan, made here."""
        sys.path.extend(path for path in self.paths if path not in sys.path and os.path.isdir(path))
        flow, passes = pickle.loads(self.flow)
        return make_plan(flow, passes)


def ship(plan: Plan, passes: Iterable[str | Pass] | str | None) -> Shipment:
    """Return a plan's flow as it travels.

    Raises
    ------
    LoweringError
        Where it cannot be pickled, with the stage and what it captured.
    """
    try:
        flow = pickled((plan.flow, passes))
    except Exception as error:
        raise _refused(plan.flow, error) from error
    if len(flow) >= LARGE:
        _warn_of_large(plan.flow, len(flow))
    return Shipment(flow, plan.digest, tuple(os.path.abspath(path) for path in sys.path))


def _refused(flow: Flow[Any, Any], error: Exception) -> LoweringError:
    """Return an error that says what cannot be sent."""
    for node in postorder(flow):
        for name, held in _held(node):
            if (why := _problem(held)) is None:
                continue
            inner = [(key, value) for key, value in _captured(held) if _problem(value) is not None]
            what = "".join(f", which holds {key} = {_shown(value)}" for key, value in inner[:1])
            named = f"stage {node.name!r}" if isinstance(node, Stage) else f"a {node.kind.__name__.lower()}"
            return LoweringError(
                f"{named} ({node.origin}) cannot be sent to another process: its {name} is {_shown(held)}{what}, and "
                f"that cannot be pickled ({why}); make it where it runs instead, in the __init__ of a class stage"
            )
    return LoweringError(f"the flow cannot be sent to another process: {type(error).__name__}: {error}")


def _held(node: Flow[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what a node was given by its user, with what it is to it."""
    if isinstance(node, Stage):
        yield "callable", node.fn
        yield from ((f"argument {index}", each) for index, each in enumerate(node.args))
        yield from ((f"argument {name}", each) for name, each in node.kwargs.items())
        return
    yield from (("part", each) for each in node.spec())


def _captured(fn: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a function takes along, by name: of its closure, its globals, its defaults, its object."""
    from inspect import getclosurevars, unwrap

    plain = getattr(fn, "__func__", fn)
    if isinstance(fn, type):
        plain = getattr(fn, "__call__", None)
    elif hasattr(fn, "__self__"):
        yield "__self__", fn.__self__
    try:
        found = getclosurevars(unwrap(plain))
    except (TypeError, ValueError):
        found = None
    if found is not None:
        yield from found.nonlocals.items()
        yield from found.globals.items()
    for index, default in enumerate(getattr(plain, "__defaults__", None) or ()):
        yield f"default {index}", default
    yield from getattr(fn, "__dict__", {}).items() if not isinstance(fn, type) else ()


def _problem(thing: Any) -> str | None:
    """Return why something cannot be pickled; None where it can."""
    try:
        pickled(thing)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _warn_of_large(flow: Flow[Any, Any], size: int) -> None:
    """Warn that much is sent with every replica, and with which stage."""

    def weight(node: Flow[Any, Any]) -> int:
        return sum(len(pickled(held)) for _, held in _held(node))

    heaviest = max(postorder(flow), key=weight)
    name = heaviest.name if isinstance(heaviest, Stage) else heaviest.kind.__name__.lower()
    warnings.warn(
        f"{size / 2**20:.0f} MiB are sent to every replica, {weight(heaviest) / 2**20:.0f} MiB of them with {name!r} "
        f"({heaviest.origin}): load what is large where it runs, in the __init__ of a class stage",
        stacklevel=_outside(),
    )


def _outside() -> int:
    """Return at which level of the stack the user's code is."""
    level = 1
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("dataflow."):
        level, frame = level + 1, frame.f_back
    return level


def _shown(thing: Any) -> str:
    from dataflow.expr.stage import short_repr

    return short_repr(thing, 120)
