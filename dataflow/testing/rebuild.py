"""A flow again, with something else in the places of its stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from dataflow.expr.flow import Flow
from dataflow.expr.stage import Stage
from dataflow.expr.walk import postorder

Around = Callable[[Callable[..., Any]], Callable[..., Any]]


def stages_of(flow: Flow[Any, Any]) -> list[Stage[Any, Any]]:
    """Return the distinct stages of a flow, by their structure, in reading order."""
    return list(dict.fromkeys(node for node in postorder(flow) if isinstance(node, Stage)))


def rebuilt(flow: Flow[Any, Any], change: Callable[[Stage[Any, Any]], Flow[Any, Any]]) -> Flow[Any, Any]:
    """Return a flow with what `change` gives in the place of each stage; what was shared stays shared."""
    done: dict[int, Flow[Any, Any]] = {}
    for node in postorder(flow):
        if isinstance(node, Stage):
            done[id(node)] = change(node)
        else:
            done[id(node)] = node.kind.make(tuple(done[id(child)] for child in node.children), *node.spec())
    return done[id(flow)]


def with_options(stage: Stage[Any, Any], **options: Any) -> Stage[Any, Any]:
    """Return a stage with other options."""
    return _like(stage, stage.fn, **options)


def wrapped(stage: Stage[Any, Any], around: Around) -> Stage[Any, Any]:
    """Return a stage whose function, or the instance of whose class, has something around it; its name stays."""
    fn = Constructing(stage.fn, around) if stage.constructed else around(stage.fn)
    return _like(stage, fn, name=stage.name)


@dataclasses.dataclass(frozen=True)
class Constructing:
    """Stands for the class of a class stage: its instances have something around them.

    Parameters
    ----------
    fn : type
        The class.
    around : callable
        What to put around an instance.
    """

    fn: Callable[..., Any]
    around: Around

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.around(self.fn(*args, **kwargs))


def _like(stage: Stage[Any, Any], fn: Callable[..., Any], **options: Any) -> Stage[Any, Any]:
    changed = dataclasses.replace(stage.options, **options)
    return Stage(
        fn,
        changed,
        constructed=stage.constructed,
        args=stage.args,
        kwargs=stage.kwargs,
        origin=stage.origin,
    )
