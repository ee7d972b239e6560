"""LCEL: the runnables of langchain-core, joined by ``|``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import or_
from typing import Any

from langchain_core.runnables import RunnableBranch, RunnableLambda, RunnableParallel


def chain(functions: Sequence[Callable[[int], int]]) -> Callable[[int], Any]:
    """Join functions of one argument end to end."""
    run: Callable[[int], Any] = reduce(or_, map(RunnableLambda, functions)).invoke
    return run


def fan_out(branches: Sequence[Callable[[int], int]], join: Callable[..., int]) -> Callable[[int], Any]:
    """Give every branch the item, and `join` their results."""

    def joined(parts: dict[str, int]) -> int:
        return join(*parts.values())

    parallel = RunnableParallel({f"part{index}": RunnableLambda(b) for index, b in enumerate(branches)})
    run: Callable[[int], Any] = (parallel | RunnableLambda(joined)).invoke
    return run


def switch(
    key: Callable[[int], bool],
    then: Callable[[int], int],
    otherwise: Callable[[int], int],
) -> Callable[[int], Any]:
    """Run one of two functions, as `key` says."""
    run: Callable[[int], Any] = RunnableBranch((key, then), otherwise).invoke
    return run


def builder(item: int) -> Callable[[Sequence[Callable[[int], int]]], Any]:
    """Build sequences; there is no planning to do."""

    def build(functions: Sequence[Callable[[int], int]]) -> Callable[[], Any]:
        run = chain(functions)
        return lambda: run(item)

    return build


def stream_one_by_one(
    preprocess: Callable[[Any], Any], model: Callable[[list[Any]], list[Any]]
) -> Callable[[list[Any]], list[Any]]:
    """Run a model over a stream: `batch` calls the chain on each item, on a pool of threads."""

    def one(item: Any) -> Any:
        return model([item])[0]

    run: Callable[[list[Any]], list[Any]] = (RunnableLambda(preprocess) | RunnableLambda(one)).batch
    return run
