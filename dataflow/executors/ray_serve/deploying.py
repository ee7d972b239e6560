"""Making a Ray Serve application of what a plan was lowered to."""

from __future__ import annotations

from typing import Any

from dataflow.executors.ray_serve.cluster import Share
from dataflow.executors.ray_serve.lowering import Deployment, Lowered
from dataflow.executors.ray_serve.replica import Ingress, Placed, Settings
from dataflow.executors.ray_serve.shipping import Shipment

ONGOING = 1024
"""The most calls that a replica takes at once. Who sends them bounds them itself, so that a batch can always fill."""

_TARGET = 2.0  # calls under way a replica, that autoscaling aims at: one that runs, and the next one
_HEALTH_SECONDS = 2.0  # how often a replica is looked at, so that a dead one is soon replaced
_LOOK_SECONDS = 0.1  # how often one that is to end looks whether it has anything to do
_GRACE_SECONDS = 20.0  # how long one that is to end may go on with what it has
_CONSTRUCTIONS = 3
_NO_ACCESS_LOG = {"logging_config": {"enable_access_log": False}}  # calls that carry batches are nobody's requests


def application(lowered: Lowered, shipment: Shipment, settings: Settings, share: Share, *, http: bool) -> Any:
    """Return the Ray Serve application, which answers over HTTP or does not."""
    from ray import serve

    handles: dict[str, Any] = {}
    for deployment in lowered.deployments[1:]:
        options = options_of(deployment, share) | _NO_ACCESS_LOG
        placed: Any = serve.deployment(Placed, name=deployment.name, **options)
        handles[deployment.name] = placed.bind(shipment, settings, deployment.name)
    ingress = lowered.ingress
    kind = serve.ingress()(Ingress) if http else Ingress
    options = options_of(ingress, share) | ({} if http else _NO_ACCESS_LOG)
    served: Any = serve.deployment(kind, name=ingress.name, **options)
    return served.bind(shipment, settings, ingress.name, handles)


def asked(deployment: Deployment, share: Share) -> dict[str, float]:
    """Return what each replica asks for, by Ray's names."""
    cpus = share.cpus if deployment.cpus is None else deployment.cpus
    gpus = share.gpus if deployment.gpus is None and deployment.on_gpu else deployment.gpus
    amounts = {"num_cpus": cpus, "num_gpus": gpus, "memory": deployment.memory}
    return {name: value for name, value in amounts.items() if value is not None}


def options_of(deployment: Deployment, share: Share) -> dict[str, Any]:
    """Return what Ray Serve is told of a deployment."""
    options: dict[str, Any] = {
        "ray_actor_options": asked(deployment, share),
        "max_ongoing_requests": ONGOING,
        "health_check_period_s": _HEALTH_SECONDS,
        "graceful_shutdown_wait_loop_s": _LOOK_SECONDS,
        "graceful_shutdown_timeout_s": _GRACE_SECONDS,
        "max_constructor_retry_count": _CONSTRUCTIONS,
    }
    if isinstance(deployment.replicas, tuple):
        low, high = deployment.replicas
        options["autoscaling_config"] = {
            "min_replicas": low,
            "max_replicas": high,
            "target_ongoing_requests": _TARGET,
        }
    else:
        options["num_replicas"] = deployment.replicas
    return options
