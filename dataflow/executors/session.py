"""The session: a flow held ready on an executor. One surface, whichever executor it is."""

from __future__ import annotations

import abc
from collections.abc import AsyncIterable, Iterable
from concurrent.futures import Future
from typing import Any

from dataflow.errors import SessionClosed
from dataflow.executors.results import AsyncResults, OnError, Results
from dataflow.executors.stats import SessionReport
from dataflow.expr import options as checks
from dataflow.plan import Plan


class Session(abc.ABC):
    """A flow held ready to run, until it is closed.

    Use it as a context manager: leaving the block finishes what was accepted; leaving it by an exception cancels it.

    Parameters
    ----------
    plan : Plan
        What it runs, with the digest that it reports.

    Examples
    --------
    >>> import dataflow as df
    >>> with (df.stage(abs) >> str).open("inline") as session:
    ...     session.run(-2), session.submit(-3).result(), list(session.map([-4, -5]))
    ('2', '3', ['4', '5'])
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether it takes no items any more."""
        return self._closed

    @abc.abstractmethod
    def run(self, item: Any, deadline: float | None = None) -> Any:
        """Run one item and return its result.

        Parameters
        ----------
        item : object
            The item.
        deadline : float, optional
            Seconds from now after which it fails with `DeadlineExceeded`.
        """

    @abc.abstractmethod
    def submit(self, item: Any, deadline: float | None = None) -> Future[Any]:
        """Accept one item and return the future of its result."""

    @abc.abstractmethod
    async def arun(self, item: Any, deadline: float | None = None) -> Any:
        """Run one item from asynchronous code and return its result."""

    @abc.abstractmethod
    def map(
        self,
        items: Iterable[Any],
        *,
        ordered: bool = True,
        on_error: OnError = "raise",
        max_in_flight: int | None = None,
        progress: bool | None = None,
    ) -> Results:
        """Run many items, lazily; see `Flow.map`."""

    @abc.abstractmethod
    def amap(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = True,
        on_error: OnError = "raise",
        max_in_flight: int | None = None,
    ) -> AsyncResults:
        """Run many items from asynchronous code, lazily; `items` may be asynchronous too."""

    @abc.abstractmethod
    def stats(self) -> SessionReport:
        """Return what has been done so far, and the digest of the plan that did it."""

    def close(self) -> None:
        """Finish what was accepted and end the session; closing it again does nothing."""
        self._closed = True

    def cancel(self) -> None:
        """End the session without finishing what was accepted."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise SessionClosed("the session is closed: open another with flow.open(...)")

    def __enter__(self) -> Session:
        self._check_open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            self.close()
        else:
            self.cancel()


def checked_deadline(where: str, deadline: float | None) -> float | None:
    """Return the deadline that a method was given, in seconds, if it can be one."""
    return None if deadline is None else checks.duration(where, "deadline", deadline, zero=True)
