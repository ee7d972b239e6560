"""Small models with random weights, the same each time: what they answer means nothing, what they cost is real."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.mlp import SEED


def dense(*widths: int) -> nn.Module:
    """Make layers of these widths."""
    torch.manual_seed(SEED)
    layers: list[nn.Module] = []
    for given, made in pairwise(widths):
        layers += [nn.Linear(given, made), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


def convolutional(channels: int, classes: int) -> nn.Module:
    """Make a small classifier of pictures, 3 x 32 x 32."""
    torch.manual_seed(SEED)
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * channels, classes),
    ).eval()


def pictures(count: int, size: int = 32) -> list[Any]:
    """Draw pictures, 3 x size x size."""
    return list(np.random.default_rng(SEED).random((count, 3, size, size), dtype=np.float32))


def run(net: nn.Module, rows: Sequence[Any]) -> Any:
    """Run one batch, given as rows, and return an array."""
    with torch.inference_mode():
        return net(torch.from_numpy(np.array(rows))).numpy()


def chunks(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """Cut items into batches."""
    stream = iter(items)
    while chunk := list(islice(stream, size)):
        yield chunk


def in_batches(net: nn.Module, rows: Sequence[Any], size: int) -> list[Any]:
    """Run a model over rows, and return a row of results for each."""
    return [row for chunk in chunks(rows, size) for row in run(net, chunk)]


def close(one: Any, other: Any) -> bool:
    """Return whether two results are the same but for rounding."""
    from dataflow.bench.alike import alike

    return alike(one, other, 1e-3)
