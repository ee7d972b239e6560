"""Where a job's items come from: read in a thread of its own, for reading may block, and no further than is of use.

From the source to the consumer, each item counts against the job's limit: it is *read*, then *in flight*, then *done*,
until the consumer has *taken* its outcome. The source is not read while that many are under way: this is how a slow
consumer, or a slow stage, stalls the source.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import math
import threading
from collections.abc import AsyncIterable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from dataflow.executors.threads.pool import GRACE

if TYPE_CHECKING:
    from dataflow.executors.threads.session import ThreadsSession

PATIENCE = 0.01
"""Seconds after which a source that gives nothing counts as one that will not give anything soon."""

_CHUNK_SECONDS = 0.004  # about how long it may take to run a chunk, or to read it
_WHOLE_SECONDS = 0.016  # the same for one that goes through the flow as a whole
_PARTS = 2  # a chunk is at most this part of the limit, so that one is read and taken while another runs

_numbers = itertools.count(1)


def call_in(loop: asyncio.AbstractEventLoop, call: Callable[[], Any]) -> None:
    """Call something in an event loop, from any thread."""
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:  # the loop has been closed, and whoever waited there with it
        pass


def _forget(start: int, items: list[Any]) -> None:
    """Take what has been read for nobody."""


class Source:
    """Reads items in chunks: of one at first, then of as many as are read and run in about a millisecond.

    Parameters
    ----------
    session : ThreadsSession
        Whose pool and schedule the items are for.
    accept : callable
        Takes what has been read: the number of the first item, and the items.
    limit : int
        The most items that are read and whose outcomes have not been taken.

    Attributes
    ----------
    ended : bool
        Whether there is nothing more to come.
    error : BaseException or None
        What the source raised in the end.
    most : int
        The most items in a chunk.
    """

    def __init__(self, session: ThreadsSession, accept: Callable[[int, list[Any]], None], limit: int) -> None:
        self._session = session
        self._lock = session.pool.lock
        self._clock = session.pool.clock
        self._deliver = accept
        self._limit = limit
        self.most = 1 if session.one_by_one else max(1, limit // _PARTS)
        self.ended = False
        self.error: BaseException | None = None
        self._size = 1
        self._by_itself = False  # whether the next chunk goes through the flow as a whole, and joins no batch of others
        self._groping = True  # whether it is not known how many items are to be read at once
        self._count = 0  # how many have been read
        self._taken = 0  # and of how many the outcomes have been taken
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._pending: list[Any] = []  # what is being read; its first `_given` have been handed on
        self._given = 0
        self._since: float | None = self._clock.now()  # when it began to be read; None while it is not
        self._go_on = threading.Condition(self._lock)
        self._wake: Callable[[], None] | None = None  # what wakes reading in asynchronous code
        self._resize(self.most, 0.0)  # if jobs before this one have shown how long items take

    # -- reading -------------------------------------------------------------------------------------------------------

    def read(self, items: Iterable[Any], context: contextvars.Context) -> None:
        """Begin to read in a thread. If the source hangs, the thread is left behind, and ends when the source gives."""
        name = f"dataflow-source-{next(_numbers)}"
        self._thread = threading.Thread(target=context.copy().run, args=(self._read, items), name=name, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for the thread that reads, once it has been told to stop; for one that is in the source, not long."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(None if self._since is None else GRACE)

    def _read(self, items: Iterable[Any]) -> None:
        error: BaseException | None = None
        try:
            source = iter(items)
        except BaseException as raised:
            error = raised
        del items
        while error is None and (size := self._wait()):
            began = self._clock.now()
            try:
                # others may look at the list while it grows: see `rescue`
                self._pending.extend(itertools.islice(source, size))
            except BaseException as raised:  # what came before it is delivered first
                error = raised
            if self._hand_on(size, self._clock.now() - began):
                break
        source = iter(())
        self._end(error)
        error = None  # no cycle through the traceback of this frame

    async def aread(self, items: AsyncIterable[Any]) -> None:
        """Read one by one in asynchronous code."""
        room = asyncio.Event()
        self._wake = functools.partial(call_in, asyncio.get_running_loop(), room.set)
        error: BaseException | None = None
        try:
            source = aiter(items)
            while not self._stopped:
                room.clear()
                if not self._begin():
                    await room.wait()
                    continue
                self._pending.append(await anext(source))
                self._hand_on(1, 0.0)
        except StopAsyncIteration:
            pass
        except Exception as raised:  # what came before it is delivered first
            error = raised
        self._end(error)
        error = None  # no cycle through the traceback of this frame

    def _wait(self) -> int:
        """Wait until there is room, and return for how many; 0 where no more is wanted."""
        with self._lock:
            self._since = None
            while not self._stopped and not self._wanted:
                self._go_on.wait()
            return self._begin_reading() if not self._stopped else 0

    def _begin(self) -> bool:
        """Begin to read if there is room."""
        with self._lock:
            self._since = None
            return self._wanted and bool(self._begin_reading())

    def _begin_reading(self) -> int:
        self._pending, self._given = [], 0
        self._since = self._clock.now()
        self._session.pool.watch_until(self._since + PATIENCE)  # by then it counts as one that gives nothing
        return self._size

    def _hand_on(self, size: int, seconds: float) -> bool:
        """Hand on what has been read of a chunk of this size, and return whether it was the last."""
        with self._lock:
            if self._stopped:
                return True
            self._give()
            self._since = None
            last = len(self._pending) < size
            self._pending = []
            self._resize(size, seconds)
            calls = self._session.pool.changed(self._session)
        for call in calls:
            call()
        return last

    def _end(self, error: BaseException | None) -> None:
        with self._lock:
            if self._stopped:
                return
            self._since = None
            self.error = error
            self.ended = True
            calls = self._session.pool.changed(self._session)
        for call in calls:
            call()

    # -- what others see and say, under the lock -----------------------------------------------------------------------

    @property
    def expected(self) -> float:
        """The moment until which it may be expected to bring items; before all time where it will bring none."""
        if self.ended or self._stopped or self._by_itself or (self._since is None and not self._room):
            return -math.inf
        return math.inf if self._since is None else self._since + PATIENCE

    def taken(self, count: int) -> None:
        """Take note that so many outcomes have been taken; takes the lock itself."""
        with self._lock:
            self._taken += count
            self.changed()

    def changed(self) -> None:
        """Go on reading, if there is room now."""
        if self._since is None and self._wanted:
            self._go_on.notify()
            if self._wake is not None:
                self._wake()

    def rescue(self) -> float:
        """Hand on what has been read of a chunk whose rest does not come, and return when to look again.

        The rest may come one by one, each for the result of the one before.
        """
        if self._since is None:
            return math.inf
        now = self._clock.now()
        if now < self._since + PATIENCE:  # it is looked at then, whatever the clock was looked at for now
            return self._since + PATIENCE
        self._give()  # the next chunk is smaller, if this one goes on to be slow: the reader may just be starved
        return now + PATIENCE

    def stop(self) -> None:
        """Read no more."""
        self._stopped = True
        self._deliver = _forget
        self._go_on.notify()
        if self._wake is not None:
            self._wake()

    # -- inside, under the lock ----------------------------------------------------------------------------------------

    @property
    def _room(self) -> bool:
        """Whether a chunk more is within the limit."""
        return self._limit - (self._count - self._taken) >= self._size

    @property
    def _wanted(self) -> bool:
        """Whether a chunk more is to be read.

        Up to the limit, so that threads wait for one another seldom. But where time is measured, an item is read when
        there is something to do for it, for its time begins then; and so it is until it is known how many are to go
        together, or all would be read one by one before the first of them is done.
        """
        return self._room and (not (self._session.one_by_one or self._groping) or self._session.schedule.hungry)

    def _give(self) -> None:
        items = self._pending[self._given :]
        if items:
            self._given += len(items)
            self._count += len(items)
            self._deliver(self._count - len(items), items)

    def _resize(self, size: int, seconds: float) -> None:
        schedule = self._session.schedule
        rows = schedule.pace.rows_in(_CHUNK_SECONDS)
        whole = schedule.whole.rows(_WHOLE_SECONDS, self.most)
        self._groping = rows is None or schedule.whole.undecided
        if seconds > PATIENCE:
            self._size = max(1, size // 2)
        elif rows is not None:
            self._size = max(1, min(whole or rows, self.most, 2 * size))
            if whole is not None and self._size > schedule.whole.unit:
                self._size -= self._size % schedule.whole.unit
        self._by_itself = whole is not None and not self._size % schedule.whole.unit
