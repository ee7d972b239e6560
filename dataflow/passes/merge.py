"""merge: equal pure ops on the same inputs become one, so that a stage runs once per item wherever it is written."""

from __future__ import annotations

from collections.abc import Hashable

from dataflow.graph import Node, Region, Value, ops, rewrite, without
from dataflow.passes.base import Pass, Remarks

_Spot = tuple[Hashable, tuple[Value, ...]]


def run(root: Region, remarks: Remarks) -> Region:
    """Rewrite every region below `root`."""

    def change(_: Region, region: Region) -> Region:
        return _merge(region, remarks)

    return rewrite(root, change)


def _merge(region: Region, remarks: Remarks) -> Region:
    first: dict[_Spot, Node] = {}
    same: dict[Value, Value] = {}
    merged: set[int] = set()
    for node in region.ops():
        if isinstance(node.op, ops.Same):  # canonicalize takes it out, or it is there to wait
            continue
        inputs = tuple(same.get(value, value) for value in node.inputs)
        after = {same.get(Value(id_), Value(id_)).node for id_ in node.after}
        kept = first.setdefault((node.op.key(), inputs), node._replace(after=tuple(after)))
        # a node that merely has to wait longer than its equal can do with the equal's result
        if kept.id == node.id or not after.issuperset(kept.after):
            continue
        if not node.op.pure():
            remarks.refused(node.op.label(), "not pure: runs once for each place where it is written")
            continue
        same.update({Value(node.id, output): Value(kept.id, output) for output in range(node.op.outputs)})
        if kept.id not in merged and not isinstance(node.op, ops.Pack):
            remarks.did(node.op.label(), "written more than once on one input, and pure: runs once")
        merged.add(kept.id)
    return without(region, same) if same else region


PASS = Pass("merge", "run equal pure stages on one input once", run)
