"""What the constructs do, event by event: each takes the outcomes of the frames that it has made of its blocks.

`policies` says the same for one item in one thread. Here nothing waits: a construct is told what has become of its
rows, and that a moment has come which it asked to be told of, and answers by making frames, closing them, and settling
rows.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from dataflow.executors import policies
from dataflow.executors.faults import Fault, Faults
from dataflow.executors.rows import Column
from dataflow.executors.schedule.changes import SHARING, shared_ports
from dataflow.executors.schedule.frames import Frame
from dataflow.executors.schedule.layout import Layout, Slot
from dataflow.executors.schedule.timers import Timer
from dataflow.executors.schedule.work import Positions, Rows
from dataflow.graph import ops

if TYPE_CHECKING:
    from dataflow.executors.schedule.schedule import Schedule


class Construct:
    """A construct at work on the rows of one frame.

    Parameters
    ----------
    schedule : Schedule
        What runs the frames.
    frame : Frame
        Whose rows.
    slot : Slot
        The construct's step.
    """

    def __init__(self, schedule: Schedule, frame: Frame, slot: Slot) -> None:
        self.schedule = schedule
        self.frame = frame
        self.slot = slot
        self.children: set[Frame] = set()

    @property
    def op(self) -> Any:
        """The construct."""
        return self.slot.step.op

    def begin(self, positions: Positions) -> None:
        """Take the rows; called once."""
        raise NotImplementedError

    def succeeded(self, child: Frame, positions: Positions, columns: list[Column]) -> None:
        """Take what has become of a frame: by default, its rows have become the construct's results."""
        self.ended(child)
        rows = child.rows
        own = rows if len(positions) == len(rows) else [rows[position] for position in positions]
        self.frame.settle(self.slot, own, columns, {})

    def failed(self, child: Frame, faults: Faults) -> None:
        """Take the faults of some of a frame's rows: by default, they are the construct's."""
        self.ended(child)
        self.fail({child.rows[position]: fault for position, fault in faults.items()})

    def fail(self, faults: Faults) -> None:
        """Fail rows."""
        if not self.slot.part:
            self.slot.stats.count(0, len(faults), 0.0)
        positions = sorted(faults)
        blank = [[None] * len(positions) for _ in self.slot.step.outputs]
        self.frame.settle(self.slot, positions, blank, faults)

    def close(self) -> None:
        """Close every frame: nobody wants the rest."""
        for child in self.children:
            child.close()
        self.children = set()

    # -- for those that derive from this -----------------------------------------------------------------------------

    def spawn(
        self, body: int | Layout, columns: list[Column], rows: Positions, *, role: int = 0, timed: bool = False
    ) -> Frame:
        """Make a frame of one of the construct's blocks, by its number, and start it."""
        if not isinstance(body, Layout):
            body = self.schedule.layouts.inside(self.slot.step.bodies[body], self.slot)
        frame = self.frame
        child = Frame(
            self.schedule,
            body,
            columns,
            self,
            ticket=frame.ticket,
            timed=frame.timed or timed,
            shared=isinstance(self.op, SHARING) or bool(shared_ports(frame, self.slot)),
            rows=rows,
            role=role,
        )
        self.children.add(child)
        self.schedule.later(child.start)
        return child

    def ended(self, child: Frame) -> None:
        """Note that a frame is at its end, if it is."""
        if child.closed and child in self.children:
            self.children.discard(child)
            self.frame.spent += child.spent

    def still_wanted(self, rows: list[int]) -> list[int]:
        """Return those of some rows that have not failed elsewhere meanwhile; the others are done here."""
        if self.frame.closed:
            return []
        alive = list(self.frame.alive(rows))
        self.frame.drop(self.slot, len(rows) - len(alive))
        return alive

    def given(self, positions: Positions, port: int = 0) -> Column:
        """Return what the construct is given for these rows."""
        column = self.frame.columns[self.slot.step.inputs[port]]
        return column if len(positions) == self.frame.size else [column[position] for position in positions]


class Apart(Construct):
    """A fused step, step by step, so that its branches and elements run beside one another."""

    def begin(self, positions: Positions) -> None:
        columns = [self.given(positions, port) for port in range(len(self.slot.step.inputs))]
        self.spawn(self.schedule.layouts.apart(self.slot), columns, positions)

    def succeeded(self, child: Frame, positions: Positions, columns: list[Column]) -> None:
        if len(positions) == child.size:
            self.schedule.pace.learn(self.slot, child.size, child.spent)
        super().succeeded(child, positions, columns)


class Switch(Construct):
    """The rows of each branch go their own way."""

    def begin(self, positions: Positions) -> None:
        chosen, values = self.given(positions), self.given(positions, 1)
        takers: dict[int, list[int]] = {}
        for at, branch in enumerate(chosen):
            takers.setdefault(branch, []).append(at)
        for branch in sorted(takers):
            mine = takers[branch]
            self.spawn(branch, [[values[at] for at in mine]], [positions[at] for at in mine])


