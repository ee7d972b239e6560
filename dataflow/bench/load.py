"""Loads, after MLPerf's LoadGen: single stream, multi stream, server, offline; and callers, a closed loop.

The server scenario is an open loop: requests come when a seeded schedule says so, whether or not those before them have
been answered, and a latency is counted from the moment at which its request should have been sent. A system that stalls
for a second makes everything that was due in that second late, and the percentiles say so; a load generator that waits
for answers would have sent less, and hidden it.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import functools
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from dataflow.bench.rounds import Watcher
from dataflow.bench.samples import percentile
from dataflow.bench.tables import Latencies
from dataflow.executors.clock import Clock, SystemClock

SEED = 7
_LEAST = 64  # the part of the first rate below which no rate would help: what is late then is late alone


class System(Protocol):
    """What is under load. A session is one."""

    def run(self, item: Any, /) -> Any:
        """Return the result of one item."""
        ...

    def submit(self, item: Any, /) -> Future[Any]:
        """Accept one item."""
        ...

    def map(self, items: Iterable[Any], /) -> Iterable[Any]:
        """Return the results of many items, as they are taken."""
        ...


@dataclasses.dataclass(frozen=True)
class Limit:
    """A latency that is to be kept.

    Parameters
    ----------
    seconds : float
        The most that it may be.
    share : float, optional
        The share of the requests that must keep it, a failed one never does; None holds the mean to it.

    Examples
    --------
    >>> print(Limit.parse("p99<50ms"), Limit.parse("mean<0.2s"))
    p99 < 50 ms mean < 200 ms
    """

    seconds: float
    share: float | None = 0.99

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Read ``p99<50ms``, ``p99.9<1s`` or ``mean<20ms``."""
        what, sign, value = text.replace(" ", "").replace("<=", "<").partition("<")
        units = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
        unit = next((unit for unit in units if value.endswith(unit)), None)
        try:
            if not sign or unit is None:
                raise ValueError(text)
            share = None if what == "mean" else float(what.removeprefix("p")) / 100
            limit = cls(float(value.removesuffix(unit)) * units[unit], share)
            if limit.seconds <= 0 or (share is not None and not 0 < share < 1):
                raise ValueError(text)
        except ValueError:
            raise ValueError(f"{text!r} is no limit on latencies: write p99<50ms, p99.9<1s or mean<20ms") from None
        return limit

    def __str__(self) -> str:
        what = "mean" if self.share is None else f"p{self.share * 100:g}"
        return f"{what} < {self.seconds * 1e3:g} ms"

    def allowed(self, count: int) -> int:
        """Return how many of so many requests may be late."""
        return count if self.share is None else int((1 - self.share) * count + 1e-9)


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What became of requests.

    Parameters
    ----------
    taken : tuple of float
        The seconds that each answered request took.
    failures : int
        Those that failed, or were refused.
    seconds : float
        From the first to the last answer.
    lags : tuple of float
        By how many seconds each request was sent late.
    kept : bool
        Whether the limit was kept that there was.
    """

    taken: tuple[float, ...] = ()
    failures: int = 0
    seconds: float = 0.0
    lags: tuple[float, ...] = ()
    kept: bool = True

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.taken + other.taken,
            self.failures + other.failures,
            self.seconds + other.seconds,
            self.lags + other.lags,
            self.kept and other.kept,
        )

    def latencies(self) -> Latencies:
        """Return their summary."""
        rate = len(self.taken) / self.seconds if self.seconds > 0 else 0.0
        lag = percentile(sorted(self.lags), 0.99) if self.lags else 0.0
        return Latencies.of(self.taken, self.failures, rate, lag)


def arrivals(count: int, rate: float, *, shape: float = 1.0, seed: int = SEED) -> list[float]:
    """Return when requests come, in seconds from the start.

    Parameters
    ----------
    count : int
        How many.
    rate : float
        How many a second, on average.
    shape : float
        Of the gamma distribution of the gaps: 1 makes a Poisson process, less comes in bursts (the gaps' coefficient of
        variation is ``shape ** -0.5``), ``inf`` comes evenly.
    seed : int
        Of the gaps, which are the same at every rate but for their scale, so that two rates differ in nothing else.

    Examples
    --------
    >>> arrivals(3, rate=2.0, shape=float("inf"))
    [0.5, 1.0, 1.5]
    """
    gaps = np.ones(count) if np.isinf(shape) else np.random.default_rng(seed).gamma(shape, 1 / shape, count)
    return [float(moment) for moment in np.cumsum(gaps / rate)]


def offline(system: System, items: Iterable[Any]) -> None:
    """Run all items as one batch job, and keep none of the results."""
    collections.deque(system.map(items), maxlen=0)


def single_stream(
    system: System, items: Sequence[Any], count: int, *, clock: Clock | None = None, watcher: Watcher | None = None
) -> Traffic:
    """Run one item at a time, each when the one before it is done.

    Parameters
    ----------
    system : System
        What is under load.
    items : sequence
        Taken in turn, and again from the start.
    count : int
        How many requests.
    clock : Clock, optional
        By which time is told.
    watcher : Watcher, optional
        Who may ask for an end.

    Examples
    --------
    >>> with df.stage(abs).open("inline") as session:
    ...     len(single_stream(session, [-1, -2], 100).taken)
    100
    """
    clock = clock or SystemClock()
    start = clock.now()
    taken, failures = _loop(system, itertools.cycle(items), count, clock, watcher or Watcher())
    return Traffic(tuple(taken), failures, clock.now() - start)


def _loop(system: System, items: Iterator[Any], count: int, clock: Clock, watcher: Watcher) -> tuple[list[float], int]:
    """Call again and again, and return how long each call took, and how many failed."""
    now, stopped, run = clock.now, watcher.stopped, system.run
    taken: list[float] = []
    failures = 0
    for item in itertools.islice(items, count):
        if stopped():
            break
        sent = now()
        try:
            run(item)
        except Exception:  # counted: what fails is not what is measured
            failures += 1
        else:
            taken.append(now() - sent)
    return taken, failures


def multi_stream(
    system: System,
    items: Sequence[Any],
    width: int,
    count: int,
    *,
    clock: Clock | None = None,
    watcher: Watcher | None = None,
) -> Traffic:
    """Send queries of several items, each when the one before it is done; a query takes as long as its last item.

    Parameters
    ----------
    system, items, clock, watcher
        As for `single_stream`.
    width : int
        How many items a query has.
    count : int
        How many queries.
    """
    clock, stopped = clock or SystemClock(), (watcher or Watcher()).stopped
    endless = itertools.cycle(items)
    taken: list[float] = []
    failures = 0
    start = clock.now()
    for _ in range(count):
        if stopped():
            break
        answers = _Answers(clock)
        sent = clock.now()
        for item in itertools.islice(endless, width):
            answers.expect(system, item, sent)
        answers.wait()
        failures += answers.failures > 0
        taken += [max(answers.taken)] if not answers.failures else []
    return Traffic(tuple(taken), failures, clock.now() - start)


def callers(
    system: System,
    items: Sequence[Any],
    width: int,
    count: int,
    *,
    clock: Clock | None = None,
    watcher: Watcher | None = None,
) -> Traffic:
    """Call from several threads at once, each in a loop of its own: what a web server's threads do.

    Parameters
    ----------
    system, items, clock, watcher
        As for `single_stream`.
    width : int
        How many callers.
    count : int
        How many requests, of all callers together.
    """
    clock = clock or SystemClock()
    start = clock.now()
    with ThreadPoolExecutor(width) as pool:
        sources = [itertools.islice(itertools.cycle(items), index, None) for index in range(width)]
        loops = [pool.submit(_loop, system, source, count // width, clock, watcher or Watcher()) for source in sources]
    taken = [seconds for loop in loops for seconds in loop.result()[0]]
    failures = sum(loop.result()[1] for loop in loops)
    return Traffic(tuple(taken), failures, clock.now() - start)


class _Answers:
    """Gathers the answers to requests, from whichever threads bring them."""

    def __init__(self, clock: Clock, limit: Limit | None = None) -> None:
        self._clock = clock
        self._limit = np.inf if limit is None else limit.seconds
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._due: list[float] = []
        self.taken: list[float] = []
        self.failures = 0
        self._late = 0

    def expect(self, system: System, item: Any, due: float) -> None:
        """Send a request, the latency of which counts from when it was due."""
        self._due.append(due)
        try:
            future = system.submit(item)
        except Exception:  # what is refused has failed
            self._add(due, failed=True)
        else:
            future.add_done_callback(functools.partial(self._answered, due))

    def wait(self) -> None:
        """Return once every request has been answered."""
        while len(self.taken) + self.failures < len(self._due):
            self._clock.wait(self._changed, None)
            self._changed.clear()

    def late(self) -> int:
        """Return how many are late at least: some that are not answered yet may be too."""
        long_since = bisect.bisect_left(self._due, self._clock.now() - self._limit)
        in_time = len(self.taken) + self.failures - self._late
        return max(self._late, long_since - in_time)

    def _answered(self, due: float, future: Future[Any]) -> None:
        self._add(due, failed=future.cancelled() or future.exception() is not None)

    def _add(self, due: float, *, failed: bool) -> None:
        latency = self._clock.now() - due
        with self._lock:
            if failed:
                self.failures += 1
            else:
                self.taken.append(latency)
            self._late += failed or latency > self._limit
        self._changed.set()


def server(
    system: System,
    items: Sequence[Any],
    schedule: Sequence[float],
    *,
    limit: Limit | None = None,
    clock: Clock | None = None,
    watcher: Watcher | None = None,
) -> Traffic:
    """Send requests by a schedule, whatever becomes of those before them.

    Parameters
    ----------
    system, items, clock, watcher
        As for `single_stream`.
    schedule : sequence of float
        When each request is due, in seconds from the start: see `arrivals`.
    limit : Limit, optional
        What is to be kept. Once it cannot be kept any more, nothing further is sent.
    """
    clock, stopped = clock or SystemClock(), (watcher or Watcher()).stopped
    answers = _Answers(clock, limit)
    allowed = len(schedule) if limit is None else limit.allowed(len(schedule))
    lags: list[float] = []
    start = clock.now()
    for moment, item in zip(schedule, itertools.cycle(items), strict=False):
        due = start + moment
        early = due - clock.now()
        if early > 0:
            clock.sleep(early)
        if answers.late() > allowed or stopped():
            break
        lags.append(max(0.0, clock.now() - due))
        answers.expect(system, item, due)
    answers.wait()
    kept = len(lags) == len(schedule) and answers.late() <= allowed
    if limit is not None and limit.share is None:
        kept = kept and not answers.failures and sum(answers.taken) <= limit.seconds * len(answers.taken)
    return Traffic(tuple(answers.taken), answers.failures, clock.now() - start, tuple(lags), kept)


def highest_rate(keeps: Callable[[float], bool], start: float, *, precision: float = 0.02, tries: int = 40) -> float:
    """Search for the highest rate at which a limit is kept.

    Parameters
    ----------
    keeps : callable
        Takes a rate, and returns whether the limit is kept at it.
    start : float
        Where to begin: the rate is doubled, or halved, until the limit lies between two.
    precision : float
        The share of the rate by which the result may be too low.
    tries : int
        The most rates that are tried.

    Returns
    -------
    float
        The highest rate that kept the limit; 0 where none did, down to a 64th of `start`.

    Examples
    --------
    >>> 97 <= highest_rate(lambda rate: rate <= 100, start=8) <= 100
    True
    """
    kept, missed = 0.0, np.inf
    rate = start
    for _ in range(tries):
        if keeps(rate):
            kept = rate
        else:
            missed = rate
        if kept and np.isinf(missed):
            rate = kept * 2
        elif not kept:
            if rate <= start / _LEAST:
                break
            rate = missed / 2
        elif missed / kept <= 1 + precision:
            break
        else:
            rate = (kept * missed) ** 0.5
    return kept
