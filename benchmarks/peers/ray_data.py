"""Ray Data: blocks of rows, mapped by processes of a local cluster."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import ray
import ray.data

from dataflow.bench.machine import usable_cores


def connect() -> None:
    """Start Ray on this machine, and keep rows in order and the terminal quiet."""
    if not ray.is_initialized():
        ray.init(num_cpus=usable_cores(), include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True


def stream_in_processes(
    preprocess: Callable[[Any], Any], model: Callable[[list[Any]], list[Any]], batch: int
) -> Callable[[list[Any]], list[Any]]:
    """Run a batched model over a stream."""
    connect()

    def one(row: dict[str, Any]) -> dict[str, Any]:
        return {"data": preprocess(row["data"])}

    def many(rows: dict[str, Any]) -> dict[str, Any]:
        return {"label": np.array(model(list(rows["data"])))}

    def run(items: list[Any]) -> list[Any]:
        data = ray.data.from_numpy(np.stack(items)).map(one).map_batches(many, batch_size=batch)
        return [int(row["label"]) for row in data.iter_rows()]

    return run
