"""The loads, in virtual time: what they report is held against what is known in closed form."""

import heapq
import itertools
import math
import random
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

import dataflow as df
from dataflow.bench.load import Limit, arrivals, callers, highest_rate, multi_stream, server, single_stream
from dataflow.bench.rounds import Watcher
from dataflow.bench.tables import Latencies
from dataflow.testing.clock import VirtualClock


class Simulation:
    """A clock at which things are due: it moves on, from one to the next, while somebody sleeps or waits."""

    def __init__(self) -> None:
        self._now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self._now

    def at(self, moment: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._due, (moment, next(self._order), call))

    def sleep(self, seconds: float) -> None:
        until = self._now + seconds
        while self._due and self._due[0][0] <= until:
            self._step()
        self._now = until

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        assert seconds is None
        while not event.is_set():
            self._step()
        return True

    def _step(self) -> None:
        self._now, _, call = heapq.heappop(self._due)
        call()


class Server:
    """So many servers and one queue: each request takes what `service` says."""

    def __init__(self, clock: Simulation, service: Callable[[], float], servers: int = 1) -> None:
        self._clock = clock
        self._service = service
        self._free = [0.0] * servers

    def submit(self, item: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        begin = max(self._clock.now(), heapq.heappop(self._free))
        end = begin + self._service()
        heapq.heappush(self._free, end)
        self._clock.at(end, lambda: future.set_result(item))
        return future

    def run(self, item: Any) -> Any:
        done = threading.Event()
        self.submit(item).add_done_callback(lambda _: done.set())
        self._clock.wait(done, None)
        return item

    def map(self, items: Iterable[Any]) -> Iterable[Any]:
        return map(self.run, items)


def constant(seconds: float) -> Callable[[], float]:
    return lambda: seconds


# ------------------------------------------------------------------ percentiles


QUANTILES = {
    "exponential": (lambda draw: draw.expovariate(1.0), lambda share: -math.log(1 - share)),
    "uniform": (lambda draw: draw.uniform(1.0, 2.0), lambda share: 1 + share),
    "pareto": (lambda draw: draw.paretovariate(3.0), lambda share: (1 - share) ** (-1 / 3)),
}


@pytest.mark.parametrize("name", QUANTILES)
def test_percentiles_are_those_of_the_distribution(name: str) -> None:
    draw, quantile = QUANTILES[name]
    source = random.Random(5)
    clock = Simulation()
    found = single_stream(Server(clock, lambda: 0.01 * draw(source)), [0], 60_000, clock=clock).latencies()
    for share in (0.5, 0.95, 0.99):
        assert found.at(share) == pytest.approx(0.01 * quantile(share), rel=0.03)


def test_the_percentiles_of_an_open_loop_are_those_of_the_queue() -> None:
    """M/M/1: the time in the system is exponential, with the rate at which the queue outpaces its arrivals."""
    source = random.Random(11)
    clock = Simulation()
    system = Server(clock, lambda: source.expovariate(100.0))
    found = server(system, [0], arrivals(100_000, 40.0), clock=clock).latencies()
    for share in (0.5, 0.95, 0.99):
        assert found.at(share) == pytest.approx(-math.log(1 - share) / 60.0, rel=0.03)


# ------------------------------------------------------------------ the highest rate, against M/D/1


def mean_in_system(rate: float, service: float) -> float:
    """The mean time in an M/D/1 queue: Pollaczek and Khinchine."""
    load = rate * service
    return service + load * service / (2 * (1 - load))


def within(seconds: float, rate: float, service: float) -> float:
    """The share of M/D/1's requests that are done so soon: Erlang's sum."""
    wait = seconds - service
    if wait < 0:
        return 0.0
    total = 0.0
    for k in range(int(wait / service) + 1):
        x = rate * (wait - k * service)
        total += (-x) ** k / math.factorial(k) * math.exp(x)
    return (1 - rate * service) * total


def closed_form(keeps: Callable[[float], bool], most: float) -> float:
    low, high = 0.0, most
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return low


SERVICE = 0.004


@pytest.mark.parametrize("limit", ["mean<6ms", "p99<12ms", "p95<20ms"])
def test_the_highest_rate_is_that_of_the_closed_form(limit: str) -> None:
    wanted = Limit.parse(limit)

    def keeps(rate: float) -> bool:
        clock = Simulation()
        schedule = arrivals(10_000, rate)
        return server(Server(clock, constant(SERVICE)), [0], schedule, limit=wanted, clock=clock).kept

    def should(rate: float) -> bool:
        if wanted.share is None:
            return mean_in_system(rate, SERVICE) <= wanted.seconds
        return within(wanted.seconds, rate, SERVICE) >= wanted.share

    assert highest_rate(keeps, start=10) == pytest.approx(closed_form(should, 1 / SERVICE), rel=0.1)


def test_a_limit_that_no_rate_keeps_has_none() -> None:
    tried = []
    assert highest_rate(lambda rate: bool(tried.append(rate)), start=100) == 0
    assert len(tried) < 10  # a request that is late alone is late at every rate: ever fewer a second take ever longer


# ------------------------------------------------------------------ open and closed loops


def test_a_stall_makes_all_late_that_were_due_in_it() -> None:
    """One request in a hundred takes a second: it is not one late answer, but all that were due meanwhile."""
    clock = Simulation()
    times = itertools.chain([1.0], itertools.repeat(0.001))
    evenly = arrivals(200, 100.0, shape=math.inf)
    found = server(Server(clock, lambda: next(times)), [0], evenly, clock=clock).latencies()
    assert sum(1 for share in range(100) if found.at(share / 100) > 0.1) == pytest.approx(50, abs=6)
    clock = Simulation()
    times = itertools.chain([1.0], itertools.repeat(0.001))
    closed = single_stream(Server(clock, lambda: next(times)), [0], 200, clock=clock).latencies()
    assert closed.at(0.99) == pytest.approx(0.001)


def test_what_blocks_the_sender_counts_from_when_it_was_due() -> None:
    """A system that answers in the sender's own thread makes the sender late, and that is counted."""
    clock = VirtualClock()

    def half_a_second(x: int) -> int:
        clock.advance(0.5)
        return x

    with df.stage(half_a_second).open("inline") as session:
        found = server(session, [0], [0.0, 0.1, 0.2], clock=clock).latencies()
    assert (found.at(0.0), found.at(1.0)) == (pytest.approx(0.5), pytest.approx(1.3))
    assert found.lag > 0.7


def test_a_query_takes_as_long_as_its_last_item() -> None:
    clock = Simulation()
    found = multi_stream(Server(clock, constant(0.1), servers=2), [0], 5, 10, clock=clock).latencies()
    assert (found.count, found.at(0.5)) == (10, pytest.approx(0.3))


def test_callers_share_the_requests() -> None:
    with df.stage(abs).open("inline") as session:
        found = callers(session, [-1, -2, -3], 4, 40)
    assert (len(found.taken), found.failures) == (40, 0)


def test_failures_are_counted_and_not_timed() -> None:
    def third_fails(x: int) -> int:
        return 1 // (x % 3)

    with df.stage(third_fails).open("inline") as session:
        assert single_stream(session, [1, 2, 3], 9).failures == 3
        assert multi_stream(session, [1, 2, 3], 2, 3).failures == 2
        found = server(session, [1, 2, 3], [0.0] * 9, limit=Limit(60.0, 0.7))
    assert (len(found.taken), found.failures, found.kept) == (6, 3, False)


def test_nothing_more_is_sent_once_a_limit_is_broken() -> None:
    clock = Simulation()
    found = server(Server(clock, constant(1.0)), [0], arrivals(1000, 100.0), limit=Limit.parse("p90<2s"), clock=clock)
    assert not found.kept
    assert len(found.taken) < 350  # a request older than the limit is late, answered or not


class StopAfter(Watcher):
    def __init__(self, looks: int) -> None:
        self.left = looks

    def stopped(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_who_looks_on_may_end_it() -> None:
    with df.stage(abs).open("inline") as session:
        assert len(single_stream(session, [1], 100, watcher=StopAfter(3)).taken) == 3
        assert len(multi_stream(session, [1], 2, 100, watcher=StopAfter(3)).taken) == 3
        found = server(session, [1], [0.0] * 100, watcher=StopAfter(3))
    assert (len(found.taken), found.kept) == (3, False)


# ------------------------------------------------------------------ arrivals


@pytest.mark.parametrize(("shape", "variation"), [(1.0, 1.0), (0.25, 2.0), (4.0, 0.5), (math.inf, 0.0)])
def test_arrivals_come_at_their_rate_and_vary_as_they_should(shape: float, variation: float) -> None:
    gaps = np.diff(arrivals(100_000, 200.0, shape=shape))
    assert gaps.mean() == pytest.approx(1 / 200, rel=0.02)
    assert gaps.std() / gaps.mean() == pytest.approx(variation, rel=0.03, abs=1e-6)


def test_arrivals_differ_by_their_rate_alone() -> None:
    assert arrivals(50, 10.0) == pytest.approx([10 * moment for moment in arrivals(50, 100.0)])
    assert arrivals(50, 10.0, seed=1) != arrivals(50, 10.0, seed=2)


@pytest.mark.parametrize("text", ["p99", "p99<50", "99<x", "p0<1s", "p100<1s", "p99<-1s", "median<1s"])
def test_a_limit_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write p99<50ms"):
        Limit.parse(text)


def test_no_answers_have_no_percentiles() -> None:
    assert Latencies.of([], failures=3).quantiles == ()
