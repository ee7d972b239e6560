"""Batch jobs on Ray Data: a flow over a `ray.data.Dataset`, for jobs larger than memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dataflow.errors import OptionError
from dataflow.executors.ray_serve.cluster import quiet
from dataflow.executors.ray_serve.shipping import ship
from dataflow.executors.results import OnError, checked_mode
from dataflow.expr import options as checks
from dataflow.expr.flow import Flow
from dataflow.expr.join import lift
from dataflow.passes import Pass
from dataflow.plan import make_plan
from dataflow.ray_data.actors import CARRIED, Job, named
from dataflow.ray_data.asking import Processes, asked, bounds, need_ray_data, share_of, size_of
from dataflow.ray_data.segments import segments

if TYPE_CHECKING:
    import pyarrow
    from ray.data import Dataset

__all__ = ["map_batches"]


def map_batches(
    dataset: Dataset,
    flow: Flow[Any, Any],
    *,
    column: str | None = None,
    output: str = "result",
    result_type: pyarrow.DataType | None = None,
    on_error: OnError = "record",
    failure: str = "failure",
    batch_size: int | None = None,
    processes: Processes | None = None,
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
    result_type : pyarrow.DataType, optional
        The type of that column, for files and other programs: a result that does not fit is its row's failure. By
        default results are kept as the Python objects that they are.
    on_error : str
        What a row that fails does: ``"record"`` says in the column `failure` what happened, and leaves the result
        empty; ``"raise"`` ends the job with its error, and ``"skip"`` leaves the row out.
    failure : str
        That column. It holds ``{"type": ..., "message": ..., "stage": ...}``, or None where nothing went wrong.
    batch_size : int, optional
        How many rows are run together; as many as fill the stages' batches, and about 1000, by default. Take fewer
        where rows are large.
    processes : int or (int, int), optional
        How many processes there are in each pool whose stages ask for nothing of their own. By default from one to as
        many as there are cores; one, where something in it is not pure.
    passes : iterable of str or Pass, or str, optional
        The optimizer passes, as `Flow.optimize` takes them.

    Returns
    -------
    ray.data.Dataset
        The same rows, and the results.

    Raises
    ------
    LoweringError
        Where the flow cannot be sent to other processes, or asks for what one pool, or the cluster, cannot have.
    ImportError
        Where Ray Data is not installed.

    Notes
    -----
    Rows keep their order where Ray Data keeps it: see ``ExecutionOptions.preserve_order``.

    Examples
    --------
    ::

        ds = ray.data.read_images("s3://photographs")
        labelled = dataflow.ray_data.map_batches(ds, flow, column="image", output="label", result_type=pyarrow.string())
        labelled.drop_columns(["image"]).write_parquet("s3://labels")
    """
    checked_mode(on_error)
    columns = [output, *([failure] if on_error == "record" else [])]
    if len(set(columns)) < len(columns) or CARRIED in columns:
        raise OptionError(f"map_batches: output and failure must be two columns, neither of them {CARRIED!r}")
    if batch_size is not None:
        checks.whole_number("map_batches", "batch_size", batch_size, 1)
    if processes is not None:
        low, high = bounds(processes)
        checks.whole_number("map_batches", "processes", high, checks.whole_number("map_batches", "processes", low, 1))
    need_ray_data()
    plan = make_plan(lift(flow, "map_batches"), passes)
    job = Job(ship(plan, passes), column, output, failure, result_type, on_error)
    pools = segments(plan)
    sizes = [size_of(segment, processes) for segment in pools]
    share = share_of(pools, sizes)
    for index, (segment, size) in enumerate(zip(pools, sizes, strict=True)):
        with quiet():
            dataset = dataset.map_batches(
                named(segment),
                fn_constructor_args=(job, segment),
                fn_constructor_kwargs={"first": index == 0, "last": index == len(pools) - 1},
                batch_size=batch_size or segment.rows,
                batch_format="pyarrow",
                udf_modifying_row_count=on_error == "skip",
                **asked(segment, size, share),
            )
    return dataset
