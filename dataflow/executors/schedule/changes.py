"""Debug mode: catching a stage that changes an input in place which others read too.

Branches of one input are given the same object, not copies of it, so a stage may not change it. Whether one does is
seen by what its input looks like before and after, pickled. That costs far more than most stages, which is why it is
for debugging.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dataflow.errors import DataflowError
from dataflow.executors.faults import Fault, Faults
from dataflow.executors.rows import Column
from dataflow.graph import ops

if TYPE_CHECKING:
    from dataflow.executors.schedule.frames import Frame
    from dataflow.executors.schedule.layout import Slot
    from dataflow.executors.schedule.work import Work

SHARING = (ops.Race, ops.Retry, ops.Fallback, ops.Quorum)
"""Constructs that may give one input to several of their blocks, or to one of them more than once."""


class InputChanged(DataflowError):
    """A stage that has changed its input in place. No retry, fallback or race makes up for that: the item fails."""


def shared_ports(frame: Frame, slot: Slot) -> list[int]:
    """Return the ports of a frame's step at which it is given what others read too."""
    uses = frame.layout.uses
    values = enumerate(slot.step.inputs)
    return [port for port, value in values if uses[value] > 1 or (value.node < frame.layout.inputs and frame.shared)]


def caught(
    op: ops.Op, ports: list[int], inputs: list[Column], call: Callable[[], tuple[list[Column], Faults]]
) -> tuple[list[Column], Faults]:
    """Make a call, and fail the rows whose inputs at these ports it has changed.

    Parameters
    ----------
    op : Op
        What is called.
    ports : list of int
        See `shared_ports`.
    inputs : list of lists
        The call's arguments.
    call : callable
        Makes the call.
    """
    before = [[_look(value) for value in inputs[port]] for port in ports]
    results, faults = call()
    for port, looks in zip(ports, before, strict=True):
        for position, (look, value) in enumerate(zip(looks, inputs[port], strict=True)):
            if look is not None and look != _look(value) and position not in faults:
                faults[position] = Fault(_changed(op, value), op)
                for column in results:
                    column[position] = None
    return results, faults


def fail_changers(work: Work) -> None:
    """Fail the items whose stages have changed what others read, whatever became of these: see `caught`."""
    at = 0
    for part in work.parts:  # items are accepted one by one here: a frame has one row
        for position in range(at, at + len(part.positions)):
            fault = work.faults.get(position)
            frame = part.frame.ticket.frame
            if fault is not None and isinstance(fault.error, InputChanged) and frame is not None:
                frame.fail({0: fault})
        at += len(part.positions)


def _look(value: Any) -> bytes | None:
    """Return a value as bytes; None where it cannot be had so, and is not looked at."""
    try:
        return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:  # a user's type may raise anything
        return None


def _changed(op: ops.Op, value: object) -> InputChanged:
    return InputChanged(
        f"{op.label()} ({op.origin}) has changed its input, a {type(value).__name__}, in place, though others are "
        "given the same object: return a changed copy instead"
    )
