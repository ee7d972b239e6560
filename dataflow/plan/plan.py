"""The plan: the frozen, verified thing that executors run and that `explain` shows."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from dataflow.expr.flow import Flow
from dataflow.graph import Region, Value, lower, ops, regions, verify
from dataflow.passes import Pass, Remark, optimize, select
from dataflow.plan.digest import digest


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """What an executor runs as one thing.

    Parameters
    ----------
    op : Op
        What is done.
    name : str
        Unique in the plan.
    inputs, outputs : tuple of Value
        The slots that it reads and fills.
    after : tuple of int
        The nodes of the region that must be done before it, though it uses nothing of theirs.
    dead : tuple of Value
        The slots that nothing reads after it.
    bodies : tuple of Block
        What it holds, where that is run step by step; a fused step holds nothing, for it is one function.
    batches : bool
        Whether it calls a batched stage, itself or anywhere in its bodies, so that it pays to give it many items.
    """

    op: ops.Op
    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    after: tuple[int, ...]
    dead: tuple[Value, ...]
    bodies: tuple[Block, ...]
    batches: bool

    @property
    def stages(self) -> tuple[ops.Call, ...]:
        """The user's stages that run as this step itself, in order; those of its bodies' steps not included."""
        if isinstance(self.op, ops.Call):
            return (self.op,)
        if isinstance(self.op, (ops.Fused, ops.Batched)):
            held = regions(self.op.body)
            return tuple(node.op for region in held for node in region.nodes if isinstance(node.op, ops.Call))
        return ()


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """A region as steps, each after what it needs.

    Parameters
    ----------
    region : Region
        The graph that it is the steps of.
    steps : tuple of Step
        In an order in which they may run.
    """

    region: Region
    steps: tuple[Step, ...]

    @property
    def batches(self) -> bool:
        """Whether any of its steps calls a batched stage."""
        return any(step.batches for step in self.steps)

    @property
    def result(self) -> Value:
        """The slot that holds the result at the end."""
        return self.region.outputs[0]


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What an executor runs: steps made of an optimized graph, with the reasons for their shape.

    Parameters
    ----------
    flow : Flow
        The expression that it was made of.
    block : Block
        The steps.
    labels : mapping of int to str
        For each op, by its identity, a name that is unique in the plan.
    passes : tuple of str
        The passes that ran.
    remarks : tuple of Remark
        Every decision that they took or refused.

    Examples
    --------
    >>> import dataflow as df
    >>> plan = (df.stage(abs) >> str).optimize()
    >>> [step.name for step in plan.steps], plan.passes[-1]
    (['abs+str'], 'fuse')
    """

    flow: Flow[Any, Any]
    block: Block
    labels: Mapping[int, str] = dataclasses.field(repr=False)
    passes: tuple[str, ...]
    remarks: tuple[Remark, ...] = dataclasses.field(repr=False)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of the flow itself, in order; those that a step holds are in its ``bodies``."""
        return self.block.steps

    @property
    def region(self) -> Region:
        """The optimized graph."""
        return self.block.region

    @functools.cached_property
    def digest(self) -> str:
        """16 hexadecimal digits, equal in every process that makes this plan of this flow."""
        return digest(self.region)

    def label(self, op: ops.Op) -> str:
        """Return the name of an op that is unique in the plan."""
        return self.labels[id(op)]

    def apart(self, op: ops.Fused) -> Block:
        """Return what a fused step holds as steps of their own, for who runs its branches beside one another."""
        return _block(op.body, self.labels)

    def walk(self) -> Iterator[tuple[int, Step]]:
        """Yield every step with its depth, each before the steps that it holds.

        A block that several steps share is yielded once, where it is met first.
        """
        seen: set[int] = set()
        stack = [(0, step) for step in reversed(self.steps)]
        while stack:
            depth, step = stack.pop()
            yield depth, step
            for body in reversed(step.bodies):
                if id(body) not in seen:
                    seen.add(id(body))
                    stack += [(depth + 1, held) for held in reversed(body.steps)]


def make_plan(flow: Flow[Any, Any], passes: Iterable[str | Pass] | str | None = None) -> Plan:
    """Return the plan that these passes make of a flow.

    Parameters
    ----------
    flow : Flow
        The expression.
    passes : iterable of str or Pass, or str, optional
        As `dataflow.passes.select` takes them.

    Examples
    --------
    >>> import dataflow as df
    >>> [step.name for step in make_plan(df.stage(abs) >> str).steps]
    ['abs+str']
    """
    chosen = select(passes)
    with _uncollected():
        region, remarks = optimize(lower(flow), chosen)
        verify(region)
        labels = _labels(region)
        block = _block(region, labels)
    return Plan(flow, block, labels, tuple(each.name for each in chosen), tuple(remarks))


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector from passing over what is built here, again and again while it grows.

    All of it is to stay, and little of it could be collected. For a chain of 10 000 stages the passes took half the
    time, and made it grow faster than the chain.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _labels(root: Region) -> Mapping[int, str]:
    """Name every op: the user's names around it, its own, and a number where that is not enough."""
    labels: dict[int, str] = {}
    taken: dict[str, int] = {}
    stack: list[tuple[tuple[str, ...], ops.Op]] = [((), node.op) for node in reversed(root.nodes)]
    while stack:
        scope, op = stack.pop()
        if id(op) in labels:  # a body that several constructs share is one thing, with one name
            continue
        scope = (*scope, *op.scope)
        name = "/".join((*scope, op.stage.name if isinstance(op, ops.Call) else op.label()))
        if not isinstance(op, (ops.Input, ops.Output)):
            taken[name] = taken.get(name, 0) + 1
        labels[id(op)] = name if taken.get(name, 1) == 1 else f"{name}#{taken[name]}"
        stack += [(scope, node.op) for body in reversed(op.bodies) for node in reversed(body.nodes)]
    return MappingProxyType(labels)


