"""The Ray that the tests of Ray Serve share, and an executor that deploys each flow once and attaches to it after."""

import contextlib
import dataclasses
import itertools
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import ray

import dataflow as df
from dataflow.executors.ray_serve.cluster import import_ray, quiet
from dataflow.executors.ray_serve.lowering import lower
from dataflow.executors.ray_serve.opening import attached, deleted, deploy
from dataflow.executors.ray_serve.session import Loop
from dataflow.executors.ray_serve.shipping import ship
from dataflow.plan import Plan

_numbers = itertools.count(1)

MOST = 4  # applications that stay deployed: each takes a process or more


@contextlib.contextmanager
def cluster() -> Iterator[None]:
    """Start Ray and Ray Serve for the block, which answers over HTTP where nobody else does."""
    with quiet():
        serve = import_ray()
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        serve.start(http_options={"host": "127.0.0.1", "port": free_port()})
    try:
        yield
    finally:
        Kept.deployed.clear()
        with quiet():
            serve.shutdown()
            ray.shutdown()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@dataclasses.dataclass(frozen=True)
class Kept(df.RayServe):
    """Deploys each flow once: to start a process takes seconds here, and most tests are of what comes after."""

    deployed: ClassVar[dict[Any, str]] = {}

    def _opened(self, plan: Plan) -> Any:
        key = (plan.flow, plan.digest)
        if key not in self.deployed:
            while len(self.deployed) >= MOST:
                deleted(self.deployed.pop(next(iter(self.deployed))))
            name = f"kept-{next(_numbers)}"
            loop = Loop()
            try:
                deploy(self, lower(plan), ship(plan, self.passes), name, loop)
            finally:
                loop.stop()
            self.deployed[key] = name
        return attached(self, self.deployed[key])


def processes(named: Callable[[str], bool]) -> Iterator[int]:
    """Yield the processes whose names are such."""
    for entry in Path("/proc").iterdir():
        try:
            name = (entry / "cmdline").read_bytes().split(b"\0")[0].decode()
        except (OSError, ValueError):
            continue
        if entry.name.isdigit() and named(name):
            yield int(entry.name)
