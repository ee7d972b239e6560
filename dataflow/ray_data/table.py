"""Arrow tables, as Ray Data hands them out: rows as Python sees them, and columns of what Python has made."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dataflow.errors import DataflowError
from dataflow.executors.ray_serve.payload import pickled
from dataflow.executors.rows import Column

Errors = dict[int, Exception]
"""Why values cannot be in a column, by position."""

Outcome = dict[str, str] | None
"""What is said of a row that failed: ``type``, ``message`` and ``stage``."""


def items(table: Any, column: str | None) -> Column:
    """Return the rows of a table as ``Dataset.map`` hands them out, or the values of one column of them.

    Arrays are copies: those of Ray Data are read-only, and an item is its stages' own.
    """
    if column is None:
        names = table.column_names
        columns = [_values(table, name) for name in names]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    if column not in table.column_names:
        raise DataflowError(
            f"map_batches: the dataset has no column {column!r}: it has {', '.join(map(repr, table.column_names))}"
        )
    return _values(table, column)


def _values(table: Any, name: str) -> Column:
    """Return a column's values."""
    from ray.data.block import BlockAccessor

    column = table.column(name)
    if "tensor" in getattr(column.type, "extension_name", "") and not column.null_count:
        parts = [chunk.to_numpy(zero_copy_only=False) for chunk in column.chunks]
        if all(part.dtype != object for part in parts):  # they are of one shape: thousands of arrays in one copy
            return [value for part in parts for value in np.array(part)]
    accessor: Any = BlockAccessor.for_block(table.select([name]))
    values = [row[name] for row in accessor.iter_rows(public_row_format=True)]
    return [np.array(value) if isinstance(value, np.ndarray) else value for value in values]


def with_objects(table: Any, name: str, values: Sequence[Any], there: Sequence[bool]) -> tuple[Any, Errors]:
    """Return the table with a column of Python objects, as Ray Data keeps them; null where there is none.

    What cannot be pickled is null too, and why is returned by position.
    """
    from ray.data.extensions import object_extension

    made, errors = _each(dump, values, there, "cannot be sent to another process")
    kind: Any = object_extension.ArrowPythonObjectType()  # type: ignore[attr-defined]
    return _with(table, name, kind.wrap_array(_array(made, kind.storage_type))), errors


def with_type(table: Any, name: str, values: Sequence[Any], there: Sequence[bool], kind: Any) -> tuple[Any, Errors]:
    """Return the table with a column of an Arrow type; null where there is no value, or it does not fit: see why."""
    given = [value if here else None for value, here in zip(values, there, strict=True)]
    try:
        return _with(table, name, _array(given, kind)), {}
    except Exception:
        fits, errors = _each(lambda value: _array([value], kind)[0], values, there, f"does not fit {kind}")
        given = [None if value is None else value.as_py() for value in fits]
        return _with(table, name, _array(given, kind)), errors


def carry(table: Any, name: str, columns: Sequence[Column], there: Sequence[bool]) -> tuple[Any, Errors]:
    """Return the table with a column that holds the values of other columns, row by row, pickled."""
    import pyarrow

    rows = list(zip(*columns, strict=True)) if columns else [()] * len(there)
    made, errors = _each(dump, rows, there, "cannot be sent to another process")
    return _with(table, name, _array(made, pyarrow.large_binary())), errors


def carried(table: Any, name: str, count: int, alive: Sequence[int]) -> list[Column]:
    """Return the values that are carried for some of the rows, as so many columns."""
    packed = table.column(name).to_pylist()
    rows = [pickle.loads(packed[position]) for position in alive]
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(count)]


def with_failures(table: Any, name: str, failures: Sequence[Outcome]) -> Any:
    """Return the table with a column that says for each row what went wrong; null where nothing did."""
    import pyarrow

    kind = pyarrow.struct([(field, pyarrow.string()) for field in ("type", "message", "stage")])
    return _with(table, name, pyarrow.array(failures, type=kind))


def without(table: Any, name: str) -> Any:
    """Return the table without a column, if it has it."""
    return table.drop_columns([name]) if name in table.column_names else table


def only(table: Any, positions: Sequence[int]) -> Any:
    """Return the table with these of its rows."""
    import pyarrow

    if len(positions) == table.num_rows:
        return table
    return table.take(pyarrow.array(positions, type=pyarrow.int64()))


def dump(value: Any) -> bytes:
    """Return something pickled: quickly where that is possible, and otherwise with what cannot be imported in it."""
    try:
        return pickle.dumps(value, protocol=5)
    except Exception:
        return pickled(value)


def _with(table: Any, name: str, column: Any) -> Any:
    return without(table, name).append_column(name, column)


def _array(values: Sequence[Any], kind: Any) -> Any:
    import pyarrow

    return pyarrow.array(values, type=kind)


def _each(
    make: Callable[[Any], Any], values: Sequence[Any], there: Sequence[bool], problem: str
) -> tuple[list[Any], Errors]:
    """Make something of each value that is there; say of each with which that cannot be done what the problem is."""
    made: list[Any] = [None] * len(values)
    errors: Errors = {}
    for position, (value, here) in enumerate(zip(values, there, strict=True)):
        if here:
            try:
                made[position] = make(value)
            except Exception as error:
                errors[position] = DataflowError(f"the result {problem}: {type(error).__name__}: {error}")
    return made, errors
