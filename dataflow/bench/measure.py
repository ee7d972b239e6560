"""Measuring a flow: which executor, which batch size and which passes suit it."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from dataflow.bench.alike import TOLERANCE, alike
from dataflow.bench.load import (
    SEED,
    Limit,
    System,
    Traffic,
    arrivals,
    highest_rate,
    multi_stream,
    offline,
    server,
    single_stream,
)
from dataflow.bench.machine import forget_peak, peak, resident
from dataflow.bench.rounds import Contestant, Effort, Run, Task, Watcher, compare, ready
from dataflow.bench.stopwatch import StopWatch, cost_of_timing
from dataflow.bench.subjects import EXECUTORS, ByHand, Subject, called, open_subjects
from dataflow.bench.tables import (
    AnyTable,
    Curve,
    Curves,
    Findings,
    LatencyRow,
    LatencyTable,
    Point,
    Row,
    Table,
    TimeRow,
    TimeTable,
)
from dataflow.bench.variants import batch_sizes, with_batch
from dataflow.executors import Executor, Inline, resolve
from dataflow.expr.flow import Flow

SCENARIOS = ("offline", "single", "multi", "server")
BY_HAND = "by hand"
_BLOCKS = 5


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured, and how long.

    Parameters
    ----------
    executors : tuple of str or executor
        On what the flow is run. One that is missing is a row that says so.
    baseline : callable, optional
        The hand-written equivalent: takes all items, and returns their results in order.
    baseline_one : callable, optional
        The hand-written equivalent for one item.
    passes : bool
        Whether it is measured what each optimizer pass is worth.
    batches : tuple of int
        Batch sizes to try; by default half, twice and four times those that the flow has. Empty for none.
    scenarios : tuple of str
        Of ``"offline"``, ``"single"``, ``"multi"`` and ``"server"``.
    width : int
        How many items a query of the multi stream has.
    rate : float, optional
        Requests a second in the server scenario.
    limit : Limit, optional
        In the server scenario, search for the highest rate that keeps it.
    shape : float
        Of the arrivals: see `arrivals`.
    seconds : float
        About how long each table may take.
    seed : int
        Of the arrivals.
    tolerance : float
        Within which results must be the same.
    """

    executors: tuple[Any, ...] = EXECUTORS
    baseline: Callable[[Any], Iterable[Any]] | None = None
    baseline_one: Callable[[Any], Any] | None = None
    passes: bool = True
    batches: tuple[int, ...] | None = None
    scenarios: tuple[str, ...] = ("offline", "single", "multi")
    width: int = 8
    rate: float | None = None
    limit: Limit | None = None
    shape: float = 1.0
    seconds: float = 10.0
    seed: int = SEED
    tolerance: float = TOLERANCE


def measure(
    flow: Flow[Any, Any], items: Iterable[Any], settings: Settings | None = None, watcher: Watcher | None = None
) -> Findings:
    """Run a flow in many ways, and return how fast each is.

    Parameters
    ----------
    flow : Flow
        What is run.
    items : iterable
        On what; all of them must succeed.
    settings : Settings, optional
        What is measured.
    watcher : Watcher, optional
        Who looks on, and may ask for an end; what has been measured by then is returned.

    Returns
    -------
    Findings

    Examples
    --------
    >>> quick = Settings(executors=("inline",), scenarios=("offline",), seconds=0.1)
    >>> table = measure(df.stage(abs) >> str, range(100), quick).tables[0]
    >>> table.title.partition(",")[0], [row.name for row in table.rows if row.samples]
    ('offline', ['inline'])
    """
    given = list(items)
    if not given:
        raise ValueError("there are no items to measure the flow with")
    with ExitStack() as stack:
        return _Measuring(flow, given, settings or Settings(), watcher or Watcher(), stack).run()


@dataclasses.dataclass(frozen=True)
class _Look:
    """What an executor was seen to do: where its time goes, and the memory of each process of its own."""

    times: TimeRow
    processes: tuple[int, ...] = ()


