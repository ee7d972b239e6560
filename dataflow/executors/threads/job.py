"""A batch job: outcomes handed to whoever iterates, in order or as they come."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dataflow.errors import SessionClosed
from dataflow.executors.aside import go_on, own_context
from dataflow.executors.faults import Failure, Fault, Faults
from dataflow.executors.results import Bursts, OnError
from dataflow.executors.schedule import Ticket
from dataflow.executors.threads.source import Source, call_in
from dataflow.executors.threads.worker import waiting

if TYPE_CHECKING:
    from dataflow.executors.threads.session import ThreadsSession

_PENDING: Any = object()


class Chunk(Ticket):
    """Items of a job that were read together.

    Parameters
    ----------
    job : Job
        Whose they are.
    start : int
        The first one's number in the job.
    items : list
        The items.
    """

    __slots__ = ("faults", "job", "left", "results", "start", "taken")

    def __init__(self, job: Job, start: int, items: list[Any]) -> None:
        super().__init__(items, patient=True, context=job.context)
        self.job = job
        self.start = start
        self.left = len(items)
        self.taken = 0
        self.faults: Faults = {}
        self.results: list[Any] = []

    def succeeded(self, positions: Sequence[int], values: list[Any]) -> None:
        if len(positions) == len(self.items):
            self.results = values
        else:
            self._fill(zip(positions, values, strict=True))
        self._done(positions)

    def failed(self, faults: Mapping[int, Fault]) -> None:
        self.faults.update(faults)
        self._fill((position, None) for position in faults)
        self._done(sorted(faults))

    def _fill(self, rows: Iterable[tuple[int, Any]]) -> None:
        self.results = self.results or [_PENDING] * len(self.items)
        for position, value in rows:
            self.results[position] = value

    def _done(self, positions: Sequence[int]) -> None:
        self.left -= len(positions)
        self.job.done(self, positions)


Segment = tuple[Chunk, Sequence[int]]
"""Some items of a chunk, by position."""


class Job:
    """One run over many items.

    Parameters
    ----------
    session : ThreadsSession
        Whose pool and schedule do the work.
    ordered : bool
        Whether outcomes come in the order of the items.
    on_error : str
        What a failed item does.
    limit : int
        The most items that are read and whose outcomes have not been taken.
    """

    def __init__(self, session: ThreadsSession, *, ordered: bool, on_error: OnError, limit: int) -> None:
        self._session = session
        self._lock = session.pool.lock
        self._ordered = ordered
        self._on_error = on_error
        self.context = own_context()
        self.source = Source(session, self.accept, limit)
        # by their starts, in order, while there are outcomes to be taken or to come
        self._chunks: dict[int, Chunk] = {}
        self._fresh: deque[Segment] = deque()  # where order does not matter: outcomes as they come
        self._error: BaseException | None = None
        self._closed = False
        self._ready = threading.Condition(self._lock)
        self._wake: Callable[[], None] | None = None  # what wakes a consumer in asynchronous code

    # -- the consumer's side -------------------------------------------------------------------------------------------

    def bursts(self, items: Iterable[Any]) -> Bursts:
        """Yield the outcomes of all items."""
        try:
            self._open()
            self.source.read(items, self.context)
            del items
            while True:
                go_on()
                self._session.check_process()
                with waiting(), self._lock:
                    while (segments := self._poll()) is None:
                        self._ready.wait()
                if not segments:
                    return
                for segment in segments:
                    yield from self._shown(segment)
                self.source.taken(sum(len(positions) for _, positions in segments))
                del segments, segment
        finally:
            self.close()

    async def aoutcomes(self, items: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
        """Yield the outcomes of all items, in asynchronous code."""
        ready = asyncio.Event()
        self._wake = functools.partial(call_in, asyncio.get_running_loop(), ready.set)
        feeding: asyncio.Task[None] | None = None
        try:
            self._open()
            if isinstance(items, AsyncIterable):
                feeding = asyncio.create_task(self.source.aread(items))
            else:
                self.source.read(items, self.context)
            del items
            while True:
                with self._lock:
                    ready.clear()
                    segments = self._poll()
                if segments is None:
                    await ready.wait()
                    continue
                if not segments:
                    return
                for segment in segments:
                    for burst in self._shown(segment):
                        for outcome in burst:
                            yield outcome
                self.source.taken(sum(len(positions) for _, positions in segments))
                del segments, segment
        finally:
            if feeding is not None:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
            self.close()

    def close(self) -> None:
        """End the job, in the consumer's thread."""
        pool = self._session.pool
        if pool.foreign or pool.entered(self.close):
            return
        with self._lock:
            self.stop()
            self._session.jobs.discard(self)
            calls = pool.changed(self._session)
        for call in calls:
            call()
        self.source.join()

    def _open(self) -> None:
        self._session.check_process()  # first: in a process that was forked, the lock may be held for ever
        with self._lock:
            self._session.check_open()
            self._session.jobs.add(self)

    def _poll(self) -> list[Segment] | None:
        """Return outcomes that have come, none at the end, or None where there will be some; under the lock."""
        if not self._closed:
            segments = self._collect()
            ended = self.source.ended and not self._chunks and not self._fresh
            if segments or not ended:
                return segments or None
        error = self._error or self.source.error
        self._error = self.source.error = None
        if error is None and not self._closed:
            return []
        try:
            raise error or SessionClosed("the session was closed while this job was under way: open another")
        finally:
            del error  # no cycle through the traceback of this frame

    def _collect(self) -> list[Segment]:
        """Take out outcomes that have come: a few at once, for none counts as taken before the last of them is."""
        room = self.source.most
        segments: list[Segment] = []
        while self._fresh and room > 0:
            segments.append(self._fresh.popleft())
            room -= len(segments[-1][1])
        while self._ordered and self._chunks and room > 0:
            chunk = next(iter(self._chunks.values()))
            start = stop = chunk.taken
            if not chunk.left:
                stop = len(chunk.items)
            elif chunk.results:
                while chunk.results[stop] is not _PENDING:
                    stop += 1
            if stop > start:
                segments.append((chunk, range(start, stop)))
                chunk.taken = stop
                room -= stop - start
            if stop < len(chunk.items):
                break
            del self._chunks[chunk.start]
        return segments

    def _shown(self, segment: Segment) -> Bursts:
        """Yield outcomes as the consumer is to see them."""
        chunk, positions = segment
        results = chunk.results
        if not chunk.faults:
            yield results if len(positions) == len(results) else [results[position] for position in positions]
            return
        burst: list[Any] = []
        for position in positions:
            fault = chunk.faults.get(position)
            if fault is None:
                burst.append(results[position])
                continue
            index = chunk.start + position
            stage = self._session.note(fault, index, chunk.items[position])
            if self._on_error == "raise":
                chunk.faults.clear()
                yield burst
                raise fault.release()
            if self._on_error == "record":
                burst.append(Failure(index, chunk.items[position], stage, fault.error))
        yield burst

    # -- the schedule's side, under the lock ---------------------------------------------------------------------------

    def accept(self, start: int, items: list[Any]) -> None:
        """Take in items that have been read, the first of which has this number."""
        chunk = self._chunks[start] = Chunk(self, start, items)
        self._session.schedule.accept(chunk)

    def done(self, chunk: Chunk, positions: Sequence[int]) -> None:
        """Take note that items have had their outcome."""
        if not self._ordered:
            self._fresh.append((chunk, positions))
            if not chunk.left:
                del self._chunks[chunk.start]
            self._signal()
        elif next(iter(self._chunks)) == chunk.start:
            self._signal()

    def changed(self) -> None:
        """Take note that something has changed."""
        self.source.changed()
        if self.source.ended:
            self._signal()

    def interrupt(self, error: BaseException | None) -> None:
        """End with what a stage has raised to end everything; None where it was none of this job's items."""
        self._error = error
        self.stop()

    def stop(self) -> None:
        """End now: read no more, and forget what is in flight."""
        self._closed = True
        for chunk in list(self._chunks.values()):
            self._session.schedule.cancel(chunk)
        self._chunks.clear()
        self._fresh.clear()
        self.source.stop()
        self._signal()

    def _signal(self) -> None:
        self._ready.notify()
        if self._wake is not None:
            self._wake()
