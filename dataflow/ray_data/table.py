"""Arrow tables, as Ray Data hands them out: rows as Python sees them, and columns of what Python has made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dataflow.executors.ray_serve.failures import Sent
from dataflow.executors.rows import Column


def rows(table: Any) -> list[dict[str, Any]]:
    """Return the rows of a table, as ``Dataset.map`` hands them out."""
    from ray.data.block import BlockAccessor

    return list(BlockAccessor.for_block(table).iter_rows(public_row_format=True))


def with_column(table: Any, name: str, values: Column) -> Any:
    """Return the table with a column of results: numbers, text and arrays as Arrow has them, anything else pickled."""
    from ray.data.block import BlockAccessor

    made = BlockAccessor.for_block(BlockAccessor.batch_to_block({name: values})).to_arrow()
    return without(table, name).append_column(name, made.column(name))


def with_bytes(table: Any, name: str, values: list[bytes]) -> Any:
    """Return the table with a column of bytes."""
    import pyarrow

    return without(table, name).append_column(name, pyarrow.array(values, type=pyarrow.large_binary()))


def with_failures(table: Any, name: str, failures: Sequence[Sent | None]) -> Any:
    """Return the table with a column that says for each row what went wrong; null where nothing did."""
    import pyarrow

    kind = pyarrow.struct([(field, pyarrow.string()) for field in ("type", "message", "stage")])
    shown = [
        None if each is None else {"type": each.kind, "message": each.text, "stage": each.label} for each in failures
    ]
    return without(table, name).append_column(name, pyarrow.array(shown, type=kind))


def without(table: Any, name: str) -> Any:
    """Return the table without a column, if it has it."""
    return table.drop_columns([name]) if name in table.column_names else table


def spread(values: Column, alive: Sequence[int], count: int) -> Column:
    """Return a column of all rows, with None for those that are not alive."""
    if len(alive) == count:
        return values
    column: Column = [None] * count
    for position, value in zip(alive, values, strict=True):
        column[position] = value
    return column
