"""Sending rows to another process and getting their outcomes: what cannot be sent fails by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dataflow.errors import DataflowError
from dataflow.executors.faults import Fault, Faults, outcome
from dataflow.executors.ray_serve.answers import Answer, Lookup, column_faults
from dataflow.executors.ray_serve.payload import Message, dump, pack, unpack
from dataflow.executors.rows import Column
from dataflow.graph import ops

Send = Callable[[Message, list[int]], Answer]
"""Sends a message that holds these of the rows, and returns the answer."""


def exchange(
    inputs: list[Column], outputs: int, send: Send, lookup: Lookup, op: ops.Op | None
) -> tuple[list[Column], Faults, Answer | None]:
    """Send rows and return their outcomes.

    Parameters
    ----------
    inputs : list of lists
        The rows, by column.
    outputs : int
        How many columns come back.
    send : callable
        Sends them.
    lookup : callable
        Finds ops by their names.
    op : Op, optional
        Whose failure it is if they do not get there.

    Returns
    -------
    list of lists, dict, Answer or None
        The output columns, with None where a row failed; the faults; and the answer, where there was one.
    """
    count = len(inputs[0])
    kept = list(range(count))
    faults: Faults = {}
    columns: list[Column] = [[None] * count for _ in range(outputs)]
    try:
        message = dump([pack(column) for column in inputs])
    except Exception:
        refused = _refused(inputs)
        faults = {position: Fault(error, op) for position, error in refused.items()}
        kept = [position for position in kept if position not in refused]
        if not kept:
            return columns, faults, None
        message = dump([[column[position] for position in kept] for column in inputs])
    got, error = outcome(_ask, send, message, kept, lookup)
    if got is None:
        faults.update({position: Fault(error or DataflowError("no answer"), op) for position in kept})
        return columns, faults, None
    answer, failed = got
    made = [unpack(column) for column in answer.columns]
    if len(kept) == count:
        return made, failed, answer
    faults.update({kept[at]: fault for at, fault in failed.items()})
    for whole, part in zip(columns, made, strict=True):
        for position, value in zip(kept, part, strict=True):
            whole[position] = value
    return columns, faults, answer


def _ask(send: Send, message: Message, rows: list[int], lookup: Lookup) -> tuple[Answer, Faults]:
    answer = send(message, rows)
    return answer, column_faults(answer, lookup)


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
