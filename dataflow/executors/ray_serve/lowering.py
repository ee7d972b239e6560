"""From a plan to what is deployed: which steps run in which deployment, what it asks for, and what travels to it.

Nothing here knows Ray: the record is made, shown and tested without it, and every process makes the same one of the
same plan. Steps of one placement become one deployment. The ingress takes requests in and runs all that is placed
nowhere else: the CPU steps, what joins values, and the constructs. Where nothing is, one of the placements is the
ingress. Each other deployment is called by the ingress alone, with a whole batch at a time, for it is the hop that
costs.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from dataflow.errors import LoweringError
from dataflow.expr.options import Options
from dataflow.graph import ops
from dataflow.passes.fuse import CPU
from dataflow.plan import Plan, Step

INGRESS = "ingress"
BY_VALUE = 256 * 1024
"""Bytes up to which a message is sent by value."""

ROWS = 256
"""The most rows that are sent in one call to a step that takes them one by one."""

Replicas = int | tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Hop:
    """A step that the ingress sends elsewhere.

    Parameters
    ----------
    step : str
        The step's name.
    rows : int
        The most rows a call.
    batch : bool
        Whether they are run together, as a batch.
    max_wait : float
        Seconds that a first row may wait for others.
    pure : bool
        Whether rows may be sent again when nobody knows what became of them.
    """

    step: str
    rows: int
    batch: bool
    max_wait: float
    pure: bool


@dataclasses.dataclass(frozen=True)
class Deployment:
    """What becomes one Ray Serve deployment.

    Parameters
    ----------
    name : str
        Its name: the placement's, or the step's that has it for itself.
    ingress : bool
        Whether it takes the requests in.
    steps, stages : tuple of str
        The names of the steps that run there, and of the users' stages in them.
    hops : tuple of Hop
        How rows are sent there; none for the ingress.
    replicas : int or (int, int)
        How many processes of it.
    cpus, gpus, memory : float, optional
        What each asks for; None where no stage says.
    on_gpu : bool
        Whether it has a stage on a GPU.
    why : str
        Why it is what it is.
    """

    name: str
    ingress: bool
    steps: tuple[str, ...]
    stages: tuple[str, ...]
    hops: tuple[Hop, ...]
    replicas: Replicas
    cpus: float | None
    gpus: float | None
    memory: float | None
    on_gpu: bool
    why: str

    @property
    def most(self) -> int:
        """The most replicas."""
        return self.replicas[1] if isinstance(self.replicas, tuple) else self.replicas

    @property
    def least(self) -> int:
        """The fewest replicas."""
        return self.replicas[0] if isinstance(self.replicas, tuple) else self.replicas


@dataclasses.dataclass(frozen=True)
class Lowered:
    """What is deployed of a plan.

    Parameters
    ----------
    deployments : tuple of Deployment
        The ingress first.
    digest : str
        The plan's.
    pure : bool
        Whether items may be sent again when nobody knows what became of them.

    Examples
    --------
    >>> import dataflow as df
    >>> flow = df.stage(abs) >> df.stage(len, placement="there")
    >>> [deployment.name for deployment in lower(flow.optimize()).deployments]
    ['ingress', 'there']
    """

    deployments: tuple[Deployment, ...]
    digest: str
    pure: bool

    @property
    def ingress(self) -> Deployment:
        """The one that takes requests in."""
        return self.deployments[0]

    def named(self, name: str) -> Deployment:
        """Return the deployment of this name."""
        return next(deployment for deployment in self.deployments if deployment.name == name)


def lower(plan: Plan) -> Lowered:
    """Return what is deployed of a plan.

    Raises
    ------
    LoweringError
        Where stages that are to share a process disagree about it.
    """
    groups: dict[str, list[Step]] = {CPU: []}
    own: dict[object, str] = {}
    for _, step in plan.walk():
        if step.stages:
            groups.setdefault(_place(plan, step, own), []).append(step)
    if not groups[CPU] and (host := _host(groups)) is not None:
        del groups[CPU]
        groups = {host: groups.pop(host), **groups}
    names = _names(groups)
    made = [
        _deployment(plan, names[place], place, steps, ingress=index == 0, alone=len(groups) == 1)
        for index, (place, steps) in enumerate(groups.items())
    ]
    return Lowered(tuple(made), plan.digest, plan.region.pure())


def _host(groups: dict[str, list[Step]]) -> str | None:
    """Return the placement that takes the requests in where no other step would: a process less, and a hop less.

    It is the only one there is, or the first that is one process, so that all items meet in it, and on no GPU, for
    models that run out of memory there are not to take the requests with them.
    """
    options = {
        place: [call.stage.options for step in steps for call in step.stages]
        for place, steps in groups.items()
        if place != CPU
    }
    if len(options) == 1:
        return next(iter(options))
    single = (place for place, given in options.items() if all(each.replicas == 1 and not each.gpu for each in given))
    return next(single, None)


def _place(plan: Plan, step: Step, own: dict[object, str]) -> str:
    """Return the placement of a step's stages: the one that they name, one of their own, or the common one."""
    options = [call.stage.options for call in step.stages]
    named = {each.placement for each in options} - {None}
    if isinstance(step.op, ops.Fused):
        return step.op.placement
    if named:
        return str(named.pop())
    if not any(each.gpu or _asks(each) for each in options):
        return CPU
    stage = step.stages[0].stage
    shared = len(step.stages) == 1 and stage.options.pure  # equal stages share their instances
    return own.setdefault(stage if shared else id(step), plan.label(step.stages[0]))


