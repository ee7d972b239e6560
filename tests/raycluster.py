"""The Ray that the tests of Ray Serve share, and an executor that runs one flow after another in the same replicas."""

import contextlib
import dataclasses
import functools
import itertools
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray

import dataflow as df
from dataflow.executors.ray_serve.cluster import import_ray, quiet
from dataflow.executors.ray_serve.failures import Sent, received
from dataflow.executors.ray_serve.loop import Loop, use_running_loop
from dataflow.executors.ray_serve.lowering import lower
from dataflow.executors.ray_serve.replica import Ingress, Placed, Settings
from dataflow.executors.ray_serve.session import RaySession
from dataflow.executors.ray_serve.shipping import Shipment, ship
from dataflow.plan import Plan

LIMIT = 120.0


@contextlib.contextmanager
def cluster() -> Iterator[None]:
    """Start Ray and Ray Serve for the block, which answers over HTTP where nobody else does."""
    with quiet():
        serve = import_ray()
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # replicas do not find what tests import
        ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        serve.start(http_options={"host": "127.0.0.1", "port": free_port()})
    try:
        yield
    finally:
        _free.clear()
        with quiet():
            serve.shutdown()
            ray.shutdown()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class PlacedHost:
    """A replica of whatever is placed elsewhere, one flow after another."""

    def __init__(self) -> None:
        self.inner: list[Placed] = []

    async def become(self, shipment: Shipment, settings: Settings, names: list[str]) -> None:
        self.inner = [Placed(shipment, settings, name) for name in names]

    async def call(self, options: tuple[str], *message: Any) -> Any:
        steps = {step: placed for placed in self.inner for step in placed.lowered.named(placed.name).steps}
        return await steps[options[0]].call(options, *message)

    async def ready(self, options: tuple[()], *message: Any) -> Any:
        return next((placed.failed for placed in self.inner if placed.failed is not None), True)


class IngressHost:
    """A replica of the ingress, of one flow after another."""

    def __init__(self, placed: Any) -> None:
        self.placed = placed
        use_running_loop(placed)
        self.inner: Ingress | None = None

    async def become(self, shipment: Shipment, settings: Settings, names: list[str]) -> Any:
        if self.inner is not None:
            self.inner.end()
        await self.placed.become.remote(shipment, settings, names[1:])
        self.inner = Ingress(shipment, settings, names[0], dict.fromkeys(names[1:], self.placed))
        return await self.inner.ready(())

    async def items(self, options: Any, *message: Any) -> Any:
        return await self.inner.items(options, *message)

    async def rest(self, options: Any, *message: Any) -> Any:
        return await self.inner.rest(options, *message)

    async def report(self, options: Any, *message: Any) -> Any:
        return await self.inner.report(options, *message)


@dataclasses.dataclass(frozen=True)
class Hosted(df.RayServe):
    """Runs each flow in replicas that were started for others, for to start a process takes seconds.

    They are Ray Serve's, and so are the handles. What is made in them for each flow is what is deployed otherwise: an
    `Ingress`, and a `Placed` for each placement. But all placements share a process, and none has several replicas.
    """

    def _opened(self, plan: Plan) -> Any:
        lowered = lower(plan)
        settings = Settings(self.stages_at_once, self.start_timeout, patient=True, limits=self.limits)
        names = [each.name for each in lowered.deployments]
        host = _free.pop() if _free else _started()
        try:
            ready = Loop(host).do(_become(host, ship(plan, self.passes), settings, names), LIMIT)
            if isinstance(ready, Sent):
                raise received(ready)
        except BaseException:
            _free.append(host)
            raise
        return RaySession(plan, lowered, self, host, functools.partial(_free.append, host))


async def _become(handle: Any, *given: Any) -> Any:
    return await handle.become.remote(*given)


_free: list[Any] = []  # hosts, by their handles, that no session uses
_numbers = itertools.count(1)


def _started() -> Any:
    """Return one more host."""
    serve = import_ray()
    options = {"max_ongoing_requests": 1024, "ray_actor_options": {"num_cpus": 0}}
    placed: Any = serve.deployment(PlacedHost, **options)
    ingress: Any = serve.deployment(IngressHost, **options)
    with quiet():
        return serve.run(ingress.bind(placed.bind()), name=f"host-{next(_numbers)}", route_prefix=None)


def processes(named: Callable[[str], bool]) -> Iterator[int]:
    """Yield the processes of the Ray that was started here, whose names are such."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name = (entry / "cmdline").read_bytes().split(b"\0")[0].decode()
        except (OSError, ValueError):
            continue
        if named(name) and _descends(int(entry.name)):
            yield int(entry.name)


def _descends(pid: int) -> bool:
    """Return whether a process was started by this one, or by one that was: nobody else's Ray is ours to kill."""
    while pid > 1:
        if pid == os.getpid():
            return True
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return False
        pid = int(stat.rpartition(")")[2].split()[1])
    return False
