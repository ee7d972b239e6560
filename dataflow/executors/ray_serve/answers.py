"""What comes back from a replica: results by column, and the errors of the items that have none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from dataflow.errors import DataflowError
from dataflow.executors.faults import Fault, Faults
from dataflow.executors.ray_serve.failures import Sent, fault_sent, received, sent
from dataflow.executors.ray_serve.payload import Message, dump, pack, plain
from dataflow.executors.rows import Column
from dataflow.graph import ops
from dataflow.plan import Plan

Lookup = Callable[[str | None], ops.Op | None]
"""Finds an op by its name in the plan."""


@dataclasses.dataclass
class Answer:
    """What a call came to.

    Parameters
    ----------
    columns : list
        The results, packed, with None where an item failed.
    faults : dict of int to Sent
        The errors, by position.
    batches : mapping of int to int
        How many calls of batched stages were made with each size.
    stop : Sent, optional
        What ends everything, as KeyboardInterrupt does.
    positions : list of int, optional
        Whose outcomes these are, of those that were asked for; all of them where it does not say.
    rest : int, optional
        Under which number the others are to be asked for; None where these were the last.
    seconds : float
        What it took where it was run.
    """

    columns: list[Any]
    faults: dict[int, Sent]
    batches: Mapping[int, int] = dataclasses.field(default_factory=dict)
    stop: Sent | None = None
    positions: list[int] | None = None
    rest: int | None = None
    seconds: float = 0.0

    def message(self) -> Message:
        """Return the answer as it is sent: a tuple, which any process knows."""
        known = not self.faults and self.stop is None and plain(self.columns)
        parts = (self.columns, self.faults, self.batches, self.stop, self.positions, self.rest, self.seconds)
        return dump(parts, known=known)

    @classmethod
    def read(cls, loaded: tuple[Any, ...]) -> Answer:
        """Return the answer that was sent."""
        return cls(*loaded)


def answered(plan: Plan, columns: list[Column], faults: Faults, place: str, **more: Any) -> Message:
    """Return an answer as it is sent; a result that cannot be pickled is its item's failure."""
    errors = {position: fault_sent(plan, fault, place) for position, fault in faults.items()}
    try:
        return Answer([pack(column) for column in columns], errors, **more).message()
    except Exception:
        for position in range(len(columns[0])):
            if position not in errors and (why := _problem([column[position] for column in columns])) is not None:
                error = DataflowError(f"the result cannot be sent to another process: {why}")
                errors[position] = sent(error, None, place)
        kept = [[None if position in errors else value for position, value in enumerate(column)] for column in columns]
        return Answer([pack(column) for column in kept], errors, **more).message()


def column_faults(answer: Answer, lookup: Lookup) -> Faults:
    """Return the faults of an answer."""
    if answer.stop is not None:
        raise received(answer.stop)
    faults: Faults = {}
    for position, message in answer.faults.items():
        error = received(message)
        if not isinstance(error, Exception):
            raise error
        faults[position] = RemoteFault(error, lookup(message.label), message.label, message.place)
    return faults


class RemoteFault(Fault):
    """A fault of another process.

    Parameters
    ----------
    error : Exception
        What was raised there.
    op : Op, optional
        What raised it.
    label : str, optional
        Its name in the plan.
    place : str
        Where.
    """

    __slots__ = ("label", "place")

    def __init__(self, error: Exception, op: ops.Op | None, label: str | None, place: str) -> None:
        super().__init__(error, op)
        self.label = label
        self.place = place


def lookup_in(plan: Plan) -> Lookup:
    """Return what finds the ops of a plan by their names."""
    found: dict[str, ops.Op] = {}
    stack = [node.op for node in plan.region.nodes]
    seen: set[int] = set()
    while stack:
        op = stack.pop()
        if id(op) in seen:
            continue
        seen.add(id(op))
        label = plan.labels.get(id(op))
        if label is not None and not isinstance(op, (ops.Input, ops.Output)):
            found[label] = op
        stack += [node.op for body in op.bodies for node in body.nodes]
    return lambda label: None if label is None else found.get(label)


def _problem(values: list[Any]) -> str | None:
    try:
        dump(values)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None