class Each(Construct):
    """The elements of all rows are the rows of one frame."""

    def __init__(self, schedule: Schedule, frame: Frame, slot: Slot) -> None:
        super().__init__(schedule, frame, slot)
        self._spans: dict[int, tuple[int, int]] = {}  # where each row's elements begin and end
        self._of: list[int] = []  # for each element, whose it is

    def begin(self, positions: Positions) -> None:
        # to iterate over a row is to call what the user wrote
        self.schedule.add(
            Rows(self.frame, self.slot, positions, self.schedule.now(), function=_elements, taker=self._opened)
        )

    def _opened(self, positions: Positions, columns: list[Column], faults: Faults) -> None:
        lists = columns[0]
        if faults:
            self.fail(faults)
        done = [at for at, elements in enumerate(lists) if elements is not None and not len(elements)]
        if done:
            self.frame.settle(self.slot, [positions[at] for at in done], [[[] for _ in done]], {})
        elements: Column = []
        for position, mine in zip(positions, lists, strict=True):
            if mine:
                self._spans[position] = (len(elements), len(elements) + len(mine))
                elements += mine
                self._of += [position] * len(mine)
        if elements and not self.frame.closed:
            self.spawn(0, [elements], self._of)

    def succeeded(self, child: Frame, positions: Positions, columns: list[Column]) -> None:
        self.ended(child)
        results: dict[int, Column] = {}
        for position, value in zip(positions, columns[0], strict=True):
            if self._of[position] in self._spans:  # others have lost an element
                results.setdefault(self._of[position], []).append(value)
        self.frame.settle(self.slot, list(results), [list(results.values())], {})

    def failed(self, child: Frame, faults: Faults) -> None:
        lost: Faults = {}
        for at in sorted(faults):
            span = self._spans.pop(self._of[at], None)
            if span is not None:  # its first failure: the rest of its elements need not be run
                lost[self._of[at]] = faults[at]
                child.give_up(range(*span))
        self.ended(child)
        if lost:
            self.fail(lost)


def _elements(item: Any) -> list[Any]:
    """Return the elements of an item."""
    elements: list[Any] = []
    elements.extend(item)
    return elements


class Retry(Construct):
    """Rows that fail are tried again; those that fail together fill batches together."""

    def begin(self, positions: Positions) -> None:
        self.spawn(0, [self.given(positions)], positions)

    def failed(self, child: Frame, faults: Faults) -> None:
        self.ended(child)
        op, attempt = self.op, child.role
        again: list[int] = []
        for_good: Faults = {}
        for at in sorted(faults):
            if attempt < op.times and policies.caught(faults[at].error, op.on):
                again.append(at)
            else:
                for_good[child.rows[at]] = faults[at]
        if for_good:
            self.fail(for_good)
        if again:
            rows = [child.rows[at] for at in again]
            wait = op.backoff * 2**attempt
            if wait:
                self.schedule.timers.at(self.schedule.now() + wait, functools.partial(self._retry, rows, attempt + 1))
            else:
                self._retry(rows, attempt + 1)

    def _retry(self, rows: list[int], attempt: int) -> None:
        rows = self.still_wanted(rows)
        if rows:
            self.spawn(0, [self.given(rows)], rows, role=attempt)


class Fallback(Construct):
    """Rows that fail go to the handler."""

    def begin(self, positions: Positions) -> None:
        self.spawn(0, [self.given(positions)], positions)

    def failed(self, child: Frame, faults: Faults) -> None:
        self.ended(child)
        handed: list[int] = []
        for_good: Faults = {}
        for at in sorted(faults):
            if child.role == 0 and policies.caught(faults[at].error, self.op.on):
                handed.append(at)
            else:
                for_good[child.rows[at]] = faults[at]
        if for_good:
            self.fail(for_good)
        rows = self.still_wanted([child.rows[at] for at in handed])
        if rows:
            self.spawn(1, [self.given(rows)], rows, role=1)


class Timeout(Construct):
    """Each row has a frame and a moment of its own."""

    def __init__(self, schedule: Schedule, frame: Frame, slot: Slot) -> None:
        super().__init__(schedule, frame, slot)
        self._timers: dict[Frame, Timer] = {}

    def begin(self, positions: Positions) -> None:
        moment = self.schedule.now() + self.op.seconds
        for position, item in zip(positions, self.given(positions), strict=True):
            child = self.spawn(0, [[item]], (position,), timed=True)
            self._timers[child] = self.schedule.timers.at(moment, functools.partial(self._late, child))

    def ended(self, child: Frame) -> None:
        super().ended(child)
        if child in self._timers:
            self.schedule.timers.cancel(self._timers.pop(child))

    def _late(self, child: Frame) -> None:
        if not child.closed:
            child.close()
            self.ended(child)
            self.fail({child.rows[0]: Fault(policies.deadline_exceeded(self.op), self.op)})

    def close(self) -> None:
        for timer in self._timers.values():
            self.schedule.timers.cancel(timer)
        self._timers = {}
        super().close()


