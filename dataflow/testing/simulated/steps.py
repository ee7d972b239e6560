"""How a plan is run in a simulated world: every item and every branch a task of its own, batches as they form."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dataflow.executors import policies
from dataflow.executors.batches import Batches
from dataflow.executors.calls import Replicas
from dataflow.executors.faults import Fault, outcome
from dataflow.executors.link import Program
from dataflow.executors.stats import StepStats
from dataflow.graph import Value, ops
from dataflow.plan import Block, Step
from dataflow.testing.simulated.world import Event, Failed, Room, Task, World, first


class Entry:
    """What one item brings to a batch, and what comes of it."""

    def __init__(self, inputs: tuple[Any, ...]) -> None:
        self.inputs = inputs
        self.ended = Event()
        self.outputs: tuple[Any, ...] = ()
        self.fault: Fault | None = None


class Steps:
    """Runs the blocks of a plan.

    Parameters
    ----------
    program : Program
        The linked plan.
    world : World
        Where.
    clock : VirtualClock
        Shows stages the world's time; what a stage adds to it is the time that the stage takes.
    workers : int
        How many stages run at once.
    stats : mapping of str to StepStats
        Where to count, by the steps' names.
    note : callable
        Called with what happens, in a few words.

    Attributes
    ----------
    jobs : int
        How many batch jobs are under way: while there is one, no batch waits for time to pass.
    """

    def __init__(
        self,
        program: Program,
        world: World,
        clock: Any,
        workers: int,
        stats: Mapping[str, StepStats],
        note: Callable[[str], None],
    ) -> None:
        self.jobs = 0
        self._program = program
        self._world = world
        self._clock = clock
        self._workers = Room(world, workers)
        self._seats: dict[int, Room] = {}
        self._stats = stats
        self._note = note
        self._forming: dict[int, tuple[Step, list[Entry]]] = {}
        world.idle = self._send_one_off

    async def block(self, block: Block, item: Any) -> Any:
        """Run a block on one item: each step as soon as it has its inputs."""
        values: dict[Value, Any] = {Value(0): item}
        done = {step.outputs[0].node: Event() for step in block.steps}
        tasks = [self._world.start(self._in_its_turn(step, values, done)) for step in block.steps]
        try:
            await self._all(tasks)
            return values[block.result]
        finally:
            self._world.cancel(*tasks)

    async def _in_its_turn(self, step: Step, values: dict[Value, Any], done: Mapping[int, Event]) -> None:
        for node in (*(value.node for value in step.inputs), *step.after):
            if node in done:
                await done[node]
        inputs = tuple(values[value] for value in step.inputs)
        stats = self._stats[step.name]
        began = self._world.now
        try:
            made = await self._step(step, inputs)
        except Failed:
            stats.count(1, 1, self._world.now - began)
            raise
        stats.count(1, 0, self._world.now - began)
        values.update(zip(step.outputs, made, strict=True))
        self._world.happen(done[step.outputs[0].node])

    async def _step(self, step: Step, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the outputs of a step."""
        op = step.op
        match op:
            case ops.Call() | ops.Batched() if step.batches:
                return await self._in_a_batch(step, inputs)
            case ops.Switch():
                return (await self.block(step.bodies[inputs[0]], inputs[1]),)
            case ops.Each():
                return (await self._each(step, inputs[0]),)
            case ops.Retry():
                return (await self._retry(step, op, inputs[0]),)
            case ops.Fallback():
                return (await self._fallback(step, op, inputs[0]),)
            case ops.Timeout():
                late = functools.partial(policies.deadline_exceeded, op)
                return (await self.within(op.seconds, self.block(step.bodies[0], inputs[0]), late, op),)
            case ops.Race():
                return (await self._race(step, inputs[0]),)
            case ops.Quorum():
                return (await self._quorum(step, op, inputs[0]),)
        return await self._call(step, inputs)

    # -- calls -------------------------------------------------------------------------------------------------------

    async def _call(self, step: Step, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Call a step's function, in one of the places where stages run."""
        function = self._program.function(step.op)
        made, error = await self._taking_time(step, functools.partial(outcome, function, *inputs))
        if error is not None:
            culprit = None if isinstance(step.op, ops.Call) else self._program.culprit(error)
            fault = Fault(error, culprit or step.op)
            error = None  # its frames may lead to this one
            raise Failed(fault)
        return (made,) if len(step.outputs) == 1 else made

    async def _taking_time(self, step: Step, call: Callable[[], Any]) -> Any:
        """Make a call and let pass what it has added to the clock: only then is its result there."""
        if not step.stages:
            return call()
        rooms = [self._workers, *(self._seats.setdefault(seat, Room(self._world, 1)) for seat in self._instances(step))]
        entered: list[Room] = []
        try:
            for room in reversed(rooms):
                await room.enter()
                entered.append(room)
            self._clock.set(self._world.now)
            result = call()
            taken = self._clock.now() - self._world.now
            self._clock.set(self._world.now)
            self._note(f"{step.name}{f' takes {taken:g} s' if taken else ''}")
            await self._world.after(taken)
            return result
        finally:
            for room in entered:
                room.leave()

    def _instances(self, step: Step) -> list[int]:
        """Return the class instances that a step calls, each of which is called by one at a time."""
        targets = [self._program.target(call.stage) for call in step.stages]
        return sorted({id(target) for target in targets if isinstance(target, Replicas)})

    # -- batches -----------------------------------------------------------------------------------------------------

    async def _in_a_batch(self, step: Step, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        _, forming = self._forming.setdefault(id(step.op), (step, []))
        entry = Entry(inputs)
        forming.append(entry)
        # each has a patience of its own, for who came before it may be given up
        patience = None if self.jobs else self._world.start(self._send_off_in_time(step, forming, entry))
        try:
            if len(forming) >= self._limit(step):
                self._send_off(step, forming, "full")
            await entry.ended
        finally:
            if patience is not None:
                self._world.cancel(patience)
            if entry in forming:  # given up before its batch was sent off
                forming.remove(entry)
        if entry.fault is not None:
            raise Failed(entry.fault)
        return entry.outputs

    def _limit(self, step: Step) -> int:
        calls = [self._program.batch_call(call) for call in step.stages]
        return max(1, min(call.ceiling for call in calls))

    async def _send_off_in_time(self, step: Step, forming: list[Entry], entry: Entry) -> None:
        await self._world.after(min(call.stage.options.max_wait for call in step.stages))
        if entry in forming:
            self._send_off(step, forming, "waited long enough")

    def _send_one_off(self) -> bool:
        """Send off one of the batches that nothing can be added to at this moment, where none is to wait."""
        waiting = [(step, forming) for step, forming in self._forming.values() if forming]
        if not waiting or not self.jobs:
            return False
        self._send_off(*self._world.random.choice(waiting), "nothing else to come")
        return True

    def _send_off(self, step: Step, forming: list[Entry], why: str) -> None:
        limit = self._limit(step)
        batch, forming[:limit] = forming[:limit], []
        self._note(f"a batch of {len(batch)} for {step.name}: {why}")
        self._world.start(self._run_batch(step, batch))

    async def _run_batch(self, step: Step, batch: list[Entry]) -> None:
        batches = Batches(self._program, step.op, self._stats[step.name])
        columns = [list(column) for column in zip(*(entry.inputs for entry in batch), strict=True)]
        made, faults = await self._taking_time(step, functools.partial(batches.run, columns))
        for position, entry in enumerate(batch):
            entry.fault = faults.get(position)
            entry.outputs = tuple(column[position] for column in made)
            self._world.happen(entry.ended)

    # -- constructs --------------------------------------------------------------------------------------------------

    async def _all(self, tasks: Sequence[Task]) -> None:
        """Wait until all tasks have returned; fail as soon as one has failed."""
        while True:
            for task in tasks:
                if task.done:
                    task.result()
            running = [task.ended for task in tasks if not task.done]
            if not running:
                return
            await first(self._world, *running)

    async def _each(self, step: Step, item: Any) -> list[Any]:
        elements: list[Any] | None
        elements, error = outcome(list, item)
        if error is not None:
            raise Failed(Fault(error, step.op))
        tasks = self._start(self.block(step.bodies[0], element) for element in elements or ())
        try:
            await self._all(tasks)
            return [task.value for task in tasks]
        finally:
            self._world.cancel(*tasks)

    async def _retry(self, step: Step, op: ops.Retry, item: Any) -> Any:
        for attempt in range(op.times):
            try:
                return await self.block(step.bodies[0], item)
            except Failed as failed:
                if not policies.caught(failed.fault.error, op.on):
                    raise
            if op.backoff:
                self._clock.slept.append(op.backoff * 2**attempt)
                await self._world.after(op.backoff * 2**attempt)
        return await self.block(step.bodies[0], item)

    async def _fallback(self, step: Step, op: ops.Fallback, item: Any) -> Any:
        try:
            return await self.block(step.bodies[0], item)
        except Failed as failed:
            if not policies.caught(failed.fault.error, op.on):
                raise
        return await self.block(step.bodies[1], item)

    async def within(self, seconds: float, work: Any, late: Callable[[], Exception], op: ops.Op | None) -> Any:
        """Return what work comes to, or fail with `late` once so many seconds have passed."""
        task = self._world.start(work)
        try:
            await first(self._world, task.ended, self._world.after(seconds))
            if task.done:
                return task.result()
            raise Failed(Fault(late(), op))
        finally:
            self._world.cancel(task)

    async def _race(self, step: Step, item: Any) -> Any:
        tasks = self._start(self.block(body, item) for body in step.bodies)
        lost: list[Task] = []
        try:
            while len(lost) < len(tasks):
                await first(self._world, *(task.ended for task in tasks if task not in lost))
                won = [task for task in tasks if task.won]
                if won:
                    return self._world.random.choice(won).value
                lost += [task for task in tasks if task.done and task not in lost]
            return lost[-1].result()
        finally:
            self._world.cancel(*tasks)

    async def _quorum(self, step: Step, op: ops.Quorum, item: Any) -> Any:
        tasks = self._start(self.block(body, item) for body in step.bodies)
        until = None if op.within is None else self._world.after(op.within)
        try:
            while (waited := self._more_to_come(tasks, op, until)) is not None:
                await first(self._world, *waited)
            parts = {index: task.value for index, task in enumerate(tasks) if task.won}
            if len(parts) < op.quorum:
                next(task for task in tasks if task.done and not task.won).result()
        finally:
            self._world.cancel(*tasks)
        result, error = outcome(policies.gather, op, parts)
        if error is not None:
            raise Failed(Fault(error, op))
        return result

    def _more_to_come(self, tasks: Sequence[Task], op: ops.Quorum, until: Event | None) -> list[Event] | None:
        """Return what a quorum still waits for, None where it has enough or cannot have it any more."""
        running = [task.ended for task in tasks if not task.done]
        won = sum(task.won for task in tasks)
        if not running or won + len(running) < op.quorum:
            return None
        if until is None or (until.happened and won < op.quorum):
            return running
        return None if until.happened else [*running, until]

    def _start(self, works: Iterable[Any]) -> list[Task]:
        return [self._world.start(work) for work in works]
