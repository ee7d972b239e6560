"""The harness: interleaved repeats, medians, paired ratios, tables and goals."""

from __future__ import annotations

import contextlib
import gc
import os
import platform
import signal
import statistics
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from itertools import chain, repeat
from pathlib import Path
from time import perf_counter
from typing import Any

Run = Callable[[Any], Any]

CHECK_LIMIT = 60.0
"""Seconds a competitor may take for its first, checked, run."""


@dataclass(frozen=True)
class Task:
    """What a competitor is asked to do.

    Attributes
    ----------
    items
        Makes the inputs of one sample; not timed, called before every sample.
    right
        Whether a result is the right one for an item.
    units
        How many units of work one item stands for; times are per unit.
    """

    items: Callable[[], Sequence[Any]]
    right: Callable[[Any, Any], bool]
    units: int = 1


@dataclass(frozen=True)
class Competitor:
    """One way of doing a task; `make` raises ImportError where it is missing."""

    name: str
    make: Callable[[], Run]
    task: Task


@dataclass(frozen=True)
class Row:
    """What one competitor did.

    Attributes
    ----------
    name
        The competitor.
    seconds
        Median seconds per unit over the rounds; None if not measured.
    ratio, low, high
        Median and quartiles of the ratios, round by round, to the reference's time.
    samples
        Seconds per unit, round by round.
    note
        Why there is no figure, or a remark on it.
    """

    name: str
    seconds: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    samples: tuple[float, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Table:
    """The rows of one comparison; `rate` shows units per second."""

    title: str
    reference: str
    rows: tuple[Row, ...]
    rate: bool = False

    def row(self, name: str) -> Row:
        """Give the row of one competitor."""
        return next(row for row in self.rows if row.name == name)


@dataclass(frozen=True)
class Goal:
    """A figure, and the limit it is held to."""

    what: str
    value: float | None
    limit: float
    unit: str = "x"
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the figure was measured and is within the limit."""
        if self.value is None:
            return False
        if self.at_least:
            return self.value >= self.limit
        return self.value <= self.limit


@dataclass(frozen=True)
class Report:
    """All that one workload has to say."""

    tables: tuple[Table, ...]
    goals: tuple[Goal, ...]
    notes: tuple[str, ...] = ()


def compare(
    title: str,
    competitors: Sequence[Competitor],
    *,
    repeats: int = 31,
    passes: int | None = None,
    sample_seconds: float = 0.01,
    rate: bool = False,
) -> Table:
    """Check every competitor's results, then time them in turns.

    Parameters
    ----------
    title
        What is compared.
    competitors
        The first is the reference of the ratios.
    repeats
        Rounds; each takes one sample of every competitor, a different one first.
    passes
        Passes over a task's items in a sample; by default as many as fill
        `sample_seconds`.
    sample_seconds
        About how long a sample lasts when `passes` is not given.
    rate
        Show units per second rather than seconds per unit.

    Returns
    -------
    Table
        A row for each competitor, in the order given. One that is missing, fails
        or gives a wrong result is not timed: its row says why.
    """
    ready: dict[str, tuple[Competitor, Run]] = {}
    problems: dict[str, str] = {}
    for competitor in competitors:
        try:
            with time_limit(CHECK_LIMIT):
                ready[competitor.name] = competitor, checked(competitor)
        except ImportError as error:
            problems[competitor.name] = f"not installed ({error})"
        except NotImplementedError as error:
            problems[competitor.name] = str(error)
        except Exception as error:  # one competitor's failure is a row, not the end
            problems[competitor.name] = f"failed: {type(error).__name__}: {error}"

    counts = {
        name: passes or passes_to_fill(sample_seconds, run, competitor.task)
        for name, (competitor, run) in ready.items()
    }
    samples: dict[str, list[float]] = {name: [] for name in ready}
    gc.collect()
    gc.freeze()  # what is loaded so far is nobody's garbage to look through
    try:
        for turn in range(repeats):
            for name in rotated(list(ready), turn):
                competitor, run = ready[name]
                samples[name].append(sample(run, competitor.task, counts[name]))
    finally:
        gc.unfreeze()
    return tabulate(
        title,
        [competitor.name for competitor in competitors],
        samples,
        problems=problems,
        rate=rate,
    )


def checked(competitor: Competitor) -> Run:
    """Make a competitor and see that it gives the right results."""
    run = competitor.make()
    for item in competitor.task.items():
        result = run(item)
        if not competitor.task.right(item, result):
            raise ValueError(f"wrong result: {result!r:.80}")
    return run


def sample(run: Run, task: Task, passes: int) -> float:
    """Time `passes` passes over a task's items, in seconds per unit."""
    items = task.items()
    inputs = chain.from_iterable(repeat(items, passes))
    gc.collect()
    start = perf_counter()
    for item in inputs:
        run(item)
    elapsed = perf_counter() - start
    return elapsed / (passes * len(items) * task.units)


def passes_to_fill(seconds: float, run: Run, task: Task) -> int:
    """Find how many passes over a task's items last about that long."""
    items = len(task.items()) * task.units
    passes = 1
    while True:
        elapsed = sample(run, task, passes) * items * passes
        if elapsed >= seconds / 4:
            return max(1, round(passes * seconds / elapsed))
        passes *= 4


def rotated(names: list[str], turn: int) -> list[str]:
    """Give the names starting from another one each turn."""
    if not names:
        return names
    first = turn % len(names)
    return names[first:] + names[:first]


def tabulate(
    title: str,
    names: Sequence[str],
    samples: Mapping[str, Sequence[float]],
    *,
    problems: Mapping[str, str] | None = None,
    notes: Mapping[str, str] | None = None,
    rate: bool = False,
) -> Table:
    """Summarize samples; the first name is the reference, rounds are paired."""
    reference = samples.get(names[0])
    rows = []
    for name in names:
        taken = samples.get(name)
        if not taken:
            rows.append(Row(name, note=(problems or {}).get(name, "not measured")))
            continue
        ratio, low, high = None, None, None
        if reference:
            ratios = [own / base for own, base in zip(taken, reference, strict=True)]
            ratio = statistics.median(ratios)
            low, high = quartiles(ratios)
        rows.append(
            Row(
                name,
                statistics.median(taken),
                ratio,
                low,
                high,
                tuple(taken),
                (notes or {}).get(name, ""),
            )
        )
    return Table(title, names[0], tuple(rows), rate)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Give the first and third quartile."""
    if len(values) < 2:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the block after that long, where signals allow it."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError(f"stopped after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def machine() -> dict[str, str]:
    """Describe the machine and the interpreter."""
    return {
        "cpu": cpu_model(),
        "cores": str(usable_cores()),
        "memory": memory(),
        "load": load(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def usable_cores() -> int:
    """Count the cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_model() -> str:
    """Name the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    models = (line.partition(":")[2] for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or "unknown").strip()


def memory() -> str:
    """Give the machine's memory."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return "unknown"
    return f"{size / 2**30:.1f} GiB"


def load() -> str:
    """Give the load of the last minute: what else the machine is busy with."""
    try:
        return f"{os.getloadavg()[0]:.2f}"
    except (AttributeError, OSError):
        return "unknown"


def versions(distributions: Sequence[str]) -> dict[str, str]:
    """Look up the installed version of each distribution."""
    found = {}
    for distribution in distributions:
        try:
            found[distribution] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            found[distribution] = "not installed"
    return found


def show(workload: str, report: Report) -> str:
    """Lay out a report as text."""
    lines = [workload, "=" * len(workload)]
    for table in report.tables:
        lines += ["", *show_table(table)]
    lines += [f"  {note}" for note in report.notes]
    lines += [show_goal(goal) for goal in report.goals]
    return "\n".join(lines)


def show_table(table: Table) -> list[str]:
    """Lay out a table, ratios beside their quartiles."""
    width = max(len(row.name) for row in table.rows)
    unit = "per second" if table.rate else "median"
    lines = [
        f"  {table.title}",
        f"  {'':{width}}  {unit:>10}  {'ratio':>8}  quartiles",
    ]
    for row in table.rows:
        if row.seconds is None:
            lines.append(f"  {row.name:{width}}  {row.note}")
            continue
        figure = f"{1 / row.seconds:,.0f}" if table.rate else duration(row.seconds)
        lines.append(f"  {row.name:{width}}  {figure:>10}  {ratios(row, table.rate)}  {row.note}".rstrip())
    return lines


def ratios(row: Row, rate: bool) -> str:
    """Lay out a row's ratio to the reference: of times, or of rates."""
    if row.ratio is None or row.low is None or row.high is None:
        return f"{'':>8}  {'':15}"
    middle, low, high = row.ratio, row.low, row.high
    if rate:
        middle, low, high = 1 / middle, 1 / high, 1 / low
    spread = f"{number(low)} - {number(high)}"
    return f"{number(middle):>8}  {spread:15}"


def show_goal(goal: Goal) -> str:
    """Lay out a goal and whether it was met."""
    sign = ">=" if goal.at_least else "<="
    value = "not measured" if goal.value is None else f"{goal.value:.3g}{goal.unit}"
    word = "PASS" if goal.met else "MISS"
    return f"  {word}  {goal.what} {sign} {goal.limit:g}{goal.unit}: {value}"


def number(value: float) -> str:
    """Write a ratio with the digits that mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def duration(seconds: float) -> str:
    """Write a time in its own unit."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def as_json(report: Report) -> dict[str, Any]:
    """Turn a report into plain values, each goal with its verdict."""
    plain = asdict(report)
    plain["goals"] = [{**asdict(goal), "met": goal.met} for goal in report.goals]
    return plain
