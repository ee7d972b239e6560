"""Three trained models on scikit-learn's digits, as an ensemble and as a cascade: the flows of examples/digits.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from benchmarks import beside, effort, example, kept
from benchmarks.mlp import SEED, one_thread
from benchmarks.nets import chunks, run
from dataflow.bench import Findings

BATCH = 64


def findings(quick: bool = False) -> Findings:
    """Measure."""
    import dataflow.torch as dft

    shown = example("digits")
    torch.manual_seed(SEED)
    with one_thread():
        digits = load_digits()
        images = list(digits.images)[: 500 if quick else None]
        epochs = 1 if quick else 10
        nets = [shown.train(net, images, digits.target[: len(images)], epochs) for net in shown.networks().values()]
        stages = [dft.module(net, batch=BATCH) for net in nets]

        def pixels(image: Any) -> Any:
            return (image / 16.0).astype(np.float32)[np.newaxis]

        def ensemble(images: list[Any]) -> list[int]:
            labels: list[int] = []
            for chunk in chunks(images, BATCH):
                rows = [pixels(image) for image in chunk]
                labels += np.mean([run(net, rows) for net in nets], axis=0).argmax(1).tolist()
            return labels

        def cascade(images: list[Any]) -> list[int]:
            labels: list[int] = []
            unsure: list[tuple[int, Any]] = []
            for chunk in chunks(images, BATCH):
                rows = [pixels(image) for image in chunk]
                scores = run(nets[0], rows)
                weak = np.flatnonzero(scores.max(1) < 0.8)
                unsure += [(len(labels) + int(place), rows[place]) for place in weak]
                labels += scores.argmax(1).tolist()
            for few in chunks(unsure, BATCH):
                better = run(nets[2], [row for _, row in few]).argmax(1)
                for (place, _), label in zip(few, better, strict=True):
                    labels[place] = int(label)
            return labels

        much = effort(quick, rounds=21, seconds=20)
        return kept(
            beside(f"ensemble: {len(images):,} digits", shown.build_ensemble(*stages), images, ensemble, effort=much),
            beside(
                f"cascade: {len(images):,} digits",
                shown.build_cascade(stages[0], stages[2]),
                images,
                cascade,
                effort=much,
            ),
        )
