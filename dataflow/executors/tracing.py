"""Spans of OpenTelemetry, in an application that traces: one for each call of a step.

Such an application has imported OpenTelemetry and given it a tracer provider before it opens a session. No other one
imports it here, or pays for it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from dataflow.executors.faults import Faults
from dataflow.executors.rows import Column

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext, Tracer, TracerProvider

    from dataflow.executors.schedule.work import Work

Run = Callable[[], tuple[list[Column], Faults]]


def tracer() -> Tracer | None:
    """Return what makes spans in an application that traces, None in any other.

    To be asked once a session: where OpenTelemetry has no provider it looks for one in the environment, which takes
    longer than a small step does.
    """
    if sys.modules.get("opentelemetry.trace") is None:
        return None
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):  # it stands for the one that has not been set
        return None
    return _tracer(provider)


@functools.lru_cache(maxsize=1)
def _tracer(provider: TracerProvider) -> Tracer:
    from importlib.metadata import version

    return provider.get_tracer("dataflow", version("dataflow"))


def in_span(tracer: Tracer, work: Work, run: Run) -> tuple[list[Column], Faults]:
    """Run work in a span, which is linked to those that were current where its items were submitted."""
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, StatusCode

    callers = _callers(work)
    attributes: dict[str, str | int] = {
        "dataflow.digest": work.program.plan.digest,
        "dataflow.step": work.slot.step.name,
        "dataflow.rows": work.size,
    }
    if work.reason is not None:
        attributes["dataflow.reason"] = work.reason
    with tracer.start_as_current_span(
        work.slot.step.name,
        # work that several callers share belongs to no one's trace: it begins its own, and its links lead to theirs
        context=None if len(callers) == 1 else Context(),
        attributes=attributes,
        links=[Link(caller) for caller in callers if caller.is_valid],
    ) as span:
        columns, faults = run()
        if faults:
            span.set_attribute("dataflow.failures", len(faults))
            span.set_status(StatusCode.ERROR)
    return columns, faults


def _callers(work: Work) -> list[SpanContext]:
    """Return the spans that were current where the items of work were submitted, each once; an invalid one for none."""
    from opentelemetry.trace import get_current_span

    found: dict[tuple[int, int], SpanContext] = {}
    for ticket in dict.fromkeys(part.frame.ticket for part in work.parts):
        # in a copy: only one thread at a time can enter a context, and another may read that of the same job
        caller = ticket.context.copy().run(get_current_span).get_span_context()
        found.setdefault((caller.trace_id, caller.span_id), caller)
    return list(found.values())
