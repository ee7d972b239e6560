"""The spans that an application sees which traces with OpenTelemetry: one for each call of a step."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import dataflow as df
from dataflow.executors import tracing
from dataflow.testing.clock import Gate


class Traces:
    """An application that traces, and the spans that have ended in it."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def span(self, name: str) -> Any:
        """Return a context manager: a span of the application's own."""
        return self.provider.get_tracer("application").start_as_current_span(name)

    def of(self, name: str) -> list[ReadableSpan]:
        """Return the spans of this name."""
        return [span for span in self._exporter.get_finished_spans() if span.name == name]


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> Iterator[Traces]:
    """An application that traces; a process can set its provider only once, so it is not set but put in its place."""
    traces = Traces()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: traces.provider)
    yield traces
    traces.provider.shutdown()


def linked(span: ReadableSpan) -> list[int]:
    return [link.context.span_id for link in span.links]


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def test_a_lone_items_step_is_a_part_of_its_callers_span(traces: Traces) -> None:
    @df.stage(batch=8, name="model")
    def model(numbers: list[int]) -> list[int]:
        with traces.span("inside"):
            return numbers

    with (df.stage(abs, name="size") >> model).open(df.Threads()) as session:
        with traces.span("request"):
            session.run(-1)
        digest = session.plan.digest
    (request,), (size,), (batch,), (inside,) = map(traces.of, ("request", "size", "model", "inside"))
    assert dict(size.attributes or {}) == {"dataflow.digest": digest, "dataflow.step": "size", "dataflow.rows": 1}
    assert dict(batch.attributes or {}) == {
        "dataflow.digest": digest,
        "dataflow.step": "model",
        "dataflow.rows": 1,
        "dataflow.reason": "lone",
    }
    for span in (size, batch):
        assert span.parent is not None
        assert span.parent.span_id == id_of(request)
        assert linked(span) == [id_of(request)]
        assert span.status.status_code is StatusCode.UNSET
    assert inside.parent is not None
    assert inside.parent.span_id == id_of(batch), "what a stage traces is a part of its step"


def test_a_batch_of_several_callers_is_linked_to_each(traces: Traces) -> None:
    with Gate() as gate:

        @df.stage(batch=3, name="model")
        def model(numbers: list[int]) -> list[int]:
            return [gate(n) if n == 0 else n for n in numbers]

        with model.open(df.Threads(workers=1)) as session:
            first = session.submit(0)
            gate.await_arrivals()
            with traces.span("one"):
                token = context.attach(baggage.set_baggage("who", "one"))
                futures = [session.submit(1), session.submit(2)]
                context.detach(token)
            with traces.span("other"):
                futures.append(session.submit(3))
            gate.open()
            assert [future.result() for future in (first, *futures)] == [0, 1, 2, 3]
    alone, batch = traces.of("model")
    assert (alone.parent, linked(alone)) == (None, []), "its caller was in no span"
    assert batch.attributes is not None
    assert (batch.attributes["dataflow.rows"], batch.attributes["dataflow.reason"]) == (3, "full")
    (one,), (other,) = traces.of("one"), traces.of("other")
    assert linked(batch) == [id_of(one), id_of(other)]
    assert batch.parent is None, "it is in the trace of neither"
    assert batch.context is not None and one.context is not None
    assert batch.context.trace_id != one.context.trace_id


def test_a_batch_in_which_one_caller_has_no_span_is_in_nobodys_trace(traces: Traces) -> None:
    with Gate() as gate:
        flow = df.stage(lambda numbers: [gate(n) if n == 0 else n for n in numbers], batch=2, name="model")
        with flow.open(df.Threads(workers=1)) as session:
            futures = [session.submit(0)]
            gate.await_arrivals()
            with traces.span("one"):
                futures.append(session.submit(1))
            futures.append(session.submit(2))
            gate.open()
            assert [future.result() for future in futures] == [0, 1, 2]
    _, batch = traces.of("model")
    assert (batch.parent, linked(batch)) == (None, [id_of(traces.of("one")[0])])


def test_a_jobs_steps_are_a_part_of_the_span_in_which_map_was_called(traces: Traces) -> None:
    flow: Any = df.stage(abs, name="size") >> df.stage(list, batch=4, name="model")
    with traces.span("job"):
        results = flow.map(range(10), df.Threads())
    with traces.span("elsewhere"):
        assert list(results) == list(range(10))
    (job,) = traces.of("job")
    for name in ("size", "model"):
        spans = traces.of(name)
        assert sum(int(str((span.attributes or {})["dataflow.rows"])) for span in spans) == 10
        for span in spans:
            assert span.parent is not None
            assert span.parent.span_id == id_of(job)
            assert linked(span) == [id_of(job)]


def test_the_span_of_a_step_in_which_items_fail_says_how_many(traces: Traces) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("says nothing")

    @df.stage(batch=4, name="model")
    def model(numbers: list[int]) -> list[int]:
        if 3 in numbers:
            raise Mute
        return numbers

    assert list(model.map(range(4), df.Threads(), on_error="skip")) == [0, 1, 2]
    (span,) = traces.of("model")
    assert (span.attributes or {})["dataflow.failures"] == 1
    assert span.status.status_code is StatusCode.ERROR


def test_what_ends_everything_ends_its_span_and_arrives(traces: Traces) -> None:
    def interrupted(x: int) -> int:
        raise KeyboardInterrupt

    with df.stage(interrupted, name="stage").open(df.Threads()) as session, pytest.raises(KeyboardInterrupt):
        session.run(1)
    assert len(traces.of("stage")) == 1


def test_no_span_is_made_where_no_provider_is_set() -> None:
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    assert tracing.tracer() is None


def test_an_application_that_does_not_trace_does_not_import_opentelemetry() -> None:
    code = (
        "import sys, dataflow as df\n"
        "assert list(df.stage(abs).map([-1, 2], df.Threads())) == [1, 2]\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
