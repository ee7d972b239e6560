"""What goes wrong in stages, put there on purpose."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, Literal

from dataflow.errors import BatchSizeError
from dataflow.expr.flow import Flow
from dataflow.testing.clock import Gate
from dataflow.testing.rebuild import rebuilt, stages_of, wrapped

Kind = Literal["raise on call", "raise on items", "wrong length", "mutate", "hang"]
KINDS: tuple[Kind, ...] = ("raise on items", "raise on call", "wrong length", "mutate", "hang")


class Injected(Exception):
    """The error of a fault: no stage raises it of its own accord."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """One thing that goes wrong in one stage of a flow.

    Parameters
    ----------
    kind : str
        ``"raise on items"``: `Injected` where one of `items` comes to the stage; ``"raise on call"``: on its call of
        this number and no other; ``"wrong length"``: a batched stage leaves out a result where one of `items` is in the
        batch, and another stage raises; ``"mutate"``: a batched stage empties the list that it was given, which it may;
        ``"hang"``: on one of `items`, until the gate is opened.
    at : int
        Which of the flow's distinct stages, from 0; counted round where there are fewer.
    call : int
        The number of the call, from 0.
    items : tuple
        The items, as the stage sees them.

    Examples
    --------
    >>> import dataflow as df
    >>> from dataflow.testing import outcome_of
    >>> broken = Fault("raise on items", items=(3,)).into(df.stage(abs) >> str)
    >>> broken(2), outcome_of(lambda: broken(-3)).error, outcome_of(lambda: broken(3)).error
    ('2', None, <class 'dataflow.testing.faulty.Injected'>)
    """

    kind: Kind
    at: int = 0
    call: int = 0
    items: tuple[Any, ...] = ()

    def into(self, flow: Flow[Any, Any], gate: Gate | None = None) -> Flow[Any, Any]:
        """Return a flow with this fault in it.

        Parameters
        ----------
        flow : Flow
            It stays as it is.
        gate : Gate, optional
            At which a stage hangs; needed for ``"hang"`` alone.
        """
        if self.kind == "hang" and gate is None:
            raise ValueError("a fault that hangs needs the gate at which it does: fault.into(flow, gate)")
        stages = stages_of(flow)
        if not stages:
            return flow
        chosen = stages[self.at % len(stages)]
        options, calls = chosen.options, itertools.count()
        broken = wrapped(chosen, lambda fn: Faulty(fn, self, options.batch is not None, options.pure, calls, gate))
        return rebuilt(flow, lambda stage: broken if stage == chosen else stage)


@dataclasses.dataclass(frozen=True, eq=False)
class Faulty:
    """A stage's function with a fault.

    Parameters
    ----------
    fn : callable
        The function.
    fault : Fault
        What goes wrong.
    batched : bool
        Whether it is called with lists.
    pure : bool
        Whether a failed batch is split to find the item to blame.
    calls : iterator of int
        Numbers the calls; shared by all instances of a class.
    gate : Gate, optional
        Where it hangs.
    """

    fn: Callable[[Any], Any]
    fault: Fault
    batched: bool
    pure: bool
    calls: Any
    gate: Gate | None

    @property
    def may_raise(self) -> type[Exception] | None:
        """An error with which an item may fail for no fault of its own; see `outcomes`."""
        if self.fault.kind == "raise on call":
            return Injected
        if not self.batched or self.pure:
            return None
        # the whole batch fails with the one item
        return {"raise on items": Injected, "wrong length": BatchSizeError}.get(self.fault.kind)

    def __call__(self, given: Any) -> Any:
        kind = self.fault.kind
        if kind == "raise on call" and next(self.calls) == self.fault.call:
            raise Injected(f"call {self.fault.call} fails")
        hit = [item for item in (given if self.batched else [given]) if self._chosen(item)]
        if kind == "hang" and hit and self.gate is not None:
            self.gate(None)
        if hit and (kind == "raise on items" or (kind == "wrong length" and not self.batched)):
            raise Injected(f"{hit[0]!r} fails")
        results = self.fn(given)
        if kind == "wrong length" and hit:
            return list(results)[1:]
        if kind == "mutate" and self.batched:
            results = list(results)
            given.clear()
        return results

    def _chosen(self, item: Any) -> bool:
        # == only between numbers, of which an item of a random flow is one: a user's item may have no truth
        return any(item is other or (isinstance(item, (int, float)) and item == other) for other in self.fault.items)
