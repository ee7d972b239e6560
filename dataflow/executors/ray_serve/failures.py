"""How errors cross processes: as themselves where they can be pickled, as a stand-in where they cannot."""

from __future__ import annotations

import dataclasses
import pickle
import traceback
from typing import Any

from dataflow.errors import RemoteError
from dataflow.executors.faults import Fault
from dataflow.executors.ray_serve.payload import pickled
from dataflow.plan import Plan


class RemoteTraceback(Exception):
    """The traceback that an error had where it was raised, as text: it is the error's cause here."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


@dataclasses.dataclass(frozen=True)
class Sent:
    """An error on its way.

    Parameters
    ----------
    error : bytes
        The error, pickled; empty where it cannot be.
    kind, text, trace : str
        Its type's name, what it says, and its traceback.
    notes : tuple of str
        What was noted on it.
    label : str, optional
        The name of the op that raised it, in the plan.
    place : str
        Where.
    """

    error: bytes
    kind: str
    text: str
    trace: str
    notes: tuple[str, ...]
    label: str | None
    place: str


def sent(error: BaseException, label: str | None, place: str) -> Sent:
    """Return an error as it is sent."""
    kind: Any = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}" if kind.__module__ != "builtins" else kind.__qualname__
    notes = tuple(note for note in getattr(error, "__notes__", ()) if isinstance(note, str))
    return Sent(_pickled(error), name, _text(error), _trace(error), notes, label, place)


def received(message: Sent) -> BaseException:
    """Return an error that was sent, or its stand-in."""
    error: BaseException | None = None
    try:
        if message.error:
            error = pickle.loads(message.error)
    except Exception:
        error = None
    if not isinstance(error, BaseException):
        error = RemoteError(f"{message.kind}: {message.text}")
    for note in message.notes:
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
    if message.trace:
        error.__cause__ = RemoteTraceback(message.trace)
    return error


def fault_sent(plan: Plan, fault: Fault, place: str) -> Sent:
    """Return an item's fault as it is sent."""
    op = fault.op
    label = plan.labels.get(id(op)) if op is not None else None
    return sent(fault.release(), label, place)


def _pickled(error: BaseException) -> bytes:
    """Return an error pickled, if it comes out of it as what it was."""
    try:
        made = pickled(error)
        again = pickle.loads(made)
    except Exception:
        return b""
    return made if type(again).__name__ == type(error).__name__ else b""


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # a user's __str__ may raise anything
        return "(its __str__ fails)"


def _trace(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:
        return "".join(traceback.format_tb(error.__traceback__))
