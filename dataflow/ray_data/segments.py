"""Cutting a plan into segments: runs of steps that one pool of processes can do, one after another."""

from __future__ import annotations

import dataclasses
import math

from dataflow.errors import LoweringError
from dataflow.executors.ray_serve.lowering import Deployment, Lowered, Replicas, lower
from dataflow.graph import Value, ops
from dataflow.plan import Plan, Step

MOST_ROWS = 1024
"""The most rows that are handed to a pool's process at once, unless a batch is larger."""


@dataclasses.dataclass(frozen=True)
class Segment:
    """Steps that follow one another in a plan, and run in one pool.

    Parameters
    ----------
    name : str
        The placement's, or several joined.
    start, stop : int
        Which of the plan's steps.
    carried : tuple of Value
        The values that later segments, or the result, need of those that are there when it is done.
    rows : int
        How many rows are handed to it at once, so that its batches are full.
    replicas : int or (int, int)
        How many processes there are to be.
    cpus, gpus, memory : float, optional
        What each asks for; None where no stage says.
    on_gpu : bool
        Whether it has a stage on a GPU.
    """

    name: str
    start: int
    stop: int
    carried: tuple[Value, ...]
    rows: int
    replicas: Replicas
    cpus: float | None
    gpus: float | None
    memory: float | None
    on_gpu: bool


def segments(plan: Plan) -> tuple[Segment, ...]:
    """Return a plan's segments.

    Neighbouring steps of one placement are one segment. A construct (`switch`, `retry`, ...) is run where its stages
    are placed; if they are placed in several places, then in a pool of its own that has what all of these ask for.

    Raises
    ------
    LoweringError
        Where stages that are to share a process disagree about it.

    Examples
    --------
    >>> import dataflow as df
    >>> flow = df.stage(abs) >> df.stage(str, placement="there") >> df.stage(len)
    >>> [(each.name, each.start, each.stop) for each in segments(flow.optimize())]
    [('ingress', 0, 1), ('there', 1, 2), ('ingress', 2, 3)]
    """
    lowered = lower(plan)
    cuts: list[tuple[tuple[Deployment, ...], int]] = []
    for index, step in enumerate(plan.steps):
        places = _places(lowered, step) or (cuts[-1][0] if cuts else (lowered.ingress,))
        if not cuts or places != cuts[-1][0]:
            cuts.append((places, index))
    if not cuts:
        cuts.append(((lowered.ingress,), 0))
    stops = [start for _, start in cuts[1:]] + [len(plan.steps)]
    return tuple(_segment(plan, places, start, stop) for (places, start), stop in zip(cuts, stops, strict=True))


def _places(lowered: Lowered, step: Step) -> tuple[Deployment, ...]:
    """Return the deployments that a step's own stages, and those in its bodies, are placed in."""
    names = {each.name for each in all_steps(step)}
    return tuple(each for each in lowered.deployments if names & set(each.steps))


def all_steps(step: Step) -> list[Step]:
    """Return a step and all that it holds."""
    found, waiting = [], [step]
    while waiting:
        found.append(waiting.pop())
        waiting += [inner for body in found[-1].bodies for inner in body.steps]
    return found


def _segment(plan: Plan, places: tuple[Deployment, ...], start: int, stop: int) -> Segment:
    steps = plan.steps
    needed = {value for step in steps[stop:] for value in step.inputs} | {plan.block.result}
    made = {Value(0)} | {value for step in steps[:stop] for value in step.outputs}
    replicas = {each.replicas for each in places if each.replicas != 1}
    if len(replicas) > 1:
        asked = ", ".join(f"{each.name!r} asks for {each.replicas}" for each in places)
        raise LoweringError(
            f"the stages inside step {steps[start].name!r} run in one pool, and ask for different numbers of "
            f"processes: {asked}; give them the same replicas"
        )
    return Segment(
        name="+".join(each.name for each in places),
        start=start,
        stop=stop,
        carried=tuple(sorted(needed & made, key=lambda value: (value.node, value.output))),
        rows=_rows(steps[start:stop]),
        replicas=next(iter(replicas), 1),
        cpus=_sum([each.cpus for each in places]),
        gpus=_sum([each.gpus for each in places]),
        memory=_sum([each.memory for each in places]),
        on_gpu=any(each.on_gpu for each in places),
    )


def _sum(asked: list[float | None]) -> float | None:
    given = [each for each in asked if each is not None]
    return sum(given) if given else None


def _rows(steps: tuple[Step, ...]) -> int:
    """Return so many rows that every batch of these steps can be full."""
    sizes = [size for step in steps for inner in all_steps(step) if (size := _batch(inner)) is not None]
    common = math.lcm(*sizes)
    return max(sizes) if sizes and common > MOST_ROWS else MOST_ROWS // common * common


def _batch(step: Step) -> int | None:
    if isinstance(step.op, ops.Batched):
        return step.op.batch
    return step.op.stage.options.batch if isinstance(step.op, ops.Call) else None
