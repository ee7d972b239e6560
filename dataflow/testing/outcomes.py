"""All that a flow may give for an item, where its meaning leaves a choice.

Which error arrives when several stages fail, and which of a race's competitors succeeds first, is unspecified. The
oracle answers with one of the possible results; this gives them all, so that an executor's answer can be judged. It is
for flows whose stages are deterministic: then what a stage gives does not depend on which choice was made elsewhere.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from dataflow.errors import DeadlineExceeded
from dataflow.expr.flow import Flow
from dataflow.expr.nodes import Chain, Combine, Each, Fallback, Fanout, Named, Race, Retry, Switch, Timeout
from dataflow.expr.stage import Stage
from dataflow.testing.reference import Reading, bare, choose, gather, spread

Same = Callable[[Any, Any], bool]


class Outcome(NamedTuple):
    """What became of an item: its value, or the type of its error.

    Parameters
    ----------
    value : object
        The result; None where it failed.
    error : exception type, optional
        The type of the failure; None where it succeeded.
    """

    value: Any
    error: type[Exception] | None = None

    def matches(self, other: Outcome, same: Same | None = None) -> bool:
        """Return whether this is the other outcome: the same error type, or by `same` the same value.

        Parameters
        ----------
        other : Outcome
            What to compare with.
        same : callable, optional
            Says whether two values are the same; `same_value` by default.
        """
        if self.error is not None or other.error is not None:
            return self.error is other.error
        return (same or same_value)(self.value, other.value)


def same_value(one: Any, other: Any) -> bool:
    """Return whether two results are the same: equal and of one type; arrays by what they hold, NaN being itself.

    Examples
    --------
    >>> same_value([1, float("nan")], [1, float("nan")]), same_value(1, True), same_value(1, 1.0)
    (True, False, False)
    """
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same_value, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same_value(one[key], other[key]) for key in one)
    if hasattr(one, "dtype") and hasattr(one, "shape"):
        return bool(
            one.shape == other.shape and one.dtype == other.dtype and repr(one.tolist()) == repr(other.tolist())
        )
    try:
        return bool(one == other) or bool(one != one and other != other)
    except Exception:  # what has no truth is told apart by how it shows
        return repr(one) == repr(other)


def outcome_of(run: Callable[[], Any]) -> Outcome:
    """Return what calling `run` comes to.

    Examples
    --------
    >>> outcome_of(lambda: 6 * 7)
    Outcome(value=42, error=None)
    >>> outcome_of(lambda: [][0]).error
    <class 'IndexError'>
    """
    try:
        return Outcome(run())
    except Exception as error:
        return Outcome(None, type(error))
    finally:
        del run  # it may hold the error, whose frames lead to this one


def outcomes(flow: Flow[Any, Any], item: Any, *, timely: bool = True) -> list[Outcome]:
    """Return every outcome that the meaning of `flow` allows for `item`.

    Parameters
    ----------
    flow : Flow
        Its stages are deterministic.
    item : object
        The item.
    timely : bool
        Whether everything is done in time, as in `reference`. Otherwise any timeout may pass, and a quorum with
        ``within`` may go without any of the branches that it can do without.

    Returns
    -------
    list of Outcome
        Without repetitions; values are told apart by their ``repr``.

    Examples
    --------
    >>> import dataflow as df
    >>> both = df.stage(int) | float
    >>> outcomes(both, "2")
    [Outcome(value=(2, 2.0), error=None)]
    >>> [outcome.error.__name__ for outcome in outcomes(df.stage(int) | len, None)]
    ['TypeError']
    """
    return _Outcomes(Reading(), timely).of(flow, item)


class _Outcomes:
    def __init__(self, reading: Reading, timely: bool) -> None:
        self._reading = reading
        self._timely = timely

    def of(self, flow: Flow[Any, Any], x: Any) -> list[Outcome]:
        match flow:
            case Chain():
                return self._chain(flow, x)
            case Fanout():
                return _all([self.of(part, x) for part in flow.children], lambda done: gather(flow.names, done))
            case Switch():
                return _then(self.of(flow.key, x), lambda key: self._chosen(flow, key, x))
            case Each():
                rows = outcome_of(lambda: list(x))
                return [rows] if rows.error else _all([self.of(flow.body, element) for element in rows.value], list)
            case Race():
                return self._race(flow, x)
            case Fallback():
                found = self.of(flow.body, x)
                handed = [outcome for outcome in found if outcome.error and issubclass(outcome.error, flow.on)]
                kept = [outcome for outcome in found if outcome not in handed]
                return _distinct(kept + self.of(flow.handler, x) if handed else kept)
            case Timeout() if not self._timely:
                return _distinct([*self.of(flow.body, x), Outcome(None, DeadlineExceeded)])
            case Retry() | Timeout() | Named():
                return self.of(flow.body, x)
            case Stage():
                return self._stage(flow, x)
        return [outcome_of(lambda: self._reading.run(flow, x))]

    def _stage(self, stage: Stage[Any, Any], x: Any) -> list[Outcome]:
        """Return what a stage gives, and, where any call of it may fail (see `Fault`), that it does."""
        made = outcome_of(lambda: self._reading.callable(stage))
        may_raise = getattr(made.value, "may_raise", None)
        if may_raise is None:
            return [outcome_of(lambda: self._reading.stage(stage, x))]
        sound = outcome_of(lambda: self._reading.stage(stage, x, made.value.fn))
        return _distinct([sound, Outcome(None, may_raise)])

    def _chain(self, flow: Chain[Any, Any], x: Any) -> list[Outcome]:
        found = [Outcome(x)]
        parts = list(flow.children)
        while parts:
            part, after = bare(parts.pop(0)), bare(parts[0]) if parts else None
            if isinstance(part, Fanout) and isinstance(after, Combine) and after.quorum is not None:
                parts.pop(0)
                found = _then(found, functools.partial(self._quorum, part, after))
            else:
                found = _then(found, functools.partial(self.of, part))
        return found

    def _chosen(self, flow: Switch[Any, Any], key: Any, x: Any) -> list[Outcome]:
        arm = outcome_of(lambda: choose(flow, key))
        return [arm] if arm.error else self.of(arm.value, x)

    def _race(self, flow: Race[Any, Any], x: Any) -> list[Outcome]:
        found = [self.of(body, x) for body in flow.bodies]
        lost = all(any(outcome.error for outcome in body) for body in found)
        return _distinct(outcome for body in found for outcome in body if lost or not outcome.error)

    def _quorum(self, fan: Fanout[Any, Any], combine: Combine[Any, Any], x: Any) -> list[Outcome]:
        least = combine.quorum or len(fan.children)
        found: list[Outcome] = []
        for ends in itertools.product(*(self.of(part, x) for part in fan.children)):
            won = [index for index, end in enumerate(ends) if not end.error]
            if len(won) < least:
                found += [end for end in ends if end.error]
            fewest = len(won) if self._timely or combine.within is None else least
            for size in range(max(fewest, least), len(won) + 1):
                found += [self._gathered(fan, combine, ends, kept) for kept in itertools.combinations(won, size)]
        return _distinct(found)

    def _gathered(
        self, fan: Fanout[Any, Any], combine: Combine[Any, Any], ends: Sequence[Outcome], kept: Sequence[int]
    ) -> Outcome:
        names = None if fan.names is None else tuple(fan.names[index] for index in kept)
        parts = gather(names, [ends[index].value for index in kept])
        return outcome_of(lambda: spread(combine, parts))


def _then(found: Iterable[Outcome], go_on: Callable[[Any], list[Outcome]]) -> list[Outcome]:
    return _distinct(after for first in found for after in ([first] if first.error else go_on(first.value)))


def _all(parts: Sequence[list[Outcome]], put_together: Callable[[list[Any]], Any]) -> list[Outcome]:
    """Return the outcomes of what needs every part: any part's error, or the parts' values put together."""
    failed = [outcome for part in parts for outcome in part if outcome.error]
    values = [[outcome.value for outcome in part if not outcome.error] for part in parts]
    return _distinct(failed + [Outcome(put_together(list(row))) for row in itertools.product(*values)])


def _distinct(found: Iterable[Outcome]) -> list[Outcome]:
    return list({repr(outcome): outcome for outcome in found}.values())
