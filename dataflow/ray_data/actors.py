"""What runs in Ray Data's processes: one segment of a plan, over one batch of rows after another."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, NoReturn

from dataflow.errors import DataflowError, LoweringError
from dataflow.executors.clock import SystemClock
from dataflow.executors.columns import Columns
from dataflow.executors.link import Program
from dataflow.executors.ray_serve.shipping import Shipment
from dataflow.executors.results import OnError
from dataflow.executors.rows import Column
from dataflow.executors.stats import step_stats
from dataflow.ray_data import table
from dataflow.ray_data.segments import Segment, all_steps, arranged

CARRIED = "__dataflow__"
"""The column in which values travel from one segment to the next, pickled, row by row."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What is to be done with a dataset.

    Parameters
    ----------
    shipment : Shipment
        The flow.
    column : str, optional
        Which column is the item; the whole row, as a dict, by default.
    output, failure : str
        The columns for the results and for the failures.
    result_type : pyarrow.DataType, optional
        The type of the results' column; Python objects by default.
    on_error : str
        What a failed row does.
    """

    shipment: Shipment
    column: str | None
    output: str
    failure: str
    result_type: Any
    on_error: OnError


class Actor:
    """Runs a segment; Ray Data constructs one in each process of its pool, and calls it from one thread.

    Parameters
    ----------
    job : Job
        What is to be done.
    segment : Segment
        Of its plan.
    first, last : bool
        Whether it is the plan's first, or its last.
    """

    def __init__(self, job: Job, segment: Segment, *, first: bool, last: bool) -> None:
        self._job = job
        self._segment = segment
        self._first, self._last = first, last
        self._place = f"by Ray Data, in a process of pool {segment.name!r}, process {os.getpid()}"
        plan = job.shipment.plan()
        if plan.digest != job.shipment.digest:
            raise LoweringError(
                f"the plan made here ({plan.digest}) is not the one that was sent ({job.shipment.digest}): both sides "
                "must have the same dataflow, the same Python, and the same modules that the flow is made of"
            )
        self._program = Program(plan, SystemClock(), instances=1)
        self._steps = arranged(plan)[segment.start : segment.stop]
        mine = {id(call) for step in all_steps(self._steps) for call in step.stages}
        self._program.construct(only=lambda call: id(call) in mine)
        self._columns = Columns(self._program, step_stats(plan))

    def __call__(self, batch: Any) -> Any:
        """Run a batch of rows, an Arrow table, and return it with what has been made of them."""
        try:
            return _Batch(self, batch).run()
        except Exception:
            raise
        except BaseException as error:  # it ends the job as it would end a loop, and is not to end Ray's process
            raise DataflowError(f"the job was ended by a stage that raised {type(error).__name__}") from error


class _Batch:
    """Some rows on their way through a segment.

    Parameters
    ----------
    actor : Actor
        Whose segment.
    rows : pyarrow.Table
        The rows.
    """

    def __init__(self, actor: Actor, rows: Any) -> None:
        self._actor = actor
        self._job = job = actor._job
        self._table = rows
        told = job.on_error == "record" and not actor._first
        self._failures: list[table.Outcome] = rows.column(job.failure).to_pylist() if told else [None] * rows.num_rows

    def run(self) -> Any:
        """Run them, and return the table with what the next segment, or the user, needs of it."""
        actor, segment = self._actor, self._actor._segment
        alive = self._alive()
        columns = dict(zip(segment.given, self._given(alive), strict=True))
        wanted: list[Column] = [[] for _ in segment.carried]
        if alive:
            made, kept, faults = actor._columns.steps(actor._steps, columns)
            for position, fault in faults.items():
                stage = actor._program.note(fault.error, fault.op, None, actor._place)
                self._failed(alive[position], fault.release(), stage)
            alive = [alive[position] for position in kept]
            if alive:
                wanted = [made[value] for value in segment.carried]
        self._take([_spread(column, alive, len(self._failures)) for column in wanted])
        return self._finished()

    def _alive(self) -> list[int]:
        return [position for position, failure in enumerate(self._failures) if failure is None]

    def _given(self, alive: list[int]) -> list[Column]:
        actor = self._actor
        if actor._first:
            return [table.items(self._table, self._job.column)]
        return table.carried(self._table, CARRIED, len(actor._segment.given), alive)

    def _take(self, columns: list[Column]) -> None:
        """Put results, or what is carried, into the table; what cannot be put there has failed."""
        actor, job = self._actor, self._job
        there = [failure is None for failure in self._failures]
        if not actor._last:
            self._table, errors = table.carry(self._table, CARRIED, columns, there)
        elif job.result_type is None:
            self._table, errors = table.with_objects(self._table, job.output, columns[0], there)
        else:
            self._table, errors = table.with_type(self._table, job.output, columns[0], there, job.result_type)
        for row, error in errors.items():
            self._failed(row, error, actor._steps[-1].name if actor._steps else "?")

    def _failed(self, row: int, error: Exception, stage: str) -> None:
        if self._job.on_error == "raise":
            _raise(error)
        self._failures[row] = {"type": _kind(error), "message": _text(error), "stage": stage}

    def _finished(self) -> Any:
        job = self._job
        if self._actor._last:
            self._table = table.without(self._table, CARRIED)
        if job.on_error == "record":
            return table.with_failures(self._table, job.failure, self._failures)
        kept = table.only(self._table, self._alive())
        return kept if kept.num_rows else table.without(kept, CARRIED)  # Ray Data shows an empty one to no other pool


def _raise(error: Exception) -> NoReturn:
    raise error


def _spread(values: Column, alive: list[int], count: int) -> Column:
    """Return a column of all rows, with None for those that are not alive."""
    if len(alive) == count:
        return values
    column: Column = [None] * count
    for position, value in zip(alive, values, strict=True):
        column[position] = value
    return column


def _kind(error: Exception) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _text(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # a user's __str__ may raise anything
        return "(its __str__ fails)"


def named(segment: Segment) -> type[Actor]:
    """Return a class of actors for a segment's pool: Ray Data shows its name where it shows progress."""
    return type(f"pool {segment.name}", (Actor,), {"__module__": "dataflow.ray_data.pools", "__doc__": Actor.__doc__})
