"""The schedule of a session: which work is next, of all that its items have still to go through.

It is a state machine and nothing else. It starts no thread, holds no lock and reads no clock but to be told the time:
whoever owns it calls it from one thread at a time. `take` gives work, `finish` brings it back, and `expire` says that
time has passed. So the same schedule runs under many threads, or under one and a clock that a test moves.

Why nothing is lost or done twice: every accepted row is in exactly one place, which is a frame. Within its frame, each
step that the row has reached has it either among its waiting rows, or in one work, or in one construct. Each of these
ends in `Frame.settle`, once, and a closed frame takes nothing any more.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dataflow.errors import DeadlineExceeded
from dataflow.executors import tracing
from dataflow.executors.batches import Batches
from dataflow.executors.calls import Replicas
from dataflow.executors.clock import Clock
from dataflow.executors.faults import Fault, Faults
from dataflow.executors.link import Away, Program
from dataflow.executors.rows import Column
from dataflow.executors.schedule.changes import fail_changers
from dataflow.executors.schedule.constructs import CONSTRUCTS, Construct
from dataflow.executors.schedule.filling import Filling
from dataflow.executors.schedule.frames import Frame
from dataflow.executors.schedule.gates import Gate, Gates
from dataflow.executors.schedule.layout import Kind, Layouts, Slot
from dataflow.executors.schedule.pace import Pace
from dataflow.executors.schedule.queues import BatchQueue, Reason
from dataflow.executors.schedule.ticket import Root, Ticket
from dataflow.executors.schedule.timers import Timers
from dataflow.executors.schedule.ways import Ways
from dataflow.executors.schedule.whole import Whole
from dataflow.executors.schedule.work import Positions, Rows, Work
from dataflow.executors.stats import StepStats
from dataflow.graph import ops

_ENOUGH_READY = 2  # how many works may wait for a thread before nothing more is read for them


def no_source() -> float:
    """Say that nothing is expected."""
    return -math.inf


class Schedule:
    """What is to be run of a program, for all items that were accepted.

    Parameters
    ----------
    program : Program
        The linked plan.
    stats : mapping of str to StepStats
        Where to count, by the steps' names.
    debug : bool
        Whether to look if stages change what others read too; fused steps are then run stage by stage.

    Attributes
    ----------
    running : set of Work
        What has been taken and not brought back.
    left : list of Work
        Running work that nobody wants any more, since it was looked at last: its threads are to be given up.
    ended : list of Ticket
        What has ended since it was looked at last.
    in_flight : int
        How many accepted items have no outcome yet.
    waiting : int
        How many of them have not begun to run.
    whole : Whole
        Runs chunks that go through everything as one piece of work.
    gives_up : bool
        Whether work that nobody wants any more is left at once, though nothing in it watches a clock: to leave it is
        cheap, and does no harm.
    source : callable
        The moment until which batches had better wait for the items that a source is about to bring; before all time
        where none is.
    """

    def __init__(self, program: Program, stats: Mapping[str, StepStats], *, debug: bool = False) -> None:
        self.program = program
        self._debug = debug
        self.layouts = Layouts(program.plan, stats, program.away)
        self.pace = Pace()
        self.timers = Timers()
        self.running: set[Work] = set()
        self.left: list[Work] = []
        self.ended: list[Ticket] = []
        self.in_flight = 0
        self.waiting = 0
        self.gives_up = False
        self.source: Callable[[], float] = no_source
        self._clock: Clock = program.clock
        self._tracer = tracing.tracer()
        self._gates = Gates(program)
        seen = debug or self._tracer is not None  # each step by itself
        self.whole = Whole(program, self.layouts, stats, self._gates, self.pace, allowed=not seen)
        ways = Ways(program.plan, self.layouts)
        self._filling = Filling(program, self._gates, self.whole, self.pace, ways, self.running, threads=seen)
        self._ready: list[tuple[int, int, int, Rows]] = []
        self._numbers = itertools.count()
        self._agenda: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()

    # -- what its owner calls ------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Return the time."""
        return self._clock.now()

    def accept(self, ticket: Ticket, waited: float = 0.0) -> None:
        """Take in new items, which have `waited` so many seconds for that."""
        ticket.number = next(self._numbers)
        self.in_flight += len(ticket.items)
        self.waiting += len(ticket.items)
        whole = self.whole.layout if not self.gives_up and self.whole.takes(ticket) else None
        frame = Frame(
            self,
            whole or self.layouts.of(self.program.plan.block),
            [ticket.items],
            Root(ticket, functools.partial(self._ended, ticket)),
            ticket=ticket,
            timed=self.gives_up or ticket.deadline is not None,
        )
        ticket.frame = frame
        for index in frame.layout.first:
            frame.layout.slots[index].stats.queued(waited)
        if ticket.due is not None:
            ticket.timer = self.timers.at(ticket.due, functools.partial(self._late, ticket))
            self.expire()  # it may have come too late
        self.later(frame.start)
        self._settle()

    def cancel(self, ticket: Ticket) -> None:
        """Forget items: their outcomes are wanted no more."""
        frame = ticket.frame
        if frame is not None and not frame.closed:
            alive = len(frame.alive())
            frame.close()
            self._ended(ticket, alive)
        self._settle()

    def give_up(self, ticket: Ticket, position: int) -> None:
        """Forget one of a ticket's items: its outcome is wanted no more."""
        frame = ticket.frame
        if frame is not None and not frame.closed and (alive := frame.alive([position])):
            frame.give_up(alive)
            self._ended(ticket, 1)
        self._settle()

    def take(self) -> Work | None:
        """Return the work that is to be run next, or None where there is none now."""
        now = self._now()
        for choose in (self._full_batch, self._rows, self._partial_batch):
            work = choose(now)
            if work is not None:
                return work
        return None

    def take_away(self) -> Work | None:
        """Return the work that is to be begun next, of that which no thread is needed for, or None."""
        now = self._now()
        return self._full_batch(now, away=True) or self._partial_batch(now, away=True)

    def _now(self) -> float:
        """Return the time, having done what is due: what is late is run no more."""
        now = self.now()
        if (when := self.timers.next) is not None and when <= now:
            self.expire()
        return now

    def finish(self, work: Work) -> None:
        """Take work back that has been run."""
        self._release(work)
        slot, size = work.slot, work.size
        if slot.kind is Kind.WHOLE:
            self.pace.learn_whole(size, work.seconds)  # its steps have counted what they did
            work.deliver()
            return self._settle()
        counted = (0, 0) if slot.part else (size, len(work.faults))
        slot.stats.count(*counted, work.seconds)
        if slot.kind is not Kind.BATCH and work.parts[0].function is None:
            self.pace.learn(slot, size, work.seconds)  # a row that fails takes its time too
        if not work.faults:
            if slot.kind is Kind.BATCH:  # a failed one has been called several times
                batches = -(-size // self._filling.of(slot).size)
                self.pace.learn_batch(slot, size / batches, work.seconds / batches)
            for part in work.parts:
                part.frame.spent += work.seconds * len(part.positions) / size
        if self._debug:
            fail_changers(work)
        work.deliver()
        self._settle()

    def finish_some(self, work: Work, rows: Sequence[int], columns: list[Column], faults: Faults) -> None:
        """Take some of a work's rows back while the others are still being run; see `Work.deliver_some`."""
        if not work.left:
            work.slot.stats.count(len(rows), len(faults), 0.0)
            work.deliver_some(rows, columns, faults)
            self._settle()

    def forget(self, work: Work) -> None:
        """Take work back that has come to nothing, for it was interrupted."""
        if work in self.running:
            self._release(work)

    def expire(self) -> None:
        """Do what is due by now."""
        for call in self.timers.due(self.now()):
            self.later(call)
            self._settle()

    @property
    def more(self) -> bool:
        """Whether there is work for another thread now."""
        return self.look()[0]

    def look(self) -> tuple[bool, float]:
        """Return whether there is work for another thread now, and the moment at which there will be more.

        The moment is the next at which something is due if nothing happens before; infinity where there is none.
        """
        now, source = self.now(), self.source()
        when = self.timers.next
        moment = math.inf if when is None else when
        more = bool(self._ready)
        if not more and now < source < moment:
            moment = source
        full, due = self._filling.look(now, source)
        return more or full, min(moment, due)

    @property
    def steps_only(self) -> bool:
        """Whether the flow is calls and batches, so that a row never holds others up in a construct."""
        return self.layouts.of(self.program.plan.block).steps_only

    @property
    def hungry(self) -> bool:
        """Whether more items would find something to do: they are read no further ahead than that."""
        return len(self._ready) < _ENOUGH_READY and not self._filling.enough

    # -- what its parts call -------------------------------------------------------------------------------------------

    def later(self, call: Callable[..., None], *given: Any) -> None:
        """Call something once what happens now has happened: constructs nest deeper than Python's stack."""
        self._agenda.append((call, given))

    def begin(self, frame: Frame, slot: Slot, positions: Positions) -> None:
        """Let a frame's rows come to a step."""
        if slot.kind is Kind.FRAMES or self._apart(slot):
            construct = CONSTRUCTS[type(slot.step.op)](self, frame, slot)
            frame.constructs[slot.index] = construct
            if not slot.part:
                slot.stats.count(len(positions), 0, 0.0)
            self.later(self._begin_construct, construct, positions)
        elif slot.kind is Kind.BATCH:
            self._filling.add(Rows(frame, slot, positions, self.now()))
        else:
            self.add(Rows(frame, slot, positions, self.now()))

    def _apart(self, slot: Slot) -> bool:
        """Return whether a fused step is run as the steps that it holds."""
        if self._debug:
            return isinstance(slot.step.op, ops.Fused)
        return slot.wide and self.pace.apart(slot)

    def _begin_construct(self, construct: Construct, positions: Positions) -> None:
        frame = construct.frame
        alive = frame.alive(positions)
        frame.drop(construct.slot, len(positions) - len(alive))
        if not frame.closed and alive:
            construct.begin(alive)

    def add(self, rows: Rows) -> None:
        """Let rows wait for a call of a step's function."""
        # what came first goes first, and then what is furthest: it makes room
        heapq.heappush(self._ready, (rows.frame.ticket.number, -rows.slot.order, next(self._numbers), rows))

    def leave(self, work: Work) -> None:
        """Give running work up."""
        work.left = True
        if work.cancel is not None:
            work.cancel.set()
        self._release(work)
        self.left.append(work)
        for call in work.slot.step.stages:
            target = self.program.target(call.stage)
            if isinstance(target, Replicas) and work.thread is not None:
                target.renew(work.thread)

    # -- taking --------------------------------------------------------------------------------------------------------

    def _full_batch(self, now: float, *, away: bool = False) -> Work | None:
        queue = self._filling.full(away=away)
        return None if queue is None else self._batch(queue, "full", now, away=away)

    def _rows(self, now: float) -> Work | None:
        while self._ready:
            *place, rows = heapq.heappop(self._ready)
            frame, slot = rows.frame, rows.slot
            if slot.kind is Kind.WHOLE:
                if frame.closed:
                    continue
                return self._work([rows], None, now, self.whole)
            gate = self._gates.of(slot) if rows.function is None else None
            if gate is not None and gate.full:
                gate.waiting.append(rows)
                continue
            frame.drop(slot, rows.prune())
            self._settle()
            if frame.closed or not rows.positions:
                self._pass_on(gate)
                continue
            count = len(rows.positions)
            grain = self.pace.grain(slot, count) if rows.function is None else count
            if grain < count:
                rest, rows = rows, rows.split(grain)
                heapq.heappush(self._ready, (place[0], place[1], place[2], rest))
            return self._work([rows], gate, now)
        return None

    def _partial_batch(self, now: float, *, away: bool = False) -> Work | None:
        due = self._filling.due(now, self.source(), away=away)
        return None if due is None else self._batch(*due, now, away=away)

    def _batch(self, queue: BatchQueue, reason: Reason, now: float, *, away: bool) -> Work | None:
        batches = self._filling.at_once(queue)
        parts = self._filling.take(queue, reason, now, batches)
        self._settle()
        if not parts:
            return self.take_away() if away else self.take()  # not as it is now: a call may have changed it meanwhile
        queue.slot.stats.dispatch(reason, batches)
        return self._work(parts, queue.gate, now, queue.batches, reason)

    def _work(
        self,
        parts: list[Rows],
        gate: Gate | None,
        now: float,
        batches: Batches | Away | Whole | None = None,
        reason: Reason | None = None,
    ) -> Work:
        work = Work(self.program, parts, gate, batches, reason, self._tracer, debug=self._debug)
        if gate is not None:
            gate.taken += 1
        self.running.add(work)
        waited = 0.0
        for part in parts:
            part.frame.running.add(work)
            self._begun(part.frame.ticket)
            waited += (now - part.since) * len(part.positions)
        work.slot.stats.queued(waited)
        return work

    def _release(self, work: Work) -> None:
        """Note that work is under way no more, and let those pass that it has kept waiting."""
        self.running.discard(work)
        for part in work.parts:
            part.frame.running.discard(work)
        gate = work.gate
        if gate is not None:
            gate.taken -= 1
            self._pass_on(gate)

    def _pass_on(self, gate: Gate | None) -> None:
        """Let rows pass in the place of others that need it no more."""
        if gate is not None and gate.waiting and not gate.full:
            self.add(gate.waiting.popleft())

    # -- the rest ------------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Let everything happen that has to happen now."""
        agenda = self._agenda
        while agenda:
            call, given = agenda.popleft()
            call(*given)

    def _late(self, ticket: Ticket) -> None:
        frame = ticket.frame
        if frame is not None and not frame.closed:
            error = DeadlineExceeded(f"not done within the deadline of {ticket.deadline:g} s that the item was given")
            frame.fail({position: Fault(error, None) for position in frame.alive()})

    def _begun(self, ticket: Ticket) -> None:
        if not ticket.begun:
            ticket.begun = True
            self.waiting -= len(ticket.items)

    def _ended(self, ticket: Ticket, count: int) -> None:
        """Note that so many of a ticket's items have had their outcome."""
        self.in_flight -= count
        frame = ticket.frame
        if frame is not None and frame.closed:
            self._begun(ticket)
            ticket.frame = None
            if ticket.timer is not None:
                self.timers.cancel(ticket.timer)
            self.ended.append(ticket)
