"""A request, read under the limits: its body, how many items it has, and its deadline."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterator
from typing import Any

from starlette.requests import ClientDisconnect, Request

from dataflow.errors import DeadlineExceeded
from dataflow.http.encoding import decoded
from dataflow.http.limits import Limits
from dataflow.http.problems import Problem

DEADLINE = "Dataflow-Deadline"
"""The header that says within how many seconds from its arrival a request is to be answered."""

_LOOK_SECONDS = 0.02  # what takes less than this is done before anybody asks whether its client is still there


class Arrival:
    """A request that has just arrived.

    Parameters
    ----------
    request : Request
        The request.

    Raises
    ------
    Problem
        Where its deadline is none.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._clock = asyncio.get_running_loop().time
        seconds = _deadline(request)
        self._seconds = seconds
        self._until = math.inf if seconds is None else self._clock() + seconds

    async def body(self, limits: Limits) -> Any:
        """Return what the body says.

        Raises
        ------
        Problem
            Where it is not JSON, or more of it than is allowed, or too late.
        """
        kind = self._request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
            # Nor a body without a type: a page of another site could make a browser send one unasked.
            message = f"the body must be JSON and say so: Content-Type: application/json, not {kind[:100] or 'none'}"
            raise Problem(415, "UnsupportedMediaType", message, unread=True)
        try:
            async with asyncio.timeout(limits.body_timeout):
                body = await _whole(self._request, limits.max_body)
        except TimeoutError:
            message = f"the body did not come within {limits.body_timeout:g} s"
            raise Problem(408, "RequestTimeout", message, unread=True) from None
        except ClientDisconnect:
            raise left() from None
        return decoded(body, limits.max_depth)

    def left_of_deadline(self) -> float | None:
        """Return the seconds that are left, if there is a deadline.

        Raises
        ------
        Problem
            Where none are.
        """
        if self._seconds is None:
            return None
        seconds = self._until - self._clock()
        if seconds <= 0:
            message = f"the deadline of {self._seconds:g} s had passed when the request had been read"
            raise Problem(504, DeadlineExceeded.__name__, message)
        return seconds

    @contextlib.contextmanager
    def stay(self) -> Iterator[None]:
        """End the block when the client leaves. The body must have been read.

        It is looked for a client only once the block has taken a while: to look costs a task, which is more than many a
        flow does.

        Raises
        ------
        Problem
            Where the client has left.
        """
        here = asyncio.current_task()
        assert here is not None
        watch = _Watch(self._request, here)
        timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, watch.start)
        try:
            yield
        except asyncio.CancelledError:
            if watch.left and here.uncancel() == 0:
                raise left() from None
            raise
        finally:
            timer.cancel()
            watch.stop()


class _Watch:
    """Cancels a task when a client leaves.

    Parameters
    ----------
    request : Request
        Of the client.
    task : asyncio.Task
        What is done for it.
    """

    def __init__(self, request: Request, task: asyncio.Task[Any]) -> None:
        self._request = request
        self._task = task
        self._watching: asyncio.Task[None] | None = None
        self.left = False

    def start(self) -> None:
        """Begin to look."""
        self._watching = asyncio.ensure_future(self._gone())

    def stop(self) -> None:
        """Look no more."""
        if self._watching is not None:
            self._watching.cancel()

    async def _gone(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self.left = True
        self._task.cancel()


def checked_count(count: int, limits: Limits) -> None:
    """Refuse more items than are allowed."""
    if count > limits.max_items:
        raise Problem(422, "TooManyItems", f"{count} items in a request: at most {limits.max_items} are allowed")


def left() -> Problem:
    """Return the problem of a client that has gone, and will not see it."""
    return Problem(499, "ClientDisconnect", "the client has left", unread=True)


async def _whole(request: Request, most: int) -> bytes:
    """Return the body, however it comes, without ever holding much more than what is allowed."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > most:
        raise _large(most)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise _large(most)
        chunks.append(chunk)
    return b"".join(chunks)


def _deadline(request: Request) -> float | None:
    text = request.headers.get(DEADLINE)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise Problem(400, "InvalidHeader", f"{DEADLINE} must be seconds above 0, not {text[:40]!r}", unread=True)
    return seconds


def _large(most: int) -> Problem:
    return Problem(413, "TooLarge", f"the body is larger than the {most} bytes that are allowed", unread=True)
