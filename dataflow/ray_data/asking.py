"""What pools ask Ray for: how many processes, and what each of them needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dataflow.errors import LoweringError
from dataflow.executors.ray_serve.cluster import Share
from dataflow.ray_data.segments import Segment

Processes = int | tuple[int, int]
"""How many there are of a pool: always as many, or from as many to as many."""


def need_ray_data() -> None:
    """Say what to install where Ray Data is not there."""
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise ImportError("dataflow.ray_data needs Ray Data: pip install 'dataflow[ray-data]'") from error


def bounds(processes: Processes) -> tuple[int, int]:
    """Return the fewest and the most."""
    return processes if isinstance(processes, tuple) else (processes, processes)


def size_of(segment: Segment, processes: Processes | None) -> tuple[int, int]:
    """Return how many processes a segment's pool has, at the least and at the most.

    Parameters
    ----------
    segment : Segment
        Its stages' word goes first.
    processes : int or (int, int), optional
        The user's, for pools whose stages ask for nothing.
    """
    if segment.replicas is not None:
        return bounds(segment.replicas)
    if segment.on_gpu or any(each is not None for each in (segment.cpus, segment.gpus, segment.memory)):
        return 1, 1
    if processes is not None:
        return bounds(processes)
    return (1, _cores()) if segment.pure else (1, 1)


def asked(segment: Segment, size: tuple[int, int], share: Share) -> dict[str, Any]:
    """Return what Ray Data is told of a segment's pool."""
    from ray.data import ActorPoolStrategy

    options: dict[str, Any] = {"compute": ActorPoolStrategy(min_size=size[0], max_size=size[1])}
    options["num_cpus"] = share.cpus if segment.cpus is None else segment.cpus
    if gpus := (share.gpus * segment.on_gpu if segment.gpus is None else segment.gpus):
        options["num_gpus"] = gpus
    if segment.memory is not None:
        options["memory"] = segment.memory
    if not segment.pure:
        options["max_restarts"] = 0  # a process that dies ends the job: its rows must not be run again
    return options


def share_of(pools: Sequence[Segment], sizes: Sequence[tuple[int, int]]) -> Share:
    """Return what a process asks for whose stages do not say how much.

    A core and, on a GPU, a GPU, where there are enough. But what nobody asked for must not be what the job waits for:
    all pools together leave half of the cores that are free now, for the reading of the data, and share the GPUs that
    there are, if there are any.

    Raises
    ------
    LoweringError
        Where the cluster has not what the stages do ask for: Ray Data would wait for it for ever.
    """
    if not _running():
        return Share(cpus=1.0)
    has, free = _resources("cluster_resources"), _resources("available_resources")
    least = [(each, low) for each, (low, _) in zip(pools, sizes, strict=True)]
    wanted = {
        "CPU": sum(low * (each.cpus or 0) for each, low in least),
        "GPU": sum(low * (each.gpus or 0) for each, low in least),
        "memory": sum(low * (each.memory or 0) for each, low in least),
    }
    if lacking := {what: much for what, much in wanted.items() if much > has.get(what, 0.0)}:
        told = ", ".join(f"{much:g} {what} of {has.get(what, 0.0):g}" for what, much in lacking.items())
        raise LoweringError(
            f"the pools of this flow ask for {told} that the cluster has, and would wait for ever: ask for less "
            "(replicas, cpus, gpus, memory of the stages), or add nodes first"
        )
    no_cpus = sum(low for each, low in least if each.cpus is None)
    no_gpus = sum(low for each, low in least if each.gpus is None and each.on_gpu)
    return Share(
        _part(free.get("CPU", 0.0) / 2, no_cpus),
        _part(has.get("GPU", 0.0) - wanted["GPU"], no_gpus),
    )


def _part(much: float, parts: int) -> float:
    """Return what each gets of so much, at the most one, in hundredths as Ray counts."""
    return min(1.0, math.floor(100 * much / parts) / 100) if parts else 1.0


def _cores() -> int:
    return max(1, int(_resources("cluster_resources").get("CPU", 1.0))) if _running() else 1


def _running() -> bool:
    import ray

    is_initialized: Any = ray.is_initialized
    return bool(is_initialized())


def _resources(which: str) -> dict[str, float]:
    import ray

    found: dict[str, float] = getattr(ray, which)()
    return found
