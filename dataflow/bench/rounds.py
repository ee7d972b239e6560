"""Timing contestants in turns: checked first, warm, interleaved, until the ratios are known well enough."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, repeat
from time import perf_counter
from typing import Any

from dataflow.bench.samples import ratios
from dataflow.bench.tables import Row, Table
from dataflow.errors import LoweringError, OptionError

Run = Callable[[Any], Any]


class Watcher:
    """Looks on while something is measured: is told how far it has come, and may ask for an end."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Hear that `done` of at most `total` parts are done."""

    def stopped(self) -> bool:
        """Return whether no more is wanted; what has been measured by then is kept."""
        return False


@dataclasses.dataclass(frozen=True)
class Task:
    """What a contestant is asked to do.

    Parameters
    ----------
    items : callable
        Makes the inputs of one sample; called before every sample, and not timed.
    right : callable
        Takes an input and its result, and returns whether this is the right one.
    units : int
        How many units of work one input stands for; times are per unit.
    """

    items: Callable[[], Sequence[Any]]
    right: Callable[[Any, Any], bool]
    units: int = 1


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One way of doing a task.

    Parameters
    ----------
    name : str
        In the table.
    make : callable
        Returns what is called with each input. Raises ImportError where it is not installed and NotImplementedError,
        with the reason, where it has no way to do the task.
    task : Task
        What it does.
    """

    name: str
    make: Callable[[], Run]
    task: Task


def ready(run: Run) -> Callable[[], Run]:
    """Return what a contestant calls `make`, where there is nothing left to be made."""
    return lambda: run


@dataclasses.dataclass(frozen=True)
class Effort:
    """How much is measured.

    Parameters
    ----------
    rounds : int
        The most rounds.
    at_least : int
        The fewest, after which it ends as soon as it is settled.
    settled : float
        Half the width of every ratio's confidence interval at which no more is wanted, as a share of the ratio.
    seconds : float
        The time after which no other round begins.
    """

    rounds: int = 31
    at_least: int = 7
    settled: float = 0.01
    seconds: float = 60.0


def compare(
    title: str,
    contestants: Sequence[Contestant],
    *,
    effort: Effort | None = None,
    passes: int | None = None,
    sample_seconds: float = 0.01,
    rate: bool = False,
    watcher: Watcher | None = None,
) -> Table:
    """Check every contestant's results, then time them in turns.

    Parameters
    ----------
    title : str
        What is compared.
    contestants : sequence of Contestant
        The first is the reference of the ratios.
    effort : Effort, optional
        How many rounds. Each takes one sample of every contestant, a different one first, so that a busy moment of the
        machine falls on all alike.
    passes : int, optional
        Passes over a task's items in a sample; by default as many as fill `sample_seconds`.
    sample_seconds : float
        About how long a sample lasts where `passes` is not given.
    rate : bool
        Show units per second rather than seconds per unit.
    watcher : Watcher, optional
        Who looks on.

    Returns
    -------
    Table
        A row for each contestant, in the order given. One that is missing, fails or gives a wrong result is not timed:
        its row says why.

    Examples
    --------
    >>> task = Task(items=lambda: [3, 4], right=lambda x, y: y == x * x)
    >>> rivals = [Contestant("times", ready(lambda x: x * x), task), Contestant("plus", ready(lambda x: x + x), task)]
    >>> table = compare("squares", rivals, effort=Effort(rounds=2), sample_seconds=1e-4)
    >>> len(table.row("times").samples), table.row("plus").note
    (2, 'failed: ValueError: wrong result: 6')
    """
    effort, watcher = effort or Effort(), watcher or Watcher()
    made: dict[str, tuple[Run, Task]] = {}
    problems: dict[str, str] = {}
    for done, contestant in enumerate(contestants):
        watcher.progress(f"{title}: checking {contestant.name}", done, len(contestants))
        if watcher.stopped():
            break
        try:
            made[contestant.name] = checked(contestant), contestant.task
        except Exception as error:  # one contestant's failure is a row, not the end
            problems[contestant.name] = problem(error)
    counts = {name: passes or _passes_to_fill(sample_seconds, *each) for name, each in made.items()}
    samples: dict[str, list[float]] = {name: [] for name in made}
    began = perf_counter()
    gc.collect()
    gc.freeze()  # what is loaded so far is nobody's garbage to look through
    try:
        for turn in range(effort.rounds):
            watcher.progress(title, turn, effort.rounds)
            for name in rotated(list(made), turn):
                if watcher.stopped():
                    break
                samples[name].append(sample(*made[name], counts[name]))
            late = perf_counter() - began > effort.seconds
            if watcher.stopped() or late or (turn + 1 >= effort.at_least and _settled(samples, effort.settled)):
                break
    finally:
        gc.unfreeze()
    return tabulate(title, [contestant.name for contestant in contestants], samples, notes=problems, rate=rate)


def problem(error: Exception) -> str:
    """Return in a few words why something could not be measured."""
    if isinstance(error, ImportError):
        return f"not installed ({error})"
    if isinstance(error, OptionError | LoweringError):
        return str(error).partition(" (")[0]  # where it was asked for does not matter here
    if isinstance(error, NotImplementedError):
        return str(error)
    return f"failed: {type(error).__name__}: {error}"


def checked(contestant: Contestant) -> Run:
    """Make a contestant and see that it gives the right results."""
    run = contestant.make()
    for item in contestant.task.items():
        result = run(item)
        if not contestant.task.right(item, result):
            raise ValueError(f"wrong result: {result!r:.80}")
    return run


def sample(run: Run, task: Task, passes: int = 1) -> float:
    """Time `passes` passes over a task's items, and return the seconds per unit."""
    items = task.items()
    inputs = chain.from_iterable(repeat(items, passes))
    gc.collect()
    start = perf_counter()
    for item in inputs:
        run(item)
    elapsed = perf_counter() - start
    return elapsed / (passes * len(items) * task.units)


def _passes_to_fill(seconds: float, run: Run, task: Task) -> int:
    """Find how many passes over a task's items last about that long."""
    items = len(task.items()) * task.units
    passes = 1
    while True:
        elapsed = sample(run, task, passes) * items * passes
        if elapsed >= seconds / 4:
            return max(1, round(passes * seconds / elapsed))
        passes *= 4


def _settled(samples: Mapping[str, Sequence[float]], share: float) -> bool:
    first = next(iter(samples.values()), ())
    return all(ratios(taken, first).width <= share for taken in samples.values() if taken)


def rotated(names: list[str], turn: int) -> list[str]:
    """Return the names starting from another one each turn."""
    first = turn % len(names) if names else 0
    return names[first:] + names[:first]


def tabulate(
    title: str,
    names: Sequence[str],
    samples: Mapping[str, Sequence[float]],
    *,
    notes: Mapping[str, str] | None = None,
    rate: bool = False,
) -> Table:
    """Make a table of samples taken in rounds; the first name is the reference."""
    rows = []
    for name in names:
        taken = tuple(samples.get(name, ()))
        rows.append(Row(name, taken, (notes or {}).get(name, "" if taken else "not measured")))
    return Table(title, names[0], tuple(rows), rate)
