"""What several workloads share: vectors, a numpy step that normalizes them, and a small torch model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

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


def vectors(mlp: nn.Module, count: int) -> list[Vector]:
    """Draw the items, but none whose two best classes rounding could exchange."""
    drawn = np.random.default_rng(SEED).normal(size=(count + count // 10 + 10, FEATURES))
    rows = drawn.astype(np.float32)
    with torch.inference_mode():
        best = mlp(torch.from_numpy(preprocess(rows))).topk(2).values
    clear = (best[:, 0] - best[:, 1] > 1e-5).numpy()
    items = list(rows[clear][:count])
    if len(items) < count:
        raise ValueError("too many of the items drawn are nearly tied")
    return items


def classify(mlp: nn.Module, rows: Vector) -> list[int]:
    """Classify a batch that has been preprocessed."""
    with torch.inference_mode():
        labels: list[int] = mlp(torch.from_numpy(rows)).argmax(1).tolist()
    return labels


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold torch to one thread in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
