"""Ray and Ray Serve, started where they do not run yet, and stopped when the last who needs them has left."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from dataflow.executors.ray_serve.lowering import Lowered

_STATUS_SECONDS = 10.0
_SHUTDOWN_SECONDS = 5.0
_LEAST_CPUS = 0.01  # a share of a core: Ray counts in hundredths and less


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Ray's own warnings and banners, which say nothing of the user's program, to oneself in the block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def import_ray() -> Any:
    """Return the module of Ray Serve; say what to install where it is not there."""
    try:
        with quiet():
            from ray import serve
    except ImportError as error:
        raise ImportError("RayServe needs ray[serve]: pip install 'dataflow[ray]'") from error
    return serve


@dataclasses.dataclass
class _Running:
    """What was started here, and how many need it."""

    users: int = 0
    ray: bool = False
    serve: bool = False


_running = _Running()
_lock = threading.RLock()


class Hold:
    """Keeps Ray and Ray Serve running until it is released.

    Parameters
    ----------
    address : str, optional
        The cluster's; by default the one that this process is connected to already, or a new one on this machine.
    http : bool
        Whether there is to be a way in for HTTP.
    """

    def __init__(self, address: str | None, *, http: bool) -> None:
        serve = import_ray()
        ray = _ray()
        with _lock, quiet():
            if not ray.is_initialized():
                if not address and "RAY_ADDRESS" not in os.environ:
                    address = "local"  # otherwise Ray would join whichever cluster has been started on this machine
                local = {"include_dashboard": False} if address == "local" else {}
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
                _running.ray = True
            logging.getLogger("ray.serve").setLevel(logging.ERROR)
            if not _serving():
                serve.start(proxy_location="HeadOnly" if http else "Disabled", http_options={"host": "127.0.0.1"})
                _running.serve = True
            _running.users += 1
        self._held = True

    def release(self, *, gone: bool = False) -> None:
        """Let go; what was started here is stopped when nobody needs it any more.

        Parameters
        ----------
        gone : bool
            Whether Ray is known to be out of reach. Then its end is not waited for long: it looks for the cluster's
            head for most of a minute first.
        """
        ray, serve = _ray(), import_ray()
        with _lock, quiet():
            if not self._held:
                return
            self._held = False
            _running.users -= 1
            if _running.users:
                return
            if _running.serve:
                _running.serve = False
                if not _running.ray:  # which takes Ray Serve with it
                    serve.shutdown()
            if _running.ray:
                _running.ray = False
                if gone:
                    ending = threading.Thread(target=ray.shutdown, name="ray-shutdown", daemon=True)
                    ending.start()
                    ending.join(_SHUTDOWN_SECONDS)
                else:
                    ray.shutdown()


def _ray() -> Any:
    """Return the module of Ray, of whose functions not all have types."""
    import ray

    return ray


def _serving() -> bool:
    """Return whether Ray Serve runs on the cluster."""
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

    try:
        _ray().get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    except ValueError:
        return False
    return True


def applications(seconds: float = _STATUS_SECONDS) -> dict[str, Any]:
    """Return the status of each application by its name.

    `ray.serve.status` waits for the controller however long it takes; this asks the same of it, and not for ever.
    """
    found: dict[str, Any] = _details(seconds)._get_status().applications
    return found


def url_of(name: str) -> str | None:
    """Return where an application is reached over HTTP; None where it is not."""
    details = _details(_STATUS_SECONDS)
    application = details.applications.get(name)
    if application is None or application.route_prefix is None or not details.proxies:
        return None
    host, port = details.http_options.host, details.http_options.port
    return f"http://{host}:{port}{application.route_prefix}".rstrip("/")


def _details(seconds: float) -> Any:
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
    from ray.serve.schema import ServeInstanceDetails

    ray = _ray()
    controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    return ServeInstanceDetails(**ray.get(controller.get_serve_instance_details.remote(), timeout=seconds))


def application_here() -> str:
    """Return the name of the application that this process is a replica of."""
    name: str = import_ray().get_replica_context().app_name
    return name


def resources() -> dict[str, float]:
    """Return what the cluster has."""
    has: dict[str, float] = _ray().cluster_resources()
    return has


@dataclasses.dataclass(frozen=True)
class Share:
    """What a replica asks for where its stages do not say.

    Parameters
    ----------
    cpus : float, optional
        Cores; None leaves it to Ray Serve, which reserves one.
    gpus : float
        GPUs, where it has a stage on one.
    """

    cpus: float | None = None
    gpus: float = 1.0


def share_of(lowered: Lowered) -> Share:
    """Return what each replica may ask for that does not say, so that all of them fit into what is free now.

    A core each where there are enough of them, and less where there are not: cores that nobody asked for are no reason
    not to start. GPUs likewise, and none where the cluster has none.
    """
    free = _ray().available_resources()
    asked = sum((each.cpus or 0) * each.least for each in lowered.deployments)
    unsaid = sum(each.most for each in lowered.deployments if each.cpus is None)
    cpus = min(1.0, max(0.0, free.get("CPU", 0.0) - asked) / max(1, unsaid))
    asked = sum((each.gpus or 0) * each.least for each in lowered.deployments)
    unsaid = sum(each.most for each in lowered.deployments if each.on_gpu and each.gpus is None)
    gpus = min(1.0, max(0.0, free.get("GPU", 0.0) - asked) / max(1, unsaid))
    return Share(_floored(cpus), _floored(gpus))


def _floored(share: float) -> float:
    """Return a share as Ray counts it, a little less rather than more."""
    return 0.0 if share < _LEAST_CPUS else int(share * 100) / 100