class _Measuring:
    def __init__(
        self, flow: Flow[Any, Any], items: list[Any], settings: Settings, watcher: Watcher, stack: ExitStack
    ) -> None:
        self._flow = flow
        self._items = items
        self._settings = settings
        self._watcher = watcher
        self._stack = stack
        self._wanted = list(flow.map(items, Inline(passes=()), progress=False))
        self._looks: dict[str, _Look] = {}
        self._cost_of_timing = cost_of_timing()
        self._effort = Effort(rounds=101, settled=0.01, seconds=settings.seconds)

    def run(self) -> Findings:
        settings, watcher = self._settings, self._watcher
        watcher.progress("opening sessions", 0, 1)
        subjects = open_subjects(self._flow, settings.executors, self._stack, passes=settings.passes)
        by_hand = ByHand(settings.baseline, settings.baseline_one)
        if by_hand.maps:
            subjects.insert(0, Subject(BY_HAND, BY_HAND, system=by_hand))
        whole = [subject for subject in subjects if subject.whole]
        parts: list[Callable[[], Iterable[AnyTable]]] = []
        if "offline" in settings.scenarios:
            parts += [lambda: self._offline(subjects), lambda: self._times(whole), lambda: self._batches(whole)]
        online = [subject for subject in whole if subject.name != BY_HAND or by_hand.runs]
        if "single" in settings.scenarios:
            parts.append(lambda: self._streams("single stream: one item at a time", online, single_stream))
        if "multi" in settings.scenarios:
            title = f"multi stream: queries of {settings.width} items"
            parts.append(lambda: self._streams(title, online, self._query))
        if "server" in settings.scenarios or settings.rate is not None or settings.limit is not None:
            parts.append(lambda: self._server(online))
        tables: list[AnyTable] = []
        for part in parts:
            if watcher.stopped():
                break
            tables += part()
        notes = [
            say(each, subjects)
            for each in whole
            if settings.passes and each.session is not None
            for say in (_without_effect, _not_left_out)
        ]
        if watcher.stopped():
            notes.append("stopped before the end: what is missing was not measured")
        return Findings(tuple(tables), (), tuple(note for note in notes if note))

    # -- offline -----------------------------------------------------------------------------------------------------

    def _offline(self, subjects: Sequence[Subject]) -> Iterator[Table]:
        """Time a batch job on every subject, and set against each executor what it does without each pass."""
        task, repeats = self._task()
        what = f"offline, {len(self._items) * repeats:,} items a sample"
        contestants = [
            Contestant(subject.name, ready(subject.job), task) for subject in subjects if subject.system is not None
        ]
        if not contestants:
            return
        table = compare(what, contestants, effort=self._effort, passes=1, rate=True, watcher=self._watcher)
        rows = {row.name: row for row in table.rows}
        whole = [subject for subject in subjects if subject.whole]
        yield Table(what, whole[0].name, tuple(self._row(subject, rows) for subject in whole), rate=True)
        for executor in whole:
            mine = [each for each in subjects if each.executor == executor.executor and each.system and each.left_out]
            if mine and executor.name in rows:
                worth = tuple(self._row(subject, rows, within=executor) for subject in (executor, *mine))
                yield Table(f"{executor.name}: what leaving out a pass costs", executor.name, worth)

    def _row(self, subject: Subject, rows: Mapping[str, Row], within: Subject | None = None) -> Row:
        name = subject.name if within is None else subject.name.removeprefix(f"{within.name}, ")
        row = rows.get(subject.name, Row(name, note=subject.note))
        facts = self._facts(subject) if row.samples and within is None else {}
        return Row(name, row.samples, row.note, facts)

    def _task(self) -> tuple[Task, int]:
        """Return what every subject is to do, repeated so often that a sample is long enough to be timed."""
        began = time.perf_counter()
        for _ in self._flow.map(self._items, resolve("inline"), progress=False):
            pass
        took = time.perf_counter() - began
        repeats = max(1, min(1000, math.ceil(0.05 / max(took, 1e-9))))
        items, wanted = self._items * repeats, self._wanted * repeats

        def right(_: Any, results: Any) -> bool:
            made = list(results)
            pairs = zip(made, wanted, strict=False)
            return len(made) == len(wanted) and all(alike(*pair, self._settings.tolerance) for pair in pairs)

        return Task(lambda: [items], right, len(items)), repeats

    def _facts(self, subject: Subject) -> dict[str, Any]:
        """Return what else there is to know of a subject: its memory, its batches, its plan."""
        facts: dict[str, Any] = {}
        system = subject.system
        before = resident()
        if system is not None and before is not None and forget_peak():
            offline(system, self._items)
            most = peak()
            facts["memory"] = max(0, (most or before) - before)
        if subject.session is not None:
            if not self._watcher.stopped():
                facts["processes"] = list(self._looked(subject).processes)
            facts["digest"] = subject.session.plan.digest
            steps: Mapping[str, Any] = subject.session.stats()["steps"]
            batched = {name: step for name, step in steps.items() if step["batches"]}
            facts["batches"] = {name: _mean_batch(step["batches"]) for name, step in batched.items()}
            facts["dispatched"] = {name: step.get("dispatched", {}) for name, step in batched.items()}
        return facts

    def _times(self, subjects: Sequence[Subject]) -> Iterator[TimeTable]:
        """Say of every executor in what its time goes."""
        looks = [self._looked(subject) for subject in subjects if subject.session and not self._watcher.stopped()]
        yield TimeTable("where the time goes, offline", tuple(look.times for look in looks))

    def _looked(self, subject: Subject) -> _Look:
        """Run an executor once more with a stop-watch around each stage, unless that has been done."""
        if subject.name not in self._looks:
            self._watcher.progress(f"where {subject.name} spends its time", 0, 1)
            try:
                with StopWatch() as watch:
                    self._looks[subject.name] = self._look(subject, watch)
            except Exception as error:
                note = f"could not be timed: {type(error).__name__}: {error}"
                self._looks[subject.name] = _Look(TimeRow(subject.name, note=note))
        return self._looks[subject.name]

    def _look(self, subject: Subject, watch: StopWatch) -> _Look:
        executor = next(each for each in self._settings.executors if called(each) == subject.name)
        with resolve(executor).open(watch.around(self._flow)) as session:
            offline(session, self._items)
            warm, queued = watch.taken(), _queued(session.stats())
            began = time.perf_counter()
            offline(session, self._items)
            elapsed = time.perf_counter() - began
            queued = _queued(session.stats()) - queued
            others = tuple(peak(process) or 0 for process in watch.processes() - {os.getpid()})
        count = len(self._items)
        taken = {name: both.since(warm[name]) for name, both in watch.taken().items()}
        parts = {name: each.seconds / count for name, each in taken.items() if each.calls}
        if not parts:
            return _Look(
                TimeRow(subject.name, note="its stages run on other machines, where no stop-watch is looked at")
            )
        timing = self._cost_of_timing * sum(each.calls for each in taken.values()) / count
        parts["glue"] = max(0.0, elapsed / count - sum(parts.values()) - timing)
        return _Look(TimeRow(subject.name, parts, queued / count if queued > 0 else None), others)

    def _batches(self, subjects: Sequence[Subject]) -> Iterator[Curves]:
        """Try other batch sizes."""
        own = batch_sizes(self._flow)
        sizes = self._settings.batches
        if sizes is None:
            sizes = tuple(sorted({size for base in own for size in (base // 2, base, base * 2, base * 4) if size}))
        if not own or not sizes:
            return
        task, _ = self._task()
        curves = []
        effort = dataclasses.replace(self._effort, rounds=21, seconds=self._settings.seconds / max(1, len(subjects)))
        for subject in subjects:
            if subject.session is None:
                continue
            executor = resolve(next(each for each in self._settings.executors if called(each) == subject.name))
            with ExitStack() as stack:
                contestants = [
                    Contestant(str(size), functools.partial(self._sized, executor, size, stack), task) for size in sizes
                ]
                title = f"{subject.name} by batch size"
                table = compare(title, contestants, effort=effort, passes=1, watcher=self._watcher)
            points = [Point(float(row.name), row.samples) for row in table.rows if row.samples]
            notes = [f"{row.name}: {row.note}" for row in table.rows if not row.samples]
            curves.append(Curve(subject.name, tuple(points), "; ".join(notes)))
        written = ", ".join(map(str, own))
        yield Curves(f"throughput by batch size (the flow says {written})", "batch size", tuple(curves))

    def _sized(self, executor: Executor, size: int, stack: ExitStack) -> Run:
        session = stack.enter_context(executor.open(with_batch(self._flow, size)))
        return Subject(str(size), executor.name, system=session).job

    # -- online ------------------------------------------------------------------------------------------------------

    def _query(self, system: System, items: Sequence[Any], count: int, *, watcher: Watcher) -> Traffic:
        return multi_stream(system, items, self._settings.width, count, watcher=watcher)

    def _streams(
        self, title: str, subjects: Sequence[Subject], stream: Callable[..., Traffic]
    ) -> Iterator[LatencyTable]:
        """Run a closed loop on every subject, in blocks that take turns."""
        open_ones = [subject for subject in subjects if subject.system is not None]
        share = self._settings.seconds / max(1, len(open_ones)) / _BLOCKS
        counts = {}
        for subject in open_ones:
            first = stream(subject.system, self._items, 10, watcher=self._watcher)
            counts[subject.name] = max(10, min(5000, int(share / max(first.seconds / 10, 1e-7))))
        total = {subject.name: Traffic() for subject in open_ones}
        for block in range(_BLOCKS):
            self._watcher.progress(title, block, _BLOCKS)
            for subject in open_ones:
                if not self._watcher.stopped():
                    found = stream(subject.system, self._items, counts[subject.name], watcher=self._watcher)
                    total[subject.name] += found
        yield LatencyTable(title, _latency_rows(subjects, total))

    def _server(self, subjects: Sequence[Subject]) -> Iterator[LatencyTable]:
        """Send requests by a schedule: at the rate that was asked for, or at the highest that keeps the limit."""
        settings = self._settings
        total: dict[str, Traffic] = {}
        facts: dict[str, dict[str, Any]] = {}
        open_ones = [subject for subject in subjects if subject.system is not None]
        for number, subject in enumerate(open_ones):
            self._watcher.progress("server", number, len(open_ones))
            if self._watcher.stopped():
                break
            assert subject.system is not None
            alone = single_stream(subject.system, self._items, 20)
            rate = settings.rate or 0.5 * len(alone.taken) / max(alone.seconds, 1e-9)
            if settings.limit is not None:
                rate = highest_rate(functools.partial(self._keeps, subject), rate, precision=0.05)
                facts[subject.name] = {"highest rate": rate}
            if rate > 0:
                total[subject.name] = self._probe(subject, rate, None)
        kind = "Poisson" if settings.shape == 1 else f"gamma ({settings.shape:g})"
        what = f"{settings.rate:g} requests a second" if settings.rate else "half of what one at a time would do"
        if settings.limit is not None:
            what = f"the highest rate that keeps {settings.limit}"
        yield LatencyTable(f"server: {kind} arrivals, {what}", _latency_rows(subjects, total, facts))

    def _keeps(self, subject: Subject, rate: float) -> bool:
        """Return whether the limit is kept; a miss is believed the second time, for what else runs can only slow."""
        return any(self._probe(subject, rate, self._settings.limit, again).kept for again in range(2))

    def _probe(self, subject: Subject, rate: float, limit: Limit | None, again: int = 0) -> Traffic:
        settings = self._settings
        assert subject.system is not None
        seconds = settings.seconds / (8 if settings.limit is not None else 2)
        count = max(300, min(20_000, int(rate * seconds)))
        schedule = arrivals(count, rate, shape=settings.shape, seed=settings.seed + again)
        return server(subject.system, self._items, schedule, limit=limit, watcher=self._watcher)


def _latency_rows(
    subjects: Sequence[Subject], total: Mapping[str, Traffic], facts: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[LatencyRow, ...]:
    rows = []
    for subject in subjects:
        traffic = total.get(subject.name)
        found = None if traffic is None or not traffic.taken else traffic.latencies()
        note = subject.note or ("" if found else "no request was answered in time")
        rows.append(LatencyRow(subject.name, found, note, (facts or {}).get(subject.name, {})))
    return tuple(rows)


def _without_effect(executor: Subject, subjects: Sequence[Subject]) -> str:
    """Say which passes need not be left out, for they change nothing."""
    mine = [subject for subject in subjects if subject.executor == executor.executor and subject.left_out != "*"]
    idle = [subject.left_out for subject in mine if subject.same_as == executor.name]
    return f"{executor.name}: without {', '.join(idle)} the plan is the same" if idle else ""


def _not_left_out(executor: Subject, subjects: Sequence[Subject]) -> str:
    """Say which passes could not be left out, and why."""
    failed = [each for each in subjects if each.executor == executor.executor and each.left_out and not each.same_as]
    return "; ".join(f"{each.name}: not measured: {each.note}" for each in failed if each.system is None)


def _mean_batch(batches: Mapping[Any, int]) -> float:
    return sum(int(size) * count for size, count in batches.items()) / sum(batches.values())


def _queued(stats: Any) -> float:
    """Return the seconds that items have spent in queues, where an executor counts them."""
    return float(sum(itertools.chain([0.0], (step.get("queue_seconds", 0.0) for step in stats["steps"].values()))))
