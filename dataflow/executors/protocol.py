"""What an executor is, for those who run flows on one: what has these methods, as Inline and Threads do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from dataflow.executors.link import Program
from dataflow.executors.results import OnError, Results
from dataflow.executors.session import Session
from dataflow.expr.flow import Flow
from dataflow.plan import Plan


@runtime_checkable
class Executor(Protocol):
    """What runs plans."""

    @property
    def name(self) -> str:
        """The name that stands for it."""
        ...

    @property
    def max_in_flight(self) -> int:
        """The most items that ``map`` reads ahead of the results taken, unless it is told otherwise."""
        ...

    def plan(self, flow: Flow[Any, Any]) -> Plan:
        """Return what would run."""
        ...

    def program(self, flow: Flow[Any, Any]) -> Program:
        """Return a flow planned and made callable in this process."""
        ...

    def open(self, flow: Flow[Any, Any]) -> Session:
        """Open a session, constructing all class stages now."""
        ...

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
        """Run a program over items."""
        ...
