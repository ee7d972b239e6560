"""Whether there is still somebody to wait for: looked at while no answer comes, so that no wait is for ever."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from dataflow.executors.ray_serve.cluster import applications

LOOK_SECONDS = 3.0
"""Seconds without an answer after which it is looked, and then again and again."""

_UNREACHABLE_SECONDS = 30.0  # a cluster's head, or Serve's controller, may be away for a while, and come back


class Watch:
    """Looks after one deployment.

    Parameters
    ----------
    application, deployment : str
        Which.
    patience : float
        Seconds for which it may have no replica that runs: one that died is replaced in less.
    """

    def __init__(self, application: str, deployment: str, patience: float) -> None:
        self._application = application
        self._deployment = deployment
        self._patience = patience
        self._since: float | None = None  # when it was found without replicas, or out of reach, first
        self._looking: asyncio.Future[int | str] | None = None

    async def problem(self) -> str | None:
        """Return why nothing is to be waited for any more; None where it is not so."""
        if self._looking is None or self._looking.done():
            self._looking = _aside(self._look)
        try:
            found = await asyncio.wait_for(asyncio.shield(self._looking), LOOK_SECONDS)
        except Exception as error:
            return self._after(_UNREACHABLE_SECONDS, f"Ray cannot be reached ({type(error).__name__}: {error})")
        if isinstance(found, str):
            return found
        if found:
            self._since = None
            return None
        return self._after(self._patience, f"no replica of deployment {self._deployment!r} has come back")

    def _after(self, seconds: float, problem: str) -> str | None:
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        return f"{problem} for {seconds:g} s" if now - self._since >= seconds else None

    def _look(self) -> int | str:
        """Return how many replicas run, or why there will be none."""
        import ray

        if not ray.is_initialized():
            return "this process is not connected to Ray any more"
        found = applications(LOOK_SECONDS).get(self._application)
        if found is None:
            return f"the application {self._application!r} has been deleted"
        deployment = found.deployments.get(self._deployment)
        states: dict[Any, int] = {} if deployment is None else deployment.replica_states
        return states.get("RUNNING", 0)


class Guard:
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


def _aside(look: Any) -> asyncio.Future[int | str]:
    """Call something in a thread of its own, which nobody waits for when the program ends: it may hang."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int | str] = loop.create_future()

    def done(result: int | str | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        elif result is not None:
            future.set_result(result)

    def run() -> None:
        result: int | str | None = None
        failed: BaseException | None = None
        try:
            result = look()
        except BaseException as error:
            failed = error
        try:
            loop.call_soon_threadsafe(done, result, failed)
        except RuntimeError:  # the loop has been closed
            pass

    threading.Thread(target=run, name="dataflow-ray-watch", daemon=True).start()
    return future
