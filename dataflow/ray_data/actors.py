"""What runs in Ray Data's processes: one segment of a plan, over one batch of rows after another."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable
from typing import Any

from dataflow.executors.clock import SystemClock
from dataflow.executors.columns import Columns
from dataflow.executors.link import Program
from dataflow.executors.ray_serve.failures import Sent, sent
from dataflow.executors.ray_serve.payload import pickled
from dataflow.executors.ray_serve.shipping import Shipment
from dataflow.executors.results import OnError
from dataflow.executors.rows import Column
from dataflow.executors.stats import step_stats
from dataflow.graph import Value
from dataflow.ray_data import table
from dataflow.ray_data.segments import Segment, all_steps

CARRIED = "__dataflow__"
"""The column in which values travel from one segment to the next, pickled, row by row."""


class Actor:
    """Runs a segment; Ray Data constructs one in each process of its pool.

    Parameters
    ----------
    shipment : Shipment
        The flow.
    segment : Segment
        Of its plan.
    first, last : bool
        Whether it is the plan's first, or its last.
    column : str, optional
        Which column is the item; the whole row, as a dict, by default.
    output, failure : str
        The columns for the results and for the failures.
    on_error : str
        What a failed row does.
    """

    def __init__(
        self,
        shipment: Shipment,
        segment: Segment,
        *,
        first: bool,
        last: bool,
        column: str | None,
        output: str,
        failure: str,
        on_error: OnError,
    ) -> None:
        self._plan = plan = shipment.plan()
        self._segment = segment
        self._first, self._last = first, last
        self._column, self._output, self._failure = column, output, failure
        self._on_error = on_error
        self._place = f"by Ray Data, in a process of pool {segment.name!r}, process {os.getpid()}"
        self._program = Program(plan, SystemClock(), instances=1)
        self._steps = plan.steps[segment.start : segment.stop]
        mine = {id(call) for step in self._steps for inner in all_steps(step) for call in inner.stages}
        self._program.construct(only=lambda call: id(call) in mine)
        self._columns = Columns(self._program, step_stats(plan))

    def __call__(self, batch: Any) -> Any:
        """Run a batch of rows, an Arrow table, and return it with what has been made of them."""
        columns, failures = self._given(batch)
        count = batch.num_rows
        alive = [position for position in range(count) if failures[position] is None]
        if alive:
            left = {value: [column[position] for position in alive] for value, column in columns.items()}
            made, kept, faults = self._columns.steps(self._steps, left)
            for position, fault in faults.items():
                row = alive[position]
                name = self._program.note(fault.error, fault.op, None, self._place)
                if self._on_error == "raise":
                    raise fault.release()
                failures[row] = sent(fault.release(), name, self._place)
            alive = [alive[position] for position in kept]
            columns = {value: table.spread(made[value], alive, count) for value in self._segment.carried}
        else:
            columns = {value: [None] * count for value in self._segment.carried}
        return self._taken(batch, columns, failures) if self._last else self._carried(batch, columns, failures)

    def _given(self, batch: Any) -> tuple[dict[Value, Column], list[Sent | None]]:
        """Return the values that the segment is given, and which rows have failed before it."""
        if self._first:
            rows = table.rows(batch)
            items = rows if self._column is None else [row[self._column] for row in rows]
            return {Value(0): items}, [None] * len(items)
        carried = [pickle.loads(row) for row in batch.column(CARRIED).to_pylist()]
        failures = [row if isinstance(row, Sent) else None for row in carried]
        values = next((list(row) for row in carried if not isinstance(row, Sent)), [])
        return {value: [None if isinstance(row, Sent) else row[value] for row in carried] for value in values}, failures

    def _carried(self, batch: Any, columns: dict[Value, Column], failures: list[Sent | None]) -> Any:
        """Return the table with what the next segment needs."""
        rows: Iterable[Any] = (
            failures[position] or {value: column[position] for value, column in columns.items()}
            for position in range(batch.num_rows)
        )
        return table.with_bytes(batch, CARRIED, [pickled(row) for row in rows])

    def _taken(self, batch: Any, columns: dict[Value, Column], failures: list[Sent | None]) -> Any:
        """Return the table with the results, and without what only segments need."""
        batch = table.without(batch, CARRIED)
        results = columns[self._plan.block.result]
        if self._on_error == "skip":
            kept = [position for position, failure in enumerate(failures) if failure is None]
            batch, results = batch.take(kept), [results[position] for position in kept]
        batch = table.with_column(batch, self._output, results)
        return table.with_failures(batch, self._failure, failures) if self._on_error == "record" else batch