def _block(root: Region, labels: Mapping[int, str]) -> Block:
    blocks: dict[int, Block] = {}
    names: dict[str, int] = {}
    for region in regions(root, whole=(ops.Fused, ops.Batched)):
        blocks[id(region)] = Block(region, tuple(_steps(region, labels, blocks, names)))
    return blocks[id(root)]


def _steps(
    region: Region, labels: Mapping[int, str], blocks: Mapping[int, Block], names: dict[str, int]
) -> Iterator[Step]:
    last_use = {value: node.id for node in region.nodes for value in node.inputs}
    for node in region.ops():
        op = node.op
        whole = isinstance(op, (ops.Fused, ops.Batched))
        bodies = () if whole else tuple(blocks[id(body)] for body in op.bodies)
        calls = [op] if isinstance(op, ops.Call) else []
        batches = isinstance(op, ops.Batched) or any(body.batches for body in bodies)
        batches = batches or any(call.stage.options.batch is not None for call in calls)
        outputs = tuple(Value(node.id, output) for output in range(op.outputs))
        dead = tuple(value for value in dict.fromkeys(node.inputs) if last_use[value] == node.id)
        unused = tuple(value for value in outputs if value not in last_use)
        yield Step(op, _step_name(op, labels, names), node.inputs, outputs, node.after, dead + unused, bodies, batches)


def _step_name(op: ops.Op, labels: Mapping[int, str], names: dict[str, int]) -> str:
    if not isinstance(op, (ops.Fused, ops.Batched)):
        return labels[id(op)]
    parts = [labels[id(node.op)] for node in op.body.ops() if isinstance(node.op, (ops.Call, ops.Apply, ops.Spread))]
    parts = parts or [op.name]
    name = "+".join(parts) if len(parts) <= 4 else f"{parts[0]}+…+{parts[-1]} ({len(parts)})"
    names[name] = names.get(name, 0) + 1
    return name if names[name] == 1 else f"{name}#{names[name]}"
