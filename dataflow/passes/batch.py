"""batch: neighbouring batched stages of one placement share their batches.

The batch is formed once, collated once, kept where it is between the stages, and split once. Sibling stages over one
input share the collated batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dataflow.graph import Node, Region, contract, ops, regions, rewrite
from dataflow.passes.base import Pass, Remarks, subject
from dataflow.passes.cluster import Class, clusters, in_order
from dataflow.passes.fuse import CPU


def run(root: Region, remarks: Remarks) -> Region:
    """Rewrite every region below `root`."""
    grouped = {
        id(node.op.body) for region in regions(root) for node in region.nodes if isinstance(node.op, ops.Batched)
    }

    def change(before: Region, region: Region) -> Region:
        if id(before) in grouped or not any(_batched(node.op) for node in region.nodes):
            return region
        return _batch(region, remarks)

    return rewrite(root, change)


def _batch(region: Region, remarks: Remarks) -> Region:
    classes: dict[int, Class] = {node.id: _class(node) for node in region.nodes}
    groups = in_order(region, clusters(region, classes, siblings=True))
    group_of = {node.id: index for index, group in enumerate(groups) for node in group}
    for one, other in _neighbours(region):
        if group_of.get(one.id, -one.id - 1) != group_of.get(other.id, -other.id - 1):
            reason = _refusal(one.op, other.op)
            if reason is not None:
                remarks.refused(f"{one.op.label()} + {other.op.label()}", reason)
    if not groups:
        return region

    def make(body: Region, members: Sequence[Node]) -> ops.Op:
        placement, batch = _settings(members[0].op)
        remarks.did(
            subject([node.op for node in members]),
            f"batched stages of placement {placement!r}: batches of up to {batch} formed and split once",
        )
        return ops.Batched(body=body, placement=placement, batch=batch)

    return contract(region, groups, make)


def _batched(op: ops.Op) -> bool:
    return isinstance(op, ops.Batched) or (isinstance(op, ops.Call) and op.stage.options.batch is not None)


def _settings(op: Any) -> tuple[str, int]:
    """Return the placement of a batched op (empty for a GPU stage that has its own) and its batch size."""
    if isinstance(op, ops.Batched):
        return op.placement, op.batch
    options = op.stage.options
    return options.placement or ("" if options.gpu else CPU), options.batch or 1


def _class(node: Node) -> Class:
    if not _batched(node.op) or not node.op.pure():
        return None
    placement, batch = _settings(node.op)
    return (placement, batch, _device(node.op)) if placement else None


def _device(op: ops.Op) -> str:
    call = op if isinstance(op, ops.Call) else next(node.op for body in op.bodies for node in body.ops())
    return call.stage.options.device if isinstance(call, ops.Call) else ""


def _neighbours(region: Region) -> list[tuple[Node, Node]]:
    """Return the pairs of batched ops of which one uses the other, or which share an input."""
    pairs: dict[tuple[int, int], None] = {}
    takers: dict[object, int] = {}
    for node in region.nodes:
        if not _batched(node.op):
            continue
        for value in node.inputs:
            if _batched(region.nodes[value.node].op):
                pairs[value.node, node.id] = None
            sibling = takers.setdefault(value, node.id)
            if sibling != node.id:
                pairs[sibling, node.id] = None
    return [(region.nodes[one], region.nodes[other]) for one, other in pairs]


def _refusal(one: ops.Op, other: ops.Op) -> str | None:
    """Return why two neighbouring batched ops do not share their batches."""
    for op in (one, other):
        if not op.pure():
            return f"{op.label()} is not pure, so its batches are its own"
    (place, size), (other_place, other_size) = _settings(one), _settings(other)
    if not place or not other_place:
        return "a GPU stage has a placement of its own: name one placement for both to share batches"
    if place != other_place:
        return f"placements differ: {place!r} and {other_place!r}"
    if _device(one) != _device(other):
        return f"devices differ: {_device(one)!r} and {_device(other)!r}"
    if size != other_size:
        return f"batch sizes differ: {size} and {other_size}; give both the same batch to share it"
    return None


PASS = Pass("batch", "let neighbouring batched stages share their batches", run, repeats=False)
