"""A flow made anew with something changed, as its batch size."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from dataflow.expr.flow import Flow
from dataflow.expr.stage import Stage
from dataflow.expr.walk import postorder

AnyFlow = Flow[Any, Any]


def rebuilt(flow: AnyFlow, change: Callable[[AnyFlow], AnyFlow]) -> AnyFlow:
    """Return a flow with what `change` makes of each of its nodes, children first; equal nodes are changed once."""
    made: dict[int, AnyFlow] = {}
    changed: dict[AnyFlow, AnyFlow] = {}
    for node in postorder(flow):
        again = node.kind.make(tuple(made[id(child)] for child in node.children), *node.spec())
        if again not in changed:
            changed[again] = change(again)
        made[id(node)] = changed[again]
    return made[id(flow)]


def batch_sizes(flow: AnyFlow) -> tuple[int, ...]:
    """Return the batch sizes of a flow's batched stages, each once, ascending.

    Examples
    --------
    >>> batch_sizes(df.stage(list, batch=8) >> abs >> df.stage(list, batch=2))
    (2, 8)
    """
    stages = (node for node in postorder(flow) if isinstance(node, Stage))
    return tuple(sorted({stage.options.batch for stage in stages if stage.options.batch is not None}))


def with_batch(flow: AnyFlow, size: int) -> AnyFlow:
    """Return a flow all of whose batched stages take batches of up to `size`.

    Examples
    --------
    >>> batch_sizes(with_batch(df.stage(list, batch=8) >> abs, 32))
    (32,)
    """

    def change(node: AnyFlow) -> AnyFlow:
        if not isinstance(node, Stage) or node.options.batch is None:
            return node
        fn, _, constructed, args, kwargs, origin = node.spec()
        options = dataclasses.replace(node.options, batch=size)
        return Stage(fn, options, constructed=constructed, args=args, kwargs=kwargs, origin=origin)

    return rebuilt(flow, change)
