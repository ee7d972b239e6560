"""LitServe: a process that answers, and one that runs the model.

It reads the annotations of its API when the code runs: they are types here, and no text.
"""

import litserve
import numpy as np
import torch
from fastapi import Request, Response
from fastapi.responses import JSONResponse

from benchmarks.http import BATCH
from benchmarks.mlp import Vector, model, preprocess
from benchmarks.online import MAX_WAIT, predictor

PATH = "/predict"


class Classifier(litserve.LitAPI):
    """The MLP; LitServe forms the batches."""

    def setup(self, device: str) -> None:
        """Make the model, where it runs."""
        torch.set_num_threads(1)
        self._predict = predictor(model())

    def decode_request(self, request: Request) -> Vector:
        """Make an item of a request."""
        return preprocess(np.array(request["item"], dtype=np.float32))

    def batch(self, inputs: list[Vector]) -> list[Vector]:
        """Leave a batch as it is: the model stacks it."""
        return inputs

    def predict(self, x: list[Vector]) -> list[int]:
        """Run one batch."""
        return self._predict(x)

    def unbatch(self, output: list[int]) -> list[int]:
        """Give each request its own."""
        return output

    def encode_response(self, output: int) -> Response:
        """Make an answer of a result."""
        return JSONResponse({"result": output})


def served(port: int) -> None:
    """Answer on a port."""
    api = Classifier(max_batch_size=BATCH, batch_timeout=MAX_WAIT)
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False, access_log=False)
