"""Batch jobs on Ray Data: a flow over a `ray.data.Dataset`, for jobs larger than memory."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dataflow.errors import OptionError
from dataflow.executors.ray_serve.shipping import ship
from dataflow.executors.results import OnError, checked_mode
from dataflow.expr import options as checks
from dataflow.expr.flow import Flow
from dataflow.passes import Pass
from dataflow.plan import make_plan
from dataflow.ray_data.actors import CARRIED, Actor
from dataflow.ray_data.segments import Segment, segments

if TYPE_CHECKING:
    from ray.data import Dataset

__all__ = ["map_batches"]


def map_batches(
    dataset: Dataset,
    flow: Flow[Any, Any],
    *,
    column: str | None = None,
    output: str = "result",
    on_error: OnError = "raise",
    failure: str = "failure",
    batch_size: int | None = None,
    passes: Iterable[str | Pass] | str | None = None,
) -> Dataset:
    """Run a flow over the rows of a dataset, and return the dataset with a column of results.

    The plan is cut where the placement changes, and each segment becomes a pool of processes of its own, with what its
    stages ask for: ``replicas`` processes (from low to high, if it is two numbers), ``cpus``, ``gpus`` and ``memory``
    each. Nothing is run before the dataset is consumed.

    Parameters
    ----------
    dataset : ray.data.Dataset
        The rows.
    flow : Flow
        What is run on each.
    column : str, optional
        The column that holds the items; each row as a dict, as ``Dataset.map`` hands it out, if not given.
    output : str
        The column of the results. One that has this name already is replaced.
    on_error : str
        What a row that fails does: ``"raise"`` ends the job with its error, ``"record"`` says in the column `failure`
        what happened, and leaves the result empty, and ``"skip"`` leaves it out.
    failure : str
        That column. It holds ``{"type": ..., "message": ..., "stage": ...}``, or None where nothing went wrong.
    batch_size : int, optional
        How many rows are run together; as many as fill the stages' batches, and about 1000, by default. Take fewer
        where rows are large.
    passes : iterable of str or Pass, or str, optional
        The optimizer passes, as `Flow.optimize` takes them.

    Returns
    -------
    ray.data.Dataset
        The same rows, and the results.

    Raises
    ------
    LoweringError
        Where the flow cannot be sent to other processes, or asks for what one pool cannot have.
    ImportError
        Where Ray Data is not installed.

    Notes
    -----
    Rows keep their order where Ray Data keeps it: see ``ExecutionOptions.preserve_order``.

    Examples
    --------
    ::

        ds = ray.data.read_images("s3://photographs")
        labelled = dataflow.ray_data.map_batches(ds, flow, column="image", output="label", on_error="record")
        labelled.write_parquet("s3://labels")
    """
    checked_mode(on_error)
    names = [output, *([failure] if on_error == "record" else [])]
    if len(set(names)) < len(names) or CARRIED in names:
        raise OptionError(f"map_batches: output and failure must be two columns, neither of them {CARRIED!r}")
    if batch_size is not None:
        checks.whole_number("map_batches", "batch_size", batch_size, 1)
    plan = make_plan(flow, passes)
    shipment = ship(plan, passes)
    pools = segments(plan)
    share = _share(pools)
    for index, segment in enumerate(pools):
        dataset = dataset.map_batches(
            Actor,
            fn_constructor_args=(shipment, segment),
            fn_constructor_kwargs={
                "first": index == 0,
                "last": index == len(pools) - 1,
                "column": column,
                "output": output,
                "failure": failure,
                "on_error": on_error,
            },
            batch_size=batch_size or segment.rows,
            batch_format="pyarrow",
            udf_modifying_row_count=on_error == "skip",
            **_asked(segment, share),
        )
    return dataset


def _asked(segment: Segment, share: float) -> dict[str, Any]:
    """Return what Ray Data is told of a segment's pool."""
    try:
        from ray.data import ActorPoolStrategy
    except ImportError as error:
        raise ImportError("dataflow.ray_data needs Ray Data: pip install 'dataflow[ray-data]'") from error
    low, high = segment.replicas if isinstance(segment.replicas, tuple) else (segment.replicas, segment.replicas)
    options: dict[str, Any] = {"compute": ActorPoolStrategy(min_size=low, max_size=high)}
    options["num_cpus"] = share if segment.cpus is None else segment.cpus
    if segment.gpus is not None or segment.on_gpu:
        options["num_gpus"] = 1 if segment.gpus is None else segment.gpus
    if segment.memory is not None:
        options["memory"] = segment.memory
    return options


def _share(pools: tuple[Segment, ...]) -> float:
    """Return how many cores a process asks for whose stages do not say.

    One, where there are enough. But cores that nobody asked for must not be what the reading of the data waits for: all
    pools together leave half of them free.
    """
    import ray

    ask: Any = ray.cluster_resources
    has: float = ask().get("CPU", 0.0) if ray.is_initialized() else 0.0
    unsaid = sum(max(each.replicas) if isinstance(each.replicas, tuple) else each.replicas for each in pools)
    return min(1.0, math.floor(100 * has / 2 / unsaid) / 100)
