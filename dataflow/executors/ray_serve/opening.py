"""Opening a session: the flow is deployed, and looked after until every replica is ready, or cannot be."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import time
import uuid
from typing import TYPE_CHECKING, Any

from dataflow.errors import LoweringError
from dataflow.executors.ray_serve.cluster import (
    Hold,
    Share,
    applications,
    import_ray,
    quiet,
    resources,
    share_of,
    url_of,
)
from dataflow.executors.ray_serve.deploying import application, asked
from dataflow.executors.ray_serve.failures import Sent, received
from dataflow.executors.ray_serve.line import Line
from dataflow.executors.ray_serve.loop import Loop
from dataflow.executors.ray_serve.lowering import Lowered, lower
from dataflow.executors.ray_serve.replica import Settings
from dataflow.executors.ray_serve.session import RaySession
from dataflow.executors.ray_serve.shipping import Shipment, ship
from dataflow.plan import Plan

if TYPE_CHECKING:
    from dataflow.executors.ray_serve import RayServe

_LOOK_SECONDS = 0.5  # how often it is looked how a deployment gets on
_GONE_SECONDS = 0.05
_END_SECONDS = 30.0
_REACH_SECONDS = 5.0  # how long Ray Serve's controller may take to answer whether an application has gone


def opened(executor: RayServe, plan: Plan) -> RaySession:
    """Deploy a plan and return a session on it.

    Raises
    ------
    LoweringError
        Where it cannot be deployed, or not in time.
    Exception
        What a class stage's constructor raised.
    """
    import_ray()
    lowered = lower(plan)
    shipment = ship(plan, executor.passes)
    with contextlib.ExitStack() as stack:
        hold = Hold(executor.address, http=executor.route_prefix is not None)
        stack.callback(hold.release)
        name = executor.name if executor.name != "ray" else f"dataflow-{uuid.uuid4().hex[:8]}"
        handle = deploy(executor, lowered, shipment, name)
        stack.pop_all()
    return RaySession(plan, lowered, executor, handle, functools.partial(_ended, name, hold))


def deploy(executor: RayServe, lowered: Lowered, shipment: Shipment, name: str) -> Any:
    """Deploy an application, wait until all its replicas are ready, and return the ingress's handle."""
    share = share_of(lowered)
    http = executor.route_prefix is not None
    settings = Settings(executor.stages_at_once, executor.start_timeout, patient=True, limits=executor.limits)
    handle = _deployed(executor, application(lowered, shipment, settings, share, http=http), name)
    try:
        if http and url_of(name) is None:
            raise LoweringError(
                f"{name!r} cannot be reached at {executor.route_prefix!r}: Ray Serve was started without a way in for "
                "HTTP, as it is for a session without route_prefix; end that one first, or start Ray Serve yourself"
            )
        _await_ready(executor, handle, name, lowered, share)
    except BaseException:
        deleted(name)
        raise
    return handle


def built(executor: RayServe, plan: Plan) -> Any:
    """Return a plan as a Ray Serve application that nothing is waited for of."""
    import_ray()
    settings = Settings(executor.stages_at_once, executor.start_timeout, patient=False, limits=executor.limits)
    return application(lower(plan), ship(plan, executor.passes), settings, Share(), http=True)


def attached(executor: RayServe, name: str) -> RaySession:
    """Return a session on the application of this name, which runs.

    Raises
    ------
    LoweringError
        Where there is none of this name.
    """
    import_ray()
    from ray import serve

    with contextlib.ExitStack() as stack:
        hold = Hold(executor.address, http=False)
        stack.callback(hold.release)
        running = sorted(applications())
        if name not in running:
            raise LoweringError(f"no application named {name!r} runs: there are {', '.join(running) or 'none'}")
        handle = serve.get_app_handle(name)
        loop = Loop(handle)
        line = Line(handle, "about", f"application {name!r}", loop.loop)
        shipment: Shipment = loop.do(line.answer((b"",), pure=True), executor.start_timeout)
        plan = shipment.plan()
        stack.pop_all()
    return RaySession(plan, lower(plan), executor, handle, hold.release)


def _deployed(executor: RayServe, app: Any, name: str) -> Any:
    """Deploy an application, without waiting for it, and return the ingress's handle."""
    from ray import serve

    with quiet():
        if name in applications():
            raise LoweringError(
                f"an application named {name!r} runs already: open a session on it with RayServe.attach({name!r}), or "
                "give this one another name"
            )
        (handle,) = serve.run_many(
            [serve.RunTarget(app, name=name, route_prefix=executor.route_prefix)],
            wait_for_applications_running=False,
            wait_for_ingress_deployment_creation=True,
        )
    return handle


def _await_ready(executor: RayServe, handle: Any, name: str, lowered: Lowered, share: Share) -> None:
    """Wait until all replicas are ready.

    Raises
    ------
    LoweringError
        Where they are not in time.
    Exception
        What a constructor raised.
    """
    loop = Loop(handle)
    until = time.monotonic() + executor.start_timeout
    several = any(each.least > 1 for each in lowered.deployments)
    line = Line(handle, "ready", f"application {name!r}", loop.loop)
    ready = False
    while not ready:
        answer: Sent | bool | None = None
        future = asyncio.run_coroutine_threadsafe(line.answer((b"",), pure=True), loop.loop)
        try:
            answer = future.result(min(_LOOK_SECONDS, max(0.0, until - time.monotonic())))
        except concurrent.futures.TimeoutError:
            pass
        finally:
            future.cancel()
        if isinstance(answer, Sent):
            raise received(answer)
        if answer is True and not several:  # each replica that there is to be has answered
            return
        status = applications().get(name)
        if status is not None and status.status == "DEPLOY_FAILED":
            raise LoweringError(f"Ray Serve could not deploy {name!r}: {status.message}")
        ready = answer is True and status is not None and status.status == "RUNNING"
        if not ready and time.monotonic() >= until:
            raise LoweringError(_late(executor, name, status, lowered, share))


def _late(executor: RayServe, name: str, status: Any, lowered: Lowered, share: Share) -> str:
    """Return what to say of an application that is not ready in time."""
    has = resources()
    totals = {
        what: sum(asked(each, share).get(option, 0.0) * each.least for each in lowered.deployments)
        for option, what in (("num_cpus", "CPU"), ("num_gpus", "GPU"), ("memory", "memory"))
    }
    wanted = ", ".join(f"{amount:g} {what} of {has.get(what, 0.0):g}" for what, amount in totals.items() if amount)
    waiting = [
        f"{each}: {found.status.value.lower()}"
        for each, found in (status.deployments.items() if status is not None else ())
        if found.status != "HEALTHY"
    ]
    return (
        f"{name!r} was not ready within {executor.start_timeout:g} s (start_timeout). It asks for "
        f"{wanted or 'nothing'} that the cluster has; not ready: {'; '.join(waiting) or 'unknown'}. Ask for less "
        "(replicas, cpus, gpus, memory of the stages), add nodes, or raise start_timeout"
    )


def _ended(name: str, hold: Hold) -> None:
    gone = True
    try:
        gone = not deleted(name)
    finally:
        hold.release(gone=gone)


def deleted(name: str) -> bool:
    """Delete an application, wait until its replicas have ended, and return whether Ray could be reached for it."""
    from ray import serve

    try:
        with quiet():
            serve.delete(name, _blocking=False)
            until = time.monotonic() + _END_SECONDS
            while name in applications(_REACH_SECONDS) and time.monotonic() < until:
                time.sleep(_GONE_SECONDS)
    except Exception:  # where Ray has gone, so has the application
        return False
    return True
