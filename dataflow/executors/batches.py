"""Running a batched step over a column: batch after batch through its stages, the bad items found and left out."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from dataflow.errors import BatchSizeError
from dataflow.executors.aside import go_on
from dataflow.executors.calls import BatchCall, Collating, collates
from dataflow.executors.faults import Fault, Faults, add_note, outcome
from dataflow.executors.link import Program
from dataflow.executors.rows import Column
from dataflow.executors.stats import StepStats
from dataflow.expr.stage import Stage, short_repr
from dataflow.graph import Region, Value, ops


class Batches:
    """One batched step at work; several threads may run it at once.

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
        region = program.region(op)
        self._stages, self._results = _lined_up(program, region)
        self._inputs = region.size
        self._pure = region.pure()
        self._stats = stats
        self._together: bool | None = None  # whether a batch stays in one space from the first stage to the last

    def run(self, inputs: list[Column]) -> tuple[list[Column], Faults]:
        """Return the output columns, with None where an item failed, and the faults."""
        count = len(inputs[0])
        made: list[Column] = [[] for _ in self._results]
        faults: Faults = {}
        hold = _Hold(self._stages)
        try:
            while (start := len(made[0])) < count:
                error: Exception | None = None
                if self._together:
                    done, error = outcome(self._straight, inputs, made, hold)
                    if error is None:
                        self._together = done
                    if (start := len(made[0])) == count:
                        break
                stop = min(count, start + self.ceiling)
                parts, failed = self._whole_or_halves([column[start:stop] for column in inputs], hold, error)
                for column, part in zip(made, parts, strict=True):
                    column += part
                if failed:
                    faults.update({start + position: fault for position, fault in failed.items()})
            if self._together is None and hold.complete:
                self._together = hold.together() is not None
        finally:
            hold.let_go()
        return made, faults

    @property
    def ceiling(self) -> int:
        """The most items a batch; less than the stages' own, once one has run out of memory."""
        return min([stage.call.ceiling for stage in self._stages])

    def _straight(self, inputs: list[Column], made: list[Column], hold: _Hold) -> bool:
        """Take batch after batch through all stages, where these hand on whole batches, and all in one space.

        Between two batches of a model, what Python does is in none of the processor's caches: a call costs several
        times what it costs in a loop of its own. So there are few of them here. And a stage may work in the batch that
        it is given: where one fails, what it was given is made again.

        Parameters
        ----------
        inputs : list of lists
            What is run, from where the results end.
        made : list of lists
            The results: each batch adds its own.
        hold : _Hold
            What the run has hold of.

        Returns
        -------
        bool
            Whether it could: not where the stages hand over items after all.
        """
        hold.failing = 0
        takers = hold.together()
        if takers is None:
            return False
        stages, ports = self._stages, self._inputs
        batches: list[Any] = []
        parts: list[Any] = []
        size = calls = 0
        try:
            while (start := len(made[0])) < len(inputs[0]):
                size, calls = min(len(inputs[0]) - start, self.ceiling), 0
                batches = [None] * ports
                for stage, taker in zip(stages, takers, strict=True):
                    go_on()
                    calls += 1
                    batch = batches[stage.source]
                    if batch is None:
                        batch = batches[stage.source] = taker.collate(inputs[stage.source][start : start + size])
                    batch = taker.forward(batch, keep=not stage.sole)
                    if taker.size(batch) != size:
                        raise _miscounted(stage.call.stage, size, taker.size(batch))
                    batches.append(batch)
                parts = [takers[at - ports].split(batches[at], size) for at in self._results]
                if any(len(part) != size for part in parts):
                    return True  # the batch will be run again, and the error found
                self._stats.batch(size, calls)
                calls = 0
                for column, part in zip(made, parts, strict=True):
                    column += part
            return True
        finally:
            if calls:
                self._stats.batch(size, calls)
                hold.failing = len(batches) - ports
            inputs = made = batches = parts = []  # the frames of an error lead to this one
            batch = None

    def _whole_or_halves(
        self, inputs: list[Column], hold: _Hold, met: Exception | None = None
    ) -> tuple[list[Column], Faults]:
        """Run one batch; where its results cannot be taken apart, run its halves instead, if that does no harm."""
        try:
            return self._batch(inputs, hold, met)
        except _Unsplit as unsplit:
            error, op = unsplit.error, unsplit.op
        hold.let_go()
        count = len(inputs[0])
        for stage in self._stages:
            stage.call.learn(error, count)
        if count == 1 or not self._pure:
            return [[None] * count for _ in self._results], {i: Fault(error, op) for i in range(count)}
        middle = count // 2
        columns, faults = self._whole_or_halves([column[:middle] for column in inputs], hold)
        more, others = self._whole_or_halves([column[middle:] for column in inputs], hold)
        faults.update({middle + position: fault for position, fault in others.items()})
        return [one + other for one, other in zip(columns, more, strict=True)], faults

    def _batch(self, inputs: list[Column], hold: _Hold, met: Exception | None) -> tuple[list[Column], Faults]:
        """Run one batch through all stages; where one fails, go on with the items that are not to blame.

        Where the stage at ``hold.failing`` has failed with it before, and `met` is its error, it is not called again.
        """
        count = len(inputs[0])
        cells = [_Cell(column) for column in inputs]
        stop = len(self._stages) if met is None else hold.failing
        columns, error = outcome(self._through, cells, count, hold, stop)
        if error is None and stop < len(self._stages):
            columns, error = None, met
        if columns is not None:
            return columns, {}
        alive: Sequence[int] = range(count)
        faults: Faults = {}
        while error is not None:
            stage = self._stages[len(cells) - self._inputs]  # the one that has made nothing
            items = cells[stage.source].column()
            hold.let_go()
            results, errors = stage.call.isolating(items, error)
            cells.append(_Cell(results))
            for position, failure in errors.items():
                _remember(failure, error, len(items))
                faults[alive[position]] = Fault(failure, stage.op)
            if errors:
                kept = [position for position in range(len(items)) if position not in errors]
                alive = [alive[position] for position in kept]
                cells = [_Cell(_take(cell.column(), kept)) for cell in cells]
            if not alive:
                return [[None] * count for _ in self._results], faults
            columns, error = outcome(self._through, cells, len(alive), hold, len(self._stages))
        return [_spread(column, alive, count) for column in columns or []], faults

    def _through(self, cells: list[_Cell], size: int, hold: _Hold, stop: int) -> list[Column] | None:
        """Take a batch through the stages that it has not been through, each of which adds a cell, to that one."""
        items: Column = []
        cell: _Cell | None = None
        made: Any = None
        try:
            for stage in self._stages[len(cells) - self._inputs : stop]:
                go_on()
                self._stats.batch(size)
                taker, collating = hold.takers[stage.index] or hold.take(stage)
                cell = cells[stage.source]
                if collating:
                    cell.bring(taker, hold)
                    made = taker.forward(cell.batch, keep=not stage.sole or cell.items is None)
                    if taker.size(made) != size:
                        raise _miscounted(stage.call.stage, size, taker.size(made))
                    cells.append(_Cell(None, made, taker, size, stage.op))
                else:
                    items = cell.column()
                    hold.leave()
                    cells.append(_Cell(stage.call.many(items)))
            if stop < len(self._stages):
                return None
            return [cells[index].column() for index in self._results]
        finally:
            cells = items = []  # the frames of an error lead to this one
            made = cell = None


