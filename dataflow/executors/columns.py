"""Running a plan over many items at once: each step over the whole column, so that every batch is as full as can be.

A column is a list with one value for each item that is still under way; an item that fails leaves all columns. A
construct that holds a batched stage is run over the column as well: the items of one branch of a switch, the elements
of all items under an ``each`` and the items that are tried again fill batches together.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Callable, Mapping, Sequence

from dataflow.executors import policies
from dataflow.executors.aside import Task, go_on
from dataflow.executors.batches import Batches
from dataflow.executors.faults import Fault, Faults, outcome
from dataflow.executors.link import Program
from dataflow.executors.rows import Column, fault_of, one_by_one
from dataflow.executors.stats import StepStats
from dataflow.graph import Value, ops
from dataflow.plan import Block, Step


class Columns:
    """Runs a program's steps over columns.

    Parameters
    ----------
    program : Program
        The linked plan.
    stats : mapping of str to StepStats
        Where to count, by the steps' names.
    reason : str, optional
        Why batches are called when they are, to be counted; where there is a choice.
    """

    def __init__(self, program: Program, stats: Mapping[str, StepStats], reason: str | None = None) -> None:
        self._program = program
        self._reason = reason
        self._aside = program.aside
        self._stats = stats
        self._batches: dict[str, Batches] = {}

    def run(self, items: Column) -> tuple[Column, Faults]:
        """Return the results of the items, and the faults of those that failed, by position."""
        return self._block(self._program.plan.block, items)

    def _block(self, block: Block, items: Column) -> tuple[Column, Faults]:
        if not items:
            return [], {}
        columns, alive, faults = self.steps(block.steps, {Value(0): items})
        if not faults:
            return columns[block.result], faults
        results: Column = [None] * len(items)
        if alive:
            for position, value in zip(alive, columns[block.result], strict=True):
                results[position] = value
        return results, faults

    def steps(
        self, steps: Sequence[Step], columns: dict[Value, Column]
    ) -> tuple[dict[Value, Column], Sequence[int], Faults]:
        """Run some of a block's steps.

        Parameters
        ----------
        steps : sequence of Step
            Which.
        columns : dict of Value to list
            What they read, and what others that follow them will read.

        Returns
        -------
        columns : dict of Value to list
            What those will read, without the items that have failed.
        alive : sequence of int
            The positions of the items that have not.
        faults : dict of int to Fault
            The faults of those that have, by position.
        """
        alive: Sequence[int] = range(len(next(iter(columns.values()))))
        faults: Faults = {}
        for step in steps:
            if not alive:
                break
            go_on()
            made, failed = self._step(step, [columns[value] for value in step.inputs])
            columns.update(zip(step.outputs, made, strict=True))
            for value in step.dead:
                columns.pop(value, None)
            if failed:
                faults.update({alive[position]: fault for position, fault in failed.items()})
                kept = [position for position in range(len(alive)) if position not in failed]
                alive = [alive[position] for position in kept]
                columns = {value: [column[position] for position in kept] for value, column in columns.items()}
        return columns, alive, faults

    def _step(self, step: Step, inputs: list[Column]) -> tuple[list[Column], Faults]:
        """Return a step's output columns and the faults of the items on which it failed."""
        count = len(inputs[0])
        stats = self._stats[step.name]
        began = self._program.clock.now()
        if not step.batches:
            made, faults = one_by_one(self._program, step.op, self._program.function(step.op), inputs)
        elif isinstance(step.op, (ops.Call, ops.Batched)):
            if self._reason is not None:
                stats.dispatch(self._reason)
            made, faults = self._batches_of(step, stats).run(inputs)
        else:
            column, faults = self._construct(step, inputs)()
            made = [column]
        stats.count(count, len(faults), self._program.clock.now() - began)
        return made, faults

    def _batches_of(self, step: Step, stats: StepStats) -> Batches:
        if step.name not in self._batches:
            self._batches[step.name] = Batches(self._program, step.op, stats)
        return self._batches[step.name]

    # -- constructs that hold batched stages ---------------------------------------------------------------------------

    def _construct(self, step: Step, inputs: list[Column]) -> Callable[[], tuple[Column, Faults]]:
        """Return what runs a construct; it is called by the caller, for they nest, and Python's stack has an end."""
        op = step.op
        match op:
            case ops.Switch():
                return functools.partial(self._switch, step, *inputs)
            case ops.Each():
                return functools.partial(self._each, step, inputs[0])
            case ops.Retry():
                return functools.partial(self._retry, step, op, inputs[0])
            case ops.Fallback():
                return functools.partial(self._fallback, step, op, inputs[0])
            case ops.Timeout():
                return functools.partial(self._timeout, step, op, inputs[0])
            case ops.Race():
                return functools.partial(self._race, step, inputs[0])
            case ops.Quorum():
                return functools.partial(self._quorum, step, op, inputs[0])
        raise NotImplementedError(op.name)

    def _switch(self, step: Step, chosen: Column, items: Column) -> tuple[Column, Faults]:
        positions: list[list[int]] = [[] for _ in step.bodies]
        for position, number in enumerate(chosen):
            positions[number].append(position)
        results: Column = [None] * len(items)
        faults: Faults = {}
        for arm, mine in zip(step.bodies, positions, strict=True):
            if mine:
                self._scatter(self._block(arm, [items[position] for position in mine]), mine, results, faults)
        return results, faults

    def _scatter(self, done: tuple[Column, Faults], positions: list[int], results: Column, faults: Faults) -> None:
        """Put the outcomes of some of the items where they belong."""
        for position, value in zip(positions, done[0], strict=True):
            results[position] = value
        faults.update({positions[local]: fault for local, fault in done[1].items()})

    def _each(self, step: Step, items: Column) -> tuple[Column, Faults]:
        elements: Column = []
        ends: list[int] = []
        faults: Faults = {}
        for position, item in enumerate(items):
            _, error = outcome(elements.extend, item)
            if error is not None:
                del elements[ends[-1] if ends else 0 :]
                faults[position] = fault_of(self._program, step.op, error)
            ends.append(len(elements))
        values, failed = self._block(step.bodies[0], elements)
        results: Column = []
        bad = sorted(failed)
        start = 0
        for position, end in enumerate(ends):
            results.append(values[start:end])
            first = bisect.bisect_left(bad, start)
            if first < len(bad) and bad[first] < end:
                faults[position] = failed[bad[first]]
            start = end
        return results, faults

    def _retry(self, step: Step, op: ops.Retry, items: Column) -> tuple[Column, Faults]:
        results, faults = self._block(step.bodies[0], items)
        for attempt in range(op.times):
            again = sorted(position for position, fault in faults.items() if policies.caught(fault.error, op.on))
            if not again:
                break
            policies.back_off(op, attempt, self._program.clock)
            for position in again:
                del faults[position]
            self._scatter(self._block(step.bodies[0], [items[position] for position in again]), again, results, faults)
        return results, faults

    def _fallback(self, step: Step, op: ops.Fallback, items: Column) -> tuple[Column, Faults]:
        results, faults = self._block(step.bodies[0], items)
        handed = sorted(position for position, fault in faults.items() if policies.caught(fault.error, op.on))
        if handed:
            go_on()
            for position in handed:
                del faults[position]
            done = self._block(step.bodies[1], [items[position] for position in handed])
            self._scatter(done, handed, results, faults)
        return results, faults

    def _timeout(self, step: Step, op: ops.Timeout, items: Column) -> tuple[Column, Faults]:
        def run(group: Column) -> tuple[Column, Faults]:
            task = policies.within(op.seconds, functools.partial(self._block, step.bodies[0], group), self._aside)
            if not task.left:
                return task.result()  # type: ignore[no-any-return]
            self._program.renew(op)
            late = {position: Fault(policies.deadline_exceeded(op), op) for position in range(len(group))}
            return [None] * len(group), late

        return _in_groups(step, items, run)

    def _race(self, step: Step, items: Column) -> tuple[Column, Faults]:
        def enough(tasks: list[Task[tuple[Column, Faults]]]) -> float | None:
            lost = [task.value[1] for task in tasks if task.done and task.value is not None]
            undecided = any(all(position in faults for faults in lost) for position in range(len(items)))
            return None if not undecided or all(task.done for task in tasks) else math.inf

        outcomes = self._beside(step, items, enough)
        results: Column = [None] * len(items)
        faults: Faults = {}
        for position in range(len(items)):
            won = next((values for values, failed in outcomes.values() if position not in failed), None)
            if won is not None:
                results[position] = won[position]
            else:
                faults[position] = list(outcomes.values())[-1][1][position]
        return results, faults

    def _quorum(self, step: Step, op: ops.Quorum, items: Column) -> tuple[Column, Faults]:
        if op.within is None:
            outcomes = {}
            for index, body in enumerate(step.bodies):  # no comprehension: its frame would count where these nest
                outcomes[index] = self._block(body, items)
            return self._gathered(step, op, outcomes)
        within = op.within

        def run(group: Column) -> tuple[Column, Faults]:
            enough = self._quorum_enough(op, len(group), within)
            return self._gathered(step, op, self._beside(step, group, enough))

        return _in_groups(step, items, run)

    def _gathered(
        self, step: Step, op: ops.Quorum, outcomes: dict[int, tuple[Column, Faults]]
    ) -> tuple[Column, Faults]:
        count = len(next(iter(outcomes.values()))[0])
        results: Column = [None] * count
        faults: Faults = {}
        for position in range(count):
            parts = {i: values[position] for i, (values, failed) in outcomes.items() if position not in failed}
            if len(parts) < op.quorum:
                faults[position] = next(failed[position] for _, failed in outcomes.values() if position in failed)
                continue
            results[position], error = outcome(policies.gather, op, parts)
            if error is not None:
                faults[position] = fault_of(self._program, step.op, error)
        return results, faults

    def _quorum_enough(self, op: ops.Quorum, count: int, within: float) -> policies.Enough:
        deadline = self._program.clock.now() + within

        def enough(tasks: list[Task[tuple[Column, Faults]]]) -> float | None:
            outcomes = [task.value[1] for task in tasks if task.done and task.value is not None]
            running = len(tasks) - len(outcomes)
            if not running:
                return None
            left = deadline - self._program.clock.now()
            won = [sum(position not in faults for faults in outcomes) for position in range(count)]
            settled = all(
                (left <= 0 and successes >= op.quorum) or successes + running < op.quorum for successes in won
            )
            return None if settled else (left if left > 0 else math.inf)

        return enough

    def _beside(self, step: Step, items: Column, enough: policies.Enough) -> dict[int, tuple[Column, Faults]]:
        """Run every body over the items, each aside, and return the outcomes of those that ended in time."""
        tasks = self._aside.run([functools.partial(self._block, body, items) for body in step.bodies], enough)
        if any(task.left for task in tasks):
            self._program.renew(step.op)
        return {index: task.result() for index, task in enumerate(tasks) if not task.left}


def _in_groups(step: Step, items: Column, run: Callable[[Column], tuple[Column, Faults]]) -> tuple[Column, Faults]:
    """Run a construct a batch at a time, so that one batch's work does not count as another's waiting."""
    size = max(first_batch(body) for body in step.bodies)
    results: Column = []
    faults: Faults = {}
    for start in range(0, len(items), size):
        values, failed = run(items[start : start + size])
        results += values
        faults.update({start + position: fault for position, fault in failed.items()})
    return results, faults


def first_batch(block: Block) -> int:
    """Return the batch size of the first batched stage in a block, 1 where there is none."""
    for step in block.steps:
        if isinstance(step.op, ops.Batched):
            return step.op.batch
        if isinstance(step.op, ops.Call) and step.op.stage.options.batch is not None:
            return step.op.stage.options.batch
        if step.batches:
            return max(first_batch(body) for body in step.bodies)
    return 1
