"""Where rows wait until a batch is called: when a batch is due, and why.

Rows of a job are patient: they wait until the batch is full, or until nothing else can bring more rows. For any other
row somebody waits, and whether it pays to keep it waiting is weighed here: see `BatchQueue.due`.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Literal

from dataflow.executors.batches import Batches
from dataflow.executors.link import Away
from dataflow.executors.schedule.gates import Gate
from dataflow.executors.schedule.layout import Slot
from dataflow.executors.schedule.work import Rows

Reason = Literal["full", "waited", "flushed", "lone"]

_LULL = 4.0  # how many times the usual distance between two rows is a sign that no more are coming
_SHORTEST_LULL = 0.0002  # seconds: to look at the clock more often than that costs more than it brings
_WEIGHT = 0.2
_ALONE = 3  # how many waits in a row that bring nobody show that there is nobody


class BatchQueue:
    """The rows that wait for a batched step.

    Parameters
    ----------
    slot : Slot
        The step.
    batches : Batches or Away
        What runs it, here or elsewhere.
    gate : Gate, optional
        How many batches may be under way.
    max_wait : float
        Seconds that a row may be kept waiting for others.

    Attributes
    ----------
    count : int
        How many rows wait.
    """

    def __init__(self, slot: Slot, batches: Batches | Away, gate: Gate | None, max_wait: float) -> None:
        self.slot = slot
        self.gate = gate
        self.count = 0
        self.batches = batches
        self._max_wait = max_wait
        self._waiting: deque[Rows] = deque()
        self._hurried = 0  # how many of the entries are not patient
        self._last = math.nan  # when the last row came that is not patient; nan once a batch has been taken
        self._gap: float | None = None
        self._alone = 0  # how many waits in a row have brought nobody

    @property
    def size(self) -> int:
        """The most rows a batch: less than the stages' batch once one of them has run out of memory."""
        return self.batches.ceiling

    @property
    def needs_thread(self) -> bool:
        """Whether a batch is run by a thread, and not begun to be waited for by none."""
        return isinstance(self.batches, Batches) or self.batches.needs_thread

    @property
    def patient(self) -> bool:
        """Whether all rows may wait until the batch is full."""
        return not self._hurried

    @property
    def first(self) -> Rows:
        """The rows that came first."""
        return self._waiting[0]

    def add(self, rows: Rows) -> None:
        """Let rows wait."""
        self._waiting.append(rows)
        self.count += len(rows.positions)
        if not rows.frame.ticket.patient:
            self._hurried += 1
            if not math.isnan(self._last):
                self._learn((rows.since - self._last) / len(rows.positions))
                self._alone = 0
            self._last = rows.since

    def due(self, now: float, fixed: float, *, flush: bool) -> tuple[Reason | None, float]:
        """Say why a batch is due now, if one is.

        Parameters
        ----------
        now : float
            The moment.
        fixed : float
            The seconds that a batch takes whatever its size: what a row saves that goes with others.
        flush : bool
            Whether nothing else can bring more rows.

        Returns
        -------
        str or None, float
            The reason; and where there is none the moment at which there will be one, if nothing happens before.

        Notes
        -----
        Rows come in bursts: callers that were answered together come back together. To wait pays as long as a burst
        goes on, if rows follow one another faster than the fixed cost that each of them saves. A burst is over when
        nothing has come for several times the usual distance. A lone caller's rows never follow one another: it never
        waits, or not for long where others have come before it, and a batch's fixed cost is more than the longest wait.
        """
        if self.count >= self.size:
            return "full", now
        if not self._hurried:
            return ("flushed", now) if flush else (None, math.inf)
        if self._gap is None or self._gap >= fixed or self._alone >= _ALONE or not self._max_wait:
            return "lone", now
        lull = max(_LULL * self._gap, _SHORTEST_LULL)
        until = min(self.first.since + self._max_wait, self._last + lull)
        return ("waited", now) if now >= until else (None, until)

    def take(self, reason: Reason, now: float, batches: int = 1) -> list[Rows]:
        """Take a batch out, or several at once, without the rows that have failed meanwhile."""
        if reason == "waited" and self._gap is not None and not math.isnan(self._last):
            self._learn(max(self._gap, now - self._last))
            self._alone = self._alone + 1 if len(self._waiting) == 1 else 0
        room = self.size * batches
        taken: list[Rows] = []
        while self._waiting and room:
            rows = self._waiting[0]
            if len(rows.positions) > room:
                part = rows.split(room)
            else:
                part = self._waiting.popleft()
                self._hurried -= not part.frame.ticket.patient
            count = len(part.positions)
            self.count -= count
            part.frame.drop(self.slot, part.prune())
            if part.positions and not part.frame.closed:
                room -= len(part.positions)
                taken.append(part)
        self._last = math.nan
        return taken

    def _learn(self, gap: float) -> None:
        self._gap = gap if self._gap is None else self._gap + _WEIGHT * (gap - self._gap)
