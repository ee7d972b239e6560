"""Requests of the session to the ingress: many items travel together, and each is answered when it is done.

What is done soon comes back in one answer. If some items take longer than the others, those that are done are answered
first, and the rest is asked for again: so nobody waits for what happens to travel in the same request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dataflow.errors import ReplicaLost
from dataflow.executors.faults import Faults
from dataflow.executors.link import Done, Stop
from dataflow.executors.ray_serve.answers import Answer, column_faults, lookup_in
from dataflow.executors.ray_serve.engine import Limits
from dataflow.executors.ray_serve.exchange import Exchange
from dataflow.executors.ray_serve.line import ATTEMPTS, GivenUp, Line
from dataflow.executors.ray_serve.payload import Message, dump, pack, size_of, unpack
from dataflow.executors.ray_serve.replica import GONE
from dataflow.executors.rows import Column
from dataflow.executors.schedule import Work
from dataflow.executors.threads.worker import waiting
from dataflow.plan import Plan

MAX_WAIT = 0.01
"""Seconds that an item waits at most for others that are coming."""

_BYTES = 8 * 1024 * 1024  # about how many a request may have: more would be copied no faster, and hold up the others
_FIRST = 64  # how many items are sent in a request before it is known how large they are

Early = Callable[[Work, Sequence[int], list[Column], Faults], None]
"""Takes the outcomes of some of a work's rows before the others have theirs."""


class Requests:
    """Sends items to the ingress.

    Parameters
    ----------
    items, rest : Line
        The ways there: for items, and to ask for those that have not been answered.
    plan : Plan
        Which runs there.
    early : callable
        Takes outcomes before the others of their work have theirs.
    pure : bool
        Whether items may be sent again.
    ceiling : int
        The most items a request.
    places : int
        How many may be under way at once.
    """

    max_wait = MAX_WAIT
    needs_thread = True
    at_once = 1

    def __init__(
        self, items: Line, rest: Line, plan: Plan, early: Early, *, pure: bool, ceiling: int, places: int
    ) -> None:
        self.ceiling = min(_FIRST, ceiling)
        self._most = ceiling
        self.places = places
        self.items = items
        self.rest = rest
        self.early = early
        self.pure = pure
        self.lookup = lookup_in(plan)

    def learn(self, size: int, items: int) -> None:
        """Take note of how many bytes a message of so many items has."""
        self.ceiling = max(1, min(self._most, _BYTES * items // max(1, size)))

    def run(self, work: Work, inputs: list[Column]) -> tuple[list[Column], Faults]:
        """Return the results, and the faults, of the rows that the work still has in the end."""
        trip = _Trip(self, work, inputs[0])
        return trip.last(*Exchange(inputs, 1, self.lookup, None).sent_by(trip.send))

    def alone(self, item: Any) -> tuple[Column, Faults]:
        """Return the result, or the fault, of an item that is sent by the thread that waits for it."""

        def send(message: Message, rows: list[int]) -> Answer:
            return Answer.read(self.items.ask(message, None, False, pure=self.pure))

        with waiting():
            (column,), faults = Exchange([[item]], 1, self.lookup, None).sent_by(send)
        return column, faults

    def begin(self, work: Work, inputs: list[Column], done: Done) -> Stop:
        """Not called: a thread waits, for items may be answered one after another."""
        raise NotImplementedError


class _Trip:
    """One work's items on their way.

    Parameters
    ----------
    requests : Requests
        Whose.
    work : Work
        The work.
    items : list
        Its items, by row.
    """

    def __init__(self, requests: Requests, work: Work, items: Column) -> None:
        self._requests = requests
        self._work = work
        self._items = items
        self._rows = list(range(len(items)))  # those that the work still has
        self._limits, self._patient = _limits(work)

    def send(self, message: Message, rows: list[int]) -> Answer:
        """Send items and return the last answer, once those before it have been handed on."""
        self._requests.learn(size_of(message), len(rows))
        asked, left, attempts = rows, rows, 1
        answer = self._ask(message, asked)
        while answer.rest is not None:
            if answer.rest != GONE:
                left = self._hand_on(answer, asked, left)
                try:
                    answer = Answer.read(self._requests.rest.ask((b"",), answer.rest, pure=False))
                    continue
                except GivenUp:
                    raise
                except ReplicaLost:
                    if not self._requests.pure or attempts == ATTEMPTS:
                        raise
            elif not self._requests.pure or attempts == ATTEMPTS:
                raise ReplicaLost(f"a replica of {self._requests.rest.name} died while it had this work")
            attempts += 1
            asked = left
            answer = self._ask(dump(pack([self._items[row] for row in asked])), asked)
        return answer if asked is rows and left is rows else _completed(answer, asked, rows)

    def last(self, columns: list[Column], faults: Faults) -> tuple[list[Column], Faults]:
        """Return the outcomes of the rows that have not been handed on before."""
        if len(self._rows) == len(self._items):
            return columns, faults
        kept = [[column[row] for row in self._rows] for column in columns]
        return kept, {at: faults[row] for at, row in enumerate(self._rows) if row in faults}

    def _ask(self, message: Message, rows: list[int]) -> Answer:
        limits = self._limits and [self._limits[row] for row in rows]
        return Answer.read(self._requests.items.ask(message, limits, self._patient, pure=self._requests.pure))

    def _hand_on(self, answer: Answer, asked: list[int], left: list[int]) -> list[int]:
        """Hand on what has been answered, and return the rows that have not been."""
        done = [asked[position] for position in answer.positions or ()]
        if not done:
            return left
        faults = column_faults(answer, self._requests.lookup)
        numbers = {row: number for number, row in enumerate(self._rows)}
        order = sorted(range(len(done)), key=done.__getitem__)
        values = unpack(answer.columns[0])
        ordered = [[values[at] for at in order]]
        self._requests.early(
            self._work,
            [numbers[done[at]] for at in order],
            ordered,
            {place: faults[at] for place, at in enumerate(order) if at in faults},
        )
        gone = set(done)
        self._rows = [row for row in self._rows if row not in gone]
        return [row for row in left if row not in gone]


def _completed(answer: Answer, asked: list[int], rows: list[int]) -> Answer:
    """Return a last answer as one of all rows, with nothing for those that were answered before."""
    places = {row: place for place, row in enumerate(rows)}
    positions = range(len(asked)) if answer.positions is None else answer.positions
    at = [places[asked[position]] for position in positions]
    columns: list[Any] = []
    for column in answer.columns:
        whole: Column = [None] * len(rows)
        for place, value in zip(at, unpack(column), strict=True):
            whole[place] = value
        columns.append(whole)
    faults = {at[place]: fault for place, fault in answer.faults.items()}
    return Answer(columns, faults, answer.batches, answer.stop)


def _limits(work: Work) -> tuple[Limits, bool]:
    """Return for each row the seconds that are left to it, and whether all are patient."""
    tickets = [(part.frame.ticket, len(part.positions)) for part in work.parts]
    patient = all(ticket.patient for ticket, _ in tickets)
    if all(ticket.due is None for ticket, _ in tickets):
        return None, patient
    now = work.program.clock.now()
    limits: list[float | None] = []
    for ticket, count in tickets:
        limits += [None if ticket.due is None else max(0.0, ticket.due - now)] * count
    return limits, patient
