"""A stream of vectors through numpy, a torch model in batches, and argmax."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import effort, job
from benchmarks.mlp import BATCH, FEATURES, ArgMax, Vector, classify, model, one_thread, preprocess, vectors
from benchmarks.peers import adapters, stop
from dataflow.bench import Contestant, Findings, Goal, Run, Task, compare, ready

ITEMS = 20_000
FEW = 1_000  # for those that take a second for a thousand


def by_hand(mlp: nn.Module, collate: Callable[[list[Vector]], Vector] = np.stack) -> Run:
    """Write the batched loop out."""

    def run(items: list[Vector]) -> list[int]:
        results: list[int] = []
        stream = iter(items)
        with torch.inference_mode():
            while chunk := list(islice(stream, BATCH)):
                rows = collate([preprocess(item) for item in chunk])
                results.extend(mlp(torch.from_numpy(rows)).argmax(1).tolist())
        return results

    return run


def one_by_one(mlp: nn.Module) -> Run:
    """Write the loop out, without batches."""

    def run(items: list[Vector]) -> list[int]:
        results = []
        with torch.inference_mode():
            for item in items:
                row = torch.from_numpy(preprocess(item)).unsqueeze(0)
                results.append(int(mlp(row).argmax(1).item()))
        return results

    return run


def model_alone(mlp: nn.Module, items: list[Vector]) -> Run:
    """Run the model and argmax on batches that were preprocessed beforehand."""
    rows = torch.from_numpy(np.stack([preprocess(item) for item in items]))
    batches = torch.split(rows, BATCH)

    def run(_: list[Vector]) -> list[int]:
        results: list[int] = []
        with torch.inference_mode():
            for batch in batches:
                results.extend(mlp(batch).argmax(1).tolist())
        return results

    return run


def flow_of(mlp: nn.Module) -> Any:
    """Write it as a flow."""
    import dataflow.torch as dft

    return preprocess >> dft.module(mlp, batch=BATCH) >> dft.module(ArgMax(), batch=BATCH)


def on_ray_data(flow: Any) -> Run:
    """Run it over a dataset of Ray Data."""
    import pyarrow
    import ray.data

    from benchmarks.peers.ray_data import connect
    from dataflow.ray_data import map_batches

    connect()

    def run(items: list[Vector]) -> list[int]:
        rows = ray.data.from_numpy(np.stack(items))
        made = map_batches(rows, flow, column="data", result_type=pyarrow.int64())
        return [row["result"] for row in made.iter_rows()]

    return run


def findings(quick: bool = False) -> Findings:
    """Measure."""
    with one_thread():
        mlp = model()
        items = vectors(mlp, ITEMS)
        hand = by_hand(mlp)
        wanted = hand(items)

        def classes(rows: list[Vector]) -> list[int]:
            return classify(mlp, np.stack(rows))

        def first(count: int) -> Task:
            return Task(lambda: [items[:count]], lambda _, labels: list(labels) == wanted[:count], units=count)

        flow = flow_of(mlp)
        table = compare(
            f"{ITEMS:,} float32[{FEATURES}]: numpy, MLP in batches of {BATCH}, argmax; torch on 1 thread",
            [
                Contestant("hand-written batched loop", ready(hand), first(ITEMS)),
                Contestant("dataflow, inline", job(flow, "inline"), first(ITEMS)),
                Contestant("dataflow, threads", job(flow, "threads"), first(ITEMS)),
                Contestant("model and argmax alone, batched", lambda: model_alone(mlp, items), first(ITEMS)),
                Contestant("batched loop, np.array for np.stack", ready(by_hand(mlp, np.array)), first(ITEMS)),
                Contestant("hand-written, one by one", ready(one_by_one(mlp)), first(FEW)),
                *adapters("stream", preprocess, classes, BATCH, task=first(ITEMS)),
                *adapters("stream_one_by_one", preprocess, classes, task=first(FEW)),
            ],
            effort=effort(quick, rounds=15, seconds=25),
            passes=1,
            rate=True,
        )
        tables = [table]
        if not quick:
            heavy = compare(
                "the same, beside what starts processes of its own",
                [
                    Contestant("hand-written batched loop", ready(hand), first(ITEMS)),
                    Contestant("dataflow, threads", job(flow, "threads"), first(ITEMS)),
                    Contestant("dataflow, Ray Data", lambda: on_ray_data(flow), first(ITEMS)),
                    *adapters("stream_in_processes", preprocess, classes, BATCH, task=first(ITEMS)),
                ],
                effort=effort(quick, rounds=3, seconds=20),
                passes=1,
                rate=True,
            )
            tables.append(heavy)
            stop()
    return Findings(
        tuple(tables),
        (
            Goal("inline: throughput of the batched loop kept", table.speed("dataflow, inline"), 0.95, at_least=True),
            Goal("threads: throughput of the batched loop kept", table.speed("dataflow, threads"), 0.9, at_least=True),
            Goal(
                "threads: throughput over torchdata.nodes",
                table.speed("dataflow, threads", to="torchdata.nodes"),
                2.0,
                at_least=True,
            ),
        ),
    )
