"""fuse: neighbouring CPU ops of one placement become one step, run as one generated function."""

from __future__ import annotations

from collections.abc import Sequence

from dataflow.expr.options import Options
from dataflow.graph import Node, Region, contract, ops, regions, replace_ops, rewrite
from dataflow.passes.base import Pass, Remarks, subject
from dataflow.passes.cluster import Class, clusters, in_order

CPU = "cpu"
"""The placement that CPU stages share unless they name another."""

_GLUE = (ops.Same, ops.Pack, ops.Spread, ops.Apply, ops.Route)
_UNSAID = (ops.Same, ops.Pack, ops.Route)
_Placements = dict[int, str | None]


def refusal(op: ops.Op) -> str | None:
    """Return why an op, whatever it holds, cannot be part of a fused step; None where it can."""
    match op:
        case ops.Call():
            return _stage_refusal(op.stage.options)
        case ops.Retry():
            return "waits between attempts" if op.backoff else None
        case ops.Timeout():
            return "watches a clock"
        case ops.Race() | ops.Quorum():
            return "runs its branches beside one another"
        case ops.Input() | ops.Output() | ops.Batched():
            return "is no CPU op"
    return None


def _stage_refusal(options: Options) -> str | None:
    if options.batch is not None:
        return f"takes batches of up to {options.batch}"
    if options.gpu:
        return f"runs on {options.device}"
    if options.replicas != 1:
        return f"has replicas of its own: {options.replicas}"
    for name in ("cpus", "gpus", "memory"):
        if getattr(options, name) is not None:
            return f"asks for {name} of its own: {getattr(options, name)}"
    return None


def run(root: Region, remarks: Remarks) -> Region:
    """Rewrite every region below `root`; what a fused op holds is part of its function, and stays as it is."""
    placements = _placements(root)
    classes: dict[int, dict[int, Class]] = {}
    groups: dict[int, list[list[Node]]] = {}
    waiting = [root]
    while waiting:
        region = waiting.pop()
        if id(region) in groups:
            continue
        known = classes[id(region)] = _classes(region, placements)
        groups[id(region)] = in_order(region, clusters(region, known, siblings=False))
        fused = {node.id for group in groups[id(region)] for node in group}
        waiting += [
            body
            for node in region.nodes
            if node.id not in fused and not isinstance(node.op, (ops.Fused, ops.Batched))
            for body in node.op.bodies
        ]

    def change(before: Region, region: Region) -> Region:
        if id(before) not in groups:
            return region
        known, chosen = classes[id(before)], groups[id(before)]
        _remark_refused(before, known, chosen, remarks)
        if not chosen:
            return region

        def make(body: Region, members: Sequence[Node]) -> ops.Op:
            placement = str(known[members[0].id])
            remarks.did(
                _about([node.op for node in members]), f"CPU ops of placement {placement!r}: one generated function"
            )
            return ops.Fused(body=body, placement=placement)

        # a fused op keeps the bodies it had, even where another construct that is not fused shares them
        if region is not before:
            region = replace_ops(region, {node.id: node.op for group in chosen for node in group})
        return contract(region, chosen, make)

    return rewrite(root, change)


def _about(members: Sequence[ops.Op]) -> str:
    """Return the names of fused ops; what goes without saying is named only where little else is."""
    for unsaid in (_UNSAID, (ops.Same, ops.Pack)):
        said = [op for op in members if not isinstance(op, unsaid)]
        if len(said) > 1:
            return subject(said)
    return subject(members)


def _classes(region: Region, placements: _Placements) -> dict[int, Class]:
    """Return the placement in which each op can be fused; None where it cannot."""
    known: dict[int, Class] = {}
    for node in region.nodes:
        known[node.id] = _class(node, known, placements)
    return known


def _class(node: Node, known: dict[int, Class], placements: _Placements) -> Class:
    op = node.op
    if refusal(op) is not None:
        return None
    if isinstance(op, ops.Call):
        return op.stage.options.placement or CPU
    if isinstance(op, ops.Fused):
        return op.placement
    if isinstance(op, _GLUE):  # it goes with what it joins, if that agrees
        sources = {known[value.node] for value in node.inputs} - {None}
        return sources.pop() if len(sources) == 1 else CPU
    held = {placements[id(body)] for body in op.bodies} - {""}
    return held.pop() if len(held) == 1 else (None if held else CPU)


def _placements(root: Region) -> _Placements:
    """Return for each region the placement in which the whole of it can be fused; "" for any, None for none."""
    found: _Placements = {}
    for region in regions(root):
        known = _classes(region, found)
        own = {known[node.id] for node in region.ops() if known[node.id] is None or not isinstance(node.op, _GLUE)}
        found[id(region)] = "" if not own else (str(own.pop()) if len(own) == 1 and None not in own else None)
    return found


def _remark_refused(region: Region, known: dict[int, Class], groups: list[list[Node]], remarks: Remarks) -> None:
    """Say why neighbours that a reader could expect in one step are not."""
    group_of = {node.id: group[0].id for group in groups for node in group}
    for node in region.ops():
        sources = [region.nodes[value.node] for value in node.inputs]
        neighbours = [source for source in sources if not isinstance(source.op, ops.Input)]
        reason = refusal(node.op)
        if reason is not None and not isinstance(node.op, ops.Batched):
            remarks.refused(node.op.label(), reason)
        elif known[node.id] is None and not isinstance(node.op, ops.Batched):
            remarks.refused(node.op.label(), "what it holds does not all run on the CPU in one placement")
        for source in neighbours:
            mine, theirs = known[node.id], known[source.id]
            if mine is None or theirs is None or group_of.get(source.id) == group_of.get(node.id, source.id):
                continue
            both = f"{source.op.label()} + {node.op.label()}"
            if mine != theirs:
                remarks.refused(both, f"placements differ: {theirs!r} and {mine!r}")
            elif not isinstance(source.op, _UNSAID) and not isinstance(node.op, _UNSAID):
                remarks.refused(both, "the latter also waits for another step")


PASS = Pass("fuse", "make one generated function of neighbouring CPU stages", run, repeats=False)