@dataclasses.dataclass(frozen=True, slots=True)
class _Stage:
    """One stage of a region, and where its batch comes from.

    Parameters
    ----------
    op : Op
        What is to blame.
    call : BatchCall
        What is called.
    index : int
        Its number in the region.
    source : int
        The cell that it reads: those of the region's inputs come first, then each stage's in turn.
    sole : bool
        Whether nothing else reads that cell.
    """

    op: ops.Op
    call: BatchCall
    index: int
    source: int
    sole: bool


def _lined_up(program: Program, region: Region) -> tuple[list[_Stage], list[int]]:
    """Return a region's stages in order, and the cells of its results."""
    nodes = list(region.ops())
    cells = {Value(port): port for port in range(region.size)}
    cells |= {Value(node.id): region.size + index for index, node in enumerate(nodes)}
    uses = Counter([*(node.inputs[0] for node in nodes), *region.outputs])
    stages = [
        _Stage(node.op, program.batch_call(node.op), index, cells[node.inputs[0]], sole=uses[node.inputs[0]] == 1)
        for index, node in enumerate(nodes)
    ]
    return stages, [cells[value] for value in region.outputs]


class _Unsplit(BaseException):
    """A batch of results that could not be taken apart, and which op had made it: no error of who wants them."""

    def __init__(self, error: Exception, op: ops.Op | None) -> None:
        self.error = error
        self.op = op


