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
from dataflow.executors.threads.pool import waiting
from dataflow.executors.threads.source import call_in

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


class Call(Ticket):
    """One item that was submitted.

    Parameters
    ----------
    session : ThreadsSession
        Where.
    item : object
        The item.
    deadline : float, optional
        Seconds after which it fails.
    """

    __slots__ = ("error", "fault", "future", "session", "value")

    def __init__(self, session: ThreadsSession, item: Any, deadline: float | None) -> None:
        super().__init__(
            [item], patient=False, context=own_context(), deadline=deadline, since=session.pool.clock.now()
        )
        self.session: ThreadsSession | None = session
        self.future: Any = self._promise()
        self.value: Any = _NOTHING
        self.fault: Fault | None = None
        self.error: BaseException | None = None

    def _promise(self) -> Any:
        return CallFuture(self)

    def succeeded(self, positions: Sequence[int], values: list[Any]) -> None:
        self.value = values[0]

    def failed(self, faults: Mapping[int, Fault]) -> None:
        self.fault = faults[0]

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
        self.items = []
        if session is None:
            return
        if fault is None and error is None and self.value is _NOTHING:
            future.dropped = not future.cancelled()  # first: its callbacks ask
            future.cancel()
        if not future.set_running_or_notify_cancel():
            return
        if fault is not None:
            session.note(fault, None)
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
        self.items = []
        if session is None or future.done():
            return
        if fault is not None:
            session.note(fault, None)
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
