"""pipefunc: functions joined by the names of what they take and give."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from pipefunc import PipeFunc, Pipeline


def chain(functions: Sequence[Callable[[int], int]]) -> Callable[[int], Any]:
    """Join functions of one argument end to end."""
    last = len(functions)
    pipeline = Pipeline(
        [
            PipeFunc(function, f"y{index + 1}", renames={argument(function): f"y{index}"})
            for index, function in enumerate(functions)
        ]
    )
    run = pipeline.func(f"y{last}")
    return lambda item: run(y0=item)


def fan_out(branches: Sequence[Callable[[int], int]], join: Callable[..., int]) -> Callable[[int], Any]:
    """Give every branch the item, and `join` their results."""
    parts = [f"part{index}" for index in range(len(branches))]
    names = dict(zip(inspect.signature(join).parameters, parts, strict=True))
    pipeline = Pipeline(
        [
            *(
                PipeFunc(branch, part, renames={argument(branch): "x"})
                for branch, part in zip(branches, parts, strict=True)
            ),
            PipeFunc(join, "joined", renames=names),
        ]
    )
    run = pipeline.func("joined")
    return lambda item: run(x=item)


def argument(function: Callable[[int], int]) -> str:
    """Name the one argument of a function."""
    (name,) = inspect.signature(function).parameters
    return name
