"""Which steps of a plan lead to which: whether a batch that is not full may still be joined by what runs elsewhere.

The order of the steps is not enough to tell. Branches stand one after another in a plan, and a batch of the second must
not wait for the first one: that may hang, and be what the second is there for.
"""

from __future__ import annotations

import dataclasses

from dataflow.executors.schedule.layout import Layouts, Slot
from dataflow.graph import ops
from dataflow.plan import Block, Plan, Step


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class _Place:
    block: Block
    index: int
    holder: int | None  # the order of the step whose body the block is


class Ways:
    """Says what leads where in a plan.

    Parameters
    ----------
    plan : Plan
        The plan.
    layouts : Layouts
        Of its blocks.
    """

    def __init__(self, plan: Plan, layouts: Layouts) -> None:
        self._layouts = layouts
        self._steps: list[Step] = []
        self._places: list[_Place] = []
        self._reached: dict[int, list[int] | None] = {}
        places: dict[int, _Place] = {id(step): _Place(plan.block, n, None) for n, step in enumerate(plan.steps)}
        for order, (_, step) in enumerate(plan.walk()):
            self._steps.append(step)
            self._places.append(places[id(step)])
            for body in step.bodies:
                for index, held in enumerate(body.steps):
                    places.setdefault(id(held), _Place(body, index, order))

    def lead(self, one: Slot, other: Slot) -> bool:
        """Return whether what runs in one step may bring rows to the other."""
        if one.order >= other.order:
            return False
        path, target = self._path(one.order), self._path(other.order)
        for mine, its in zip(path, target, strict=False):
            if mine != its:
                return self._part(mine, its)
        return True  # the other is inside of this one

    def _path(self, order: int | None) -> list[int]:
        path: list[int] = []
        while order is not None:
            path.append(order)
            order = self._places[order].holder
        return path[::-1]

    def _part(self, mine: int, its: int) -> bool:
        """Return whether one step leads to another that is in the same block, or held by the same step."""
        here, there = self._places[mine], self._places[its]
        if here.block is not there.block:  # of what is held beside one another, only a fallback's bodies follow
            return here.holder is not None and isinstance(self._steps[here.holder].op, ops.Fallback)
        reached = self._reached_in(here.block)
        return reached is None or bool(reached[here.index] >> there.index & 1)

    def _reached_in(self, block: Block) -> list[int] | None:
        """Return for each step of a block the set of those it leads to, as bits; None where each leads to the next."""
        key = id(block)
        if key not in self._reached:
            slots = self._layouts.of(block).slots
            if all(slot.index + 1 in slot.followers for slot in slots[:-1]):
                self._reached[key] = None
            else:
                reached = [0] * len(slots)
                for slot in reversed(slots):
                    for follower in slot.followers:
                        reached[slot.index] |= 1 << follower | reached[follower]
                self._reached[key] = reached
        return self._reached[key]
