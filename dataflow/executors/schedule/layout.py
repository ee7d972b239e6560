"""What is known of a plan's steps before anything runs: who waits for whom, and how each kind of step is run."""

from __future__ import annotations

import dataclasses
import enum
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from dataflow.executors.stats import StepStats
from dataflow.graph import Region, Value, ops, regions
from dataflow.plan import Block, Plan, Step


class Kind(enum.Enum):
    """How a step is run."""

    ROWS = "rows"  # its function is called for one item after another
    BATCH = "batch"  # items from everywhere wait for one another and are called together
    FRAMES = "frames"  # it holds blocks, whose steps are run in their turn
    WHOLE = "whole"  # it is all the steps of a plan: see `Whole`


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Slot:
    """A step's place in its block.

    Parameters
    ----------
    step : Step
        The step.
    index : int
        Its number in the block.
    order : int
        Its number in the whole plan: what it leads to has a higher one.
    kind : Kind
        How it is run.
    wide : bool
        Whether it is run by rows and yet holds branches or elements that could run beside one another.
    part : bool
        Whether it is part of a fused step, with which it is counted.
    waits : int
        How many steps of the block must be done before it.
    followers : tuple of int
        The steps of the block that wait for it.
    stats : StepStats
        Where what it does is counted.
    """

    step: Step
    index: int
    order: int
    kind: Kind
    wide: bool
    part: bool
    waits: int
    followers: tuple[int, ...]
    stats: StepStats


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Layout:
    """A block as the schedule knows it.

    Parameters
    ----------
    slots : tuple of Slot
        Its steps.
    first : tuple of int
        Those that wait for none.
    uses : mapping of Value to int
        How many steps read a value; results are read once more.
    inputs : int
        How many values it is given.
    results : tuple of Value
        What it gives.
    """

    slots: tuple[Slot, ...]
    first: tuple[int, ...]
    uses: Mapping[Value, int]
    inputs: int
    results: tuple[Value, ...]

    @property
    def steps_only(self) -> bool:
        """Whether there are calls and batches, and nothing in which rows could run beside one another or be held up."""
        return not any(slot.kind is Kind.FRAMES or slot.wide for slot in self.slots)


class Layouts:
    """The layouts of a plan's blocks, each made when it is first asked for.

    Parameters
    ----------
    plan : Plan
        The plan.
    stats : mapping of str to StepStats
        Counters by the steps' names.
    away : callable
        Whether an op is run elsewhere.
    """

    def __init__(
        self, plan: Plan, stats: Mapping[str, StepStats], away: Callable[[ops.Op], object] = lambda op: None
    ) -> None:
        self._plan = plan
        self._away = away
        self._stats = stats
        self._orders = {id(step): order for order, (_, step) in enumerate(plan.walk())}
        self._made: dict[int, Layout] = {}
        self._apart: dict[int, Layout] = {}

    def of(self, block: Block) -> Layout:
        """Return the layout of a block."""
        if id(block) not in self._made:
            self._made[id(block)] = self._layout(block, None)
        return self._made[id(block)]

    def apart(self, slot: Slot) -> Layout:
        """Return the layout of what a fused step holds; all of it counts as that step."""
        op = slot.step.op
        if not isinstance(op, ops.Fused):
            raise NotImplementedError(op.name)
        if id(op) not in self._apart:
            self._apart[id(op)] = self._layout(self._plan.apart(op), slot)
        return self._apart[id(op)]

    def inside(self, block: Block, holder: Slot) -> Layout:
        """Return the layout of a block of a step that is part of a fused one, or of a plan's own."""
        if holder.step.name in self._stats and id(holder.step) in self._orders:
            return self.of(block)
        if id(block) not in self._made:
            self._made[id(block)] = self._layout(block, holder)
        return self._made[id(block)]

    def _layout(self, block: Block, holder: Slot | None) -> Layout:
        index_of = {value.node: index for index, step in enumerate(block.steps) for value in step.outputs}
        followers: list[list[int]] = [[] for _ in block.steps]
        waits: list[int] = []
        impure: int | None = None
        for index, step in enumerate(block.steps):
            before = {index_of[id_] for id_ in (*(value.node for value in step.inputs), *step.after) if id_ in index_of}
            if not step.op.pure():  # those keep the order in which they are written
                before |= set() if impure is None else {impure}
                impure = index
            for other in sorted(before):
                followers[other].append(index)
            waits.append(len(before))
        slots = tuple(
            self._slot(step, index, holder, waits[index], followers[index]) for index, step in enumerate(block.steps)
        )
        uses = Counter(value for step in block.steps for value in step.inputs)
        uses.update(block.region.outputs)
        first = tuple(index for index, count in enumerate(waits) if not count)
        return Layout(slots, first, uses, block.region.size, block.region.outputs)

    def _slot(self, step: Step, index: int, holder: Slot | None, waits: int, followers: list[int]) -> Slot:
        stats, order = (
            (self._stats[step.name], self._orders[id(step)]) if holder is None else (holder.stats, holder.order)
        )
        # to send rows away costs the same for one as for many
        kind = kind_of(step) if self._away(step.op) is None else Kind.BATCH
        wide = kind is Kind.ROWS and isinstance(step.op, ops.Fused) and _wide(step.op.body)
        return Slot(step, index, order, kind, wide, holder is not None, waits, tuple(followers), stats)


def kind_of(step: Step) -> Kind:
    """Return how a step is run."""
    op = step.op
    if isinstance(op, ops.Batched) or (isinstance(op, ops.Call) and op.stage.options.batch is not None):
        return Kind.BATCH
    return Kind.FRAMES if op.bodies and not isinstance(op, ops.Fused) else Kind.ROWS


def timed(blocks: Iterable[Block]) -> bool:
    """Return whether anything in these blocks watches a clock or runs in a race."""
    return any(isinstance(op, ops.Race) or _on_time(op) for op in _all_ops(blocks))


def clocked(blocks: Iterable[Block]) -> bool:
    """Return whether anything in these blocks watches a clock."""
    return any(map(_on_time, _all_ops(blocks)))


def widest_race(blocks: Iterable[Block]) -> int:
    """Return the most competitors that any race in these blocks has; 0 where there is none."""
    return max((len(op.bodies) for op in _all_ops(blocks) if isinstance(op, ops.Race)), default=0)


def _on_time(op: ops.Op) -> bool:
    return isinstance(op, ops.Timeout) or (isinstance(op, ops.Quorum) and op.within is not None)


def _all_ops(blocks: Iterable[Block]) -> Iterator[ops.Op]:
    return (node.op for block in blocks for region in regions(block.region) for node in region.nodes)


def _wide(root: Region) -> bool:
    """Return whether calls in a region, or in one held inside it, could run beside one another."""
    for region in regions(root):
        depth: dict[int, int] = {}
        calls = 0
        for node in region.nodes:
            call = isinstance(node.op, ops.Call) or bool(node.op.bodies)
            if isinstance(node.op, ops.Each):
                return True
            calls += call
            depth[node.id] = max((depth[value.node] for value in node.inputs), default=0) + call
        if calls > max(depth.values()):
            return True
    return False
