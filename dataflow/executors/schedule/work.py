"""Work: one call of a step on some rows, as a thread takes it from the schedule and brings it back."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

from dataflow.executors import aside, tracing
from dataflow.executors.batches import Batches
from dataflow.executors.faults import Faults
from dataflow.executors.link import Away, Outcome, Program, Stop
from dataflow.executors.rows import Column, one_by_one
from dataflow.executors.schedule.changes import caught, shared_ports
from dataflow.executors.schedule.layout import Slot

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from dataflow.executors.schedule.frames import Frame
    from dataflow.executors.schedule.gates import Gate
    from dataflow.executors.schedule.queues import Reason
    from dataflow.executors.schedule.whole import Whole

Positions = Sequence[int]
Taker = Callable[[Positions, list[Column], Faults], None]


class Rows:
    """Rows of one frame that wait for one step.

    Parameters
    ----------
    frame : Frame
        Whose rows.
    slot : Slot
        The step.
    positions : sequence of int
        Which rows, ascending.
    since : float
        When they began to wait.
    function : callable, optional
        What to call on each; the step's own function by default.
    columns : list of lists, optional
        Its arguments, a column each, a value for each of the rows; what the step reads by default.
    taker : callable, optional
        Who takes the outcomes; the frame by default.
    """

    __slots__ = ("columns", "frame", "function", "positions", "since", "slot", "taker")

    def __init__(
        self,
        frame: Frame,
        slot: Slot,
        positions: Positions,
        since: float,
        function: Callable[..., Any] | None = None,
        columns: list[Column] | None = None,
        taker: Taker | None = None,
    ) -> None:
        self.frame = frame
        self.slot = slot
        self.positions = positions
        self.since = since
        self.function = function
        self.columns = columns
        self.taker = taker

    def split(self, count: int) -> Rows:
        """Take the first `count` of the rows out of these, and return them."""
        positions, columns = self.positions, self.columns
        self.positions = positions[count:]
        taken = columns
        if columns is not None:
            taken = [column[:count] for column in columns]
            self.columns = [column[count:] for column in columns]
        return Rows(self.frame, self.slot, positions[:count], self.since, self.function, taken, self.taker)

    def prune(self) -> int:
        """Take out the rows that have failed meanwhile, and return how many they were."""
        before = self.positions
        alive = self.frame.alive(before)
        if len(alive) == len(before):
            return 0
        if self.columns is not None:
            kept = set(alive)
            self.columns = [
                [value for value, position in zip(column, before, strict=True) if position in kept]
                for column in self.columns
            ]
        self.positions = alive
        return len(before) - len(alive)

    def inputs(self) -> list[Column]:
        """Return the columns of these rows alone."""
        if self.columns is not None:
            return self.columns
        held = self.frame.columns
        columns = [held[value] for value in self.slot.step.inputs]
        positions = self.positions
        if len(positions) == self.frame.size:
            return columns
        if isinstance(positions, range):
            return [column[positions.start : positions.stop] for column in columns]
        return [[column[position] for position in positions] for column in columns]

    def deliver(self, columns: list[Column], faults: Faults, start: int) -> None:
        """Hand these rows' outcomes, which begin at `start` of the work's, to whoever takes them."""
        positions = self.positions
        stop = start + len(positions)
        mine = {positions[at - start]: fault for at, fault in faults.items() if start <= at < stop} if faults else {}
        whole = start == 0 and len(columns[0]) == stop
        taken = columns if whole else [column[start:stop] for column in columns]
        (self.taker or self.frame.settle_of(self.slot))(positions, taken, mine)


class Work:
    """Rows taken for one call of a step.

    Parameters
    ----------
    program : Program
        What is called.
    parts : list of Rows
        The rows, of one frame or (in a batch) of several.
    gate : Gate, optional
        Of what there are only so many, and this work holds one.
    batches : Batches, Away or Whole, optional
        What runs the step, where it is batched, elsewhere, or all the steps.
    reason : str, optional
        Why it is a batch now; None where it is none.
    tracer : opentelemetry.trace.Tracer, optional
        What makes it a span.
    debug : bool
        Whether to look if it changes what others read too.

    Attributes
    ----------
    left : bool
        Whether nobody wants it any more: whoever runs it is to forget it.
    cancel : threading.Event or None
        Set when it is left; None where nothing but the end of its session can make it so.
    thread : threading.Thread or None
        Who runs it.
    stop : callable or None
        Gives it up, where no thread runs it.
    """

    __slots__ = (
        "_batches",
        "cancel",
        "debug",
        "faults",
        "gate",
        "inputs",
        "left",
        "parts",
        "program",
        "reason",
        "results",
        "seconds",
        "slot",
        "stop",
        "thread",
        "tracer",
    )

    def __init__(
        self,
        program: Program,
        parts: list[Rows],
        gate: Gate | None,
        batches: Batches | Away | Whole | None = None,
        reason: Reason | None = None,
        tracer: Tracer | None = None,
        *,
        debug: bool = False,
    ) -> None:
        self.program = program
        self.parts = parts
        self.slot = parts[0].slot
        self.gate = gate
        self._batches = batches
        self.reason = reason
        self.tracer = tracer
        self.left = False
        self.cancel = threading.Event() if any(part.frame.timed for part in parts) else None
        self.results: list[Column] = []
        self.faults: Faults = {}
        self.seconds = 0.0
        self.thread: threading.Thread | None = None
        self.stop: Stop | None = None
        self.debug = debug
        inputs = [part.inputs() for part in parts]
        self.inputs = inputs[0] if len(parts) == 1 else [list(chain(*columns)) for columns in zip(*inputs, strict=True)]

    @property
    def size(self) -> int:
        """How many rows it has."""
        return sum(len(part.positions) for part in self.parts)

    def run(self) -> None:
        """Call the step, and keep the outcomes; what ends everything, as KeyboardInterrupt does, is raised."""
        program = self.program
        began = program.clock.now()
        self.thread = threading.current_thread()
        frame = self.parts[0].frame
        context = frame.ticket.context.copy()
        tracer = self.tracer
        run = self._run if tracer is None else functools.partial(tracing.in_span, tracer, self, self._run)
        self.results, self.faults = context.run(run)
        self.seconds = program.clock.now() - began

    def begin(self, done: Callable[[BaseException | None], None]) -> None:
        """Begin the call of what needs no thread; `done` is called, in any, once the outcomes are kept.

        It is given the error where there are none, and not called where the work has been left.
        """
        away, frame = cast("Away", self._batches), self.parts[0].frame
        began = self.program.clock.now()
        inputs, self.inputs = self.inputs, []

        def ended(outcome: Outcome | None, error: BaseException | None) -> None:
            if outcome is not None:
                self.results, self.faults = outcome
                self.seconds = self.program.clock.now() - began
            done(error)

        self.stop = frame.ticket.context.copy().run(away.begin, self, inputs, ended)
        if self.left:  # while it began
            self.stop()

    def _run(self) -> tuple[list[Column], Faults]:
        if self.cancel is not None:
            aside.watch(self.cancel)
        inputs, self.inputs = self.inputs, []
        first = self.parts[0]
        ports = shared_ports(first.frame, self.slot) if self.debug and first.function is None else []
        if ports:
            return caught(self.slot.step.op, ports, inputs, lambda: self._call(inputs))
        return self._call(inputs)

    def _call(self, inputs: list[Column]) -> tuple[list[Column], Faults]:
        if isinstance(self._batches, Batches):
            return self._batches.run(inputs)
        if self._batches is not None:
            return self._batches.run(self, inputs)
        op = self.slot.step.op
        function = self.parts[0].function
        if function is None:
            return one_by_one(self.program, op, self.program.function(op), inputs)
        return one_by_one(self.program, op, function, inputs, outputs=1)

    def deliver_some(self, rows: Sequence[int], columns: list[Column], faults: Faults) -> None:
        """Hand the outcomes of some rows, by their number in this work, to whoever waits; the others are its rows now.

        Parameters
        ----------
        rows : sequence of int
            Which, ascending.
        columns : list of lists
            Their results, with None where one failed.
        faults : dict of int to Fault
            The faults, by the place in `rows`.
        """
        start = 0
        for part in self.parts:
            stop = start + len(part.positions)
            places = [place for place, row in enumerate(rows) if start <= row < stop]
            positions = [part.positions[rows[place] - start] for place in places]
            given = set(positions)
            part.positions = [position for position in part.positions if position not in given]
            if positions and not part.frame.closed:
                mine = {
                    part_at: faults[place] for part_at, place in zip(positions, places, strict=True) if place in faults
                }
                taken = [[column[place] for place in places] for column in columns]
                (part.taker or part.frame.settle_of(part.slot))(positions, taken, mine)
            start = stop

    def deliver(self) -> None:
        """Hand the outcomes to whoever waits for them."""
        start = 0
        for part in self.parts:
            if not part.frame.closed:
                part.deliver(self.results, self.faults, start)
            start += len(part.positions)
