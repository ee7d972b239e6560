"""A lone caller's item, run in the caller's own thread: to hand it to another and back takes longer than many a flow.

It is done where nothing is lost by it: the session has nothing else to do, nothing in the flow watches a clock, nobody
has set a deadline, and the item before it was done soon. Where the flow has branches that threads could run beside one
another, it was done so soon that no failure is kept waiting behind a slow one.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dataflow.executors import tracing
from dataflow.executors.aside import go_on, own_context
from dataflow.executors.columns import Columns
from dataflow.executors.faults import Faults
from dataflow.executors.link import Program
from dataflow.executors.rows import Column
from dataflow.executors.schedule.layout import clocked, widest_race
from dataflow.executors.stats import StepStats
from dataflow.executors.threads.call import dropped
from dataflow.executors.threads.worker import Worker
from dataflow.graph import Value, ops
from dataflow.plan import Block

if TYPE_CHECKING:
    from dataflow.executors.threads.session import ThreadsSession

SOON = 0.002
"""Seconds within which a flow is done that its caller may run: a failing branch waits no longer for a slow one."""

IN_A_ROW = 0.1
"""The same for a flow without branches: a caller who is told that the session has been cancelled waits no longer."""


class Here:
    """Runs one item at a time in the thread of who asks for it.

    Parameters
    ----------
    session : ThreadsSession
        Whose items.
    one : callable
        Runs an item: returns its result in a column, and its fault.
    soon : float
        Seconds within which the item before must have been done.
    never : bool
        Whether it is never done.
    waits : bool
        Whether the thread only waits for others, and keeps no place of the pool's from those who work.

    after : int
        How many callers in a row must have been lone before.

    Attributes
    ----------
    busy : bool
        Whether an item is being run.
    dropped : bool
        Whether its outcome is wanted no more.
    """

    def __init__(
        self,
        session: ThreadsSession,
        one: Callable[[Any], tuple[Column, Faults]],
        *,
        soon: float,
        never: bool,
        waits: bool = False,
        after: int = 0,
    ) -> None:
        self.busy = False
        self.dropped = False
        self._session = session
        self._one = one
        self._never = never
        self._waits = waits
        self._after = after
        self._lone = 0
        self._seconds = math.inf  # what the last item took
        self._soon = soon

    @classmethod
    def of(cls, session: ThreadsSession, program: Program, stats: Mapping[str, StepStats], *, debug: bool) -> Here:
        """Return one that runs a program.

        Parameters
        ----------
        session : ThreadsSession
            Whose items.
        program : Program
            The linked plan.
        stats : mapping of str to StepStats
            Where to count, by the steps' names.
        debug : bool
            Whether threads are to look on, step by step.
        """
        columns = Columns(program, stats, reason="lone")
        block = program.plan.block
        raced = widest_race([block]) > session.pool.workers  # which threads run in their turns
        never = debug or clocked([block]) or raced or tracing.tracer() is not None
        return cls(session, lambda item: columns.run([item]), soon=IN_A_ROW if _in_a_row(block) else SOON, never=never)

    def begin(self) -> bool:
        """Return whether the next item is to be run here; then it has begun."""
        if not self._session.lone:  # most often it need not be asked under the lock
            self._lone = 0
            return False
        go_on()
        if self._never or self._seconds > self._soon or isinstance(threading.current_thread(), Worker):
            return False
        if asyncio._get_running_loop() is not None:  # a stage may want to run one of its own
            return False
        session = self._session
        with session.pool.lock:
            session.check_open()
            if self.busy or not session.lone:
                self._lone = 0
                return False
            self._lone += 1
            if self._lone <= self._after or not (self._waits or session.pool.enter()):
                return False
            self.busy = True
        return True

    def run(self, item: Any) -> Any:
        """Run an item that has begun, and return its result."""
        faults: Faults = {}
        try:
            results, faults = own_context().run(self._timed, item)
        except BaseException as error:
            self._end(1, error)
            raise
        self._end(len(faults), None)
        if self.dropped:
            raise dropped()
        if not faults:
            return results[0]
        fault = faults.pop(0)
        self._session.note(fault, None, item)
        raise fault.release()

    def learn(self, seconds: float) -> None:
        """Take note of what an item took that was run elsewhere."""
        self._seconds = seconds

    def _timed(self, item: Any) -> tuple[Column, Faults]:
        clock = self._session.pool.clock
        began = clock.now()
        try:
            return self._one(item)
        finally:
            self._seconds = clock.now() - began

    def _end(self, failures: int, error: BaseException | None) -> None:
        session = self._session
        with session.pool.lock:
            self.busy = False
            if not self._waits:
                session.pool.leave()
            if error is not None:
                session.interrupted_here(error)
            session.count(failures)
            calls = session.pool.changed(session)
        for call in calls:
            call()


def _in_a_row(block: Block) -> bool:
    """Return whether each step waits for the one before it, so that threads could run nothing beside one another.

    Competitors in a race are run beside one another wherever it is run.
    """
    made: tuple[Value, ...] = (Value(0),)
    for step in block.steps:
        if isinstance(step.op, (ops.Each, ops.Quorum)) or not set(step.inputs) & set(made):
            return False
        if not all(map(_in_a_row, step.bodies)):
            return False
        made = step.outputs
    return True
