"""A stream of vectors through numpy, a torch model in batches, and argmax."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from benchmarks.measure import Competitor, Goal, Report, Run, Task, compare

ITEMS = 20_000
FEATURES = 64
BATCH = 64
SEED = 7

Vector = npt.NDArray[np.float32]

MEAN = np.linspace(-0.5, 0.5, FEATURES, dtype=np.float32)
SCALE = np.linspace(0.5, 2.0, FEATURES, dtype=np.float32)


def preprocess(item: Vector) -> Vector:
    """Normalize one vector."""
    return (item - MEAN) / SCALE


class ArgMax(nn.Module):
    """The best class of each row."""

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """Find it."""
        return logits.argmax(1)


def model() -> nn.Module:
    """Make the three layers, the same each time."""
    torch.manual_seed(SEED)
    layers = nn.Sequential(
        nn.Linear(FEATURES, 256),
        nn.ReLU(),
        nn.Linear(256, 256),
        nn.ReLU(),
        nn.Linear(256, 10),
    )
    return layers.eval()


def vectors(mlp: nn.Module) -> list[Vector]:
    """Draw the items, but none whose two best classes rounding could exchange."""
    drawn = np.random.default_rng(SEED).normal(size=(ITEMS + ITEMS // 10, FEATURES))
    rows = drawn.astype(np.float32)
    with torch.inference_mode():
        best = mlp(torch.from_numpy(preprocess(rows))).topk(2).values
    clear = (best[:, 0] - best[:, 1] > 1e-5).numpy()
    items = list(rows[clear][:ITEMS])
    if len(items) < ITEMS:
        raise ValueError("too many of the items drawn are nearly tied")
    return items


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


def ours(mlp: nn.Module) -> Run:
    """Do it as a flow."""
    import dataflow.torch as dft

    flow = preprocess >> dft.module(mlp, batch=BATCH) >> dft.module(ArgMax(), batch=BATCH)

    def run(items: list[Vector]) -> list[Any]:
        return list(flow.map(items, executor="inline"))

    return run


def report() -> Report:
    """Measure."""
    with one_thread():
        mlp = model()
        items = vectors(mlp)
        hand = by_hand(mlp)
        wanted = hand(items)
        task = Task(items=lambda: [items], right=lambda _, labels: labels == wanted, units=ITEMS)
        table = compare(
            f"{ITEMS:,} float32[{FEATURES}]: numpy, MLP in batches of {BATCH}, argmax; torch on 1 thread",
            [
                Competitor("hand-written batched loop", lambda: hand, task),
                Competitor("dataflow, inline", lambda: ours(mlp), task),
                Competitor(
                    "model and argmax alone, batched",
                    lambda: model_alone(mlp, items),
                    task,
                ),
                Competitor("batched loop, np.array for np.stack", lambda: by_hand(mlp, np.array), task),
                Competitor("hand-written, one by one", lambda: one_by_one(mlp), task),
            ],
            repeats=11,
            passes=1,
            rate=True,
        )
    ratio = table.row("dataflow, inline").ratio
    speed = None if ratio is None else 1 / ratio
    goal = Goal("throughput of the batched loop kept", speed, 0.95, at_least=True)
    return Report((table,), (goal,))


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold torch to one thread in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
