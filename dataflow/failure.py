"""What a user gets of an item that failed, while the others went on."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, eq=False)  # items are users' data, never compared
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
