"""A stream whose preprocessing and model cost the same, and both release the lock: what overlap can win."""

from __future__ import annotations

import hashlib
from itertools import islice
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import effort, job
from benchmarks.mlp import SEED, one_thread
from dataflow.bench import Contestant, Findings, Goal, Run, Task, compare, ready

BATCH = 32
WIDTH = 32  # of a digest
ITEMS = 1_024


def digest(item: bytes) -> Any:
    """Read all of an item, as a decoder would; hashing releases the lock."""
    return np.frombuffer(hashlib.sha256(item).digest(), dtype=np.uint8).astype(np.float32) / 255


def model() -> nn.Module:
    """Make layers that are nearly all multiplication, and so release the lock too; the same each time."""
    torch.manual_seed(SEED)
    return nn.Sequential(
        nn.Linear(WIDTH, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)
    ).eval()


def classify(net: nn.Module, rows: Any) -> list[list[float]]:
    """Run one batch."""
    with torch.inference_mode():
        logits: list[list[float]] = net(torch.from_numpy(rows)).tolist()
    return logits


def as_dear_as_the_model(net: nn.Module) -> int:
    """Return how long items must be for reading one to cost what the model costs for one of a batch."""
    rows = np.zeros((BATCH, WIDTH), dtype=np.float32)
    probe = bytes(2**20)
    of_model = min(seconds(lambda: classify(net, rows)) for _ in range(20)) / BATCH
    of_byte = min(seconds(lambda: digest(probe)) for _ in range(20)) / len(probe)
    return max(4096, int(of_model / of_byte))


def seconds(call: Any) -> float:
    """Time a call."""
    start = perf_counter()
    call()
    return perf_counter() - start


def by_hand(net: nn.Module) -> Run:
    """Write the batched loop out."""

    def run(items: list[bytes]) -> list[list[float]]:
        results: list[list[float]] = []
        stream = iter(items)
        while chunk := list(islice(stream, BATCH)):
            results += classify(net, np.stack([digest(item) for item in chunk]))
        return results

    return run


def findings(quick: bool = False) -> Findings:
    """Measure."""
    import dataflow as df

    with one_thread():
        net = model()
        length = as_dear_as_the_model(net)
        draw = np.random.default_rng(SEED)
        pool = [draw.bytes(length) for _ in range(64)]
        items = [pool[index % len(pool)] for index in range(ITEMS)]
        hand = by_hand(net)
        wanted = hand(items)

        def predict(rows: list[Any]) -> list[list[float]]:
            return classify(net, np.stack(rows))

        def right(_: Any, results: list[list[float]]) -> bool:
            return len(results) == len(wanted) and bool(np.allclose(results, wanted, atol=1e-4))

        flow = digest >> df.stage(predict, batch=BATCH)
        task = Task(lambda: [items], right, units=ITEMS)
        table = compare(
            f"{ITEMS:,} items: a digest of {length / 1024:.0f} KiB, then an equally dear model in batches of {BATCH}",
            [
                Contestant("hand-written batched loop", ready(hand), task),
                Contestant("dataflow, inline", job(flow, "inline"), task),
                Contestant("dataflow, threads", job(flow, "threads"), task),
            ],
            effort=effort(quick, rounds=21),
            passes=1,
            rate=True,
        )
    goal = Goal("threads: throughput over the hand-written loop", table.speed("dataflow, threads"), 1.6, at_least=True)
    return Findings((table,), (goal,))
