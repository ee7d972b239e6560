"""A region: one networkx graph of ops, with its inputs and outputs; and the builder that makes one.

The graph is a `networkx.MultiDiGraph`. Nodes are numbered from 0 in an order in which every value is made before it
is used; a node's one attribute, ``op``, is the typed payload. An edge's key is its `Port`: which output of the source
goes to which input of the target, or, with ``AFTER``, that the target merely has to wait for the source.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import networkx as nx

from dataflow.graph.ops import Input, Op, Output

if TYPE_CHECKING:
    Graph = nx.MultiDiGraph[int]

AFTER = -1
"""The input port of an edge that orders two nodes without carrying a value."""


class Port(NamedTuple):
    """The key of an edge: output number of the source, input number of the target (or ``AFTER``)."""

    source: int
    target: int


class Value(NamedTuple):
    """One output of one node."""

    node: int
    output: int = 0


class Node(NamedTuple):
    """A node as rewriting reads it: its op and where its inputs come from."""

    id: int
    op: Op
    inputs: tuple[Value, ...]
    after: tuple[int, ...]


class Region:
    """A frozen graph of ops with inputs and outputs.

    Parameters
    ----------
    graph : networkx.MultiDiGraph
        Taken over, and frozen.
    nodes : tuple of Node, optional
        The graph's nodes as `Region.nodes` gives them, where they are known already: reading them out of networkx again
        would be a third of the time that a long chain takes to plan.
    """

    __slots__ = ("_key", "_nodes", "graph")

    def __init__(self, graph: Graph, nodes: tuple[Node, ...] | None = None) -> None:
        self.graph: Graph = nx.freeze(graph)
        self._nodes = nodes
        self._key: Hashable = None

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, every value made before it is used."""
        if self._nodes is None:
            self._nodes = read_nodes(self.graph)
        return self._nodes

    @property
    def outputs(self) -> tuple[Value, ...]:
        """The values that the region gives."""
        return self.nodes[-1].inputs

    @property
    def size(self) -> int:
        """How many inputs the region has."""
        return sum(type(node.op) is Input for node in self.nodes)

    def ops(self) -> Iterator[Node]:
        """Yield the nodes that do something: all but the inputs and the output."""
        return (node for node in self.nodes if type(node.op) not in (Input, Output))

    def key(self) -> Hashable:
        """Return a key that is equal for regions that compute the same in the same way."""
        if self._key is None:
            for region in regions(self):  # the held before the holder, so that no key asks for one below it
                if region._key is None:
                    rows = tuple((node.op.key(), node.inputs, node.after) for node in region.nodes)
                    region._key = _KEYS.setdefault(rows, Key(rows))
        return self._key

    def pure(self) -> bool:
        """Return whether running it twice does no harm."""
        return all(node.op.pure() for region in regions(self) for node in region.nodes if not node.op.bodies)


def read_nodes(graph: Graph) -> tuple[Node, ...]:
    """Return a graph's nodes in order, with their inputs by port."""
    sources: dict[int, list[tuple[int, Value]]] = {}
    for source, target, (output, port) in graph.edges(keys=True):
        sources.setdefault(target, []).append((port, Value(source, output)))
    rows = []
    payloads: Any = graph.nodes(data="op")
    for id_, op in payloads:
        found = sorted(sources.get(id_, ()))
        inputs = tuple(value for port, value in found if port != AFTER)
        rows.append(Node(id_, op, inputs, tuple(value.node for port, value in found if port == AFTER)))
    return tuple(rows)


class Key:
    """A structure's key: hashed once, and one object for all structures that are equal.

    Deep structures then compare by identity, at a glance and without recursion.
    """

    __slots__ = ("__weakref__", "_hash", "parts")

    def __init__(self, parts: Hashable) -> None:
        self.parts = parts
        self._hash = hash(parts)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Key) and self._hash == other._hash and self.parts == other.parts)

    def __hash__(self) -> int:
        return self._hash


_KEYS: weakref.WeakValueDictionary[Hashable, Key] = weakref.WeakValueDictionary()


class Builder:
    """Makes a region node by node, each after the nodes that it uses.

    Parameters
    ----------
    inputs : int
        How many inputs the region has; their values are ``Value(0)`` to ``Value(inputs - 1)``.
    """

    def __init__(self, inputs: int = 1) -> None:
        self._graph: Graph = nx.MultiDiGraph()
        self._nodes: list[Node] = []
        for index in range(inputs):
            self.add(Input(index=index))

    def add(self, op: Op, *inputs: Value, after: tuple[int, ...] = ()) -> Value:
        """Add a node and return its (first) output."""
        id_ = len(self._nodes)
        after = tuple(sorted(after))
        self._nodes.append(Node(id_, op, inputs, after))
        self._graph.add_node(id_, op=op)
        for port, value in enumerate(inputs):
            self._graph.add_edge(value.node, id_, key=Port(value.output, port))
        for node in after:
            self._graph.add_edge(node, id_, key=Port(0, AFTER))
        return Value(id_)

    def region(self, *outputs: Value) -> Region:
        """Add the output node and return the finished region."""
        self.add(Output(size=len(outputs)), *outputs)
        return self.finish()

    def finish(self) -> Region:
        """Return the finished region, its output node having been added like any other."""
        return Region(self._graph, tuple(self._nodes))


def regions(root: Region, *, whole: tuple[type[Op], ...] = ()) -> Iterator[Region]:
    """Yield `root` and every region held inside it, each once: in order, and the held before the holder.

    Parameters
    ----------
    root : Region
        Where to start.
    whole : tuple of types
        Ops whose regions are left out.
    """
    seen: set[int] = set()
    stack: list[tuple[Region, bool]] = [(root, False)]
    while stack:
        region, expanded = stack.pop()
        if expanded:
            yield region
        elif id(region) not in seen:
            seen.add(id(region))
            stack.append((region, True))
            holders = (node.op for node in reversed(region.nodes) if not isinstance(node.op, whole))
            stack.extend((body, False) for op in holders for body in reversed(op.bodies))
