"""Whole chunks: rows of a job that go through all steps of a plan as one piece of work, where the steps are quick.

To hand rows over, from the thread that ran one step to whoever runs the next, costs about a quarter of a millisecond.
Of steps that take a few it is a large part, and all of it is Python's, for which threads have to wait for one another.
So where a chunk fills its batches by itself, and gets through everything in little time, one thread takes it from the
first step to the last, and the next thread the next chunk.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Mapping

from dataflow.executors.batches import Batches
from dataflow.executors.calls import Replicas
from dataflow.executors.clock import SystemClock
from dataflow.executors.columns import Columns
from dataflow.executors.faults import Faults
from dataflow.executors.link import Program
from dataflow.executors.rows import Column
from dataflow.executors.schedule.gates import Gates
from dataflow.executors.schedule.layout import Kind, Layout, Layouts, Slot, timed
from dataflow.executors.schedule.pace import Pace
from dataflow.executors.schedule.ticket import Ticket
from dataflow.executors.schedule.work import Work
from dataflow.executors.stats import StepStats
from dataflow.graph import Value, ops
from dataflow.plan import Step

MOST_SECONDS = 0.02
"""What a chunk may take: whoever waits for its first row waits for its last."""


class Turns:
    """Lets so many threads at once run a step, as its gate does for rows that go from step to step.

    Parameters
    ----------
    places : int
        How many.

    Attributes
    ----------
    waiting : set of int
        The threads that wait for their turn.
    """

    def __init__(self, places: int) -> None:
        self.waiting: set[int] = set()
        self._free = threading.Semaphore(places)

    def __enter__(self) -> None:
        if not self._free.acquire(blocking=False):
            here = threading.get_ident()
            self.waiting.add(here)
            try:
                self._free.acquire()
            finally:
                self.waiting.discard(here)

    def __exit__(self, *exc: object) -> None:
        self._free.release()


class Whole:
    """Runs whole chunks.

    Parameters
    ----------
    program : Program
        What is run.
    layouts : Layouts
        Of the plan's blocks.
    stats : mapping of str to StepStats
        Where to count, by the steps' names.
    gates : Gates
        Of the steps.
    pace : Pace
        What the steps take, as far as it is known.
    allowed : bool
        Whether anything may be run so.

    Attributes
    ----------
    layout : Layout or None
        That of chunks that are run so; None where none ever are: in a plan of one step, or with constructs, whose rows
        are not to wait for one another.
    unit : int
        The items that fill a batch of every step.
    """

    def __init__(
        self,
        program: Program,
        layouts: Layouts,
        stats: Mapping[str, StepStats],
        gates: Gates,
        pace: Pace,
        *,
        allowed: bool,
    ) -> None:
        block = program.plan.block
        layout = layouts.of(block)
        slots = layout.slots
        self.layout: Layout | None = None
        self.unit = 1
        self._pace = pace
        self._slots = slots
        self._turns: dict[str, Turns] = {}
        self._batches: dict[str, Batches] = {}
        if not allowed or not _can_be_whole(program, layout):
            return
        (result,) = layout.results
        for slot in slots:
            gate = gates.of(slot)
            if gate is not None and _in_turn(program, slot):
                self._turns[slot.step.name] = Turns(gate.places)
            if slot.kind is Kind.BATCH:
                batches = _InTurn(program, slot.step.op, slot.stats, self._turns.get(slot.step.name))
                self._batches[slot.step.name] = batches
                self.unit = math.lcm(self.unit, batches.ceiling)
        self._columns = _Through(program, stats, self._batches, self._turns)
        op = ops.Fused(body=block.region, placement="")
        step = Step(op, "", (Value(0),), (result,), (), (), (), batches=True)
        slot = Slot(step, 0, 1 + slots[-1].order, Kind.WHOLE, False, False, 0, (), slots[0].stats)
        self.layout = Layout((slot,), (0,), {Value(0): 1, result: 1}, 1, (result,))

    def batches(self, slot: Slot) -> Batches | None:
        """Return what runs a step's batches, if whole chunks run it too: they take turns with those that do not."""
        return self._batches.get(slot.step.name)

    def rows(self, seconds: float, most: int) -> int | None:
        """Return how many rows of a chunk take that long; None where chunks had better go from step to step."""
        each = self._each
        if self.layout is None or each is None or self.unit > most or each * self.unit > MOST_SECONDS:
            return None
        units = most // self.unit
        if each * self.unit * units > seconds:
            units = max(1, int(seconds / (each * self.unit)))
        return units * self.unit

    @property
    def undecided(self) -> bool:
        """Whether it is not known yet what the steps take."""
        return self.layout is not None and self._each is None

    def takes(self, ticket: Ticket) -> bool:
        """Return whether a ticket's items are to go through everything together."""
        count = len(ticket.items)
        quick = ticket.patient and ticket.due is None and not count % self.unit and self.rows(0.0, count) is not None
        return quick

    @property
    def _each(self) -> float | None:
        return self._pace.whole if self._pace.whole is not None else self._pace.through(self._slots)

    def run(self, work: Work, inputs: list[Column]) -> tuple[list[Column], Faults]:
        """Run a chunk, in the thread that has taken it."""
        results, faults = self._columns.run(inputs[0])
        return [results], faults

    def waits(self, thread: int | None) -> bool:
        """Return whether a thread waits for its turn."""
        return any(thread in turns.waiting for turns in self._turns.values())


def _in_turn(program: Program, slot: Slot) -> bool:
    """Return whether a step is run by so many threads at once, and no more: it has instances, or is on a GPU.

    A function of this process may be called by as many as come.
    """
    stages = [call.stage for call in slot.step.stages]
    return any(stage.options.gpu or isinstance(program.target(stage), Replicas) for stage in stages)


def _can_be_whole(program: Program, layout: Layout) -> bool:
    """Return whether chunks may go through a plan as one piece of work."""
    several = len(layout.slots) > 1 and layout.results != (Value(0),)
    here = all(program.away(slot.step.op) is None for slot in layout.slots)
    # where a test moves the time, all steps would count as quick
    real = isinstance(program.clock, SystemClock) and not timed([program.plan.block])
    return several and here and real and layout.steps_only


class _InTurn(Batches):
    """A batched step that threads run in their turns, if it has any."""

    def __init__(self, program: Program, op: ops.Op, stats: StepStats, turns: Turns | None) -> None:
        super().__init__(program, op, stats)
        self._turns = contextlib.nullcontext() if turns is None else turns

    def run(self, inputs: list[Column]) -> tuple[list[Column], Faults]:
        with self._turns:
            return super().run(inputs)


class _Through(Columns):
    """Runs all steps over a chunk, each in its turn."""

    def __init__(
        self,
        program: Program,
        stats: Mapping[str, StepStats],
        batches: Mapping[str, Batches],
        turns: Mapping[str, Turns],
    ) -> None:
        super().__init__(program, stats)
        self._batches = dict(batches)
        self._turns = turns

    def _step(self, step: Step, inputs: list[Column]) -> tuple[list[Column], Faults]:
        batches, turns = self._batches.get(step.name), self._turns.get(step.name)
        if batches is not None:
            full, rest = divmod(len(inputs[0]), batches.ceiling)
            for reason, count in (("full", full), ("flushed", int(rest > 0))):
                if count:
                    self._stats[step.name].dispatch(reason, count)
        elif turns is not None:
            with turns:
                return super()._step(step, inputs)
        return super()._step(step, inputs)
