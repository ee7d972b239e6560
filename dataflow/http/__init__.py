"""A flow over HTTP: JSON, and the Open Inference Protocol; for a server of one's own, and for any executor's.

Needs FastAPI: ``pip install 'dataflow[http]'``. It knows nothing of executors: it is given what runs items.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from dataflow.http.limits import LIMITS, Limits

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["LIMITS", "Limits", "Ready", "Run", "make_app"]

Run = Callable[[list[Any], float | None], Awaitable[list[Any]]]
"""Runs items that came together, within so many seconds, and returns their results: a `Failure` where one failed."""

Ready = Callable[[], Awaitable[bool]]
"""Says whether what runs the items is ready."""


def make_app(
    run: Run, *, name: str = "flow", version: str | None = None, ready: Ready | None = None, limits: Limits = LIMITS
) -> FastAPI:
    """Return an ASGI application that runs the items which it is sent.

    Parameters
    ----------
    run : callable
        Runs them: ``await run(items, deadline)`` is a list with a result for each, or a `Failure` in the place of one.
        See `dataflow.executors.answering` for a session's.
    name : str
        The model's name in the Open Inference Protocol.
    version : str, optional
        Its version there, a plan's digest, say.
    ready : callable, optional
        ``await ready()`` is whether items can be run; always, if not given.
    limits : Limits
        What is refused.

    Raises
    ------
    ImportError
        Where FastAPI is not installed.

    Examples
    --------
    >>> async def run(items, deadline):
    ...     return [abs(item) for item in items]
    >>> sorted({route.path for route in make_app(run).routes})[:3]
    ['/', '/docs', '/docs/oauth2-redirect']
    """
    try:
        from dataflow.http.app import application
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("fastapi", "starlette"):
            raise
        raise ImportError("a flow over HTTP needs FastAPI: pip install 'dataflow[http]'") from error
    return application(run, name=name, version=version, ready=ready, limits=limits)
