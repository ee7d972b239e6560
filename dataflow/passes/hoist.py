"""hoist: what all branches of a switch begin or end with moves out of it, so that the branches share its batches."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from dataflow.graph import Builder, Node, Region, Value, ops, rewrite
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
        inputs = tuple(moved[value] for value in node.inputs)
        after = tuple(moved[Value(id_)].node for id_ in node.after)
        op = node.op
        tails: list[ops.Op] = []
        if isinstance(op, ops.Switch):
            chosen, value = inputs
            while (head := _common(op, _head, remarks, "begin")) is not None:
                # it may run only once the switch has found a branch, so it waits for the decision
                value = build.add(head, value, after=(chosen.node,))
                op = op.with_bodies(tuple(_without_head(arm) for arm in op.bodies))
                remarks.did(head.label(), "every branch of the switch begins with it: runs before, for all of them")
            while (tail := _common(op, _tail, remarks, "end")) is not None:
                tails.append(tail)
                op = op.with_bodies(tuple(_without_tail(arm) for arm in op.bodies))
                remarks.did(tail.label(), "every branch of the switch ends with it: runs behind, for all of them")
            inputs = (chosen, value)
        changed = changed or op is not node.op
        made = build.add(op, *inputs, after=after)
        for tail in reversed(tails):
            made = build.add(tail, made)
        for output in range(op.outputs):
            moved[Value(node.id, output)] = Value(made.node, output)
    return build.finish() if changed else region


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
    return _without(arm, head.id if head else -1, Value(0))


def _without_tail(arm: Region) -> Region:
    tail = _tail(arm)
    return _without(arm, tail.id if tail else -1, tail.inputs[0] if tail else Value(0))


def _without(arm: Region, id_: int, instead: Value) -> Region:
    """Return the branch without one op, and this value in the place of the op's result."""
    build = Builder(0)
    moved: dict[Value, Value] = {}
    for node in arm.nodes:
        if node.id == id_:
            moved[Value(id_)] = moved[instead]
            continue
        made = build.add(
            node.op,
            *(moved[value] for value in node.inputs),
            after=tuple(moved[Value(other)].node for other in node.after),
        )
        for output in range(max(node.op.outputs, 1)):
            moved[Value(node.id, output)] = Value(made.node, output)
    return build.finish()


PASS = Pass("hoist", "move what all branches of a switch share out of it", run)
