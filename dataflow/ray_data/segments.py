"""Cutting a plan into segments: runs of steps that one pool of processes can do, one after another."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

from dataflow.errors import LoweringError
from dataflow.executors.ray_serve.lowering import Deployment, Lowered, Replicas, lower
from dataflow.graph import Value, ops
from dataflow.passes.fuse import CPU
from dataflow.plan import Plan, Step

MOST_ROWS = 1024
"""The most rows that are handed to a pool's process at once, unless a batch is larger."""


@dataclasses.dataclass(frozen=True)
class Segment:
    """Steps that run one after another in one pool of processes.

    Parameters
    ----------
    name : str
        The placement's, or several joined.
    start, stop : int
        Which of the plan's steps, in the order in which `arranged` puts them.
    given, carried : tuple of Value
        The values that it is given, and those that later segments, or the result, need of what is there when it is
        done.
    rows : int
        How many rows are handed to it at once, so that its batches are full.
    pure : bool
        Whether rows may be run again when a process has died.
    replicas : int or (int, int), optional
        How many processes there are to be; None where no stage says.
    cpus, gpus, memory : float, optional
        What each asks for; None where no stage says.
    on_gpu : bool
        Whether it has a stage on a GPU.
    """

    name: str
    start: int
    stop: int
    given: tuple[Value, ...]
    carried: tuple[Value, ...]
    rows: int
    pure: bool
    replicas: Replicas | None
    cpus: float | None
    gpus: float | None
    memory: float | None
    on_gpu: bool


Places = tuple[str, ...]
"""Where the stages of a step, its own and those in its bodies, are placed; nowhere, where it has none."""


def segments(plan: Plan) -> tuple[Segment, ...]:
    """Return a plan's segments.

    Steps of one placement that can follow one another are one segment. A construct (`switch`, `retry`, ...) is run
    where its stages are placed; if they are placed in several places, then in a pool of its own that has what all of
    these ask for. What has no stage in it goes with what it follows.

    Raises
    ------
    LoweringError
        Where stages that are to share a process disagree about it.

    Examples
    --------
    >>> import dataflow as df
    >>> flow = df.stage(abs) >> df.stage(str, placement="there") >> df.stage(len)
    >>> [(each.name, each.start, each.stop) for each in segments(flow.optimize())]
    [('cpu', 0, 1), ('there', 1, 2), ('cpu', 2, 3)]
    """
    lowered = lower(plan)
    order = _order(plan, lowered)
    cuts: list[tuple[Places, int]] = []
    for index, (_, places) in enumerate(order):
        if not cuts or (places and cuts[-1][0] and places != cuts[-1][0]):
            cuts.append((places, index))
        elif not cuts[-1][0]:
            cuts[-1] = places, cuts[-1][1]
    cuts = cuts or [((), 0)]
    steps = [step for step, _ in order]
    stops = [start for _, start in cuts[1:]] + [len(steps)]
    last = _last_uses(plan, steps)
    shown = {each.name: _name(plan, each) for each in lowered.deployments}
    made: list[Segment] = []
    for (places, start), stop in zip(cuts, stops, strict=True):
        given = made[-1].carried if made else (Value(0),)
        there = {*given, *(value for step in steps[start:stop] for value in step.outputs)}
        asks = _asked(steps[start:stop], [lowered.named(name) for name in places])
        carried = sorted(
            (value for value in there if last[value] >= stop), key=lambda value: (value.node, value.output)
        )
        name = "+".join(shown[each] for each in places) or CPU
        made.append(Segment(name=name, start=start, stop=stop, given=given, carried=tuple(carried), **asks))
    return tuple(made)


def arranged(plan: Plan) -> tuple[Step, ...]:
    """Return a plan's own steps in the order in which its segments run them."""
    steps = [step for step, _ in _order(plan, lower(plan))]
    last = _last_uses(plan, steps)
    return tuple(
        dataclasses.replace(
            step, dead=tuple(value for value in dict.fromkeys((*step.inputs, *step.outputs)) if last[value] == index)
        )
        for index, step in enumerate(steps)
    )


def all_steps(steps: Iterable[Step]) -> list[Step]:
    """Return steps and all that they hold, each once."""
    found: dict[int, Step] = {}
    waiting = list(steps)
    while waiting:
        step = waiting.pop()
        if id(step) not in found:
            found[id(step)] = step
            waiting += [inner for body in step.bodies for inner in body.steps]
    return list(found.values())


