"""drop: what no result uses is not run, if it is pure and no more than its result is asked of it."""

from __future__ import annotations

from dataflow.graph import Region, keep, ops, rewrite
from dataflow.passes.base import Pass, Remarks


def run(root: Region, remarks: Remarks) -> Region:
    """Rewrite every region below `root`."""

    def change(_: Region, region: Region) -> Region:
        used = {node.id for node in region.nodes if isinstance(node.op, ops.Input)}
        for node in reversed(region.nodes):
            if isinstance(node.op, ops.Output) or node.id in used or not node.op.pure() or _refuses(node.op):
                used |= {node.id, *(value.node for value in node.inputs), *node.after}
        if len(used) == len(region.nodes):
            return region
        for node in region.ops():
            if node.id not in used and not isinstance(node.op, ops.Pack):
                remarks.did(node.op.label(), "nothing uses its result any more")
        return keep(region, used)

    return rewrite(root, change)


def _refuses(op: ops.Op) -> bool:
    """Return whether an op is there to fail on some items too: a key that no branch has is an error."""
    return isinstance(op, ops.Route) and not op.default


PASS = Pass("drop", "leave out what no result uses", run)
