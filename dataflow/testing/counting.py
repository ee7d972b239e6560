"""How often the stages of a flow are run, seen from inside them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from dataflow.expr.flow import Flow
from dataflow.expr.nodes import Combine, Fanout, Race, Timeout
from dataflow.expr.stage import Stage
from dataflow.expr.walk import postorder
from dataflow.testing.rebuild import rebuilt, stages_of, wrapped

_COLLATES = "collate"  # a stage that hands on whole batches is called in another way, which nothing may stand in


class Tally:
    """Counts of the items that each stage was run on.

    Attributes
    ----------
    items : Counter of Stage
        By the stage as it was written.
    failed : bool
        Whether any call has raised.
    """

    def __init__(self) -> None:
        self.items: Counter[Stage[Any, Any]] = Counter()
        self.failed = False
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Begin again."""
        self.items, self.failed = Counter(), False

    def count(self, stage: Stage[Any, Any], items: int) -> None:
        """Count so many items of a stage."""
        with self._lock:
            self.items[stage] += items


class Counting:
    """A stage's function that counts; it counts as equal to none but itself."""

    def __init__(self, fn: Callable[[Any], Any], stage: Stage[Any, Any], tally: Tally) -> None:
        self._fn = fn
        self._stage = stage
        self._tally = tally

    def __call__(self, given: Any) -> Any:
        self._tally.count(self._stage, 1 if self._stage.options.batch is None else len(given))
        try:
            return self._fn(given)
        except BaseException:
            self._tally.failed = True
            raise


def counted(flow: Flow[Any, Any]) -> tuple[Flow[Any, Any], Tally]:
    """Return a flow that does the same and counts; stages that were equal still are.

    Examples
    --------
    >>> import dataflow as df
    >>> flow, tally = counted((df.stage(abs) | abs) >> df.combine(max))
    >>> flow(-2), list(tally.items.values())
    (2, [1])
    """
    tally = Tally()
    instead = {stage: _counting(stage, tally) for stage in stages_of(flow)}
    return rebuilt(flow, lambda stage: instead[stage]), tally


def _counting(stage: Stage[Any, Any], tally: Tally) -> Stage[Any, Any]:
    if hasattr(stage.fn if stage.constructed else type(stage.fn), _COLLATES):
        return stage
    if stage.constructed:
        return wrapped(stage, lambda instance: Counting(instance, stage, tally))
    counting = Counting(stage.fn, stage, tally)
    return wrapped(stage, lambda fn: counting)


def decided(flow: Flow[Any, Any]) -> bool:
    """Return whether the meaning of a flow says how often its stages run: not where a branch may be given up."""
    return not any(
        isinstance(node, (Race, Timeout)) or (isinstance(node, Combine) and node.within is not None)
        for node in postorder(flow)
    )


def fans_out(flow: Flow[Any, Any]) -> bool:
    """Return whether a flow has branches, of which one may have run or not when another fails."""
    return any(isinstance(node, Fanout) for node in postorder(flow))
