"""What a request may ask for. All else is refused before anything is run."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator

from dataflow.errors import OptionError
from dataflow.http.problems import Problem

_RETRY_SECONDS = 1


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a request may ask for.

    Parameters
    ----------
    max_body : int
        The most bytes of a request's body.
    max_depth : int
        The deepest that lists and objects may be nested in it.
    max_items : int
        The most items of a request.
    max_requests : int
        The most requests that may be under way at once.
    body_timeout : float
        Seconds within which the body must have come.

    Examples
    --------
    >>> from dataflow.http import Limits
    >>> Limits(max_items=8).max_items
    8
    """

    max_body: int = 16 * 2**20
    max_depth: int = 32
    max_items: int = 1024
    max_requests: int = 256
    body_timeout: float = 30.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            wanted = (int, float) if field.name == "body_timeout" else (int,)
            if isinstance(value, bool) or not isinstance(value, wanted) or not 0 < value < math.inf:
                what = "a number" if float in wanted else "a whole number"
                raise OptionError(f"Limits: {field.name} must be {what} above 0, not {value!r}")


LIMITS = Limits()
"""What holds where nothing else is said."""


class Room:
    """How many requests are under way, of those that may be.

    Parameters
    ----------
    most : int
        So many may be.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place, or refuse the request at once."""
        if self._taken >= self._most:
            raise busy(f"{self._most} requests are under way, which is the most: try again later")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


def busy(message: str) -> Problem:
    """Return the problem of who is to come again."""
    return Problem(503, "Busy", message, headers={"Retry-After": str(_RETRY_SECONDS)}, unread=True)
