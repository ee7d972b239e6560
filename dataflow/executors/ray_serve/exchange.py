"""Sending rows to another process and getting their outcomes: what cannot be sent fails by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dataflow.errors import DataflowError
from dataflow.executors.faults import Fault, Faults, outcome
from dataflow.executors.ray_serve.answers import Answer, Lookup, column_faults
from dataflow.executors.ray_serve.payload import Message, dump, pack, plain, unpack
from dataflow.executors.rows import Column
from dataflow.graph import ops

Send = Callable[[Message, list[int]], Answer]
"""Sends a message that holds these of the rows, and returns the answer, having waited for it."""


class Exchange:
    """Rows that are sent in one message, and what comes back.

    Parameters
    ----------
    inputs : list of lists
        The rows, by column.
    outputs : int
        How many columns come back.
    lookup : callable
        Finds ops by their names.
    op : Op, optional
        Whose failure it is if they do not get there.

    Attributes
    ----------
    message : tuple, optional
        What is to be sent; None where nothing can be.
    rows : list of int
        Which rows are in it.
    """

    def __init__(self, inputs: list[Column], outputs: int, lookup: Lookup, op: ops.Op | None) -> None:
        self.rows = list(range(len(inputs[0])))
        self.message: Message | None = None
        self._lookup = lookup
        self._op = op
        self._faults: Faults = {}
        self._columns: list[Column] = [[None] * len(self.rows) for _ in range(outputs)]
        try:
            packed = [pack(column) for column in inputs]
            self.message = dump(packed, known=plain(packed))
        except Exception:
            refused = _refused(inputs)
            self._faults = {position: Fault(error, op) for position, error in refused.items()}
            self.rows = [position for position in self.rows if position not in refused]
            if self.rows:
                self.message = dump([[column[position] for position in self.rows] for column in inputs])

    def outcome(self, answer: Answer | None = None, error: Exception | None = None) -> tuple[list[Column], Faults]:
        """Return the output columns, with None where a row failed, and the faults, once there is an answer or none."""
        columns, faults = self._columns, self._faults
        failed: Faults | None = None
        if answer is not None:
            failed, error = outcome(column_faults, answer, self._lookup)
        if answer is None or failed is None:
            if self.message is not None:
                faults.update({row: Fault(error or DataflowError("no answer"), self._op) for row in self.rows})
            return columns, faults
        made = [unpack(column) for column in answer.columns]
        if not faults:
            return made, failed
        faults.update({self.rows[at]: fault for at, fault in failed.items()})
        for whole, part in zip(columns, made, strict=True):
            for row, value in zip(self.rows, part, strict=True):
                whole[row] = value
        return columns, faults

    def sent_by(self, send: Send) -> tuple[list[Column], Faults]:
        """Send them, wait for the answer, and return what it comes to."""
        if self.message is None:
            return self.outcome()
        return self.outcome(*outcome(send, self.message, self.rows))


def _refused(inputs: list[Column]) -> dict[int, Exception]:
    """Return why rows cannot be sent, for those that cannot."""
    refused: dict[int, Exception] = {}
    for position, row in enumerate(zip(*inputs, strict=True)):
        if (why := _problem(row)) is not None:
            refused[position] = DataflowError(f"the item cannot be sent to another process: {why}")
    return refused


def _problem(row: tuple[Any, ...]) -> str | None:
    try:
        dump(row)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None
