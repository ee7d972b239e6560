"""torchdata.nodes: a batcher, and a mapper of batches on as many threads as there are cores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torchdata.nodes import Batcher, IterableWrapper, Loader, ParallelMapper

from dataflow.bench.machine import usable_cores


def stream(
    preprocess: Callable[[Any], Any], model: Callable[[list[Any]], list[Any]], batch: int
) -> Callable[[list[Any]], list[Any]]:
    """Run a batched model over a stream."""

    def classify(chunk: list[Any]) -> list[Any]:
        return model([preprocess(item) for item in chunk])

    def run(items: list[Any]) -> list[Any]:
        # batches are formed first: a mapper of single items hands each from thread to thread, and is fifty times slower
        batches = Batcher(IterableWrapper(items), batch, drop_last=False)
        mapped = ParallelMapper(batches, classify, num_workers=usable_cores(), method="thread", in_order=True)
        return [result for results in Loader(mapped) for result in results]

    return run
