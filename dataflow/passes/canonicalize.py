"""canonicalize: one way to write each thing. Identity goes, and a fan-out met by its combine becomes one op."""

from __future__ import annotations

from dataflow.graph import Builder, Region, Value, ops, rewrite
from dataflow.passes.base import Pass, Remarks


def run(root: Region, remarks: Remarks) -> Region:
    """Rewrite every region below `root`."""

    def change(_: Region, region: Region) -> Region:
        if not any(_simpler(node.op) for node in region.nodes):
            return region
        return _rewrite(region, remarks)

    return rewrite(root, change)


def _simpler(op: ops.Op) -> bool:
    return isinstance(op, (ops.Same, ops.Spread))


def _rewrite(region: Region, remarks: Remarks) -> Region:
    build = Builder(0)
    moved: dict[Value, Value] = {}
    packs: dict[Value, tuple[ops.Pack, tuple[Value, ...]]] = {}
    changed = False
    for node in region.nodes:
        inputs = tuple(moved[value] for value in node.inputs)
        after = tuple(moved[Value(id_)].node for id_ in node.after)
        op = node.op
        if (isinstance(op, ops.Same) or (isinstance(op, ops.Spread) and op.fn is None)) and not after:
            moved[Value(node.id)] = inputs[0]
            remarks.did(op.label(), "gives its input back, so it needs no op")
            changed = True
            continue
        if isinstance(op, ops.Spread) and op.fn is not None and inputs[0] in packs:
            pack, inputs = packs[inputs[0]]
            op = ops.Apply(fn=op.fn, size=pack.size, names=pack.names, origin=op.origin, scope=op.scope)
            remarks.did(op.label(), "takes the parts of its fan-out directly")
            changed = True
        made = build.add(op, *inputs, after=after)
        for output in range(op.outputs):
            moved[Value(node.id, output)] = Value(made.node, output)
        if isinstance(op, ops.Pack):
            packs[made] = (op, inputs)
    return build.finish() if changed else region


PASS = Pass("canonicalize", "drop identities and join each combine with its fan-out", run)