class Race(Construct):
    """Each row has a frame for each competitor; the first that succeeds ends the others."""

    def __init__(self, schedule: Schedule, frame: Frame, slot: Slot) -> None:
        super().__init__(schedule, frame, slot)
        self._heats: dict[int, list[Frame]] = {}
        self._faults: dict[int, dict[int, Fault]] = {}

    def begin(self, positions: Positions) -> None:
        competitors = range(len(self.slot.step.bodies))
        for position, item in zip(positions, self.given(positions), strict=True):
            self._heats[position] = [
                self.spawn(body, [[item]], (position,), role=body, timed=True) for body in competitors
            ]

    def succeeded(self, child: Frame, positions: Positions, columns: list[Column]) -> None:
        position = child.rows[0]
        if position not in self._heats:  # a copy of it was in the same batch, and has won
            return self.ended(child)
        self._faults.pop(position, None)
        for other in self._heats.pop(position):
            other.close()
            self.ended(other)
        super().succeeded(child, positions, columns)

    def failed(self, child: Frame, faults: Faults) -> None:
        self.ended(child)
        position = child.rows[0]
        if position not in self._heats:
            return
        lost = self._faults.setdefault(position, {})
        lost[child.role] = faults[0]
        if len(lost) == len(self.slot.step.bodies):
            del self._heats[position], self._faults[position]
            self.fail({position: lost[max(lost)]})


class Quorum(Construct):
    """Rows take what their branches have given once these are enough, and all are done or their time is up."""

    def __init__(self, schedule: Schedule, frame: Frame, slot: Slot) -> None:
        super().__init__(schedule, frame, slot)
        self._branches: dict[int, list[Frame]] = {}
        self._parts: dict[int, dict[int, Any]] = {}
        self._faults: dict[int, Fault] = {}
        self._lost: dict[int, int] = {}
        self._overdue: set[int] = set()
        self._timer: Timer | None = None

    def begin(self, positions: Positions) -> None:
        bodies = range(len(self.slot.step.bodies))
        self._parts = {position: {} for position in positions}
        if self.op.within is None:
            for body in bodies:
                self.spawn(body, [self.given(positions)], positions, role=body)
            return
        for position, item in zip(positions, self.given(positions), strict=True):
            self._branches[position] = [
                self.spawn(body, [[item]], (position,), role=body, timed=True) for body in bodies
            ]
        moment = self.schedule.now() + self.op.within
        self._timer = self.schedule.timers.at(moment, functools.partial(self._time_is_up, positions))

    def close(self) -> None:
        if self._timer is not None:
            self.schedule.timers.cancel(self._timer)
        super().close()

    def succeeded(self, child: Frame, positions: Positions, columns: list[Column]) -> None:
        self.ended(child)
        for position, value in zip(positions, columns[0], strict=True):
            row = child.rows[position]
            if row in self._parts:
                self._parts[row][child.role] = value
        self._look([child.rows[position] for position in positions])

    def failed(self, child: Frame, faults: Faults) -> None:
        self.ended(child)
        for position, fault in faults.items():
            row = child.rows[position]
            self._faults.setdefault(row, fault)
            self._lost[row] = self._lost.get(row, 0) + 1
        self._look([child.rows[position] for position in faults])

    def _time_is_up(self, positions: Positions) -> None:
        if not self.frame.closed:
            self._overdue.update(positions)
            self._look(positions)

    def _look(self, rows: Positions) -> None:
        """Decide what can be decided."""
        op, count = self.op, len(self.slot.step.bodies)
        enough: list[int] = []
        failed: Faults = {}
        for row in rows:
            parts = self._parts.get(row)
            if parts is None:  # decided before
                continue
            lost = self._lost.get(row, 0)
            if lost > count - op.quorum:
                failed[row] = self._faults[row]
            elif len(parts) >= op.quorum and (row in self._overdue or len(parts) + lost == count):
                enough.append(row)
        gathered = {row: self._parts.pop(row) for row in enough}
        for row in (*enough, *failed):
            self._parts.pop(row, None)
            self._close_branches(row)
        if enough:
            gather = functools.partial(policies.gather, op)
            columns: list[Column] = [[gathered[row] for row in enough]]
            self.schedule.add(Rows(self.frame, self.slot, enough, self.schedule.now(), gather, columns))
        if failed:
            self.fail(failed)

    def _close_branches(self, row: int) -> None:
        for branch in self._branches.pop(row, ()):
            branch.close()
            self.ended(branch)


CONSTRUCTS: dict[type[ops.Op], type[Construct]] = {
    ops.Fused: Apart,
    ops.Switch: Switch,
    ops.Each: Each,
    ops.Retry: Retry,
    ops.Fallback: Fallback,
    ops.Timeout: Timeout,
    ops.Race: Race,
    ops.Quorum: Quorum,
}
"""By the kind of op: what runs it."""
