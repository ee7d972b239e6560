"""Memory that a caller shares with whoever it calls on its machine: what large messages travel in.

A caller lends a segment with its call. The message is in it, and the answer is put in its place, so one who is called
never owns memory that somebody else must read. Segments are used again: what costs time in large messages is not
copying them but memory that has not been touched before, two to four microseconds for each 4 KiB of it.

A segment has no name in the file system: it is a file of its caller's that only /proc leads to, and so is gone when the
last process that has it open is. Whoever cannot open it, for it is on another machine or may not, says so without
having done anything.
"""

from __future__ import annotations

import contextlib
import dataclasses
import mmap
import os
import threading
import uuid
import weakref
from collections import OrderedDict, deque
from typing import Any

import numpy as np

from dataflow.executors.ray_serve.payload import Message, size_of

ELSEWHERE: Message = (b"",)
"""The answer of who cannot open a segment, and has done nothing."""

_LEAST = 1024 * 1024  # bytes of the smallest segment; each larger one is twice as large as the one before
_MOST = 64 * 1024 * 1024  # bytes of the largest message that travels so
_LENT = 256 * 1024 * 1024  # bytes that may be lent at once
_KEPT = 64 * 1024 * 1024  # bytes that are kept to be used again
_MAPPED = 256 * 1024 * 1024  # bytes of other processes' segments that are kept open


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a message is, as it is told to another process.

    Parameters
    ----------
    process : int
        Whose segment it is.
    file : int
        Its number there.
    token : str
        Its name, which no other has.
    capacity : int
        How many bytes it has.
    sizes : tuple of int
        How many bytes each of the message's parts has; they follow one another.
    """

    process: int
    file: int
    token: str
    capacity: int
    sizes: tuple[int, ...]


class Segment:
    """Memory that is lent to one call at a time.

    Parameters
    ----------
    capacity : int
        How many bytes it has.

    Attributes
    ----------
    placed : tuple
        The message that says where the one is that was put into it last.
    spoilt : bool
        Whether a call had it of which nobody knows whether it has ended.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.placed: Message = ()
        self.spoilt = False
        self._token = f"dataflow-{uuid.uuid4().hex}"
        self._file = os.memfd_create(self._token)
        os.ftruncate(self._file, capacity)
        self.memory = mmap.mmap(self._file, capacity)

    def put(self, message: Message) -> Message:
        """Copy a message into it, and return one that says where it is."""
        sizes = _write(self.memory, message)
        self.placed = (Place(os.getpid(), self._file, self._token, self.capacity, sizes),)
        return self.placed

    def get(self, answer: Message) -> Message:
        """Return an answer, whose parts may be in it: to be read before it is used again."""
        return _parts(memoryview(self.memory), answer[0].sizes) if isinstance(answer[0], Place) else answer

    def close(self) -> None:
        """Give its memory back: now, if nobody reads it, and otherwise when nobody has it open any more."""
        if not self.spoilt:
            self.memory.madvise(mmap.MADV_REMOVE)
        os.close(self._file)
        with contextlib.suppress(BufferError):  # an error's traceback holds a part of it, and lets go of the rest
            self.memory.close()


