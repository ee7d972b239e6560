"""The Ray that the tests of Ray Serve share, and an executor that deploys each flow once and attaches to it after."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, ClassVar

import dataflow as df
from dataflow.executors.ray_serve.cluster import Hold
from dataflow.executors.ray_serve.lowering import lower
from dataflow.executors.ray_serve.opening import attached, deleted, deploy
from dataflow.executors.ray_serve.session import Loop
from dataflow.executors.ray_serve.shipping import ship
from dataflow.plan import Plan

_numbers = itertools.count(1)

MOST = 4  # applications that stay deployed: each takes a process or more


@contextlib.contextmanager
def cluster() -> Iterator[None]:
    """Start Ray and Ray Serve for the block."""
    hold = Hold(None, http=True)
    try:
        yield
    finally:
        Kept.deployed.clear()
        hold.release()


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
