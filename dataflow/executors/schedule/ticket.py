"""Items that were accepted together, from when they are accepted until each has its outcome."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dataflow.executors.faults import Fault
from dataflow.executors.rows import Column

if TYPE_CHECKING:
    from dataflow.executors.schedule.frames import Frame
    from dataflow.executors.schedule.timers import Timer


class Ticket:
    """Items accepted together; who wants their outcomes derives from it.

    Parameters
    ----------
    items : list
        The items.
    patient : bool
        Whether they come from a job that can wait until batches are full; otherwise somebody waits for each of them.
    context : contextvars.Context
        In which stages are to run.
    deadline : float, optional
        Seconds after which what is not done fails.
    since : float
        From which moment on they count.

    Attributes
    ----------
    number : int
        The schedule's, in the order in which tickets are accepted: what came first is run first.
    due : float or None
        The moment by which they are to be done.
    begun : bool
        Whether any step has begun to run.
    """

    __slots__ = ("begun", "context", "deadline", "due", "frame", "items", "number", "patient", "timer")

    def __init__(
        self,
        items: list[Any],
        *,
        patient: bool,
        context: contextvars.Context,
        deadline: float | None = None,
        since: float = 0.0,
    ) -> None:
        self.items = items
        self.patient = patient
        self.context = context
        self.deadline = deadline
        self.due = None if deadline is None else since + deadline
        self.number = 0
        self.begun = False
        self.frame: Frame | None = None
        self.timer: Timer | None = None

    def succeeded(self, positions: Sequence[int], values: list[Any]) -> None:
        """Take the results of these items."""
        raise NotImplementedError

    def failed(self, faults: Mapping[int, Fault]) -> None:
        """Take the faults of these items."""
        raise NotImplementedError


class Root:
    """Hands what becomes of a ticket's items to it.

    Parameters
    ----------
    ticket : Ticket
        Whose items.
    ended : callable
        Takes the number of items that have had their outcome.
    """

    def __init__(self, ticket: Ticket, ended: Callable[[int], None]) -> None:
        self._ticket = ticket
        self._ended = ended

    def succeeded(self, frame: Frame, positions: Sequence[int], columns: list[Column]) -> None:
        """Take the results."""
        self._ticket.succeeded(positions, columns[0])
        self._ended(len(positions))

    def failed(self, frame: Frame, faults: Mapping[int, Fault]) -> None:
        """Take the faults."""
        self._ticket.failed(faults)
        self._ended(len(faults))