def _last_uses(plan: Plan, steps: Sequence[Step]) -> dict[Value, int]:
    """Return after which step each value is of no more use."""
    last = {value: index for index, step in enumerate(steps) for value in (*step.outputs, *step.inputs)}
    return {Value(0): -1, **last, plan.block.result: len(steps)}


def _order(plan: Plan, lowered: Lowered) -> list[tuple[Step, Places]]:
    """Return the steps, each after what it needs: those of one placement together, as far as that goes.

    What is not pure keeps its order.
    """
    placed = _places(lowered, plan.steps)
    number = {value.node: index for index, step in enumerate(plan.steps) for value in step.outputs}
    needs = [{number[node] for node in _sources(step) if node in number} for step in plan.steps]
    impure = [index for index, step in enumerate(plan.steps) if not step.op.pure()]
    for before, index in itertools.pairwise(impure):
        needs[index].add(before)
    takers: list[list[int]] = [[] for _ in plan.steps]
    for index, sources in enumerate(needs):
        for source in sources:
            takers[source].append(index)
    ready: dict[Places, list[int]] = {}
    here: Places = ()
    order: list[tuple[Step, Places]] = []
    free = [index for index, sources in enumerate(needs) if not sources]
    while free or ready:
        for index in free:
            heapq.heappush(ready.setdefault(placed[index], []), index)
        chosen = next((each for each in ((), here) if each in ready), None)
        place = min(ready, key=lambda each: ready[each][0]) if chosen is None else chosen
        index = heapq.heappop(ready[place])
        if not ready[place]:
            del ready[place]
        order.append((plan.steps[index], place))
        here = place or here
        free = []
        for taker in takers[index]:
            needs[taker].discard(index)
            if not needs[taker]:
                free.append(taker)
    return order


def _sources(step: Step) -> tuple[int, ...]:
    return (*(value.node for value in step.inputs), *step.after)


def _places(lowered: Lowered, steps: Sequence[Step]) -> list[Places]:
    of = {name: place.name for place in reversed(lowered.deployments) for name in place.steps}
    found: list[Places] = []
    for step in steps:
        own = {of[each.name] for each in all_steps([step]) if each.name in of}
        found.append(tuple(each.name for each in lowered.deployments if each.name in own))
    return found


def _asked(steps: Sequence[Step], places: Sequence[Deployment]) -> dict[str, Any]:
    """Return what some steps need that run in one pool."""
    inner = all_steps(steps)
    options = [
        stage.options for stage in {id(call.stage): call.stage for each in inner for call in each.stages}.values()
    ]
    return {
        "rows": _rows(inner),
        "pure": all(step.op.pure() for step in steps),
        "replicas": _replicas(places, steps),
        "cpus": _sum(each.cpus for each in options),
        "gpus": _sum(each.gpus for each in options),
        "memory": _sum(each.memory for each in options),
        "on_gpu": any(each.gpu for each in options),
    }


def _name(plan: Plan, place: Deployment) -> str:
    """Return a placement's name; what is called the ingress on Ray Serve is only the first of many here."""
    if not place.ingress:
        return place.name
    held = [call.stage.options for _, step in plan.walk() if step.name in place.steps for call in step.stages]
    named = sorted({each.placement for each in held if each.placement is not None})
    return named[0] if named else (place.stages[0] if place.on_gpu else CPU)


def _replicas(places: Sequence[Deployment], steps: Sequence[Step]) -> Replicas | None:
    said = [each for each in places if each.replicas != 1]
    if len({each.replicas for each in said}) > 1:
        asked = ", ".join(f"{each.name!r} asks for {each.replicas}" for each in said)
        raise LoweringError(
            f"the stages inside step {steps[0].name!r} run in one pool, and ask for different numbers of processes: "
            f"{asked}; give them the same replicas"
        )
    return said[0].replicas if said else None


def _sum(asked: Iterable[float | None]) -> float | None:
    given = [each for each in asked if each is not None]
    return sum(given) if given else None


def _rows(steps: Sequence[Step]) -> int:
    """Return so many rows that every batch of these steps can be full."""
    sizes = [size for step in steps if (size := _batch(step)) is not None]
    common = math.lcm(*sizes)
    return max(sizes) if sizes and common > MOST_ROWS else MOST_ROWS // common * common


def _batch(step: Step) -> int | None:
    if isinstance(step.op, ops.Batched):
        return step.op.batch
    return step.op.stage.options.batch if isinstance(step.op, ops.Call) else None
