"""What sessions count, as Prometheus metrics: the same names as `Session.stats`, read whenever they are scraped.

Needs prometheus_client: ``pip install 'dataflow[metrics]'``.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from dataflow.executors import Session
    from dataflow.executors.stats import SessionReport

__all__ = ["prometheus"]

Labels = tuple[str, str, str]

_LABELS = ("executor", "digest", "flow")
_BOUNDS = tuple(2**power for power in range(11))  # the same for every step, so that histograms can be added up


def prometheus(session: Session, registry: CollectorRegistry | None = None, *, flow: str = "") -> Callable[[], None]:
    """Show what a session counts in a registry of Prometheus metrics, for as long as it is open.

    Parameters
    ----------
    session : Session
        The session. It is not kept alive by this.
    registry : prometheus_client.CollectorRegistry, optional
        Where; prometheus_client's own by default.
    flow : str
        The label ``flow``, by which to tell sessions apart. Their ``executor`` and ``digest`` are labels anyway.

    Returns
    -------
    callable
        Takes the session out of the registry before it is closed; calling it again does nothing.

    Raises
    ------
    ImportError
        Where prometheus_client is not installed.
    ValueError
        Where the registry shows an open session with the same labels.

    Examples
    --------
    >>> from dataflow.metrics import prometheus
    >>> from prometheus_client import CollectorRegistry
    >>> registry = CollectorRegistry()
    >>> with df.stage(abs).open("inline") as session:
    ...     remove = prometheus(session, registry, flow="sizes")
    ...     list(session.map([-1, -2]))
    ...     labels = {"executor": "inline", "digest": session.plan.digest, "flow": "sizes"}
    ...     registry.get_sample_value("dataflow_items_total", labels)
    [1, 2]
    2
    """
    try:
        from prometheus_client import REGISTRY
    except ImportError as error:
        raise ImportError("metrics need prometheus_client: pip install 'dataflow[metrics]'") from error
    report = session.stats()
    return _sessions_of(REGISTRY if registry is None else registry).add(
        session, (report["executor"], report["digest"], flow)
    )


class _Sessions:
    """The sessions that one registry shows: a metric may be given once a scrape, with the samples of all of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[Labels, weakref.ref[Session]] = {}

    def add(self, session: Session, labels: Labels) -> Callable[[], None]:
        """Show a session, and return what takes it out again."""
        with self._lock:
            shown = self._sessions.get(labels)
            other = None if shown is None else shown()
            if other is not None and other is not session and not other.closed:
                raise ValueError(
                    f"this registry shows another open session with the labels {_named(labels)}: tell them apart with "
                    "prometheus(session, flow=...)"
                )
            reference = self._sessions[labels] = weakref.ref(session)
        return functools.partial(self._remove, labels, reference)

    def describe(self) -> list[Metric]:
        """Return the metrics without samples: their names, which no one else may use in the registry."""
        return list(_metrics({}))

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        with self._lock:
            sessions = {labels: reference() for labels, reference in self._sessions.items()}
            opened = {labels: session for labels, session in sessions.items() if session and not session.closed}
            self._sessions = {labels: self._sessions[labels] for labels in opened}
        if opened:
            yield from _metrics({labels: session.stats() for labels, session in opened.items()})

    def _remove(self, labels: Labels, reference: weakref.ref[Session]) -> None:
        with self._lock:
            if self._sessions.get(labels) is reference:
                del self._sessions[labels]


_registries: weakref.WeakKeyDictionary[CollectorRegistry, _Sessions] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def _sessions_of(registry: CollectorRegistry) -> _Sessions:
    with _lock:
        if registry not in _registries:
            sessions = _Sessions()
            registry.register(sessions)
            _registries[registry] = sessions
        return _registries[registry]


def _metrics(reports: dict[Labels, SessionReport]) -> Iterator[Metric]:
    """Yield every metric, with a sample for each session, or for each of its steps."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    of_step = (*_LABELS, "step")
    items = CounterMetricFamily("dataflow_items", "Items done, failed ones included.", labels=_LABELS)
    failures = CounterMetricFamily("dataflow_failures", "Items that failed.", labels=_LABELS)
    abandoned = GaugeMetricFamily(
        "dataflow_abandoned_threads", "Threads left behind by timeouts and races.", labels=_LABELS
    )
    step_items = CounterMetricFamily("dataflow_step_items", "Items that reached the step.", labels=of_step)
    step_failures = CounterMetricFamily("dataflow_step_failures", "Items that failed in the step.", labels=of_step)
    batches = HistogramMetricFamily("dataflow_step_batches", "Items in each batch of the step.", labels=of_step)
    dispatched = CounterMetricFamily(
        "dataflow_step_dispatched", "Batches of the step, by why they were called.", labels=(*of_step, "reason")
    )
    queue_seconds = CounterMetricFamily(
        "dataflow_step_queue_seconds", "Seconds that items have waited for the step.", labels=of_step
    )
    seconds = CounterMetricFamily("dataflow_step_seconds", "Seconds spent in the step.", labels=of_step)

    for labels, report in reports.items():
        items.add_metric(labels, report["items"])
        failures.add_metric(labels, report["failures"])
        abandoned.add_metric(labels, report["abandoned_threads"])
        for name, step in report["steps"].items():
            place = (*labels, name)
            step_items.add_metric(place, step["items"])
            step_failures.add_metric(place, step["failures"])
            if step["batches"]:
                batches.add_metric(place, *_histogram(step["batches"]))
            for reason, count in step["dispatched"].items():
                dispatched.add_metric((*place, reason), count)
            queue_seconds.add_metric(place, step["queue_seconds"])
            seconds.add_metric(place, step["seconds"])
    yield from (items, failures, abandoned)
    yield from (step_items, step_failures, batches, dispatched, queue_seconds, seconds)


def _histogram(batches: dict[int, int]) -> tuple[list[tuple[str, float]], float]:
    """Return how many batches had at most each size, as Prometheus counts them, and the sum of their sizes."""
    buckets: list[tuple[str, float]] = [
        (f"{bound}.0", sum(count for size, count in batches.items() if size <= bound)) for bound in _BOUNDS
    ]
    buckets.append(("+Inf", sum(batches.values())))
    return buckets, sum(size * count for size, count in batches.items())


def _named(labels: Labels) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in zip(_LABELS, labels, strict=True))
