"""Where things lie in a picture of a plan: boxes in layers, each below what it takes values from.

The layers are those of the longest path; a long edge passes the layers between through places of its own. The order
in a layer is that of the neighbours' middles (barycentres), and the places are as near to the neighbours' as boxes that
must not overlap can be. Constructs are laid out from the inside.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from dataflow.explain.diagram import cut, labels
from dataflow.explain.outline import Body, Entry, Outline

TITLE, SMALL = 12.0, 10.5
"""Sizes of the letters of titles and of what stands below them."""

_TITLE_STEP, _SMALL_STEP = 7.5, 6.0
_LINE, _SMALL_LINE = 17.0, 15.0
_PAD = 10.0
_GAP, _LAYER_GAP = 26.0, 40.0
_SWEEPS = 8


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle with lines of text at its top.

    Parameters
    ----------
    x, y, width, height : float
        Its left upper corner, and its size.
    kind : str
        What it stands for: an entry's kind, "body" or "end".
    title : int
        How many of the lines are its title.
    lines : tuple of str
        What is written on it.
    """

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: int
    lines: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Curve:
    """A line that ends in an arrow: through points, from each to the next down."""

    points: tuple[tuple[float, float], ...]
    dashed: bool


@dataclasses.dataclass(frozen=True)
class Drawing:
    """Boxes, those that hold others first, and the curves between them."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    curves: tuple[Curve, ...]

    def shifted(self, dx: float, dy: float) -> Drawing:
        """Return the drawing moved."""
        boxes = tuple(dataclasses.replace(box, x=box.x + dx, y=box.y + dy) for box in self.boxes)
        curves = tuple(
            dataclasses.replace(curve, points=tuple((x + dx, y + dy) for x, y in curve.points)) for curve in self.curves
        )
        return Drawing(self.width, self.height, boxes, curves)


def layout(root: Outline, margin: float = 16.0) -> Drawing:
    """Return the drawing of an outline.

    Examples
    --------
    >>> import dataflow as df
    >>> from dataflow.explain.outline import outline
    >>> drawing = layout(outline((df.stage(abs) >> str).optimize()))
    >>> [box.lines[0] for box in drawing.boxes]
    ['input', '1. abs + str', 'output']
    """
    inner = _block(root, ends=True)
    placed = inner.shifted(margin, margin)
    return Drawing(inner.width + 2 * margin, inner.height + 2 * margin, placed.boxes, placed.curves)


# -- boxes -----------------------------------------------------------------------------------------------------------


def _box(kind: str, lines: Sequence[str], title: int = 1) -> Drawing:
    """Return a drawing of one box, as large as its text needs."""
    widths = [len(line) * (_TITLE_STEP if index < title else _SMALL_STEP) for index, line in enumerate(lines)]
    height = title * _LINE + (len(lines) - title) * _SMALL_LINE + 2 * _PAD - 4
    width = max(widths, default=0.0) + 2 * _PAD
    return Drawing(width, height, (Box(0, 0, width, height, kind, title, tuple(lines)),), ())


def _entry(entry: Entry) -> Drawing:
    lines, title = labels(entry)
    head = _box(entry.kind, lines, title)
    return _around(head, [_body(body) for body in entry.bodies]) if entry.bodies else head


def _body(body: Body) -> Drawing:
    return _around(_box("body", cut(body.title, 30, 2), 0), [_block(body.outline, ends=False)])


def _around(head: Drawing, held: Sequence[Drawing]) -> Drawing:
    """Return a box around drawings side by side, below its own text."""
    inner = sum(each.width for each in held) + _PAD * (len(held) - 1)
    width = max(head.width, inner + 2 * _PAD)
    top = head.height - 4 if head.boxes[0].lines else _PAD
    tallest = max(each.height for each in held)
    box = dataclasses.replace(head.boxes[0], width=width, height=top + tallest + _PAD)
    boxes: list[Box] = [box]
    curves: list[Curve] = []
    x = (width - inner) / 2
    for each in held:
        if each.boxes and each.boxes[0].kind == "body":  # bodies side by side are of one height
            each = dataclasses.replace(
                each, boxes=(dataclasses.replace(each.boxes[0], height=tallest), *each.boxes[1:])
            )
        placed = each.shifted(x, top)
        boxes += placed.boxes
        curves += placed.curves
        x += each.width + _PAD
    return Drawing(width, box.height, tuple(boxes), tuple(curves))


# -- layers ----------------------------------------------------------------------------------------------------------


def _block(block: Outline, *, ends: bool) -> Drawing:
    """Return the drawing of a block: its entries, and where `ends` its input and output."""
    if not block.entries and not ends:
        return _box("end", [block.instead or "its input"], 0)
    entries = {entry.id: entry for entry in block.entries}
    drawings = {id_: _entry(entry) for id_, entry in entries.items()}
    edges = [(source, id_, False) for id_, entry in entries.items() for source in entry.sources if source != id_]
    edges += [(source, id_, True) for id_, entry in entries.items() for source in entry.waits]
    if ends:
        drawings = {0: _box("end", ["input"], 0), **drawings, -1: _box("end", ["output"], 0)}
        edges.append((block.result, -1, False))
    return _Layers(drawings, [edge for edge in edges if edge[0] in drawings]).drawing()


class _Layers:
    """The layered drawing of one block.

    Parameters
    ----------
    drawings : dict of int to Drawing
        What is to be placed, in an order in which sources come before targets.
    edges : list of (int, int, bool)
        From which to which, and whether it merely orders.
    """

    def __init__(self, drawings: dict[int, Drawing], edges: list[tuple[int, int, bool]]) -> None:
        self._drawings = drawings
        self._size = {id_: drawing.width for id_, drawing in drawings.items()}
        self._layer: dict[int, int] = {}
        self._paths: list[tuple[list[int], bool]] = []
        self._assign(edges)
        self._rows: list[list[int]] = [[] for _ in range(max(self._layer.values()) + 1)]
        for id_, layer in self._layer.items():
            self._rows[layer].append(id_)
        self._x: dict[int, float] = {}
        self._arrange()

    def _assign(self, edges: list[tuple[int, int, bool]]) -> None:
        """Give everything a layer, and every long edge a place of its own in each layer that it passes."""
        sources: dict[int, list[int]] = {}
        for source, target, _ in edges:
            sources.setdefault(target, []).append(source)
        for id_ in self._drawings:
            self._layer[id_] = max((self._layer[source] + 1 for source in sources.get(id_, [])), default=0)
        if -1 in self._drawings:
            self._layer[-1] = max(self._layer.values()) + (-1 not in sources)
        place = -2
        for source, target, waits in edges:
            path = [source]
            for layer in range(self._layer[source] + 1, self._layer[target]):
                self._layer[place], self._size[place] = layer, 8.0
                path.append(place)
                place -= 1
            self._paths.append(([*path, target], waits))

    def _arrange(self) -> None:
        """Order the layers and place what they hold."""
        above: dict[int, list[int]] = {}
        below: dict[int, list[int]] = {}
        for path, _ in self._paths:
            for one, other in itertools.pairwise(path):
                below.setdefault(one, []).append(other)
                above.setdefault(other, []).append(one)
        for row in self._rows:
            for id_, x in zip(row, _spread([self._size[id_] for id_ in row], None), strict=True):
                self._x[id_] = x
        for sweep in range(_SWEEPS):
            down = sweep % 2 == 0
            neighbours = above if down else below
            for row in self._rows if down else reversed(self._rows):
                wanted = {id_: _mean([self._x[other] for other in neighbours.get(id_, [id_])]) for id_ in row}
                if sweep < _SWEEPS // 2:
                    row.sort(key=lambda id_: wanted[id_])
                places = _spread([self._size[id_] for id_ in row], [wanted[id_] for id_ in row])
                self._x.update(zip(row, places, strict=True))

    def drawing(self) -> Drawing:
        left = min(self._x[id_] - self._size[id_] / 2 for id_ in self._x)
        boxes: list[Box] = []
        inner: list[Curve] = []
        spans: dict[int, tuple[float, float]] = {}  # from where to where each thing reaches down
        middle: dict[int, tuple[float, float]] = {}  # and the layer that it is in
        y = 0.0
        for row in self._rows:
            height = max((self._drawings[id_].height for id_ in row if id_ in self._drawings), default=0.0)
            for id_ in row:
                middle[id_] = spans[id_] = (y, y + height)
                drawing = self._drawings.get(id_)
                if drawing is not None:
                    top = y + (height - drawing.height) / 2
                    spans[id_] = (top, top + drawing.height)
                    placed = drawing.shifted(self._x[id_] - left - drawing.width / 2, top)
                    boxes += placed.boxes
                    inner += placed.curves
            y += height + _LAYER_GAP
        curves = []
        for path, waits in self._paths:
            points: list[tuple[float, float]] = []
            for id_ in path:
                x = self._x[id_] - left
                rows = (middle[id_][0], spans[id_][0]) if id_ == path[-1] else middle[id_]
                rows = (spans[id_][1], middle[id_][1]) if id_ == path[0] else rows
                points += [(x, row) for row in dict.fromkeys(rows)]
            curves.append(Curve(tuple(points), waits))
        width = max(self._x[id_] + self._size[id_] / 2 for id_ in self._x) - left
        return Drawing(width, y - _LAYER_GAP, tuple(boxes), (*inner, *curves))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _spread(sizes: Sequence[float], wanted: Sequence[float] | None) -> list[float]:
    """Return middles for things in a row, in order and apart, as near as possible to where they are wanted.

    With the room that the things before it need taken off each wish, what remains is to find the ascending numbers that
    are nearest to given ones: neighbours whose wishes cross are pooled and get their mean.

    Examples
    --------
    >>> _spread([10, 10], [0.0, 100.0]), _spread([10, 10], [50.0, 50.0])
    ([0.0, 100.0], [32.0, 68.0])
    """
    room = [0.0]
    for one, other in itertools.pairwise(sizes):
        room.append(room[-1] + (one + other) / 2 + _GAP)
    if wanted is None:
        return [place - room[-1] / 2 for place in room[: len(sizes)]]
    pools: list[tuple[float, int]] = []
    for wish, place in zip(wanted, room, strict=False):
        total, count = wish - place, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            before = pools.pop()
            total, count = total + before[0], count + before[1]
        pools.append((total, count))
    free = [total / count for total, count in pools for _ in range(count)]
    return [middle + place for middle, place in zip(free, room, strict=False)]
