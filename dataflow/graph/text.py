"""A graph as text: what golden files hold and what digests are taken of."""

from __future__ import annotations

from collections.abc import Iterator

from dataflow.graph import ops
from dataflow.graph.region import Node, Region, Value


def to_text(region: Region) -> str:
    """Return a region as text, a line a node, held regions indented below their node.

    Parameters
    ----------
    region : Region
        What to show.

    Examples
    --------
    >>> import dataflow as df
    >>> from dataflow.graph.lower import lower
    >>> print(to_text(lower(df.stage(abs) >> str)))
    %0 = input
    %1 = call abs(%0)
    %2 = call str(%1)
    output %2
    """
    return "\n".join(_lines(region))


def _lines(root: Region) -> Iterator[str]:
    stack: list[tuple[str, Iterator[Node] | None, str]] = [("", iter(root.nodes), "")]
    while stack:
        indent, nodes, title = stack.pop()
        if nodes is None:
            yield indent + title
            continue
        node = next(nodes, None)
        if node is None:
            continue
        stack.append((indent, nodes, ""))
        yield indent + _line(node)
        held: list[tuple[str, Iterator[Node] | None, str]] = []
        for title, body in zip(titles(node.op), node.op.bodies, strict=True):
            if title:
                held.append((indent + "  ", None, title + ":"))
            held.append((indent + ("    " if title else "  "), iter(body.nodes), ""))
        stack.extend(reversed(held))


def _line(node: Node) -> str:
    given = ", ".join(_value(value) for value in node.inputs)
    if isinstance(node.op, ops.Output):
        return f"output {given}"
    if isinstance(node.op, ops.Input):
        return f"%{node.id} = {node.op.head()}"
    after = f" after {', '.join(f'%{id_}' for id_ in node.after)}" if node.after else ""
    tail = f" {node.op.tail()}" if node.op.tail() else ""
    return f"%{node.id} = {node.op.head()}({given}){tail}{after}"


def _value(value: Value) -> str:
    return f"%{value.node}" + (f".{value.output}" if value.output else "")


def titles(op: ops.Op) -> list[str]:
    """Return a heading for each body of an op, empty where one needs none."""
    match op:
        case ops.Switch():
            return op.arm_labels()
        case ops.Fallback():
            return ["try", "else"]
        case ops.Race() | ops.Quorum():
            return [f"branch {index}" for index in range(len(op.bodies))]
    return [""] * len(op.bodies)