class Segments:
    """The segments of one caller.

    Examples
    --------
    >>> segments = Segments()
    >>> segment = segments.lend(1_500_000)
    >>> segment.capacity
    2097152
    >>> message = segment.put((b"head", b"buffer"))
    >>> [bytes(part) for part in Visit(message).message]
    [b'head', b'buffer']
    >>> segments.give_back(segment)
    >>> segments.close()
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Segment] = []  # the last one used is the last
        self._let_go: deque[Segment] = deque()  # by the garbage collector, which may come while this is locked
        self._lent = 0
        self._closed = not hasattr(os, "memfd_create")  # elsewhere than on Linux

    def lend(self, size: int) -> Segment | None:
        """Return a segment for a message of so many bytes; None where it is to travel otherwise."""
        if size > _MOST:
            return None
        capacity = _LEAST
        while capacity < size:
            capacity *= 2
        self._take_back()
        with self._lock:
            if self._closed or self._lent + capacity > _LENT:
                return None
            found = next((each for each in reversed(self._idle) if each.capacity == capacity), None)
            if found is not None:
                self._idle.remove(found)
            else:
                try:
                    found = Segment(capacity)
                except OSError:  # no more files, or not allowed
                    return None
            self._lent += capacity
            return found

    def give_back(self, segment: Segment) -> None:
        """Keep a segment for another call, unless somebody may still write to it."""
        with self._lock:
            self._lent -= segment.capacity
            out: list[Segment] = []
            if segment.spoilt or self._closed:
                out.append(segment)
            else:
                self._idle.append(segment)
            while sum(each.capacity for each in self._idle) > _KEPT:
                out.append(self._idle.pop(0))
        for each in out:
            each.close()

    def keep(self, segment: Segment, message: Message) -> Message | None:
        """Return a message that was got out of a segment as it is there, writable, and give it back when that is gone.

        None where so much is kept already that it is to be copied.
        """
        if self._lent > _LENT // 2:
            return None
        sizes = tuple(len(part) for part in message)
        whole = np.frombuffer(segment.memory, dtype=np.uint8)
        weakref.finalize(whole, self._let_go.append, segment).atexit = False
        return _parts(whole, sizes)

    def _take_back(self) -> None:
        while self._let_go:
            self.give_back(self._let_go.popleft())

    def close(self) -> None:
        """Lend no more."""
        self._take_back()
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for each in idle:
            each.close()


class Visit:
    """A message as it has arrived, which may be in a segment of the caller's.

    Parameters
    ----------
    message : tuple
        As it has arrived.

    Attributes
    ----------
    message : tuple, optional
        Its parts; None where the segment cannot be opened here.
    """

    def __init__(self, message: Message) -> None:
        self._place = message[0] if isinstance(message[0], Place) else None
        self._memory: mmap.mmap | None = None
        self.message: Message | None = message
        if self._place is not None:
            self._memory = _opened.get(self._place)
            self.message = None if self._memory is None else _parts(memoryview(self._memory), self._place.sizes)

    def answered(self, answer: Message) -> Message:
        """Return an answer as it is to travel: in the segment, where there is one and it is large enough."""
        if self._place is None or self._memory is None or size_of(answer) > self._place.capacity:
            return answer
        return (dataclasses.replace(self._place, sizes=_write(self._memory, answer)),)


class _Opened:
    """The segments of other processes that are open in this one: those that were used last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mapped: OrderedDict[str, mmap.mmap] = OrderedDict()

    def get(self, place: Place) -> mmap.mmap | None:
        """Return a segment's memory; None where it cannot be opened."""
        with self._lock:
            memory = self._mapped.pop(place.token, None)
            memory = _open(place) if memory is None else memory
            if memory is not None:
                self._mapped[place.token] = memory
            while sum(map(len, self._mapped.values())) > _MAPPED:
                self._mapped.popitem(last=False)
        return memory


_opened = _Opened()


def _open(place: Place) -> mmap.mmap | None:
    """Open a segment, if it is the one that is meant: in another machine, or container, the numbers are others'."""
    path, name = f"/proc/{place.process}/fd/{place.file}", f"/memfd:{place.token} (deleted)"
    try:
        if os.readlink(path) != name:
            return None
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return mmap.mmap(file, place.capacity) if os.readlink(f"/proc/self/fd/{file}") == name else None
    except (OSError, ValueError):
        return None
    finally:
        os.close(file)


def _write(memory: mmap.mmap, message: Message) -> tuple[int, ...]:
    """Write the parts of a message one after another, and return their sizes."""
    sizes = tuple(len(part) for part in message)
    start = 0
    for part, size in zip(message, sizes, strict=True):
        memory[start : start + size] = part
        start += size
    return sizes


def _parts(whole: Any, sizes: tuple[int, ...]) -> Message:
    """Return the parts that were written."""
    parts, start = [], 0
    for size in sizes:
        parts.append(whole[start : start + size])
        start += size
    return tuple(parts)
