"""What must hold of every graph, before and after every pass."""

from __future__ import annotations

from typing import Any

from dataflow.graph import ops
from dataflow.graph.region import AFTER, Port, Region, Value, regions


class InvalidGraph(AssertionError):
    """A graph that breaks a rule of its own kind: a defect of dataflow, never of a user's flow."""


def verify(root: Region) -> None:
    """Raise `InvalidGraph` where a region, or one held inside it, breaks a rule.

    The rules: node numbers ascend along every edge; inputs come first and the output last; every op has exactly its
    ports, each filled once; every key is a `Port`; bodies take what their op feeds them; a fused step holds only what
    runs on the CPU and a batched one only batched stages.
    """
    for region in regions(root):
        _verify_shape(region)
        for node in region.nodes:
            _verify_op(node.op)


def _verify_shape(region: Region) -> None:
    nodes = region.nodes
    payloads: Any = region.graph.nodes(data="op")
    if len(payloads) != len(nodes):
        raise InvalidGraph("the nodes as read are not those of the graph")
    if [id_ for id_, _ in payloads] != list(range(len(nodes))):
        raise InvalidGraph("nodes are not numbered from 0, in order")
    kinds = [type(node.op) for node in nodes]
    if kinds[: region.size] != [ops.Input] * region.size:
        raise InvalidGraph("inputs do not come first")
    if kinds.count(ops.Output) != 1 or kinds[-1] is not ops.Output:
        raise InvalidGraph("there is not exactly one output, last")
    for node, (id_, op) in zip(nodes, payloads, strict=True):
        inputs, after = _edges(region, id_)
        if [port for port, _ in inputs] != list(range(node.op.ports)):
            raise InvalidGraph(f"node {id_} ({node.op.name}) does not have each of its ports filled once")
        if node != (id_, op, tuple(value for _, value in inputs), after):
            raise InvalidGraph("the nodes as read are not those of the graph")


def _edges(region: Region, target: int) -> tuple[list[tuple[int, Value]], tuple[int, ...]]:
    """Return what comes in at a node's ports, in order, and what it waits for; node by node, nothing piles up."""
    inputs: list[tuple[int, Value]] = []
    after: list[int] = []
    sources: Any = region.graph.pred[target]
    for source, ports in sources.items():
        for port in ports:
            if not isinstance(port, Port):
                raise InvalidGraph(f"the key of edge {source}->{target} is no Port")
            if source >= target:
                raise InvalidGraph(f"edge {source}->{target} does not ascend")
            if port.target == AFTER:
                after.append(source)
            elif port.source < region.nodes[source].op.outputs:
                inputs.append((port.target, Value(source, port.source)))
            else:
                raise InvalidGraph(f"node {source} has no output {port.source}")
    return sorted(inputs), tuple(sorted(after))


def _verify_op(op: ops.Op) -> None:
    if not isinstance(op, (ops.Fused, ops.Batched)):
        for body in op.bodies:
            _check(body.size == 1 and len(body.outputs) == 1, f"{op.name}: a body has one input and one output")
    if isinstance(op, ops.Fused):
        for node in (node for region in regions(op.body) for node in region.nodes):
            options = node.op.stage.options if isinstance(node.op, ops.Call) else None
            on_cpu = options is None or (options.batch is None and not options.gpu)
            _check(on_cpu and not isinstance(node.op, ops.Batched), "a fused step holds only what runs on the CPU")
    if isinstance(op, ops.Batched):
        for node in op.body.ops():
            batch = node.op.stage.options.batch if isinstance(node.op, ops.Call) else None
            _check(batch == op.batch, "a batched step holds batched stages of one size")
    if isinstance(op, ops.Switch):
        _check(len(op.arms) - len(op.keys) in (0, 1), "a switch has an arm a key, and at most a default")


def _check(holds: bool, rule: str) -> None:
    if not holds:
        raise InvalidGraph(rule)
