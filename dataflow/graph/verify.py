"""What must hold of every graph, before and after every pass."""

from __future__ import annotations

from dataflow.graph import ops
from dataflow.graph.region import AFTER, Port, Region, read_nodes, regions


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
    nodes = read_nodes(region.graph)
    _check(nodes == region.nodes, "the nodes as read are those of the graph")
    kinds = [type(node.op) for node in nodes]
    size = region.size
    _check(kinds[:size] == [ops.Input] * size, "inputs come first")
    _check(kinds.count(ops.Output) == 1 and kinds[-1] is ops.Output, "one output, last")
    _check([node.id for node in nodes] == list(range(len(nodes))), "nodes numbered from 0, in order")
    for source, target, port in region.graph.edges(keys=True):
        _check(isinstance(port, Port), f"edge {source}->{target} has a Port as its key")
        _check(source < target, f"edge {source}->{target} ascends")
    for node in nodes:
        filled = sorted(port.target for _, _, port in region.graph.in_edges(node.id, keys=True) if port.target != AFTER)
        _check(filled == list(range(node.op.ports)), f"node {node.id} ({node.op.name}) has each of its ports filled")
        for value in node.inputs:
            _check(value.output < nodes[value.node].op.outputs, f"node {value.node} has an output {value.output}")


def _verify_op(op: ops.Op) -> None:
    if not isinstance(op, (ops.Fused, ops.Batched)):
        for body in op.bodies:
            _check(body.size == 1 and len(body.outputs) == 1, f"{op.name}: a body has one input and one output")
    if isinstance(op, ops.Batched):
        for node in op.body.ops():
            batch = node.op.stage.options.batch if isinstance(node.op, ops.Call) else None
            _check(batch == op.batch, "a batched step holds batched stages of one size")
    if isinstance(op, ops.Switch):
        _check(len(op.arms) - len(op.keys) in (0, 1), "a switch has an arm a key, and at most a default")


def _check(holds: bool, rule: str) -> None:
    if not holds:
        raise InvalidGraph(rule)
