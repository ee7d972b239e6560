"""merge: equal pure ops on the same inputs become one, so that a stage runs once per item wherever it is written."""

from __future__ import annotations

from collections.abc import Hashable

from dataflow.graph import Node, Region, Value, ops, replace_uses, rewrite
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
    for node in region.ops():
        inputs = tuple(same.get(value, value) for value in node.inputs)
        kept = first.setdefault((node.op.key(), inputs), node)
        # a node that merely has to wait longer than its equal can do with the equal's result
        if kept is node or not set(kept.after) <= set(node.after):
            continue
        if node.op.pure():
            same.update({Value(node.id, out): Value(kept.id, out) for out in range(node.op.outputs)})
        else:
            remarks.refused(node.op.label(), "not pure: runs once for each place where it is written")
    replaced = {value.node for node in region.nodes for value in node.inputs if value in same}
    for id_ in sorted(replaced):
        op = region.nodes[id_].op
        if not isinstance(op, ops.Pack):
            remarks.did(op.label(), "written more than once on one input, and pure: runs once")
    return replace_uses(region, same) if replaced else region


PASS = Pass("merge", "run equal pure stages on one input once", run)
