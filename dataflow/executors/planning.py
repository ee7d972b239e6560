"""How executors that run in this process come from a flow to what they run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dataflow.executors.clock import Clock, SystemClock
from dataflow.executors.link import Program
from dataflow.expr.flow import Flow
from dataflow.passes import Pass
from dataflow.plan import Plan, make_plan


class Planning:
    """What such executors have in common: passes, and a clock."""

    passes: Iterable[str | Pass] | str | None
    clock: Clock | None = None

    def __post_init__(self) -> None:
        if self.passes is not None and not isinstance(self.passes, str):
            object.__setattr__(self, "passes", tuple(self.passes))

    @property
    def plain(self) -> bool:
        """Whether it runs a flow as the flow runs itself: then they share a program, and with it instances."""
        return self.passes is None and self.clock is None

    def plan(self, flow: Flow[Any, Any]) -> Plan:
        """Return what would run."""
        return make_plan(flow, self.passes)

    def program(self, flow: Flow[Any, Any]) -> Program:
        """Return a flow planned and made callable in this process."""
        return Program(self.plan(flow), self.clock or SystemClock())
