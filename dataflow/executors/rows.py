"""Running one step over many items, one after another: results in a column, failures by position."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dataflow.executors.aside import aside, go_on
from dataflow.executors.faults import Fault, Faults
from dataflow.executors.link import Program
from dataflow.graph import ops

Column = list[Any]
"""One value for each of many items."""


def one_by_one(
    program: Program, op: ops.Op, function: Callable[..., Any], inputs: list[Column], outputs: int | None = None
) -> tuple[list[Column], Faults]:
    """Call a function of one item for every item.

    Parameters
    ----------
    program : Program
        Where the function is from.
    op : Op
        What the function does, to blame where nothing more precise is known.
    function : callable
        Takes one value from each input; gives one for each output, as a tuple where there are several.
    inputs : list of lists
        A column for each input.
    outputs : int, optional
        How many outputs there are; as many as `op` has by default.

    Returns
    -------
    list of lists, dict
        A column for each output, with None where an item failed; and the faults by position.
    """
    if aside():
        function = _while_wanted(function)
    results: Column = []
    faults: Faults = {}
    rows: Any = inputs[0] if len(inputs) == 1 else list(zip(*inputs, strict=True))
    for error in _failing(function, rows, results, spread=len(inputs) > 1):
        faults[len(results)] = fault_of(program, op, error)
        results.append(None)
    outputs = op.outputs if outputs is None else outputs
    if outputs == 1:
        return [results], faults
    blank = (None,) * outputs
    filled = [blank if row is None else row for row in results] if faults else results
    return [list(column) for column in zip(*filled, strict=True)], faults


def fault_of(program: Program, op: ops.Op, error: Exception) -> Fault:
    """Return an error with whose it is."""
    # a stage by itself is to blame whatever generated code its error has come through: flows that it runs have some
    culprit = None if isinstance(op, ops.Call) else program.culprit(error)
    return Fault(error, culprit or op)


def _failing(function: Callable[..., Any], rows: Column, results: Column, *, spread: bool) -> Iterator[Exception]:
    """Add the results of the rows, and yield the error of each that has none, in its turn.

    Being a generator, it keeps the frames of these errors from leading to the columns: see `faults.outcome`.
    """
    append = results.append
    try:
        if spread:
            for row in rows:
                try:
                    append(function(*row))
                except Exception as error:
                    yield error
        else:
            for row in rows:
                try:
                    append(function(row))
                except Exception as error:
                    yield error
    finally:
        del append, results
        rows = row = []


def _while_wanted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a step's function as work aside calls it: no more once the work has been given up."""

    def run(*row: Any) -> Any:
        go_on()
        return function(*row)

    return run
