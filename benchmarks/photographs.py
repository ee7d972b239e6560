"""Two ResNets over photographs, their mean the answer: the flow of examples/vision.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torchvision import models

from benchmarks import beside, effort, example, kept
from benchmarks.mlp import SEED, one_thread
from benchmarks.nets import chunks, close, run
from dataflow.bench import Findings

BATCH = 8


def findings(quick: bool = False) -> Findings:
    """Measure; the weights are random, and do not matter."""
    import dataflow.torch as dft

    shown = example("vision")
    torch.manual_seed(SEED)
    with one_thread():
        nets = [
            torch.nn.Sequential(models.get_model(name), torch.nn.Softmax(dim=-1)).eval()
            for name in ("resnet18", "resnet34")
        ]
        flow = shown.build_ensemble(*[dft.module(net, batch=BATCH) for net in nets])
        photos = [photo for _, photo in shown.photographs(4 if quick else 16, SEED)]

        def by_hand(photos: list[Any]) -> list[Any]:
            answers = []
            for chunk in chunks(photos, BATCH):
                rows = [shown.preprocess.fn(photo) for photo in chunk]
                for scores in (run(nets[0], rows) + run(nets[1], rows)) / 2:
                    best = np.argsort(scores)[::-1][:5]
                    answers.append(shown.Answer(tuple(int(index) for index in best), float(scores[best[0]])))
            return answers

        return kept(
            beside(
                f"ResNets: {len(photos)} photographs", flow, photos, by_hand, effort=effort(quick, 7, 40), same=close
            )
        )
