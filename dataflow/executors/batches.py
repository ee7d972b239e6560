"""Running a batched step over a column: batch after batch through its stages, the bad items found and left out."""

from __future__ import annotations

import contextlib
from typing import Any

from dataflow.errors import BatchSizeError
from dataflow.executors.calls import BatchCall, Collating, Replica
from dataflow.executors.faults import Fault, Faults
from dataflow.executors.link import Program
from dataflow.executors.stats import StepStats
from dataflow.graph import Value, ops

Column = list[Any]


class Batches:
    """One batched step at work.

    Parameters
    ----------
    program : Program
        The linked plan.
    op : Op
        A batched call, or a region of them.
    stats : StepStats
        Where to count.
    """

    def __init__(self, program: Program, op: ops.Op, stats: StepStats) -> None:
        self._program = program
        self._region = program.region(op)
        self._calls = [(node, program.batch_call(node.op)) for node in self._region.ops()]
        self._stats = stats

    def run(self, inputs: list[Column]) -> tuple[list[Column], Faults]:
        """Return the output columns, with None where an item failed, and the faults."""
        count = len(inputs[0])
        made: list[Column] = [[] for _ in self._region.outputs]
        faults: Faults = {}
        start = 0
        while start < count:
            stop = min(count, start + min(call.ceiling for _, call in self._calls))
            parts, failed = self._batch([column[start:stop] for column in inputs])
            for column, part in zip(made, parts, strict=True):
                column += part
            faults.update({start + position: fault for position, fault in failed.items()})
            start = stop
        return made, faults

    def _batch(self, inputs: list[Column]) -> tuple[list[Column], Faults]:
        count = len(inputs[0])
        cells = {Value(index): _Cell(items=column) for index, column in enumerate(inputs)}
        alive = list(range(count))
        faults: Faults = {}
        for node, call in self._calls:
            if not alive:
                break
            self._stats.batch(len(alive))
            cell = cells[node.inputs[0]]
            try:
                cells[Value(node.id)] = _forward(call, cell, len(alive))
            except Exception as error:
                items = cell.column()
                results, errors = call.isolating(items, error)
                for position, failure in errors.items():
                    _remember(failure, error, len(items))
                    faults[alive[position]] = Fault(failure, node.op)
                cells[Value(node.id)] = _Cell(items=results)
                kept = [position for position in range(len(items)) if position not in errors]
                alive = [alive[position] for position in kept]
                if errors:
                    cells = {value: _Cell(items=_take(held.column(), kept)) for value, held in cells.items()}
        if not alive:
            return [[None] * count for _ in self._region.outputs], faults
        columns = [cells[value].column() for value in self._region.outputs]
        return [_spread(column, alive, count) for column in columns], faults


class _Cell:
    """A value of the whole batch: as items, as one collated batch, or both."""

    def __init__(self, items: Column | None = None, batch: Any = None, owner: Collating | None = None) -> None:
        self._items = items
        self._batch = batch
        self._owner = owner
        self._size = 0 if items is None else len(items)

    @classmethod
    def collated(cls, batch: Any, owner: Collating, size: int) -> _Cell:
        """Return a cell that holds a batch which `owner` made."""
        cell = cls(batch=batch, owner=owner)
        cell._size = size
        return cell

    def column(self) -> Column:
        """Return the items, splitting the batch if need be."""
        if self._items is None and self._owner is not None:
            self._items = list(self._owner.split(self._batch, self._size))
        return self._items or []

    def batch(self, taker: Collating) -> Any:
        """Return the batch as `taker` wants it, collating it once for all that want it so."""
        if self._owner is None or self._owner.space != taker.space:
            self._batch, self._owner, self._items = taker.collate(self.column()), taker, self.column()
        return self._batch


def _forward(call: BatchCall, cell: _Cell, size: int) -> _Cell:
    with call.target.lock if isinstance(call.target, Replica) else contextlib.nullcontext():
        taker = call.instance()
        if not call.collates:
            return _Cell(items=list(call.many(cell.column())))
        batch = taker.forward(cell.batch(taker))
        made = taker.size(batch)
        if made != size:
            raise BatchSizeError(
                f"stage {call.stage.name!r} ({call.stage.origin}) was given {size} items and returned {made} results: "
                "the first dimension of what it returns is the batch"
            )
        return _Cell.collated(batch, taker, size)


def _remember(failure: Exception, first: Exception, size: int) -> None:
    """Note on an item's own error that its batch failed before it was found, and with what if that was another."""
    if size > 1 and failure is not first and str(type(first)) + str(first) != str(type(failure)) + str(failure):
        failure.add_note(f"dataflow: found by splitting a batch of {size}, which failed with {first!r}")


def _take(column: Column, kept: list[int]) -> Column:
    return [column[position] for position in kept]


def _spread(column: Column, alive: list[int], count: int) -> Column:
    if len(alive) == count:
        return column
    whole: Column = [None] * count
    for position, value in zip(alive, column, strict=True):
        whole[position] = value
    return whole
