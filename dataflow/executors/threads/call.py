"""One submitted item, and the future of its result."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from dataflow.errors import SessionClosed
from dataflow.executors.aside import own_context
from dataflow.executors.faults import Fault
from dataflow.executors.schedule import Ticket
from dataflow.executors.threads.source import call_in
from dataflow.executors.threads.worker import waiting

if TYPE_CHECKING:
    from dataflow.executors.threads.session import ThreadsSession

_NOTHING: Any = object()


class CallFuture(Future[Any]):
    """The future of one item: cancelling it takes its work out of the queues.

    Parameters
    ----------
    call : Call
        The item.

    Attributes
    ----------
    dropped : bool
        Whether it has been cancelled by its session, which has ended before the item was done.
    """

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call: Call | None = call  # until it has its outcome
        self.dropped = False

    def cancel(self) -> bool:
        call = self.call
        if not super().cancel():
            return False
        if call is not None:
            call.cancelled()
        return True

    def result(self, timeout: float | None = None) -> Any:
        try:
            self._check()
            with waiting():
                return super().result(timeout)
        finally:
            del self  # no cycle through the traceback of this frame

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._check()
        with waiting():
            return super().exception(timeout)

    def _check(self) -> None:
        """Raise `SessionClosed` if this is another process than the one in which it will have its outcome."""
        session = None if self.call is None else self.call.session
        if session is not None:
            session.check_process()


class Call:
    """One item that was submitted.

    Parameters
    ----------
    session : ThreadsSession
        Where.
    item : object
        The item.
    deadline : float, optional
        Seconds after which it fails.

    Attributes
    ----------
    since, due : float
        When it was submitted, and the moment by which it is to be done; None where it has no deadline.
    context : contextvars.Context
        In which stages are to run.
    party : Party or None
        With which others it goes through the flow, once it has begun to.
    over : bool
        Whether it has its outcome, or is to have none.
    """

    __slots__ = (
        "context",
        "deadline",
        "due",
        "error",
        "fault",
        "future",
        "item",
        "over",
        "party",
        "position",
        "session",
        "since",
        "value",
    )

    def __init__(self, session: ThreadsSession, item: Any, deadline: float | None) -> None:
        self.session: ThreadsSession | None = session
        self.item = item
        self.context = own_context()
        self.since = session.pool.clock.now()
        self.deadline = deadline
        self.due = None if deadline is None else self.since + deadline
        self.party: Party | None = None
        self.over = False
        self.position = 0
        self.future: Any = self._promise()
        self.value: Any = _NOTHING
        self.fault: Fault | None = None
        self.error: BaseException | None = None

    def _promise(self) -> Any:
        return CallFuture(self)

    def cancelled(self) -> None:
        """Take note that the future has been cancelled."""
        session = self.session
        if session is not None:
            session.withdraw(self)

    def deliver(self) -> None:
        """Give the future its outcome, outside the lock."""
        session, self.session = self.session, None
        future, fault, error = self.future, self.fault, self.error
        future.call = None
        item, self.item, self.party = self.item, None, None
        if session is None:
            return
        if fault is None and error is None and self.value is _NOTHING:
            future.dropped = not future.cancelled()  # first: its callbacks ask
            future.cancel()
        if not future.set_running_or_notify_cancel():
            return
        if fault is not None:
            session.note(fault, None, item)
            error = fault.release()
        try:
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(self.value)
        finally:
            del error, fault, future, self.fault  # no cycle through the traceback of this frame


class AwaitedCall(Call):
    """One item that is awaited in an event loop, where its future is at home.

    What ends together is delivered together: to call into a loop from another thread costs more than many an item.
    """

    __slots__ = ("loop",)

    def _promise(self) -> Any:
        self.loop = asyncio.get_running_loop()
        return self.loop.create_future()

    def deliver(self) -> None:
        """Give the future its outcome, in its loop."""
        session, self.session = self.session, None
        future, fault, error = self.future, self.fault, self.error
        item, self.item, self.party = self.item, None, None
        if session is None or future.done():
            return
        if fault is not None:
            session.note(fault, None, item)
            error = fault.release()
        elif error is None and self.value is _NOTHING:
            error = dropped()
        try:
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(self.value)
        finally:
            del error, fault, future, self.fault  # no cycle through the traceback of this frame


class Party(Ticket):
    """Items that were submitted about the same time, and go through the flow together.

    Parameters
    ----------
    calls : list of Call
        The items, of one context.
    ended : list of Call
        Takes those that have their outcome.
    """

    __slots__ = ("_ended", "calls")

    def __init__(self, calls: list[Call], ended: list[Call]) -> None:
        first = calls[0]
        super().__init__(
            [call.item for call in calls],
            patient=False,
            context=first.context,
            deadline=first.deadline,
            since=first.since,
        )
        self.calls = calls
        self._ended = ended
        for position, call in enumerate(calls):
            call.party, call.position = self, position

    def succeeded(self, positions: Sequence[int], values: list[Any]) -> None:
        for position, value in zip(positions, values, strict=True):
            call = self.calls[position]
            if not call.over:
                call.value, call.over = value, True
                self._ended.append(call)

    def failed(self, faults: Mapping[int, Fault]) -> None:
        for position, fault in faults.items():
            call = self.calls[position]
            if not call.over:
                call.fault, call.over = fault, True
                self._ended.append(call)


def deliveries(ended: Iterable[Call]) -> list[Callable[[], None]]:
    """Return what delivers the outcomes of items that have ended: each by itself, or those of one loop together."""
    calls: list[Callable[[], None]] = []
    awaited: dict[asyncio.AbstractEventLoop, list[AwaitedCall]] = {}
    for call in ended:
        if isinstance(call, AwaitedCall):
            awaited.setdefault(call.loop, []).append(call)
        else:
            calls.append(call.deliver)
    calls += [functools.partial(call_in, loop, functools.partial(_deliver, group)) for loop, group in awaited.items()]
    return calls


def _deliver(group: list[AwaitedCall]) -> None:
    for call in group:
        call.deliver()
    group.clear()


def dropped() -> SessionClosed:
    """Return the error of an item whose session has ended before it was done."""
    return SessionClosed("the session was cancelled before this item was done: open another")
