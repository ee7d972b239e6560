"""Walking expressions: with explicit stacks, each distinct node once.

Nothing here recurses, so a chain of ten thousand stages and constructs nested hundreds deep are ordinary; and nodes are
remembered by identity, so an expression that shares its parts costs what its distinct nodes cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataflow.expr.flow import Flow

_REPR_LIMIT = 2000


def postorder(root: Flow[Any, Any], skip: Callable[[Flow[Any, Any]], bool] | None = None) -> Iterator[Flow[Any, Any]]:
    """Yield each distinct node below and including `root` once, children before parents.

    Parameters
    ----------
    root : Flow
        Where to start.
    skip : callable, optional
        Nodes for which it is true are left out, with all below them.
    """
    seen: set[int] = set()
    stack: list[tuple[Flow[Any, Any], bool]] = [(root, False)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            yield node
        elif id(node) not in seen and not (skip is not None and skip(node)):
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((child, False) for child in reversed(node.children))


def flatten(root: Any, kind: type[Any]) -> tuple[Flow[Any, Any], ...]:
    """Return the parts of an associative pair-node (``>>`` or ``|``) as one flat tuple, in order."""
    parts: list[Flow[Any, Any]] = []
    stack = [root]
    while stack:
        node = stack.pop()
        if not isinstance(node, kind):
            parts.append(node)
        elif node._left is None:  # a closed group is a part of its own
            parts.append(node)
        else:
            stack += (node._right, node._left)
    return tuple(parts)


def same(one: Flow[Any, Any], other: Flow[Any, Any]) -> bool:
    """Return whether two expressions have the same structure."""
    seen: set[tuple[int, int]] = set()
    stack = [(one, other)]
    while stack:
        a, b = stack.pop()
        if a is b or (id(a), id(b)) in seen:
            continue
        seen.add((id(a), id(b)))
        if a.kind is not b.kind or hash(a) != hash(b):
            return False
        if len(a.children) != len(b.children) or a.params() != b.params():
            return False
        stack.extend(zip(a.children, b.children, strict=True))
    return True


def render(root: Flow[Any, Any], limit: int = _REPR_LIMIT) -> str:
    """Return an expression as the Python that would write it, cut after about `limit` characters."""
    out: list[str] = []
    length = 0
    stack: list[str | Flow[Any, Any] | Iterator[str | Flow[Any, Any]]] = [root]
    while stack:
        top = stack.pop()
        if isinstance(top, str):
            out.append(top)
            length += len(top)
            if length > limit:
                return "".join(out)[:limit] + " …"
        elif isinstance(top, Iterator):
            piece = next(top, None)
            if piece is not None:
                stack += (top, piece)
        else:
            stack.append(top.pieces())
    return "".join(out)
