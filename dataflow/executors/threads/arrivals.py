"""The items that were submitted to a session: how they are accepted and let into the flow, and when they are out again.

Callers are many, and the pool's lock is one: they would wait for it longer than for their items. So an item is put down
without it, and let in by the thread that comes for work, together with what else has arrived.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections import deque
from collections.abc import Callable, Set
from typing import TYPE_CHECKING

from dataflow.errors import QueueFull, SessionClosed
from dataflow.executors.clock import SystemClock
from dataflow.executors.schedule import Ticket
from dataflow.executors.threads.call import Call, Party
from dataflow.executors.threads.worker import BLOCKED, Worker

if TYPE_CHECKING:
    from dataflow.executors.threads.session import ThreadsSession

TOGETHER = 0.001
"""Seconds that the items of a party may take before they come to a batch: the first waits for the last of them."""

Deliveries = list[Callable[[], None]]


class Arrivals:
    """The calls of a session that have no outcome yet.

    Parameters
    ----------
    session : ThreadsSession
        Whose calls.
    max_in_flight : int
        The most that are accepted before callers wait.
    max_queue : int, optional
        The most that may wait to be begun.

    Attributes
    ----------
    calls : set of Call
        All of them.
    """

    def __init__(self, session: ThreadsSession, max_in_flight: int, max_queue: int | None) -> None:
        self.calls: set[Call] = set()
        self._session_of = weakref.ref(session)  # which has this one: no cycle is to be left for the collector
        self._schedule = session.schedule
        self._pool = session.pool
        self._max_in_flight = max_in_flight
        self._max_queue = max_queue
        self._arrived: deque[Call] = deque()  # those that have not been let in yet
        self._told = False  # whether somebody has been told that something has arrived
        self._ended: list[Call] = []
        self._freely = max_queue is None and self._schedule.steps_only and isinstance(self._pool.clock, SystemClock)

    @property
    def _session(self) -> ThreadsSession:
        session = self._session_of()
        if session is None:  # who calls has it
            raise SessionClosed("the session is gone")
        return session

    # -- accepting -----------------------------------------------------------------------------------------------------

    def walk_in(self, call: Call) -> bool:
        """Accept a call without the lock, and return whether it could be.

        It arrives before it is looked whether somebody has been told; and who has been told takes note of that before
        letting in what has arrived. So none is left behind. It counts before it is looked whether there is room: so no
        more are accepted than there is room for.
        """
        if not self._freely or call.due is not None or len(self.calls) >= self._max_in_flight:
            return False
        self.calls.add(call)
        if len(self.calls) > self._max_in_flight:  # others have come at the same time
            with self._pool.lock:
                self.calls.discard(call)
                calls = self._session.room()  # somebody may have taken it for full meanwhile
            for each in calls:
                each()
            return False
        self._arrived.append(call)
        if not self._told or self._session.closed:
            self._tell(call)
        return True

    def _tell(self, call: Call) -> None:
        with self._pool.lock:
            late = self._session.closed and not call.over
            if late:
                self.forget(call)
            # a thread may have let it in meanwhile: then nobody comes, and the next to arrive is to tell somebody
            self._told = bool(self._arrived)
            calls = self._pool.changed(self._session)
        for each in calls:
            each()
        if late:
            self._session.check_open()

    def accept(self, call: Call) -> Deliveries | None:
        """Accept a call and let it in; None where there is no room now.

        Returns
        -------
        list of callables
            To be called outside the lock.
        """
        with self._pool.lock:
            self._session.check_open()
            limit, waiting = self._max_queue, self._schedule.waiting
            if limit is not None and self._schedule.more:
                waiting -= self._pool.free  # these are about to be begun
            if limit is not None and waiting >= limit:
                raise QueueFull(
                    f"{waiting} items wait, and the session holds no more than {limit} (max_queue): try "
                    "again later, or raise max_queue"
                )
            if self.full(call):
                return None
            self.calls.add(call)
            self._arrived.append(call)
            self.let_in()
            return self._pool.changed(self._session)

    def full(self, call: Call | None = None) -> bool:
        """Return whether there is no room now; a call that is late needs none, for it fails at once."""
        if call is not None and call.due is not None and call.due <= self._pool.clock.now():
            return False
        if isinstance(threading.current_thread(), Worker):  # to wait here could be to wait for oneself
            return False
        return self._max_queue is None and len(self.calls) >= self._max_in_flight

    # -- under the lock ------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many have not been let in."""
        return len(self._arrived)

    @property
    def due(self) -> float:
        """The moment at which a thread is to be sent for what has arrived; infinity where there is nothing.

        A thread that is at work lets all in that have arrived when it comes for more. Only if it does not come soon
        another is sent.
        """
        if not self._arrived:
            return math.inf
        return -math.inf if self._pool.resting else self._arrived[0].since + BLOCKED

    def let_in(self) -> None:
        """Let in what has arrived: what is of one context together, so far as it does not take long."""
        self._told = False
        arrived = self._arrived
        if not arrived:
            return
        now = self._pool.clock.now()
        # where outcomes come one by one (see `finish_some`), none is to wait for those that came with it
        apart = not self._freely or self._schedule.gives_up
        most = 1 if apart else self._schedule.pace.rows_in(TOGETHER) or 1
        while arrived:
            first = arrived.popleft()
            if first.over:  # its session was cancelled while it arrived
                continue
            calls = [first]
            while arrived and len(calls) < most and arrived[0].due == first.due and arrived[0].context == first.context:
                calls.append(arrived.popleft())
            self._schedule.accept(Party(calls, self._ended), sum(now - call.since for call in calls))

    def forget(self, call: Call) -> None:
        """Take a call out, wherever it is; it has its outcome, or none."""
        if call.over:
            return
        call.over = True
        if call.party is not None:
            self._schedule.give_up(call.party, call.position)
        elif call in self._arrived:
            self._arrived.remove(call)
        self._ended.append(call)

    def forget_all(self, tickets: Set[Ticket] = frozenset(), error: BaseException | None = None) -> None:
        """Take all out; those of these tickets end with an error."""
        for call in list(self.calls):
            if call.party in tickets:
                call.error = error
            self.forget(call)

    def ended(self) -> list[Call]:
        """Return those that are out since this was asked last."""
        done = self._ended.copy()
        if done:
            self._ended.clear()
            self.calls.difference_update(done)
        return done
