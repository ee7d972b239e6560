"""The standard library's thread pool, a task an item."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dataflow.bench.machine import usable_cores


def stream_one_by_one(
    preprocess: Callable[[Any], Any], model: Callable[[list[Any]], list[Any]]
) -> Callable[[list[Any]], list[Any]]:
    """Run a model over a stream, an item at a time."""

    def one(item: Any) -> Any:
        return model([preprocess(item)])[0]

    def run(items: list[Any]) -> list[Any]:
        with ThreadPoolExecutor(usable_cores()) as pool:
            return list(pool.map(one, items))

    return run
