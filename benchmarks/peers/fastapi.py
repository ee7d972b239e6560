"""FastAPI and uvicorn, with the batcher for coroutines that a good engineer writes."""

from __future__ import annotations

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from benchmarks.http import BATCH
from benchmarks.mlp import model
from benchmarks.online import AsyncBatcher, predictor

PATH = "/predict"


def served(port: int) -> None:
    """Answer on a port."""
    torch.set_num_threads(1)
    app = FastAPI()
    batcher = AsyncBatcher(predictor(model()), BATCH)

    @app.post(PATH)
    async def predict(request: Request) -> JSONResponse:
        body = await request.json()
        label = await batcher.arun(np.array(body["item"], dtype=np.float32))
        return JSONResponse({"result": label})

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)
