"""The batches that fill: in which queues rows wait, and which of them is to be called next, and why."""

from __future__ import annotations

import math
from collections.abc import Set

from dataflow.executors.batches import Batches
from dataflow.executors.link import Program
from dataflow.executors.schedule.gates import Gates
from dataflow.executors.schedule.layout import Slot
from dataflow.executors.schedule.pace import Pace
from dataflow.executors.schedule.queues import BatchQueue, Reason
from dataflow.executors.schedule.ways import Ways
from dataflow.executors.schedule.whole import Whole
from dataflow.executors.schedule.work import Rows, Work
from dataflow.graph import ops

_ENOUGH = 2  # how many full batches may wait for a step before nothing more is read for it


class Filling:
    """The batch queues of a schedule.

    Parameters
    ----------
    program : Program
        What is called.
    gates : Gates
        How many batches of a step may be under way.
    whole : Whole
        Runs steps as part of all of them.
    pace : Pace
        What steps take.
    ways : Ways
        Which steps lead to which.
    running : set of Work
        What is under way.
    threads : bool
        Whether a thread is to look on at each batch.
    """

    def __init__(
        self,
        program: Program,
        gates: Gates,
        whole: Whole,
        pace: Pace,
        ways: Ways,
        running: Set[Work],
        *,
        threads: bool,
    ) -> None:
        self._program = program
        self._gates = gates
        self._whole = whole
        self._pace = pace
        self._ways = ways
        self._running = running
        self._threads = threads
        self._queues: dict[int, BatchQueue] = {}
        self._filling: dict[int, BatchQueue] = {}  # those in which rows wait

    def of(self, slot: Slot) -> BatchQueue:
        """Return the queue of a step."""
        key = id(slot.step)
        if key not in self._queues:
            self._queues[key] = self._new(slot)
        return self._queues[key]

    def _new(self, slot: Slot) -> BatchQueue:
        away = self._program.away(slot.step.op)
        if away is not None:
            return BatchQueue(slot, away, self._gates.of(slot), away.max_wait)
        region = self._program.region(slot.step.op)
        calls = [node.op for node in region.ops() if isinstance(node.op, ops.Call)]
        max_wait = min(call.stage.options.max_wait for call in calls)
        batches = self._whole.batches(slot) or Batches(self._program, slot.step.op, slot.stats)
        return BatchQueue(slot, batches, self._gates.of(slot), max_wait)

    def add(self, rows: Rows) -> None:
        """Let rows wait for their step's next batch."""
        queue = self.of(rows.slot)
        queue.add(rows)
        self._filling[id(rows.slot.step)] = queue

    def take(self, queue: BatchQueue, reason: Reason, now: float, batches: int) -> list[Rows]:
        """Take batches out of a queue."""
        parts = queue.take(reason, now, batches)
        if not queue.count:
            del self._filling[id(queue.slot.step)]
        return parts

    def away(self, queue: BatchQueue) -> bool:
        """Return whether no thread is needed for a queue's next batch."""
        return not queue.needs_thread and not self._threads

    def full(self, *, away: bool) -> BatchQueue | None:
        """Return a queue that has a whole batch, of those for whose batches a thread is needed or (`away`) is not."""
        for queue in self._filling.values():
            if queue.count >= queue.size and not (queue.gate and queue.gate.full) and self.away(queue) is away:
                return queue
        return None

    def due(self, now: float, source: float, *, away: bool) -> tuple[BatchQueue, Reason] | None:
        """Return such a queue whose batch is to be called now, though it may not be full, and why."""
        # what comes earlier in the plan brings more to what comes later
        for queue in sorted(self._filling.values(), key=lambda queue: queue.slot.order):
            if (queue.gate is not None and queue.gate.full) or self.away(queue) is not away:
                continue
            reason, _ = queue.due(now, self._pace.fixed(queue.slot), flush=self._stalled(queue, now, source))
            if reason is not None:
                return queue, reason
        return None

    def look(self, now: float, source: float) -> tuple[bool, float]:
        """Return whether a batch is due for which a thread is needed, and the moment at which another will be due."""
        more, moment = False, math.inf
        for queue in self._filling.values():
            if queue.gate is not None and queue.gate.full:
                continue
            reason, due = queue.due(now, self._pace.fixed(queue.slot), flush=self._stalled(queue, now, source))
            if reason is not None and not self.away(queue):
                more = True
            elif due < moment:  # of what needs no thread, when it is to be begun
                moment = due
        return more, moment

    def at_once(self, queue: BatchQueue) -> int:
        """Return how many batches to take as one work: several of a job's, if they are quick and nobody could help."""
        gate, whole = queue.gate, queue.count // queue.size
        if gate is None or whole < 2 or not queue.patient or queue.first.frame.timed:
            return 1
        if isinstance(queue.batches, Batches):
            return max(1, min(self._pace.batches(queue.slot), whole)) if gate.places == 1 else 1
        return max(1, min(queue.batches.at_once, whole // (gate.places - gate.taken)))  # as much for each place

    @property
    def enough(self) -> bool:
        """Whether so much waits for a step that nothing more need be read for it."""
        places = ((queue, queue.gate.places if queue.gate else 1) for queue in self._filling.values())
        return any(queue.count >= _ENOUGH * queue.size * most for queue, most in places)

    def _stalled(self, queue: BatchQueue, now: float, source: float) -> bool:
        """Return whether nothing can bring patient rows company: nothing that runs leads here, nor does a source."""
        return queue.patient and now >= source and not any(self._ways.lead(w.slot, queue.slot) for w in self._running)
