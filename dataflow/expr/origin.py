"""Where in the user's files something was written."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any, NamedTuple


class Origin(NamedTuple):
    """A place in the user's code.

    Parameters
    ----------
    file : str
        Path of the file, as Python reports it.
    line : int
        Line number, from 1.
    """

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def caller() -> Origin:
    """Return the nearest line on the call stack that is not dataflow's own."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("dataflow."):
        frame = frame.f_back
    return Origin(frame.f_code.co_filename, frame.f_lineno) if frame is not None else Origin("<unknown>", 0)


def definition(fn: Any) -> Origin | None:
    """Return where a Python function or class's ``__call__`` was defined; None where Python does not know."""
    inner = (getattr(fn, "func", None), getattr(fn, "__func__", None), getattr(type(fn), "__call__", None))
    for candidate in (fn, *inner):
        code = getattr(candidate, "__code__", None)
        if code is not None:
            return Origin(code.co_filename, code.co_firstlineno)
    return None
