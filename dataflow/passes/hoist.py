"""hoist: what all branches of a switch begin or end with moves out of it, so that the branches share its batches."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from dataflow.graph import Builder, Node, Region, Value, ops, rewrite, without
from dataflow.passes.base import Pass, Remarks

_End = Callable[[Region], Node | None]


def run(root: Region, remarks: Remarks) -> Region:
    """Rewrite every region below `root`."""

    def change(_: Region, region: Region) -> Region:
        if not any(isinstance(node.op, ops.Switch) for node in region.nodes):
            return region
        return _hoist(region, remarks)

    return rewrite(root, change)


def _hoist(region: Region, remarks: Remarks) -> Region:
    build = Builder(0)
    moved: dict[Value, Value] = {}
    changed = False
    for node in region.nodes:
        op, inputs = node.op, tuple(moved[value] for value in node.inputs)
        if isinstance(op, ops.Switch):
            made, same = _switch(op, inputs[0], inputs[1], build, remarks)
            changed = changed or not same
        else:
            made = build.add(op, *inputs, after=tuple(moved[Value(id_)].node for id_ in node.after))
        for output in range(op.outputs):
            moved[Value(node.id, output)] = Value(made.node, output)
    return build.finish() if changed else region


def _switch(given: ops.Switch, chosen: Value, value: Value, build: Builder, remarks: Remarks) -> tuple[Value, bool]:
    """Add a switch with what its branches share around it; return its result, and whether it stayed as it was."""
    op: ops.Op = given
    # nothing of a branch may run before the switch has found one, so what is hoisted waits for the decision
    decision: tuple[int, ...] = (chosen.node,)
    tails: list[ops.Op] = []
    while (head := _common(op, _head, remarks, "begin")) is not None:
        value = build.add(head, value, after=decision)
        decision = ()
        op = op.with_bodies(tuple(_without_head(arm) for arm in op.bodies))
        remarks.did(head.label(), "every branch of the switch begins with it: runs before, for all of them")
    while (tail := _common(op, _tail, remarks, "end")) is not None:
        tails.append(tail)
        op = op.with_bodies(tuple(_without_tail(arm) for arm in op.bodies))
        remarks.did(tail.label(), "every branch of the switch ends with it: runs behind, for all of them")
    if any(arm.outputs[0] != Value(0) for arm in op.bodies):
        value = build.add(op, chosen, value)
    else:  # its result still waits for the decision: a key that fails, or has no branch, is an error
        op = ops.Same(origin=op.origin, scope=op.scope)
        value = build.add(op, value, after=(chosen.node,))
        remarks.did(given.label(), "no branch does anything more: it only looks for the branch")
    for tail in reversed(tails):
        value = build.add(tail, value)
    return value, op is given


def _common(op: ops.Op, end: _End, remarks: Remarks, verb: str) -> ops.Op | None:
    """Return the op that every branch has at this end, where it may be hoisted."""
    found = [end(arm) for arm in op.bodies]
    keys: dict[Hashable, int] = {}
    for node in found:
        if node is not None:
            key = node.op.key()
            keys[key] = keys.get(key, 0) + 1
    if not keys:
        return None
    key, count = max(keys.items(), key=lambda row: row[1])
    first = next(node.op for node in found if node is not None and node.op.key() == key)
    if len(found) < 2 or count < 2:
        return None
    if count < len(found):
        remarks.refused(first.label(), f"{count} of the switch's {len(found)} branches {verb} with it, not all")
        return None
    if not first.pure():
        remarks.refused(first.label(), f"every branch of the switch {verb}s with it, but it is not pure")
        return None
    return first


def _head(arm: Region) -> Node | None:
    """Return the one op that takes the branch's input, if it is alone in that and takes nothing else."""
    takers = [node for node in arm.nodes if Value(0) in node.inputs or 0 in node.after]
    node = takers[0]
    return node if len(takers) == 1 and _movable(node) else None


def _tail(arm: Region) -> Node | None:
    """Return the op that gives the branch's result, if nothing else uses that."""
    result = arm.outputs[0]
    node = arm.nodes[result.node]
    used = sum(result in other.inputs or result.node in other.after for other in arm.nodes)
    return node if used == 1 and _movable(node) else None


def _movable(node: Node) -> bool:
    return not isinstance(node.op, (ops.Input, ops.Output, ops.Route)) and len(node.inputs) == 1 and not node.after


def _without_head(arm: Region) -> Region:
    head = _head(arm)
    return arm if head is None else without(arm, {Value(head.id): Value(0)})


def _without_tail(arm: Region) -> Region:
    tail = _tail(arm)
    return arm if tail is None else without(arm, {Value(tail.id): tail.inputs[0]})


PASS = Pass("hoist", "move what all branches of a switch share out of it", run)
