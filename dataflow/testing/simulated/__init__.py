"""The simulated executor: a whole flow in virtual time on one thread, its every accident decided by a seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, ClassVar

from dataflow.executors.link import Program
from dataflow.executors.results import OnError, Results
from dataflow.expr import options as checks
from dataflow.expr.flow import Flow
from dataflow.passes import Pass
from dataflow.plan import Plan, make_plan
from dataflow.testing.clock import VirtualClock
from dataflow.testing.simulated.session import SimulatedSession
from dataflow.testing.simulated.world import Stuck

__all__ = ["Simulated", "SimulatedSession", "Stuck"]


@dataclasses.dataclass(frozen=True)
class Simulated:
    """Runs flows in virtual time, on the calling thread, with as much going on at once as real workers would have.

    What decides what is run next is what decides it in `Threads`. Wherever threads would leave it to chance who comes
    first, who is done first, and how much of the source has been read by then, a random number decides. The numbers
    come from the seed alone: the same seed and flow run the same way again, to the last detail. Time passes only where
    a stage, or the source, says that it takes some, with ``clock.sleep``, and where the flow waits: for a batch to
    fill, for a timeout, between attempts. No real second passes.

    Parameters
    ----------
    seed : int
        Decides what chance would.
    workers : int
        The most stages that run at once.
    max_in_flight : int
        The most items that ``map`` reads ahead of the results taken.
    max_queue : int, optional
        The most submitted items that may be under way beyond one for each worker: one more is a `QueueFull`.
    passes : iterable of str or Pass, or str, optional
        The optimizer passes, as `Flow.optimize` takes them.
    clock : VirtualClock, optional
        Shows the virtual time. A stage that sleeps on it takes that long.

    Examples
    --------
    >>> import dataflow as df
    >>> from dataflow.testing import Simulated, VirtualClock
    >>> clock = VirtualClock()
    >>> def slow(x):
    ...     clock.sleep(3600)
    ...     return "slow"
    >>> def quick(x):
    ...     clock.sleep(60)
    ...     return "quick"
    >>> list(df.race(slow, quick).map([1, 2], Simulated(seed=7, clock=clock))), clock.now()
    (['quick', 'quick'], 60.0)
    """

    name: ClassVar[str] = "simulated"

    seed: int = 0
    workers: int = 4
    max_in_flight: int = 1024
    max_queue: int | None = None
    passes: Iterable[str | Pass] | str | None = None
    clock: VirtualClock | None = None

    def __post_init__(self) -> None:
        checks.whole_number("Simulated", "workers", self.workers, 1)
        checks.whole_number("Simulated", "max_in_flight", self.max_in_flight, 1)
        if self.max_queue is not None:
            checks.whole_number("Simulated", "max_queue", self.max_queue, 1)
        if self.passes is not None and not isinstance(self.passes, str):
            object.__setattr__(self, "passes", tuple(self.passes))

    def plan(self, flow: Flow[Any, Any]) -> Plan:
        """Return what would run."""
        return make_plan(flow, self.passes)

    def program(self, flow: Flow[Any, Any]) -> Program:
        """Return a flow planned and made callable."""
        return Program(self.plan(flow), self.clock or VirtualClock())

    def open(self, flow: Flow[Any, Any]) -> SimulatedSession:
        """Open a session, constructing all class stages now."""
        program = self.program(flow)
        program.construct()
        return self._session(program)

    def map(
        self,
        program: Program,
        items: Iterable[Any],
        *,
        ordered: bool = True,
        on_error: OnError = "raise",
        max_in_flight: int | None = None,
        progress: bool | None = None,
    ) -> Results:
        """Run a program over items, in a world of their own."""
        return self._session(program).map(
            items, ordered=ordered, on_error=on_error, max_in_flight=max_in_flight, progress=progress
        )

    def _session(self, program: Program) -> SimulatedSession:
        clock: Any = program.clock
        return SimulatedSession(program, clock, self)
