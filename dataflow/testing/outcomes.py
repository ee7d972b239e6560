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

from dataflow.expr.flow import Flow
from dataflow.expr.nodes import Chain, Combine, Each, Fallback, Fanout, Named, Race, Retry, Switch, Timeout
from dataflow.testing.reference import Reading, bare, choose, gather, spread


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


def outcomes(flow: Flow[Any, Any], item: Any) -> list[Outcome]:
    """Return every outcome that the meaning of `flow` allows for `item`.

    Parameters
    ----------
    flow : Flow
        Its stages are deterministic; time is left out, as in `reference`.
    item : object
        The item.

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
    return _Outcomes(Reading()).of(flow, item)


class _Outcomes:
    def __init__(self, reading: Reading) -> None:
        self._reading = reading

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
            case Retry() | Timeout() | Named():
                return self.of(flow.body, x)
        return [outcome_of(lambda: self._reading.run(flow, x))]

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
        found: list[Outcome] = []
        for ends in itertools.product(*(self.of(part, x) for part in fan.children)):
            kept = [index for index, end in enumerate(ends) if not end.error]
            if combine.quorum is not None and len(kept) < combine.quorum:
                found += [end for end in ends if end.error]
            else:
                names = None if fan.names is None else tuple(fan.names[index] for index in kept)
                parts = gather(names, [ends[index].value for index in kept])
                found.append(outcome_of(functools.partial(spread, combine, parts)))
        return _distinct(found)


def _then(found: Iterable[Outcome], go_on: Callable[[Any], list[Outcome]]) -> list[Outcome]:
    return _distinct(after for first in found for after in ([first] if first.error else go_on(first.value)))


def _all(parts: Sequence[list[Outcome]], put_together: Callable[[list[Any]], Any]) -> list[Outcome]:
    """Return the outcomes of what needs every part: any part's error, or the parts' values put together."""
    failed = [outcome for part in parts for outcome in part if outcome.error]
    values = [[outcome.value for outcome in part if not outcome.error] for part in parts]
    return _distinct(failed + [Outcome(put_together(list(row))) for row in itertools.product(*values)])


def _distinct(found: Iterable[Outcome]) -> list[Outcome]:
    return list({repr(outcome): outcome for outcome in found}.values())
