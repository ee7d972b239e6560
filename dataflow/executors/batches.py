"""Running a batched step over a column: batch after batch through its stages, the bad items found and left out."""

from __future__ import annotations

from typing import Any

from dataflow.errors import BatchSizeError
from dataflow.executors.aside import go_on
from dataflow.executors.calls import BatchCall, Collating, collates
from dataflow.executors.faults import Fault, Faults, add_note, outcome
from dataflow.executors.link import Program
from dataflow.executors.rows import Column
from dataflow.executors.stats import StepStats
from dataflow.expr.stage import short_repr
from dataflow.graph import Value, ops


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
        if count <= self._ceiling:
            return self._whole_or_halves(inputs)
        made: list[Column] = [[] for _ in self._region.outputs]
        faults: Faults = {}
        start = 0
        while start < count:
            stop = min(count, start + self._ceiling)
            parts, failed = self._whole_or_halves([column[start:stop] for column in inputs])
            for column, part in zip(made, parts, strict=True):
                column += part
            faults.update({start + position: fault for position, fault in failed.items()})
            start = stop
        return made, faults

    @property
    def _ceiling(self) -> int:
        """The most items a batch; less than the stages' own, once one has run out of memory."""
        return min([call.ceiling for _, call in self._calls])

    def _whole_or_halves(self, inputs: list[Column]) -> tuple[list[Column], Faults]:
        """Run one batch; where its results cannot be taken apart, run its halves instead, if that does no harm."""
        try:
            return self._batch(inputs)
        except _Unsplit as unsplit:
            error, op = unsplit.error, unsplit.op
        count = len(inputs[0])
        for _, call in self._calls:
            call.learn(error, count)
        if count == 1 or not self._region.pure():
            return [[None] * count for _ in self._region.outputs], {i: Fault(error, op) for i in range(count)}
        middle = count // 2
        columns, faults = self._whole_or_halves([column[:middle] for column in inputs])
        more, others = self._whole_or_halves([column[middle:] for column in inputs])
        faults.update({middle + position: fault for position, fault in others.items()})
        return [one + other for one, other in zip(columns, more, strict=True)], faults

    def _batch(self, inputs: list[Column]) -> tuple[list[Column], Faults]:
        """Run one batch through all stages."""
        spaces = _Spaces()
        try:
            return self._through(inputs, spaces)
        finally:
            spaces.leave()

    def _through(self, inputs: list[Column], spaces: _Spaces) -> tuple[list[Column], Faults]:
        count = len(inputs[0])
        cells = {Value(index): _Cell(items=column) for index, column in enumerate(inputs)}
        alive = list(range(count))
        faults: Faults = {}
        for node, call in self._calls:
            if not alive:
                break
            go_on()
            self._stats.batch(len(alive))
            cell = cells[node.inputs[0]]
            made, error = outcome(_forward, call, cell, len(alive), node.op, spaces)
            if made is not None:
                cells[Value(node.id)] = made
            if error is None:
                continue
            items = cell.column()
            spaces.leave()
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


class _Unsplit(BaseException):
    """A batch of results that could not be taken apart, and which op had made it: no error of who wants them."""

    def __init__(self, error: Exception, op: ops.Op | None) -> None:
        self.error = error
        self.op = op


class _Cell:
    """A value of the whole batch: as items, as one collated batch, or both."""

    def __init__(self, items: Column | None = None, batch: Any = None, owner: Collating | None = None) -> None:
        self._items = items
        self._batch = batch
        self._owner = owner
        self._size = 0 if items is None else len(items)
        self._maker: ops.Op | None = None

    @classmethod
    def collated(cls, batch: Any, owner: Collating, size: int, maker: ops.Op) -> _Cell:
        """Return a cell that holds a batch which `owner` made, as the stage of `maker`."""
        cell = cls(batch=batch, owner=owner)
        cell._size = size
        cell._maker = maker
        return cell

    def column(self) -> Column:
        """Return the items, splitting the batch if need be."""
        if self._items is None and self._owner is not None:
            self._items = self._split(self._owner)
        return self._items or []

    def _split(self, owner: Collating) -> Column:
        items, error = outcome(lambda: list(owner.split(self._batch, self._size)))
        if items is not None and len(items) != self._size:
            error = BatchSizeError(f"a batch of {self._size} results was split into {len(items)}")
        if error is not None:
            raise _Unsplit(error, self._maker)
        return items or []

    def leave_for(self, taker: Collating) -> None:
        """Split the batch where it is, if the next to take it is elsewhere."""
        if self._owner is not None and self._owner.space != taker.space:
            self.column()

    def batch(self, taker: Collating) -> Any:
        """Return the batch as `taker` wants it, collating it once for all that want it so."""
        if self._owner is None or self._owner.space != taker.space:
            self._batch, self._owner, self._items = taker.collate(self.column()), taker, self.column()
        return self._batch


class _Spaces:
    """The spaces that a batch is in: each is entered when the batch comes there."""

    __slots__ = ("_entered",)

    def __init__(self) -> None:
        self._entered: list[Any] = []

    def enter(self, space: Any) -> None:
        """Enter a space, if it is to be entered and has not been."""
        if self._entered != [space] and hasattr(type(space), "__enter__"):
            self.leave()
            space.__enter__()
            self._entered.append(space)

    def leave(self) -> None:
        """Leave them: what runs next is no stage that hands on batches."""
        while self._entered:
            self._entered.pop().__exit__(None, None, None)


def _forward(call: BatchCall, cell: _Cell, size: int, op: ops.Op, spaces: _Spaces) -> _Cell:
    with call.held() as taker:
        if not collates(taker):
            items = cell.column()
            spaces.leave()
            return _Cell(items=call.many(items))
        cell.leave_for(taker)
        spaces.enter(taker.space)
        batch = taker.forward(cell.batch(taker))
        made = taker.size(batch)
        if made != size:
            raise BatchSizeError(
                f"stage {call.stage.name!r} ({call.stage.origin}) was given {size} items and returned {made} results: "
                "the first dimension of what it returns is the batch"
            )
        return _Cell.collated(batch, taker, size, op)


def _remember(failure: Exception, first: Exception, size: int) -> None:
    """Note on an item's own error that its batch failed before it was found, and with what if that was another."""
    if size > 1 and failure is not first and (type(first), _text(first)) != (type(failure), _text(failure)):
        add_note(failure, f"dataflow: found by splitting a batch of {size}, which failed with {short_repr(first, 200)}")


def _text(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # a user's __str__ may raise anything
        return ""


def _take(column: Column, kept: list[int]) -> Column:
    return [column[position] for position in kept]


def _spread(column: Column, alive: list[int], count: int) -> Column:
    if len(alive) == count:
        return column
    whole: Column = [None] * count
    for position, value in zip(alive, column, strict=True):
        whole[position] = value
    return whole
