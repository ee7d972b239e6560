"""The doorway from the words to what lies downstream.

This is the one module of `dataflow.expr` that knows that graphs, plans and executors exist, and it imports them only
when a flow is run, so that writing an expression needs nothing but Python.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataflow.executors.link import Program
    from dataflow.expr.flow import Flow
    from dataflow.plan import Plan


_planning = threading.RLock()  # held where several threads may be the first to call a flow: it has but one program


def program_of(flow: Flow[Any, Any]) -> Program:
    """Return the flow's own program, made when it is first called and kept with it."""
    if flow._program is None:
        from dataflow.executors import Inline

        with _planning:
            if flow._program is None:
                object.__setattr__(flow, "_program", Inline().program(flow))
    program: Program = flow._program
    return program


def first_call(flow: Flow[Any, Any], item: Any) -> Any:
    """Run a flow that has not been called before, and make its next calls direct.

    From now on the flow belongs to a subclass of its class that is its own, whose ``__call__`` is the generated
    function. A call then costs one Python frame, the generated function's own. Forwarding from a ``__call__`` method
    costs a second one, and one class for many flows costs looking into a slot of the flow.
    """
    call = program_of(flow).call
    kind: Any = flow.kind
    scope = {
        "__slots__": (),
        "__call__": staticmethod(call),
        "__module__": "dataflow.generated",
        "__doc__": kind.__doc__,
    }
    object.__setattr__(flow, "__class__", type(kind.__name__, (kind,), scope))
    return call(item)


def map_items(flow: Flow[Any, Any], items: Iterable[Any], executor: Any, **options: Any) -> Iterator[Any]:
    """See `Flow.map`."""
    from dataflow.executors import resolve
    from dataflow.executors.planning import Planning

    chosen = resolve(executor)
    plain = isinstance(chosen, Planning) and chosen.plain
    program = program_of(flow) if plain else chosen.program(flow)
    return chosen.map(program, items, **options)


def open_session(flow: Flow[Any, Any], executor: Any) -> Any:
    """See `Flow.open`."""
    from dataflow.executors import resolve

    return resolve(executor).open(flow)


def graph_of(flow: Flow[Any, Any], optimized: bool) -> Any:
    """See `Flow.graph`."""
    from dataflow.graph import lower
    from dataflow.plan import make_plan

    return make_plan(flow).region.graph if optimized else lower(flow).graph


def plan_of(flow: Flow[Any, Any], passes: Any) -> Plan:
    """See `Flow.optimize`."""
    from dataflow.plan import make_plan

    return make_plan(flow, passes)


def explanation(flow: Flow[Any, Any], executor: Any, format: str) -> str:
    """See `Flow.explain`."""
    from dataflow.executors import resolve
    from dataflow.explain import explain

    chosen = resolve(executor)
    plan = chosen.plan(flow)
    placed = getattr(chosen, "places", None)  # of executors that run steps in several processes
    return explain(plan, format, executor=chosen.name, places=() if placed is None else placed(plan))


def picture(flow: Flow[Any, Any], path: str | None) -> Any:
    """See `Flow.visualize`."""
    from dataflow.executors import resolve
    from dataflow.explain import visualize

    return visualize(resolve().plan(flow), path)


def notebook(flow: Flow[Any, Any]) -> dict[str, str]:
    """Return the flow as notebooks display it."""
    from dataflow.executors import resolve
    from dataflow.explain import notebook

    return notebook(resolve().plan(flow))
