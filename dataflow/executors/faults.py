"""The failure of one item among many, while the others go on; and what the user gets of it."""

from __future__ import annotations

import dataclasses
from typing import Any

from dataflow.executors.policies import as_raised
from dataflow.graph import ops


class Fault:
    """An item's error, and whose it is.

    Parameters
    ----------
    error : Exception
        What was raised. Frames of dataflow's own at the top of its traceback are let go: they hold whole columns of
        items, and are of no use to the user.
    op : Op, optional
        What raised it.
    """

    __slots__ = ("error", "op")

    def __init__(self, error: Exception, op: ops.Op | None) -> None:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("dataflow.executors"):
            trace = trace.tb_next
        self.error = as_raised(error.with_traceback(trace))
        self.op = op


Faults = dict[int, Fault]
"""Faults by the position of their items."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """What stands in the place of an item that failed, under ``on_error="record"``.

    Parameters
    ----------
    index : int
        The item's number in the job, from 0.
    item : object
        The item.
    stage : str
        The name of the stage that failed.
    error : Exception
        What it raised.

    Examples
    --------
    >>> import dataflow as df
    >>> failure = list(df.stage(int).map(["1", "x"], "inline", on_error="record"))[1]
    >>> failure.index, failure.item, failure.stage, type(failure.error).__name__
    (1, 'x', 'int', 'ValueError')
    """

    index: int
    item: Any
    stage: str
    error: Exception
