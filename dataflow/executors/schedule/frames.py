"""Frames: rows on their way through the steps of one block.

A row is an item, or what became of it: an element under an ``each``, an attempt under a ``retry``. The rows of a frame
go through the steps together; one that fails leaves at once, and who is waiting for it is told at once. A frame ends
when all its rows have had their outcome, or when it is closed because nobody wants them any more. Either way it is told
once.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from dataflow.executors.faults import Fault, Faults
from dataflow.executors.rows import Column
from dataflow.executors.schedule.layout import Layout, Slot
from dataflow.executors.schedule.work import Positions, Taker, Work
from dataflow.graph import Value

if TYPE_CHECKING:
    from dataflow.executors.schedule.constructs import Construct
    from dataflow.executors.schedule.schedule import Schedule
    from dataflow.executors.schedule.ticket import Ticket


class Owner(Protocol):
    """Who takes the outcomes of a frame's rows."""

    def succeeded(self, frame: Frame, positions: Positions, columns: list[Column]) -> None:
        """Take the results of all rows that have not failed; the frame is at its end."""
        ...

    def failed(self, frame: Frame, faults: Faults) -> None:
        """Take the faults of some rows. When no row is left, the frame is at its end."""
        ...


class Frame:
    """Rows on their way through a block.

    Parameters
    ----------
    schedule : Schedule
        What runs the steps.
    layout : Layout
        The block.
    columns : list of lists
        The block's inputs.
    owner : Owner
        Who takes the outcomes.
    ticket : Ticket
        What its rows have become of.
    timed : bool
        Whether its rows may be given up, so that nothing may hold them up: their work is done by threads that can be
        left behind.
    shared : bool
        Whether others are given its inputs too.
    rows : sequence of int
        What its rows are to its owner.
    role : int
        What it is to its owner: which branch, which attempt.

    Attributes
    ----------
    closed : bool
        Whether it has ended.
    spent : float
        Seconds of work that its rows have taken.
    """

    __slots__ = (
        "_dead",
        "_left",
        "_open",
        "_schedule",
        "_uses",
        "_waiting",
        "closed",
        "columns",
        "constructs",
        "layout",
        "owner",
        "role",
        "rows",
        "running",
        "shared",
        "size",
        "spent",
        "ticket",
        "timed",
    )

    def __init__(
        self,
        schedule: Schedule,
        layout: Layout,
        columns: list[Column],
        owner: Owner,
        *,
        ticket: Ticket,
        timed: bool,
        shared: bool = False,
        rows: Sequence[int] = (),
        role: int = 0,
    ) -> None:
        self._schedule = schedule
        self.layout = layout
        self.columns: dict[Value, Column] = {Value(index): column for index, column in enumerate(columns)}
        self.size = len(columns[0])
        self.owner: Owner | None = owner
        self.ticket = ticket
        self.timed = timed
        self.shared = shared
        self.rows = rows
        self.role = role
        self.closed = False
        self.spent = 0.0
        self.running: set[Work] = set()
        self.constructs: dict[int, Construct] = {}
        self._dead: set[int] = set()
        self._left = len(layout.slots)
        self._waiting = [slot.waits for slot in layout.slots]
        self._open = [0] * len(layout.slots)
        self._uses = dict(layout.uses)

    def start(self) -> None:
        """Begin with the steps that wait for none."""
        if not self._left and not self.closed:
            self._end()
        for index in self.layout.first:
            self._begin(self.layout.slots[index])

    def alive(self, positions: Positions | None = None) -> Positions:
        """Return those of the rows (of all rows by default) that have not failed."""
        given: Positions = range(self.size) if positions is None else positions
        return [position for position in given if position not in self._dead] if self._dead else given

    def settle_of(self, slot: Slot) -> Taker:
        """Return what takes the outcomes of a step's rows."""
        return functools.partial(self.settle, slot)

    def settle(self, slot: Slot, positions: Positions, columns: list[Column], faults: Faults) -> None:
        """Take a step's outcomes for some rows: results by output, None where there is a fault; and the faults."""
        if self.closed or not positions:  # with no rows, a step that is done would be done once more
            return
        for value, column in zip(slot.step.outputs, columns, strict=True):
            if value not in self._uses:  # nobody reads it
                continue
            if len(positions) == self.size:
                self.columns[value] = column
                continue
            if value not in self.columns:
                self.columns[value] = [None] * self.size
            whole = self.columns[value]
            for position, result in zip(positions, column, strict=True):
                whole[position] = result
        if faults:
            self.fail(faults)
        if not self.closed:
            self._settled(slot, len(positions))

    def drop(self, slot: Slot, count: int) -> None:
        """Note that so many rows have failed before the step came to them."""
        if not self.closed and count:
            self._settled(slot, count)

    def fail(self, faults: Mapping[int, Fault]) -> None:
        """Take the faults of rows; those that have failed already keep their first."""
        new = {position: fault for position, fault in faults.items() if position not in self._dead}
        owner = self.owner
        if self.closed or owner is None or not new:
            return
        self._dead.update(new)
        if len(self._dead) == self.size:
            self.close()
        self._schedule.later(owner.failed, self, new)

    def give_up(self, positions: Positions) -> None:
        """Forget rows: their owner wants their outcomes no more."""
        if not self.closed:
            self._dead.update(positions)
            if len(self._dead) == self.size:
                self.close()

    def close(self) -> None:
        """End: what waits is forgotten, and what runs and is timed is left, unless it is for others as well."""
        if self.closed:
            return
        self.closed = True
        if self.timed:
            for work in list(self.running):
                if all(part.frame.closed for part in work.parts):
                    self._schedule.leave(work)
        for construct in self.constructs.values():
            self._schedule.later(construct.close)
        self._forget()

    def _begin(self, slot: Slot) -> None:
        if self.closed:
            return
        alive = self.alive()
        self._open[slot.index] = len(alive)
        self._schedule.begin(self, slot, alive)

    def _settled(self, slot: Slot, count: int) -> None:
        self._open[slot.index] -= count
        if self._open[slot.index]:
            return
        construct = self.constructs.pop(slot.index, None)
        if construct is not None:
            self._schedule.later(construct.close)
        for value in slot.step.inputs:
            self._uses[value] -= 1
            if not self._uses[value]:
                del self.columns[value]
        self._left -= 1
        if not self._left:
            self._end()
            return
        for index in slot.followers:
            self._waiting[index] -= 1
            if not self._waiting[index]:
                self._begin(self.layout.slots[index])

    def _end(self) -> None:
        """Hand over the results of the rows that are left."""
        alive = self.alive()
        owner, results = self.owner, [self.columns[value] for value in self.layout.results]
        self.closed = True
        self._forget()
        if owner is not None:
            if len(alive) < self.size:
                results = [[column[position] for position in alive] for column in results]
            self._schedule.later(owner.succeeded, self, alive, results)

    def _forget(self) -> None:
        """Let go of everything, so that no cycle keeps items alive."""
        self.owner = None
        self.columns = {}
        self.constructs = {}
        self.running = set()
