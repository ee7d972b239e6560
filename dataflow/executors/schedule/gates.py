"""How many calls of a stage may be under way at once."""

from __future__ import annotations

from collections import deque

from dataflow.executors.calls import Replicas
from dataflow.executors.link import Program
from dataflow.executors.schedule.layout import Kind, Slot
from dataflow.executors.schedule.work import Rows
from dataflow.graph import ops


class Gate:
    """Lets so many works at once pass to what they share.

    Parameters
    ----------
    places : int
        How many.

    Attributes
    ----------
    waiting : deque of Rows
        Rows that found it full.
    """

    __slots__ = ("places", "taken", "waiting")

    def __init__(self, places: int) -> None:
        self.places = places
        self.taken = 0
        self.waiting: deque[Rows] = deque()

    @property
    def full(self) -> bool:
        """Whether nothing more may pass now."""
        return self.taken >= self.places


class Gates:
    """The gates of a program's steps.

    A batched step has as many places as replicas, so that the next batch forms while one is under way. So has a class
    stage, whose instances are called by one thread at a time. Any other function is called by as many threads as there
    are.

    Parameters
    ----------
    program : Program
        What is called.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._gates: dict[int, Gate | None] = {}
        self._of_targets: dict[int, Gate] = {}

    def of(self, slot: Slot) -> Gate | None:
        """Return the gate of a step, if it has one."""
        key = id(slot.step)
        if key not in self._gates:
            self._gates[key] = self._make(slot)
        return self._gates[key]

    def _make(self, slot: Slot) -> Gate | None:
        away = self._program.away(slot.step.op)
        if away is not None:
            return Gate(away.places)
        if isinstance(slot.step.op, ops.Fused):
            return None
        calls = slot.step.stages
        if not calls:
            return None
        places = min(self._program.replicas(call.stage) for call in calls)
        if len(calls) > 1:  # a region: each of its stages is called in its turn
            return Gate(places)
        target = self._program.target(calls[0].stage)
        if isinstance(target, Replicas):  # equal stages share their instances
            return self._of_targets.setdefault(id(target), Gate(places))
        return Gate(places) if slot.kind is Kind.BATCH else None
