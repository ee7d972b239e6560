"""What is said of deployments when a flow is explained."""

from __future__ import annotations

from dataflow.executors.ray_serve.lowering import BY_VALUE, Deployment, Lowered
from dataflow.explain import Place

_TRANSPORT = (
    f"up to {BY_VALUE // 1024} KiB by value, in the call itself; more by reference, through memory that both share on "
    "one machine, and through Ray's from one to another"
)


def places(lowered: Lowered) -> tuple[Place, ...]:
    """Return the deployments as `explain` shows them.

    Examples
    --------
    >>> import dataflow as df
    >>> from dataflow.executors.ray_serve.lowering import lower
    >>> [(place.name, place.steps) for place in places(lower((df.stage(abs) >> str).optimize()))]
    [('ingress', ('abs+str',))]
    """
    return tuple(Place(each.name, each.steps, _asks(each), _reached(each), each.why) for each in lowered.deployments)


def _asks(deployment: Deployment) -> str:
    count = deployment.replicas
    said = f"{count[0]} to {count[1]} replicas" if isinstance(count, tuple) else f"{count} replica{'s' * (count > 1)}"
    amounts = {"CPUs": deployment.cpus, "GPUs": deployment.gpus, "bytes of memory": deployment.memory}
    given = [f"{amount:g} {what}" for what, amount in amounts.items() if amount is not None]
    if deployment.gpus is None and deployment.on_gpu:
        given.append("a GPU, or a share of one where they are few")
    return f"{said}{', each with ' if given else ''}{', '.join(given)}"


def _reached(deployment: Deployment) -> str:
    if deployment.ingress:
        return f"by requests of many items, those that come together in one; {_TRANSPORT}"
    rows = sorted({hop.rows for hop in deployment.hops})
    return f"from the ingress, up to {' or '.join(map(str, rows))} rows in one call; {_TRANSPORT}"