class _Cell:
    """A value of the whole batch: as items, as one collated batch, or both."""

    __slots__ = ("_maker", "_size", "batch", "items", "owner")

    def __init__(
        self,
        items: Column | None,
        batch: Any = None,
        owner: Collating | None = None,
        size: int = 0,
        maker: ops.Op | None = None,
    ) -> None:
        self.items = items
        self.batch = batch
        self.owner = owner
        self._size = size
        self._maker = maker

    def column(self) -> Column:
        """Return the items, splitting the batch if need be."""
        if self.items is None and self.owner is not None:
            self.items = self._split(self.owner)
        return self.items or []

    def _split(self, owner: Collating) -> Column:
        items, error = outcome(_split, owner, self.batch, self._size)
        if items is not None and len(items) != self._size:
            error = BatchSizeError(f"a batch of {self._size} results was split into {len(items)}")
        if error is not None:
            raise _Unsplit(error, self._maker)
        return items or []

    def bring(self, taker: Collating, hold: _Hold) -> None:
        """Have the batch where `taker` wants it: it is collated once for all stages of one space."""
        elsewhere = self.owner is not None and self.owner.space != taker.space
        if elsewhere:
            self.column()  # split where it is
        hold.enter(taker.space)
        if elsewhere or self.owner is None:
            self.batch, self.owner = taker.collate(self.column()), taker


class _Hold:
    """What a run has hold of, from one batch to the next: the instances that it calls, and the space that it is in.

    Parameters
    ----------
    stages : list of _Stage
        What is called.

    Attributes
    ----------
    takers : list
        By the stage's number what is called, and whether it hands on whole batches; None where it has not been taken.
    failing : int
        The number of the stage that was called last, where it has failed.
    """

    __slots__ = ("_held", "_space", "_stages", "failing", "takers")

    def __init__(self, stages: list[_Stage]) -> None:
        self.takers: list[tuple[Any, bool] | None] = [None] * len(stages)
        self.failing = 0
        self._stages = stages
        self._space: Any = None
        self._held: list[Any] = []

    @property
    def complete(self) -> bool:
        """Whether everything that is called has been taken."""
        return None not in self.takers

    def take(self, stage: _Stage) -> tuple[Any, bool]:
        """Take what is called as a stage, and return it, and whether it hands on whole batches."""
        held = stage.call.held()
        self._held.append(held)
        taker = held.__enter__()
        found = self.takers[stage.index] = taker, collates(taker)
        return found

    def together(self) -> list[Any] | None:
        """Return what is called as each stage, in its space, if all hand on whole batches in the same; None if not."""
        takers: list[Any] = []
        for stage in self._stages:
            taker, collating = self.takers[stage.index] or self.take(stage)
            if not collating or (takers and taker.space is not takers[0].space):
                return None
            takers.append(taker)
        self.enter(takers[0].space)
        return takers

    def enter(self, space: Any) -> None:
        """Enter a space, if it has not been entered."""
        if self._space is None or self._space != space:
            self.leave()
            if hasattr(type(space), "__enter__"):
                space.__enter__()
            self._space = space

    def leave(self) -> None:
        """Leave the space: what runs next is no stage that hands on batches."""
        space, self._space = self._space, None
        if hasattr(type(space), "__exit__"):
            space.__exit__(None, None, None)

    def let_go(self) -> None:
        """Leave everything; it is taken again where it is needed."""
        self.leave()
        self.takers = [None] * len(self._stages)
        while self._held:
            self._held.pop().__exit__(None, None, None)


def _split(owner: Collating, batch: Any, size: int) -> Column:
    return list(owner.split(batch, size))


def _miscounted(stage: Stage[Any, Any], given: int, made: int) -> BatchSizeError:
    return BatchSizeError(
        f"stage {stage.name!r} ({stage.origin}) was given {given} items and returned {made} results: the first "
        "dimension of what it returns is the batch"
    )


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


def _spread(column: Column, alive: Sequence[int], count: int) -> Column:
    if len(alive) == count:
        return column
    whole: Column = [None] * count
    for position, value in zip(alive, column, strict=True):
        whole[position] = value
    return whole
