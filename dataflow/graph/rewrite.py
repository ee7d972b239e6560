"""The shapes that rewrites of graphs have; a pass says what, these say how."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence

from dataflow.graph.ops import Op
from dataflow.graph.region import Builder, Node, Region, Value, regions


def rewrite(root: Region, change: Callable[[Region, Region], Region]) -> Region:
    """Rewrite a region and all that are held inside it, the held before the holder.

    Parameters
    ----------
    root : Region
        Where to start.
    change : callable
        Called with a region as it was and as it is with its bodies rewritten; gives the region in its place. It returns
        its second argument to leave things as they are.

    Returns
    -------
    Region
        `root` itself where nothing changed.
    """
    done: dict[int, Region] = {}
    for region in regions(root):
        done[id(region)] = change(region, _with_bodies(region, done))
    return done[id(root)]


def _with_bodies(region: Region, done: Mapping[int, Region]) -> Region:
    if all(done[id(body)] is body for node in region.nodes for body in node.op.bodies):
        return region
    bodies = {node.id: tuple(done[id(body)] for body in node.op.bodies) for node in region.nodes}
    return replace_ops(region, {id_: region.nodes[id_].op.with_bodies(held) for id_, held in bodies.items() if held})


def replace_ops(region: Region, instead: Mapping[int, Op]) -> Region:
    """Return the region with other ops at these nodes."""
    build = Builder(0)
    for node in region.nodes:
        build.add(instead.get(node.id, node.op), *node.inputs, after=node.after)
    return build.finish()


def without(region: Region, instead: Mapping[Value, Value]) -> Region:
    """Return the region without the nodes that make these values; in their places others are used, made before them."""
    gone = {value.node for value in instead}
    build = Builder(0)
    moved: dict[Value, Value] = {}
    for node in region.nodes:
        outputs = [Value(node.id, output) for output in range(node.op.outputs)]
        if node.id in gone:
            moved.update({value: moved[instead[value]] for value in outputs})
            continue
        after = {moved[Value(id_)].node for id_ in node.after}
        made = build.add(node.op, *(moved[value] for value in node.inputs), after=tuple(after))
        moved.update({value: Value(made.node, value.output) for value in outputs})
    return build.finish()


def keep(region: Region, kept: set[int]) -> Region:
    """Return the region with only these nodes, which must not use any other."""
    build = Builder(0)
    moved: dict[int, int] = {}
    for node in region.nodes:
        if node.id in kept:
            inputs = (Value(moved[value.node], value.output) for value in node.inputs)
            after = tuple(moved[id_] for id_ in node.after if id_ in moved)
            moved[node.id] = build.add(node.op, *inputs, after=after).node
    return build.finish()


def contract(region: Region, groups: Sequence[Sequence[Node]], make: Callable[[Region, Sequence[Node]], Op]) -> Region:
    """Return the region with each group of nodes as one op.

    Parameters
    ----------
    region : Region
        What to rewrite.
    groups : sequence of sequences of Node
        Disjoint, each in ascending order; no path may leave a group and come back to it.
    make : callable
        Gives the op for a group, from the region that the group's nodes form, and the nodes.
    """
    unit_of = list(range(len(region.nodes)))
    for group in groups:
        for node in group:
            unit_of[node.id] = group[0].id
    members = {group[0].id: group for group in groups}
    results: dict[int, dict[Value, None]] = {unit: {} for unit in members}  # what is used outside, in order of use
    for node in region.nodes:
        for value in node.inputs:
            unit = unit_of[value.node]
            if unit in results and unit_of[node.id] != unit:
                results[unit][value] = None

    build = Builder(0)
    moved: dict[Value, Value] = {}
    waits: dict[int, int] = {}
    for unit in _order(region, unit_of):
        op, inputs, after = region.nodes[unit].op, region.nodes[unit].inputs, region.nodes[unit].after
        given = [Value(unit, output) for output in range(op.outputs)]
        if unit in members:
            # a group that others merely wait for still gives a value, as every op does
            given = sorted(results[unit]) or [Value(members[unit][-1].id)]
            body, inputs, after = _body(members[unit], given)
            op = make(body, members[unit])
        made = build.add(op, *(moved[value] for value in inputs), after=tuple(sorted({waits[id_] for id_ in after})))
        for output, value in enumerate(given):
            moved[value] = Value(made.node, output)
        for node in members.get(unit, (region.nodes[unit],)):
            waits[node.id] = made.node
    return build.finish()


def _order(region: Region, unit_of: Sequence[int]) -> list[int]:
    """Return the units in an order that respects every edge between them; of those that may come next, the first."""
    following: dict[int, set[int]] = {}
    waiting = dict.fromkeys(unit_of, 0)
    for node in region.nodes:
        unit = unit_of[node.id]
        for source in (*(value.node for value in node.inputs), *node.after):
            before = unit_of[source]
            if before != unit and unit not in following.setdefault(before, set()):
                following[before].add(unit)
                waiting[unit] += 1
    ready = [unit for unit, count in waiting.items() if not count]
    heapq.heapify(ready)
    order = []
    while ready:
        unit = heapq.heappop(ready)
        order.append(unit)
        for later in following.get(unit, ()):
            waiting[later] -= 1
            if not waiting[later]:
                heapq.heappush(ready, later)
    return order


def _body(group: Sequence[Node], results: Sequence[Value]) -> tuple[Region, tuple[Value, ...], tuple[int, ...]]:
    """Return a group as a region, the values that it takes, and the nodes that it merely waits for."""
    inside = {node.id for node in group}
    taken = dict.fromkeys(value for node in group for value in node.inputs if value.node not in inside)
    awaited = dict.fromkeys(id_ for node in group for id_ in node.after if id_ not in inside)
    build = Builder(len(taken))
    moved: dict[Value, Value] = {value: Value(index) for index, value in enumerate(taken)}
    for node in group:
        after = tuple(moved[Value(id_)].node for id_ in node.after if id_ in inside)
        made = build.add(node.op, *(moved[value] for value in node.inputs), after=after)
        for output in range(node.op.outputs):
            moved[Value(node.id, output)] = Value(made.node, output)
    return build.region(*(moved[value] for value in results)), tuple(taken), tuple(awaited)
