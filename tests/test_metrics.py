"""What Prometheus sees of a session: all that it counts, under the same names, for as long as it is open."""

import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from executors import Kind
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.openmetrics import exposition
from prometheus_client.openmetrics.parser import text_string_to_metric_families

import dataflow as df
from dataflow.metrics import prometheus


@df.stage(batch=4, name="model")
def model(numbers: list[int]) -> list[int]:
    if 3 in numbers:
        raise ValueError("3 is refused")
    return numbers


FLOW: Any = df.stage(abs, name="size") >> model


def samples(registry: CollectorRegistry) -> dict[str, dict[tuple[str, ...], float]]:
    """Return what a scrape gives: by name, and by the labels beside those of the session."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for metric in registry.collect():
        for sample in metric.samples:
            rest = tuple(value for name, value in sample.labels.items() if name not in ("executor", "digest", "flow"))
            found.setdefault(sample.name, {})[rest] = sample.value
    return found


def flows(registry: CollectorRegistry) -> list[str]:
    """Return the label ``flow`` of each session that is shown."""
    return [
        sample.labels["flow"]
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "dataflow_items_total"
    ]


def test_a_scrape_says_what_the_session_counts(executor: Kind) -> None:
    registry = CollectorRegistry()
    with FLOW.open(executor()) as session:
        prometheus(session, registry)
        assert samples(registry)["dataflow_items_total"] == {(): 0}
        list(session.map(range(10), on_error="skip"))
        stats = session.stats()
        seen = samples(registry)
        assert seen["dataflow_items_total"] == {(): stats["items"]} == {(): 10}
        assert seen["dataflow_failures_total"] == {(): stats["failures"]} == {(): 1}
        assert seen["dataflow_abandoned_threads"] == {(): stats["abandoned_threads"]}
        for key in ("items", "failures", "queue_seconds", "seconds"):
            assert seen[f"dataflow_step_{key}_total"] == {(name,): step[key] for name, step in stats["steps"].items()}
        step = stats["steps"]["model"]
        assert seen.get("dataflow_step_dispatched_total", {}) == {
            ("model", reason): count for reason, count in step["dispatched"].items()
        }
        assert seen["dataflow_step_batches_count"] == {("model",): sum(step["batches"].values())}
        assert seen["dataflow_step_batches_sum"] == {("model",): sum(n * count for n, count in step["batches"].items())}


def test_the_labels_are_the_executor_the_digest_and_a_flow() -> None:
    registry = CollectorRegistry()
    with FLOW.open("inline") as session:
        prometheus(session, registry, flow="numbers")
        for metric in registry.collect():
            for sample in metric.samples:
                labels = {name: sample.labels[name] for name in ("executor", "digest", "flow")}
                assert labels == {"executor": "inline", "digest": session.plan.digest, "flow": "numbers"}


def test_batches_are_a_histogram_of_their_sizes() -> None:
    registry = CollectorRegistry()
    flow = df.stage(list, batch=2000, name="model")
    with flow.open(df.Inline(max_in_flight=2000)) as session:
        prometheus(session, registry)
        for count in (1, 3, 3, 1500):
            list(session.map(range(count)))
        seen = samples(registry)
    at_most = {bound: count for (_, bound), count in seen["dataflow_step_batches_bucket"].items()}
    assert at_most == {"1.0": 1, "2.0": 1} | {f"{2**n}.0": 3 for n in range(2, 11)} | {"+Inf": 4}
    assert seen["dataflow_step_batches_sum"] == {("model",): 1507}


def test_sessions_of_one_registry_share_each_metric() -> None:
    registry = CollectorRegistry()
    with FLOW.open("inline") as one, FLOW.open("inline") as other, df.stage(str).open("inline") as third:
        for session, flow in ((one, "one"), (other, "other"), (third, "")):
            prometheus(session, registry, flow=flow)
            list(session.map([1, 2]))
        text = exposition.generate_latest(registry).decode()
        assert [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")] == [
            "dataflow_items",
            "dataflow_failures",
            "dataflow_abandoned_threads",
            "dataflow_step_items",
            "dataflow_step_failures",
            "dataflow_step_batches",
            "dataflow_step_dispatched",
            "dataflow_step_queue_seconds",
            "dataflow_step_seconds",
        ]
        list(text_string_to_metric_families(text))  # which refuses a metric, or a sample, that is there twice
        assert flows(registry) == ["one", "other", ""]


def test_two_open_sessions_of_the_same_labels_are_refused() -> None:
    registry = CollectorRegistry()
    with FLOW.open("inline") as session:
        prometheus(session, registry, flow="numbers")
        with FLOW.open("inline") as other:
            with pytest.raises(ValueError, match=r"another open session .* flow='numbers': tell them apart"):
                prometheus(other, registry, flow="numbers")
            prometheus(other, registry, flow="others")
            prometheus(other, CollectorRegistry(), flow="numbers")
    with FLOW.open("inline") as session:
        prometheus(session, registry, flow="numbers")
        assert flows(registry) == ["numbers"]


def test_a_name_that_is_taken_in_the_registry_is_refused() -> None:
    registry = CollectorRegistry()
    Counter("dataflow_items", "Somebody else's.", registry=registry)
    with FLOW.open("inline") as session, pytest.raises(ValueError, match="dataflow_items"):
        prometheus(session, registry)


def leave(session: df.Session, remove: Callable[[], None]) -> None:
    session.close()


def cancel(session: df.Session, remove: Callable[[], None]) -> None:
    session.cancel()


def on_request(session: df.Session, remove: Callable[[], None]) -> None:
    remove()
    remove()


@pytest.mark.parametrize("end", [leave, cancel, on_request])
def test_a_session_is_shown_until_it_ends_or_is_taken_out(end: Callable[..., None], executor: Kind) -> None:
    registry = CollectorRegistry()
    with FLOW.open(executor()) as session, FLOW.open("inline") as other:
        remove = prometheus(session, registry, flow="this")
        prometheus(other, registry, flow="other")
        end(session, remove)
        assert flows(registry) == ["other"]
    assert b"dataflow" not in generate_latest(registry)


def test_what_took_a_session_out_leaves_its_successor_in() -> None:
    registry = CollectorRegistry()
    with FLOW.open("inline") as session:
        remove = prometheus(session, registry)
    with FLOW.open("inline") as session:
        prometheus(session, registry)
        remove()
        assert flows(registry) == [""]


def test_a_session_is_not_kept_alive_to_be_shown() -> None:
    registry = CollectorRegistry()
    session = FLOW.open("inline")
    prometheus(session, registry)
    del session
    gc.collect()
    assert list(registry.collect()) == []


@pytest.fixture
def without_prometheus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    yield


def test_without_prometheus_client_the_error_names_the_extra(without_prometheus: None) -> None:
    with FLOW.open("inline") as session, pytest.raises(ImportError, match=r"pip install 'dataflow\[metrics\]'"):
        prometheus(session)
