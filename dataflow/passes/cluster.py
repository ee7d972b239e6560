"""Which ops can become one step: groups that no path leaves and comes back to."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from dataflow.graph import Node, Region, Value, contract, ops

Class = Hashable
"""What kind of step an op can be part of; None means none."""


def clusters(region: Region, classes: Mapping[int, Class], *, siblings: bool) -> list[list[Node]]:
    """Return the groups of connected ops of one class and one level; each may become one step.

    An op's level is the number of changes of class on the longest path that leads to it. Ops of one class and one level
    can have no path between them that leaves the class, because leaving it and coming back raises the level: this is
    what makes the groups safe to contract, in one linear walk. It also keeps apart what could be contracted and is
    better not: an op that waits for another step, and its neighbour that need not wait.

    Parameters
    ----------
    region : Region
        Whose ops to group.
    classes : mapping
        The class of each node by its number.
    siblings : bool
        Whether ops that share an input count as connected, as well as those of which one uses the other.

    Returns
    -------
    list of lists of Node
        Each in ascending order; single ops are left out.
    """
    levels: dict[int, int] = {}
    groups = _Groups()
    takers: dict[tuple[Value, Class, int], int] = {}
    for node in region.nodes:
        own = classes[node.id]
        sources = [*(value.node for value in node.inputs), *node.after]
        level = 0
        for source in sources:
            same = own is not None and classes[source] == own
            level = max(level, levels[source] + (not same))
        levels[node.id] = level
        if own is None:
            continue
        for source in sources:
            if classes[source] == own and levels[source] == level:
                groups.join(source, node.id)
        if siblings:
            for value in node.inputs:
                groups.join(takers.setdefault((value, own, level), node.id), node.id)
    members: dict[int, list[Node]] = {}
    for node in region.nodes:
        if classes[node.id] is not None:
            members.setdefault(groups.find(node.id), []).append(node)
    return [group for group in members.values() if len(group) > 1]


def in_order(region: Region, groups: list[list[Node]]) -> list[list[Node]]:
    """Return those of the groups that can become steps without another order among stages that are not pure."""
    if _impure(region, []) == _impure(region, groups):
        return groups
    pure = [group for group in groups if all(node.op.pure() for node in group)]
    return pure if _impure(region, []) == _impure(region, pure) else []


def _impure(region: Region, groups: list[list[Node]]) -> list[int]:
    """Return what is not pure, by identity, in the order in which it runs once these groups are steps."""
    if sum(not node.op.pure() for node in region.nodes) < 2:
        return []
    made = contract(region, groups, lambda body, _: ops.Fused(body=body, placement=""))
    held = [node.op.body.nodes if isinstance(node.op, ops.Fused) else (node,) for node in made.nodes]
    return [id(node.op) for nodes in held for node in nodes if not node.op.pure()]


class _Groups:
    """Disjoint sets of node numbers."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def find(self, id_: int) -> int:
        root = id_
        while (parent := self._parent.get(root, root)) != root:
            root = parent
        while (parent := self._parent.get(id_, id_)) != root:
            self._parent[id_] = root
            id_ = parent
        return root

    def join(self, one: int, other: int) -> None:
        a, b = self.find(one), self.find(other)
        if a != b:
            self._parent[max(a, b)] = min(a, b)
