"""The MLP behind HTTP on this machine: 64 floats as JSON, by 64 connections at once and by a single one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import cycle, islice
from typing import Any

from benchmarks import effort
from benchmarks.generator import Generator
from benchmarks.mlp import ArgMax, model, one_thread, preprocess, vectors
from benchmarks.online import MAX_WAIT, predictor
from benchmarks.peers import PEERS
from dataflow.bench import Contestant, Findings, Goal, Run, Task, compare, ready
from dataflow.bench.load import Traffic
from dataflow.bench.rounds import problem
from dataflow.bench.tables import LatencyRow, LatencyTable

BATCH = 32
CONNECTIONS = 64
FEW = 256
START_SECONDS = 120.0  # to import torch in processes beside one another takes its time
LOOK_SECONDS = 0.05
END_SECONDS = 5.0

OURS, BY_HAND = "python -m dataflow serve", "FastAPI, batched by hand"


def flow() -> Any:
    """Write it as a flow, for ``python -m dataflow serve``."""
    import numpy as np
    import torch

    import dataflow as df
    import dataflow.torch as dft

    torch.set_num_threads(1)

    def vector(numbers: list[float]) -> Any:
        return preprocess(np.array(numbers, dtype=np.float32))

    mlp, best = (dft.module(net, batch=BATCH, max_wait=MAX_WAIT) for net in (model(), ArgMax()))
    return df.stage(vector) >> mlp >> best


@dataclass
class Server:
    """A server that has been started, and where it answers."""

    process: subprocess.Popen[bytes]
    port: int
    path: str
    log: str

    def await_answer(self, body: Any) -> None:
        """Wait until it answers.

        Raises
        ------
        RuntimeError
            Where it ends, or does not answer in time.
        """
        until = time.monotonic() + START_SECONDS
        while not self._answers(body):
            if self.process.poll() is not None or time.monotonic() > until:
                with open(self.log, encoding="utf-8", errors="replace") as file:
                    raise RuntimeError(f"it does not answer: {file.read()[-300:].strip()}")
            time.sleep(LOOK_SECONDS)

    def _answers(self, body: Any) -> bool:
        """Return whether it answers; what it refuses now it will always refuse."""
        try:
            with closing(Generator(self.port, self.path, 1)) as generator:
                (answer,), _ = generator.run([generator.request(body)])
        except OSError:
            return False
        for status, text in generator.refusals:
            if status < 500:
                raise RuntimeError(f"it answers with {status}: {text[:300]!r}")
        return answer is not None


@contextmanager
def serving(command: Callable[[int], list[str]], path: str) -> Iterator[Server]:
    """Run a server for the block, and end it with all processes that it has started."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        process = subprocess.Popen(
            command(port), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield Server(process, port, path, log.name)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)  # its session, of which no process is left when it fails
        except ProcessLookupError:
            break
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def command_of(adapter: str) -> Callable[[int], list[str]]:
    """Return how a peer is started on a port."""
    code = f"from benchmarks.peers import {adapter}; {adapter}.served"
    return lambda port: [sys.executable, "-c", f"{code}({port})"]


def command_of_ours(port: int) -> list[str]:
    """Return how the flow is served on a port."""
    return [sys.executable, "-m", "dataflow", "serve", "benchmarks.http:flow", "--grace", "1", "--port", str(port)]


def findings(quick: bool = False) -> Findings:
    """Measure."""
    count = CONNECTIONS * (8 if quick else 40)
    peers = {peer.name: peer.adapter for peer in PEERS if "served" in peer.offers}
    if quick:  # the others take long to start
        peers = {BY_HAND: peers[BY_HAND]}
    with one_thread(), ExitStack() as stack:
        mlp = model()
        items = vectors(mlp, FEW)
        wanted = [{"result": label} for label in predictor(mlp)([preprocess(item) for item in items])]
        bodies = [{"item": item.tolist()} for item in items]
        servers: dict[str, Server] = {}
        problems: dict[str, str] = {}
        servers[OURS] = stack.enter_context(serving(command_of_ours, "/"))
        for name, adapter in peers.items():
            try:
                path = import_module(f"benchmarks.peers.{adapter}").PATH
                servers[name] = stack.enter_context(serving(command_of(adapter), path))
            except Exception as error:
                problems[name] = problem(error)
        crowds: dict[str, Generator] = {}
        alone: dict[str, Generator] = {}
        for name, server in servers.items():
            try:
                server.await_answer(bodies[0])
                crowds[name] = stack.enter_context(closing(Generator(server.port, server.path, CONNECTIONS)))
                alone[name] = stack.enter_context(closing(Generator(server.port, server.path, 1)))
            except Exception as error:
                problems[name] = problem(error)
        latencies: dict[str, Traffic] = {name: Traffic() for name in crowds}

        def crowd(name: str) -> Run:
            requests = [crowds[name].request(body) for body in bodies]
            many = list(islice(cycle(requests), count))

            def run(_: Any) -> Any:
                answers, traffic = crowds[name].run(many)
                latencies[name] += traffic
                return answers

            return run

        def contestant(name: str) -> Contestant:
            def missing() -> Run:
                raise NotImplementedError(problems[name])

            return Contestant(name, missing if name in problems else ready(crowd(name)), task)

        expected = list(islice(cycle(wanted), count))
        task = Task(lambda: [None], lambda _, answers: bool(answers == expected), units=count)
        table = compare(
            f"the MLP behind HTTP, {CONNECTIONS} connections, batches of up to {BATCH}",
            [contestant(name) for name in (OURS, *peers)],
            effort=effort(quick, rounds=7, seconds=25),
            passes=1,
            rate=True,
        )
        lone = {name: Traffic() for name in alone}
        for _ in range(3):
            for name, generator in alone.items():
                requests = [generator.request(body) for body in bodies[: 20 if quick else 200]]
                lone[name] += generator.run(requests)[1]
    missing = tuple(LatencyRow(name, None, why) for name, why in problems.items())
    over = (
        lone[OURS].latencies().at(0.5) / lone[BY_HAND].latencies().at(0.5) if {OURS, BY_HAND} <= lone.keys() else None
    )
    return Findings(
        (
            table,
            LatencyTable(f"the latencies of {CONNECTIONS} connections", (*_rows(latencies), *missing)),
            LatencyTable("a lone connection", (*_rows(lone), *missing)),
        ),
        (
            Goal(
                "64 connections: requests a second over FastAPI by hand", table.speed(OURS, BY_HAND), 1.0, at_least=True
            ),
            Goal("a lone connection: median over FastAPI by hand", over, 1.0),
        ),
    )


def _rows(traffic: dict[str, Traffic]) -> Iterator[LatencyRow]:
    return (LatencyRow(name, found.latencies()) for name, found in traffic.items() if found.taken)
