"""Calls to a deployment: made from threads, waited for, sent again where a replica has died."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import Any

from dataflow.errors import ReplicaLost
from dataflow.executors.aside import aside, go_on
from dataflow.executors.ray_serve.lowering import BY_VALUE
from dataflow.executors.ray_serve.payload import Message, load, size_of
from dataflow.executors.ray_serve.segments import ELSEWHERE, Segment, Segments
from dataflow.executors.ray_serve.watch import LOOK_SECONDS, Watch

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
        self._last = 0  # how many bytes the last answer had

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
        size = max(size_of(message), self._last)
        segment = self._segments.lend(size) if size > BY_VALUE else None
        kept: Message | None = None
        try:
            if segment is not None:
                segment.put(message)
                segment.spoilt = True  # until the call is known to have ended
            answer = self._waited(message, options, segment, pure=pure)
            parts = answer if segment is None else segment.get(answer)
            self._last = size_of(parts)
            if self._keeps and segment is not None and parts is not answer:
                kept = self._segments.keep(segment, parts)
            return load(parts) if kept is None else load(kept, copied=False)
        finally:
            if segment is not None and kept is None:
                self._segments.give_back(segment)

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
            response.cancel()
            raise
        except ReplicaLost:
            response.cancel()
            raise
        finally:
            del response  # no cycle through the traceback of this frame

    async def _awaited(self, response: Any) -> Any:
        """Return what a response comes to, as long as there is somebody to wait for."""
        task = asyncio.current_task()
        guard = None if self._watch is None or task is None else _Guard(self._watch, task)
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


class _Guard:
    """Cancels a task that waits for an answer when there is nobody left to give it.

    Parameters
    ----------
    watch : Watch
        Looks whether there is.
    task : asyncio.Task
        Who waits.

    Attributes
    ----------
    problem : str, optional
        Why it has been cancelled.
    """

    def __init__(self, watch: Watch, task: asyncio.Task[Any]) -> None:
        self.problem: str | None = None
        self._watch = watch
        self._task = task
        self._looking: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._begin)

    def forgive(self) -> int:
        """Take back that the task has been cancelled, and return how often others have cancelled it."""
        return self._task.uncancel()

    def end(self) -> None:
        """Look no more."""
        self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()

    def _begin(self) -> None:
        self._looking = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        while (problem := await self._watch.problem()) is None:
            await asyncio.sleep(LOOK_SECONDS)
        self.problem = problem
        self._task.cancel()


def _being_cancelled() -> bool:
    """Return whether it is the call itself that is cancelled, and not what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def died(error: BaseException) -> bool:
    """Return whether an error says that a replica has died, or cannot be reached: what was asked may be asked again."""
    from ray.exceptions import RayTaskError

    # the replicas' own methods hand errors over as answers: what they raise is a mistake, and anything else Ray's
    return not isinstance(error, (RayTaskError, AssertionError, TypeError, AttributeError))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")
