"""The event loop in which calls are made."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Loop:
    """The event loop in which Ray Serve finds replicas for a handle, in a thread that all handles of a process share.

    A call that is made in it stays in it: from any other loop, Ray Serve would hand it to this one and back, twice.
    There is one whatever Ray's switches say: with those for throughput it would be the loop in which a handle is used
    first, and what Ray Serve begins in that outlives the session.

    Parameters
    ----------
    handle : DeploymentHandle
        Ray's handle.
    """

    def __init__(self, handle: Any) -> None:
        if not handle.is_initialized:
            handle._init(_run_router_in_separate_loop=True)
        self.loop: asyncio.AbstractEventLoop = handle._router._asyncio_loop

    def do(self, work: Coroutine[Any, Any, T], seconds: float | None = None) -> T:
        """Return what a coroutine returns that is run in the loop, within so many seconds; in another thread."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result(seconds)
        except BaseException:
            future.cancel()
            raise


def use_running_loop(handle: Any) -> None:
    """Let a handle find replicas in the event loop that runs here: a call from it then stays in it."""
    if not handle.is_initialized:
        handle._init(_run_router_in_separate_loop=False)
