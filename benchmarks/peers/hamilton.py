"""Hamilton: a module of functions joined by their names and their arguments'."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

from hamilton import ad_hoc_utils, driver
from hamilton.function_modifiers import parameterize, source


def chain(functions: Sequence[FunctionType]) -> Callable[[int], Any]:
    """Join functions of one argument end to end."""
    nodes = [node(function, f"y{index + 1}", [f"y{index}"]) for index, function in enumerate(functions)]
    return runner(nodes, "y0", f"y{len(functions)}")


def fan_out(branches: Sequence[FunctionType], join: FunctionType) -> Callable[[int], Any]:
    """Give every branch the item, and `join` their results."""
    parts = [f"part{index}" for index in range(len(branches))]
    nodes = [node(branch, part, ["x"]) for branch, part in zip(branches, parts, strict=True)]
    return runner([*nodes, node(join, "joined", parts)], "x", "joined")


def node(function: FunctionType, output: str, inputs: Sequence[str]) -> Any:
    """Name what a function gives and takes, on a copy: Hamilton marks what it gets."""
    copy = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__annotations__ = dict(function.__annotations__)
    arguments = inspect.signature(function).parameters
    sources = {argument: source(name) for argument, name in zip(arguments, inputs, strict=True)}
    return parameterize(**{output: sources})(copy)


def runner(nodes: Sequence[Any], given: str, wanted: str) -> Callable[[int], Any]:
    """Build a driver and ask it for one result."""
    module = ad_hoc_utils.create_temporary_module(*nodes)
    ready = driver.Builder().with_modules(module).build()
    return lambda item: ready.execute([wanted], inputs={given: item})[wanted]
