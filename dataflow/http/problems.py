"""What goes wrong with a request, as who sent it is told: a status and a text, but never a traceback."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from dataflow.errors import DeadlineExceeded, QueueFull, SessionClosed
from dataflow.failure import Failure

MOST_TEXT = 1000
"""The most characters of an error's text that are told."""

_STATUS: tuple[tuple[type[Exception], int], ...] = ((DeadlineExceeded, 504), (QueueFull, 503), (SessionClosed, 503))
_RETRY: Mapping[int, Mapping[str, str]] = {503: {"Retry-After": "1"}}
_TRACEBACK = "Traceback (most recent call last)"


@dataclasses.dataclass(eq=False)
class Problem(Exception):
    """Why a request, or an item of it, has no result.

    Parameters
    ----------
    status : int
        The status code of HTTP that fits.
    kind : str
        The name of the error's type.
    message : str
        What it says.
    stage : str, optional
        The stage that failed.
    item : int, optional
        The number of the item in its request.
    headers : mapping of str to str
        What else the answer says.
    unread : bool
        Whether some of the request has not been read, so that no other can follow it on its connection.
    error : Exception, optional
        What was raised, for the log.
    """

    status: int
    kind: str
    message: str
    stage: str | None = None
    item: int | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unread: bool = False
    error: Exception | None = None

    def __str__(self) -> str:
        return self.message

    def described(self, number: str) -> dict[str, Any]:
        """Return it as JSON shows it, with the number under which it is logged."""
        shown = {"type": self.kind, "message": self.message, "stage": self.stage, "item": self.item, "id": number}
        return {name: value for name, value in shown.items() if value is not None}

    def sentence(self, number: str) -> str:
        """Return it in one text, with the number under which it is logged."""
        where = [f"item {self.item}"] if self.item is not None else []
        where += [f"stage {self.stage!r}"] if self.stage is not None else []
        return f"{self.kind}: {self.message} ({', '.join([*where, f'error {number}'])})"


def failed(index: int, failure: Failure) -> Problem:
    """Return the problem of an item that failed."""
    error = failure.error
    stage = None if failure.stage == "?" else failure.stage
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    headers = _RETRY.get(status, {})
    return Problem(status, type(error).__name__, told(error), stage, index, headers, error=error)


def told(error: BaseException) -> str:
    """Return what is told of an error's text: no traceback that it may hold, and not too much."""
    try:
        text = str(error)
    except Exception:  # a user's __str__ may raise anything
        return "(its __str__ fails)"
    text = text.partition(_TRACEBACK)[0].rstrip()
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}..."
