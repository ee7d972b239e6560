"""Calls to a deployment: made from threads, waited for, sent again where a replica has died."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import Any

from dataflow.errors import ReplicaLost
from dataflow.executors.aside import aside, go_on
from dataflow.executors.ray_serve.lowering import BY_VALUE
from dataflow.executors.ray_serve.payload import Message, size_of
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
    """

    def __init__(
        self, handle: Any, method: str, name: str, loop: asyncio.AbstractEventLoop, watch: Watch | None = None
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
        future = asyncio.run_coroutine_threadsafe(self.answer(message, *options, pure=pure), self._loop)
        self._under_way.add(future)
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

    async def answer(self, message: Message, *options: Any, pure: bool) -> Any:
        """Return the answer to a message, in the loop."""
        last = ""
        for attempt in range(ATTEMPTS if pure else 1):
            if attempt:
                await asyncio.sleep(_PAUSE * 2**attempt)
            try:
                return await self._send(message, options)
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

    async def _send(self, message: Message, options: tuple[Any, ...]) -> Any:
        if self._by_value is None:
            method = self._handle.options(method_name=self._method)
            self._by_value = method.options(_by_reference=False)
            self._by_reference = method.options(_by_reference=True)
        send = self._by_value if size_of(message) <= BY_VALUE else self._by_reference
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
        if self._watch is None:
            return await response
        answer = asyncio.ensure_future(_result(response))
        answer.add_done_callback(_retrieved)
        try:
            while True:
                done, _ = await asyncio.wait({answer}, timeout=LOOK_SECONDS)
                if done:
                    return answer.result()
                problem = await self._watch.problem()
                if problem is not None and not answer.done():
                    raise ReplicaLost(f"{self.name} does not answer: {problem}")
        finally:
            answer.cancel()
            del answer  # no cycle through the traceback of this frame

    def close(self) -> None:
        """Make no more calls, and give up those that are under way."""
        self._closed = True
        for future in list(self._under_way):
            future.cancel()


def _being_cancelled() -> bool:
    """Return whether it is the call itself that is cancelled, and not what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _result(response: Any) -> Any:
    try:
        return await response
    finally:
        del response  # no cycle through the traceback of this frame


def _retrieved(task: asyncio.Task[Any]) -> None:
    """Take a call's error if it has one, for there may be nobody left who does."""
    if not task.cancelled():
        task.exception()


def died(error: BaseException) -> bool:
    """Return whether an error says that a replica has died, or cannot be reached: what was asked may be asked again."""
    from ray.exceptions import RayTaskError

    # the replicas' own methods hand errors over as answers: what they raise is a mistake, and anything else Ray's
    return not isinstance(error, (RayTaskError, AssertionError, TypeError, AttributeError))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")
