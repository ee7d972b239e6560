"""Running the items of one request on a session: what comes of each, in its place."""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

from dataflow.errors import SessionClosed
from dataflow.executors.faults import Failure
from dataflow.executors.session import Session

_NOTED = re.compile(r"dataflow: (?:stage|op) ('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")(?= \(| failed)")


def answering(session: Session) -> Callable[[list[Any], float | None], Awaitable[list[Any]]]:
    """Return what runs items on a session, each for itself: they share batches with whatever else comes.

    Parameters
    ----------
    session : Session
        The session.

    Examples
    --------
    >>> import asyncio
    >>> with df.stage(int).open() as session:
    ...     one, other = asyncio.run(answering(session)(["1", "x"], None))
    >>> one, other.stage, other.error
    (1, 'int', ValueError("invalid literal for int() with base 10: 'x'"))
    """

    async def run(items: list[Any], deadline: float | None) -> list[Any]:
        if len(items) == 1:
            outcomes = [await _outcome(session, items[0], deadline)]  # without a task of its own
        else:
            runs = (session.arun(item, deadline) for item in items)
            outcomes = await asyncio.gather(*runs, return_exceptions=True)
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, asyncio.CancelledError):  # the session has ended without it
                outcome = SessionClosed("the session was cancelled before this item was done")
            if isinstance(outcome, Exception):
                outcomes[index] = Failure(index, items[index], stage_noted(outcome) or "?", outcome)
        return outcomes

    return run


async def _outcome(session: Session, item: Any, deadline: float | None) -> Any:
    """Return an item's result, or its error."""
    try:
        return await session.arun(item, deadline)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():  # it is who asks that is cancelled, and not the item alone
            raise
        return error
    except Exception as error:
        return error


def opened(session: Session) -> Callable[[], Awaitable[bool]]:
    """Return what says whether a session takes items."""

    async def ready() -> bool:
        return not session.closed

    return ready


def stage_noted(error: Exception) -> str | None:
    """Return the name of the stage that an error's last note blames; see `Program.note`."""
    for note in reversed(getattr(error, "__notes__", ())):
        if isinstance(note, str) and (found := _NOTED.match(note)):
            name: str = ast.literal_eval(found[1])
            return name
    return None
