"""Dask: delayed calls, run by the synchronous scheduler. The graph is an item's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dask.base import optimize
from dask.delayed import delayed


def chain(functions: Sequence[Callable[[int], int]]) -> Callable[[int], Any]:
    """Join functions of one argument end to end."""
    stages = [delayed(function) for function in functions]

    def run(item: int) -> Any:
        node: Any = item
        for stage in stages:
            node = stage(node)
        return node.compute(scheduler="sync")

    return run


def fan_out(branches: Sequence[Callable[[int], int]], join: Callable[..., int]) -> Callable[[int], Any]:
    """Give every branch the item, and `join` their results."""
    stages = [delayed(branch) for branch in branches]
    joined = delayed(join)

    def run(item: int) -> Any:
        return joined(*[stage(item) for stage in stages]).compute(scheduler="sync")

    return run


def builder(item: int) -> Callable[[Sequence[Callable[[int], int]]], Any]:
    """Build and optimize graphs, each of which is for one item."""

    def build(functions: Sequence[Callable[[int], int]]) -> Callable[[], Any]:
        node: Any = item
        for function in functions:
            node = delayed(function)(node)
        (ready,) = optimize(node)
        return lambda: ready.compute(scheduler="sync")

    return build
