"""mosec: a server in Rust that forms batches, and a process of Python that runs them."""

from __future__ import annotations

import sys
from typing import Any

import mosec
import numpy as np
import torch

from benchmarks.http import BATCH
from benchmarks.mlp import model, preprocess
from benchmarks.online import MAX_WAIT, predictor

PATH = "/inference"


class Classifier(mosec.Worker):
    """The MLP."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self._predict = predictor(model())

    def forward(self, data: list[Any]) -> list[Any]:
        """Run one batch."""
        rows = [preprocess(np.array(each["item"], dtype=np.float32)) for each in data]
        return [{"result": label} for label in self._predict(rows)]


def served(port: int) -> None:
    """Answer on a port."""
    sys.argv = ["mosec", "--address", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    server = mosec.Server()
    server.append_worker(Classifier, num=1, max_batch_size=BATCH, max_wait_time=int(1000 * MAX_WAIT))
    server.run()
