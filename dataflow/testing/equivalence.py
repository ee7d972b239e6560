"""Whether a flow gives what it means, whatever optimizes it and whatever runs it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from dataflow.executors import Failure, Inline, resolve
from dataflow.expr.flow import Flow
from dataflow.expr.stage import Stage, short_repr
from dataflow.passes import DEFAULT
from dataflow.testing.counting import Tally, counted, decided, fans_out
from dataflow.testing.outcomes import Outcome, Same, outcomes
from dataflow.testing.reference import reference
from dataflow.testing.source import NotWritable, to_python

PASSES = tuple(each.name for each in DEFAULT)
_MOST_SHOWN = 200


def assert_equivalent(
    flow: Flow[Any, Any],
    items: Iterable[Any],
    *,
    passes: str | Iterable[Iterable[str]] | None = "powerset",
    executors: Sequence[Any] = ("inline", "threads"),
    same: Same | None = None,
    calls: bool = True,
) -> None:
    """Check that a flow gives what the oracle says: with any optimizer passes, on any executor.

    Parameters
    ----------
    flow : Flow
        Its stages are deterministic, and are run again and again: once for each item by the oracle, once by each
        executor, and once for each set of passes.
    items : iterable
        A few; kept.
    passes : "powerset", iterable of iterables of str, or None
        The sets of passes to run inline: every subset of the default passes, these, or none of them.
    executors : sequence of executors or their names
        What else to run it on, as they are.
    same : callable, optional
        Says whether two results are the same. The default wants equal values of equal types: give one that allows for
        rounding where the results are floats of a model that takes batches.
    calls : bool
        Whether to look at how often the stages run as well: an impure one exactly as often as it is written, a pure one
        no more often. Nothing is said of items that fail, nor where a race, a timeout or ``within`` may leave work off,
        nor where a branch of a fan-out fails and the item goes on: whether the others had run by then is open.

    Raises
    ------
    AssertionError
        With the smallest set of passes and the fewest items that show a difference, and what it is.

    Examples
    --------
    >>> import dataflow as df
    >>> assert_equivalent(df.stage(abs) >> (df.stage(str) | float), [-1, 2])
    """
    given = list(items)
    wanted = [outcomes(flow, item) for item in given]
    for executor in _executors(passes, executors):
        trial = _Trial(flow, executor, same)
        if trial.difference(given, wanted) is not None:
            raise AssertionError(trial.explained(given, wanted))
    if calls and decided(flow) and not any(outcome.error for row in wanted for outcome in row):
        _check_calls(flow, given, _executors(passes, executors))


def subsets(names: Sequence[str] = PASSES) -> Iterator[tuple[str, ...]]:
    """Yield every subset of the passes, small ones first, each in the order in which they run.

    Examples
    --------
    >>> list(subsets(["hoist", "fuse"]))
    [(), ('hoist',), ('fuse',), ('hoist', 'fuse')]
    """
    for size in range(len(names) + 1):
        yield from itertools.combinations(names, size)


def recorded(results: Iterable[Any]) -> Iterator[Outcome]:
    """Yield the results of a job under ``on_error="record"`` as outcomes.

    Examples
    --------
    >>> import dataflow as df
    >>> [outcome.error is None for outcome in recorded(df.stage(int).map(["1", "x"], on_error="record"))]
    [True, False]
    """
    for result in results:
        yield Outcome(None, type(result.error)) if isinstance(result, Failure) else Outcome(result)


def _executors(passes: str | Iterable[Iterable[str]] | None, executors: Sequence[Any]) -> Iterator[Any]:
    if isinstance(passes, str):
        if passes != "powerset":
            raise ValueError(f"passes is 'powerset', some sets of passes, or None, not {passes!r}")
        passes = subsets()
    for names in passes or ():
        yield Inline(passes=tuple(names))
    for executor in executors:
        yield resolve(executor)


@dataclasses.dataclass(frozen=True)
class _Trial:
    """One way to run the flow.

    Parameters
    ----------
    flow : Flow
        What to run.
    executor : executor
        On what.
    same : callable, optional
        Says whether two values are the same.
    """

    flow: Flow[Any, Any]
    executor: Any
    same: Same | None

    def difference(self, items: Sequence[Any], wanted: Sequence[Sequence[Outcome]]) -> tuple[int, str] | None:
        """Return the number of the first item whose outcome is not wanted, and that outcome; None if all are."""
        results = self.flow.map(list(items), self.executor, on_error="record", progress=False)
        index = -1
        for index, outcome in enumerate(recorded(results)):
            if index >= len(items):
                return index, f"{outcome}, where there is no item"
            if not any(outcome.matches(other, self.same) for other in wanted[index]):
                return index, shown(outcome)
        return (index + 1, "nothing at all") if index + 1 < len(items) else None

    def explained(self, items: Sequence[Any], wanted: Sequence[Sequence[Outcome]]) -> str:
        """Return what to say of a difference, made as small as it goes."""
        kept = fewest(list(range(len(items))), lambda some: self._differs(items, wanted, some))
        chosen, allowed = [items[index] for index in kept], [wanted[index] for index in kept]
        index, given = self.difference(chosen, allowed) or (0, "now what was wanted: it differs from run to run")
        rows = [
            ("flow", written(self.flow)),
            ("executor", short_repr(self.executor, _MOST_SHOWN)),
            ("items", short_repr(chosen, _MOST_SHOWN)),
            ("wanted", " or ".join(map(shown, allowed[index])) if index < len(allowed) else "nothing more"),
            ("given", given),
        ]
        if index < len(chosen):
            rows.insert(3, ("item", f"{index}: {short_repr(chosen[index], _MOST_SHOWN)}"))
        return "the flow does not give what it means\n" + table(rows)

    def _differs(self, items: Sequence[Any], wanted: Sequence[Sequence[Outcome]], some: Sequence[int]) -> bool:
        return self.difference([items[index] for index in some], [wanted[index] for index in some]) is not None


def _check_calls(flow: Flow[Any, Any], items: Sequence[Any], executors: Iterator[Any]) -> None:
    watched, tally = counted(flow)
    for item in items:
        reference(watched, item)
    if tally.failed and fans_out(flow):
        return
    wanted = dict(tally.items)
    pure = {stage: stage.options.pure for stage in wanted}
    for executor in executors:
        tally.clear()
        list(watched.map(list(items), executor, progress=False))
        for stage, count in wanted.items():
            if tally.items[stage] > count and pure[stage] and not _split(stage, tally):
                _complain(flow, executor, items, stage, f"at most {count} items to reach it", tally)
            if tally.items[stage] != count and not pure[stage]:
                _complain(flow, executor, items, stage, f"{count} items to reach it, for it is not pure", tally)


def _split(stage: Stage[Any, Any], tally: Tally) -> bool:
    """Return whether a stage may have been called again for the parts of a batch that had failed."""
    return stage.options.batch is not None and tally.failed


def _complain(
    flow: Flow[Any, Any], executor: Any, items: Sequence[Any], stage: Stage[Any, Any], wanted: str, tally: Tally
) -> None:
    rows = [
        ("flow", written(flow)),
        ("executor", short_repr(executor, _MOST_SHOWN)),
        ("items", short_repr(items, _MOST_SHOWN)),
        ("stage", f"{stage.name} ({stage.origin})"),
        ("wanted", wanted),
        ("given", str(tally.items[stage])),
    ]
    raise AssertionError("a stage does not run as often as it should\n" + table(rows))


def fewest(things: list[Any], fails: Callable[[list[Any]], bool]) -> list[Any]:
    """Return a part of `things` that still fails, from which no single one, and no half, can be taken.

    Examples
    --------
    >>> fewest([5, 1, 4, 2], lambda some: 1 in some and 2 in some)
    [1, 2]
    """
    size = len(things) // 2
    while size:
        start = 0
        while start < len(things):
            fewer = things[:start] + things[start + size :]
            if fails(fewer):
                things = fewer
            else:
                start += size
        size //= 2
    return things


def shown(outcome: Outcome) -> str:
    """Return an outcome as people read it."""
    return f"a {outcome.error.__name__}" if outcome.error is not None else short_repr(outcome.value, _MOST_SHOWN)


def written(flow: Flow[Any, Any]) -> str:
    """Return a flow as Python where it can be written, or else as it shows."""
    try:
        return to_python(flow)
    except NotWritable:
        return repr(flow)


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Return rows of a word and what it is."""
    return "\n".join(f"  {word:9} {text}" for word, text in rows)
