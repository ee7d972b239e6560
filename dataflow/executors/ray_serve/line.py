"""Calls to a deployment: made from threads, waited for, sent again where a replica has died."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from dataflow.errors import ReplicaLost
from dataflow.executors.aside import aside, go_on
from dataflow.executors.ray_serve.lowering import BY_VALUE
from dataflow.executors.ray_serve.payload import Message, load, size_of
from dataflow.executors.ray_serve.segments import ELSEWHERE, Segment, Segments
from dataflow.executors.ray_serve.watch import Guard, Watch
from dataflow.executors.threads.source import call_in

ATTEMPTS = 4
"""How often a call is made, where replicas die of it, or with it."""

_LOOK_AGAIN = 0.05  # seconds after which who waits for an answer looks whether it is still wanted
_PAUSE = 0.1  # seconds before a call is made again, the first time


class GivenUp(ReplicaLost):
    """A call that nobody waits for any more."""


class Line:
    """Calls of one method of a deployment.

    Parameters
    ----------
    handle : DeploymentHandle
        Ray's handle.
    method : str
        The method.
    name : str
        What to call the deployment in errors.
    loop : asyncio.AbstractEventLoop
        In which calls are made: with some of Ray's settings a handle may be used in one event loop only.
    watch : Watch, optional
        Looks whether there is somebody to wait for, while an answer is outstanding.
    keeps : bool
        Whether large answers stay in the memory in which they came: they are not kept for long.

    Attributes
    ----------
    last : int
        How many bytes the last answer had.
    """

    def __init__(
        self,
        handle: Any,
        method: str,
        name: str,
        loop: asyncio.AbstractEventLoop,
        watch: Watch | None = None,
        *,
        keeps: bool = False,
    ) -> None:
        self.name = name
        self._watch = watch
        self._handle = handle
        self._method = method
        self._loop = loop
        self._by_value: Any = None
        self._by_reference: Any = None
        self._under_way: set[concurrent.futures.Future[Any]] = set()
        self._closed = False
        self._segments = Segments()
        self._keeps = keeps
        self.last = 0

    def ask(self, message: Message, *options: Any, pure: bool) -> Any:
        """Return the answer to a message; in a thread that is not the loop's.

        Raises
        ------
        ReplicaLost
            Where a replica has died of it, and it may not be sent again, or has been often enough.
        """
        go_on()
        if self._closed:
            raise GivenUp(f"no calls to {self.name} are made any more: the session has ended")
        size = max(size_of(message), self.last)
        segment = self._segments.lend(size) if size > BY_VALUE else None
        kept: Message | None = None
        try:
            if segment is not None:
                segment.put(message)
                segment.spoilt = True  # until the call is known to have ended
            answer = self._waited(message, options, segment, pure=pure)
            parts = answer if segment is None else segment.get(answer)
            self.last = size_of(parts)
            if self._keeps and segment is not None and parts is not answer:
                kept = self._segments.keep(segment, parts)
            return load(parts) if kept is None else load(kept, copied=False)
        finally:
            if segment is not None and kept is None:
                self._segments.give_back(segment)

    def begin(
        self, message: Message, *options: Any, pure: bool, done: Callable[[Any, BaseException | None], None]
    ) -> Callable[[], None]:
        """Begin to ask, from any thread, and return what gives it up; in the loop `done` is given what `ask` returns.

        Parameters
        ----------
        message, *options, pure
            As `ask` takes them.
        done : callable
            Takes the answer and None, or None and the error.
        """
        begun = _Begun(self._loop, self._loaded(message, options, pure=pure), done)
        if asyncio._get_running_loop() is self._loop:
            begun.start()
        else:
            self._loop.call_soon_threadsafe(begun.start)
        return begun.give_up

    async def _loaded(self, message: Message, options: tuple[Any, ...], *, pure: bool) -> Any:
        parts = await self.answer(message, *options, pure=pure)
        self.last = size_of(parts)
        return load(parts)

    def _waited(self, message: Message, options: tuple[Any, ...], segment: Segment | None, *, pure: bool) -> Message:
        """Return the message that answers another, once it is there."""
        asked = self.answer(message, *options, pure=pure, segment=segment)
        future: concurrent.futures.Future[Message] = asyncio.run_coroutine_threadsafe(asked, self._loop)
        self._under_way.add(future)
        if self._closed:  # since it was looked at: who closes gives up what is under way, and this may not have been
            future.cancel()
        try:
            while True:
                try:
                    return future.result(_LOOK_AGAIN if aside() else None)
                except concurrent.futures.TimeoutError:
                    if future.done():
                        raise
                    go_on()
                except concurrent.futures.CancelledError:
                    break  # to raise it here would hold the one that was caught, and with it the callers' frames
        except BaseException:
            future.cancel()
            raise
        finally:
            self._under_way.discard(future)
            del future
        raise GivenUp(f"calls to {self.name} have been given up: the session ends")

    async def answer(self, message: Message, *options: Any, pure: bool, segment: Segment | None = None) -> Any:
        """Return the answer to a message, in the loop; the first time it travels in the segment that it is in."""
        last = ""
        for attempt in range(ATTEMPTS if pure else 1):
            if attempt:
                await asyncio.sleep(_PAUSE * 2**attempt)
            try:
                if segment is not None and not attempt:
                    return await self._send_in(segment, message, options)
                return await self._send(message, options, by_value=size_of(message) <= BY_VALUE)
            except ReplicaLost:
                raise
            except Exception as error:
                if not died(error):
                    raise
                last = f"{type(error).__name__}: {_first_line(error)}"
        again = f"it was sent {ATTEMPTS} times" if pure else "what is not pure is not sent again"
        raise ReplicaLost(
            f"a replica of {self.name} died, or cannot be reached, while it had this work; {again} ({last})"
        )

    async def _send_in(self, segment: Segment, message: Message, options: tuple[Any, ...]) -> Any:
        """Send a message in a segment; otherwise, from now on, where it cannot be opened."""
        answer = await self._send(segment.placed, options, by_value=True)
        segment.spoilt = False
        if answer != ELSEWHERE:
            return answer
        self._segments.close()
        return await self._send(message, options, by_value=size_of(message) <= BY_VALUE)

    async def _send(self, message: Message, options: tuple[Any, ...], *, by_value: bool) -> Any:
        if self._by_value is None:
            method = self._handle.options(method_name=self._method)
            self._by_value = method.options(_by_reference=False)
            self._by_reference = method.options(_by_reference=True)
        send = self._by_value if by_value else self._by_reference
        response = send.remote(options, *message)
        try:
            return await self._awaited(response)
        except asyncio.CancelledError:
            if not _being_cancelled():
                raise ConnectionError("the call was cancelled where it ran") from None
            _cancel(response)
            raise
        except ReplicaLost:
            _cancel(response)
            raise
        finally:
            del response  # no cycle through the traceback of this frame

    async def _awaited(self, response: Any) -> Any:
        """Return what a response comes to, as long as there is somebody to wait for."""
        task = asyncio.current_task()
        guard = None if self._watch is None or task is None else Guard(self._watch, task)
        try:
            return await response
        except asyncio.CancelledError:
            if guard is None or guard.problem is None or guard.forgive():
                raise
            raise ReplicaLost(f"{self.name} does not answer: {guard.problem}") from None
        finally:
            if guard is not None:
                guard.end()
            del response, task, guard  # no cycle through the traceback of this frame

    def close(self) -> None:
        """Make no more calls, and give up those that are under way."""
        self._closed = True
        self._segments.close()
        for future in list(self._under_way):
            future.cancel()


class _Begun:
    """A call that nobody waits for: what it comes to is handed on."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        call: Coroutine[Any, Any, Any],
        done: Callable[[Any, BaseException | None], None],
    ) -> None:
        self._loop = loop
        self._call = call
        self._done = done
        self._task: asyncio.Task[Any] | None = None

    def start(self) -> None:
        """Start, in the loop."""
        self._task = self._loop.create_task(self._call)
        self._task.add_done_callback(self._ended)

    def give_up(self) -> None:
        """Hand nothing on any more, and give the call up; from any thread."""
        call_in(self._loop, self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._task = None
        if not task.cancelled():
            error = task.exception()
            self._done(None if error else task.result(), error)
            del error  # no cycle through the traceback of this frame


def _being_cancelled() -> bool:
    """Return whether it is the call itself that is cancelled, and not what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _cancel(response: Any) -> None:
    """Cancel a call, also where it has just been assigned to a replica, of which the response does not know yet."""
    response.cancel()
    assigned = getattr(response, "_replica_result_future", None)
    if isinstance(assigned, asyncio.Future) and assigned.done():
        with contextlib.suppress(Exception, asyncio.CancelledError):
            assigned.result().cancel()


def died(error: BaseException) -> bool:
    """Return whether an error says that a replica has died, or cannot be reached: what was asked may be asked again."""
    from ray.exceptions import RayTaskError

    # the replicas' own methods hand errors over as answers: what they raise is a mistake, and anything else Ray's
    return not isinstance(error, (RayTaskError, AssertionError, TypeError, AttributeError))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")
