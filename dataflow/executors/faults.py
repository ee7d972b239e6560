"""The failure of one item among many, while the others go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from dataflow.executors.policies import as_raised
from dataflow.expr.flow import Flow
from dataflow.failure import Failure as Failure
from dataflow.graph import ops

T = TypeVar("T")

_MOST_NOTES = 64


def trimmed(error: Exception) -> Exception:
    """Return the error without the frames of dataflow's own at the top of its traceback, of no use to the user."""
    trace = error.__traceback__
    while trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith("dataflow.executors"):
        trace = trace.tb_next
    return error.with_traceback(trace)


def outcome(call: Callable[..., T], *given: Any) -> tuple[T | None, Exception | None]:
    """Return what a call comes to: its result and None, or None and its error.

    A traceback's frames hold their callers' frames, which here hold whole columns of items, and in the end the error
    itself. But a generator that waits has no caller: this error's frames lead no further than to one.
    """
    return next(_outcome(call, given))


def _outcome(call: Callable[..., T], given: tuple[Any, ...]) -> Iterator[tuple[T | None, Exception | None]]:
    try:
        result = call(*given)
    except Exception as error:
        del call, given
        yield None, trimmed(error)
    else:
        yield result, None


def add_note(error: Exception, text: str) -> None:
    """Add a note to an error, once, and not if it takes none: a user's exception may forbid it.

    An exception object that is raised again and again would collect a note for every item: it gets so many, no more.
    """
    try:
        notes = getattr(error, "__notes__", ())
        if text not in notes and len(notes) < _MOST_NOTES:
            error.add_note(text)
    except Exception:
        pass


UNKNOWN: Any = object()
"""What stands for an item that is not known."""


class Trail:
    """What an error leads back to. It does not travel: an error that has been pickled leads nowhere.

    Parameters
    ----------
    flow : Flow
        What was run.
    item : object
        On what.
    """

    __slots__ = ("flow", "item")

    def __init__(self, flow: Flow[Any, Any], item: Any) -> None:
        self.flow = flow
        self.item = item

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


def add_trail(error: Exception, flow: Flow[Any, Any], item: Any) -> None:
    """Let an error lead back to a flow and its item, unless it takes no attributes: see `trail_of`.

    The flow that was run last of all is what it leads to: one that runs others in its stages is what the user ran.
    """
    try:
        # an item that is the error itself would be a cycle
        error.__dataflow__ = Trail(flow, UNKNOWN if item is error else item)  # type: ignore[attr-defined]
    except Exception:
        pass


def trail_of(error: BaseException) -> Trail | None:
    """Return what an error leads back to, if anything."""
    trail = getattr(error, "__dataflow__", None)
    return trail if isinstance(trail, Trail) else None


class Fault:
    """An item's error, and whose it is.

    Parameters
    ----------
    error : Exception
        What was raised; see `trimmed`.
    op : Op, optional
        What raised it.
    """

    __slots__ = ("_error", "op")

    def __init__(self, error: Exception, op: ops.Op | None) -> None:
        self._error: Exception | None = as_raised(trimmed(error))
        self.op = op

    @property
    def error(self) -> Exception:
        """What was raised."""
        if self._error is None:
            raise LookupError("this error has been released")
        return self._error

    def release(self) -> Exception:
        """Return the error and forget it, so that a frame that raises it can hold the fault without making a cycle."""
        error, self._error = self.error, None
        return error


Faults = dict[int, Fault]
"""Faults by the position of their items."""