def _asks(options: Options) -> bool:
    """Return whether a stage asks for something of its own."""
    return options.replicas != 1 or any(each is not None for each in (options.cpus, options.gpus, options.memory))


def _names(groups: Iterable[str]) -> dict[str, str]:
    """Return names that Ray takes, each for one placement alone."""
    names: dict[str, str] = {}
    for index, place in enumerate(groups):
        name = INGRESS if index == 0 else re.sub(r"[^A-Za-z0-9_.-]+", "_", place).strip("_") or "placement"
        taken = set(names.values())
        others = (f"{name}-{number}" for number in range(2, len(taken) + 3))
        names[place] = next(each for each in (name, *others) if each not in taken)
    return names


def _deployment(plan: Plan, name: str, place: str, steps: list[Step], *, ingress: bool, alone: bool) -> Deployment:
    calls = {id(call.stage): call for step in steps for call in step.stages}.values()
    options = [call.stage.options for call in calls]
    return Deployment(
        name=name,
        ingress=ingress,
        steps=tuple(step.name for step in steps),
        stages=tuple(plan.label(call) for step in steps for call in step.stages),
        hops=() if ingress else tuple(_hop(step) for step in steps),
        replicas=_replicas(place, [(call.stage.name, call.stage.options.replicas) for call in calls]),
        cpus=_sum(each.cpus for each in options),
        gpus=_sum(each.gpus for each in options),
        memory=_sum(each.memory for each in options),
        on_gpu=any(each.gpu for each in options),
        why=_why(place, options, ingress=ingress, alone=alone),
    )


def _hop(step: Step) -> Hop:
    options = [call.stage.options for call in step.stages]
    batches = [each.batch for each in options if each.batch is not None]
    if not batches:
        return Hop(step.name, ROWS, batch=False, max_wait=0.0, pure=step.op.pure())
    wait = min(each.max_wait for each in options)
    return Hop(step.name, min(batches), batch=True, max_wait=wait, pure=step.op.pure())


def _replicas(place: str, said: list[tuple[str, Replicas]]) -> Replicas:
    """Return how many processes there are of a placement: what its stages say, where any says something."""
    given = {name: count for name, count in said if count != 1}
    if len(set(given.values())) > 1:
        differ = ", ".join(f"{name!r} asks for {count}" for name, count in given.items())
        raise LoweringError(
            f"the stages of placement {place!r} share their processes and ask for different numbers of them: {differ}; "
            "give them the same replicas, or placements of their own"
        )
    return next(iter(given.values()), 1)


def _sum(asked: Iterable[float | None]) -> float | None:
    """Return what stages that share a process need together; None where none says."""
    given = [each for each in asked if each is not None]
    return sum(given) if given else None


def _why(place: str, options: list[Options], *, ingress: bool, alone: bool) -> str:
    if ingress and place != CPU and alone:
        return f"everything is in placement {place!r}, so no hop is needed"
    if ingress and place != CPU:
        return f"takes requests in, for nothing else would run there, and is placement {place!r}"
    if ingress:
        return "takes requests in, and runs the CPU steps and what joins values"
    if any(each.placement for each in options):
        return f"placement {place!r} has processes of its own"
    if any(each.gpu for each in options):
        return "a GPU stage has a process of its own unless it names a placement"
    asks = next(each for each in options if _asks(each))
    asked = {name: value for name, value in asks.given().items() if name in ("replicas", "cpus", "gpus", "memory")}
    return "asks for " + ", ".join(f"{name}={value}" for name, value in asked.items()) + " of its own"
