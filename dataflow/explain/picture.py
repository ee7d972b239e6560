"""A plan as a picture: SVG written here, PNG drawn by matplotlib, both of the same drawing."""

from __future__ import annotations

import io
import os
from typing import Any
from xml.sax.saxutils import escape

from dataflow.errors import OptionError
from dataflow.explain.layout import SMALL, TITLE, Box, Curve, Drawing, layout
from dataflow.explain.outline import outline
from dataflow.expr.origin import caller
from dataflow.plan import Plan

_FILL = {
    "step": ("#edf3fe", "#7d9fd9"),
    "batch": ("#fdf0df", "#dda24c"),
    "construct": ("#f5f6f8", "#a9afbb"),
    "glue": ("#ffffff", "#a9afbb"),
    "more": ("#ffffff", "#c8ccd4"),
    "body": ("#ffffff", "#d9dce3"),
    "end": ("#ffffff", "#c8ccd4"),
}
_INK, _PALE, _EDGE = "#1d2433", "#5b6475", "#8a92a3"
_MONO = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_SANS = "system-ui, Helvetica, Arial, 'DejaVu Sans', sans-serif"
_BASELINE, _SMALL_BASELINE = 13.0, 11.0
_TIP = 8.0
_MOST_PIXELS = 16_000


class Picture:
    """A picture of a plan, which notebooks display.

    Parameters
    ----------
    plan : Plan
        What to draw.

    Examples
    --------
    >>> import dataflow as df
    >>> Picture((df.stage(abs) >> str).optimize()).svg.startswith("<svg")
    True
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    @property
    def drawing(self) -> Drawing:
        """Where everything lies."""
        return layout(outline(self._plan))

    @property
    def svg(self) -> str:
        """The picture as SVG text."""
        return to_svg(self.drawing)

    @property
    def png(self) -> bytes:
        """The picture as a PNG file; needs matplotlib."""
        return to_png(self.drawing)

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<picture of plan {self._plan.digest}>"


def visualize(plan: Plan, path: str | os.PathLike[str] | None = None) -> Any:
    """Draw a plan.

    Parameters
    ----------
    plan : Plan
        What to draw.
    path : str or path, optional
        A ``.svg`` file, or a ``.png`` file, which needs matplotlib.

    Returns
    -------
    str or Picture
        The path written; without one, the picture.

    Raises
    ------
    OptionError
        For a path that ends in anything else.
    ImportError
        For a ``.png`` file where matplotlib is not installed.

    Examples
    --------
    >>> import dataflow as df
    >>> visualize((df.stage(abs) >> str).optimize())
    <picture of plan ...>
    """
    picture = Picture(plan)
    if path is None:
        return picture
    name = os.fspath(path)
    ending = os.path.splitext(name)[1].lower()
    if ending not in (".svg", ".png"):
        raise OptionError(f"visualize writes .svg and .png files, not {name!r} ({caller()})")
    content = picture.svg.encode() if ending == ".svg" else picture.png
    with open(name, "wb") as file:
        file.write(content)
    return name


# -- SVG -------------------------------------------------------------------------------------------------------------


def to_svg(drawing: Drawing) -> str:
    """Return a drawing as SVG text, of nothing but what stands in it."""
    width, height = _figure(drawing.width), _figure(drawing.height)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        '<rect width="100%" height="100%" rx="6" fill="#ffffff"/>',
    ]
    for box in drawing.boxes:
        lines += _svg_box(box)
    for curve in drawing.curves:
        lines += _svg_curve(curve)
    return "\n".join([*lines, "</svg>"])


def _svg_box(box: Box) -> list[str]:
    fill, edge = _FILL[box.kind]
    dash = ' stroke-dasharray="4 3"' if box.kind == "more" else ""
    place = f'x="{_figure(box.x)}" y="{_figure(box.y)}" width="{_figure(box.width)}" height="{_figure(box.height)}"'
    lines = [f'<rect {place} rx="{_figure(_corner(box))}" fill="{fill}" stroke="{edge}"{dash}/>']
    for text, x, y, title in _texts(box):
        family, size, ink = (_MONO, TITLE, _INK) if title else (_SANS, SMALL, _PALE)
        lines.append(
            f'<text x="{_figure(x)}" y="{_figure(y)}" font-family="{family}" font-size="{size:g}" fill="{ink}" '
            f'text-anchor="middle">{escape(_printable(text))}</text>'
        )
    return lines


def _svg_curve(curve: Curve) -> list[str]:
    path = []
    for command, *points in _strokes(curve):
        path.append(command + " ".join(f"{_figure(a)},{_figure(b)}" for a, b in points))
    dash = ' stroke-dasharray="4 3"' if curve.dashed else ""
    tip = " ".join(f"{_figure(a)},{_figure(b)}" for a, b in _tip(curve))
    return [
        f'<path d="{" ".join(path)}" fill="none" stroke="{_EDGE}" stroke-width="1.3"{dash}/>',
        f'<polygon points="{tip}" fill="{_EDGE}"/>',
    ]


def _figure(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _printable(text: str) -> str:
    """Return text without the characters that XML cannot hold."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


# -- PNG -------------------------------------------------------------------------------------------------------------


def to_png(drawing: Drawing) -> bytes:
    """Return a drawing as a PNG file.

    Raises
    ------
    ImportError
        Where matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "a .png picture needs matplotlib: pip install 'dataflow[viz]'; a .svg one needs nothing", name=error.name
        ) from error
    figure = Figure(figsize=(drawing.width / 100, drawing.height / 100))
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, drawing.width), ylim=(drawing.height, 0))
    axes.set_axis_off()
    for box in drawing.boxes:
        _png_box(axes, box)
    for curve in drawing.curves:
        _png_curve(axes, curve)
    file = io.BytesIO()
    largest = max(drawing.width, drawing.height) / 100
    canvas.figure.savefig(file, format="png", dpi=min(200.0, _MOST_PIXELS / largest))
    return file.getvalue()


def _png_box(axes: Any, box: Box) -> None:
    from matplotlib.patches import BoxStyle, FancyBboxPatch

    fill, edge = _FILL[box.kind]
    shape = BoxStyle.Round(pad=0, rounding_size=_corner(box))
    dash = "--" if box.kind == "more" else "-"
    look: Any = {"facecolor": fill, "edgecolor": edge, "linewidth": 0.8, "linestyle": dash}
    axes.add_patch(FancyBboxPatch((box.x, box.y), box.width, box.height, boxstyle=shape, **look))
    for text, x, y, title in _texts(box):
        family, points, ink = ("monospace", TITLE, _INK) if title else ("sans-serif", SMALL, _PALE)
        look = {"family": family, "fontsize": points * 0.72, "color": ink, "ha": "center", "parse_math": False}
        axes.text(x, y, _printable(text), **look)


def _png_curve(axes: Any, curve: Curve) -> None:
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path

    codes, points = [], []
    for command, *given in _strokes(curve):
        codes += {"M": [Path.MOVETO], "L": [Path.LINETO], "C": [Path.CURVE4] * 3}[command]
        points += given
    style = "--" if curve.dashed else "-"
    axes.add_patch(PathPatch(Path(points, codes), fill=False, edgecolor=_EDGE, linewidth=0.95, linestyle=style))
    axes.add_patch(Polygon(_tip(curve), facecolor=_EDGE, linewidth=0))


# -- both ------------------------------------------------------------------------------------------------------------


def _corner(box: Box) -> float:
    return box.height / 2 if box.kind == "end" else 5.0


def _texts(box: Box) -> list[tuple[str, float, float, bool]]:
    """Return the lines of a box with the places of their middles on the baseline, and whether they are its title."""
    rows, y = [], box.y + 8
    for index, text in enumerate(box.lines):
        title = index < box.title
        rows.append((text, box.x + box.width / 2, y + (_BASELINE if title else _SMALL_BASELINE), title))
        y += 17.0 if title else 15.0
    return rows


def _tip(curve: Curve) -> list[tuple[float, float]]:
    """Return the corners of a curve's arrow."""
    x, y = curve.points[-1]
    return [(x - 4, y - _TIP), (x + 4, y - _TIP), (x, y)]


def _strokes(curve: Curve) -> list[tuple[Any, ...]]:
    """Return a curve down to its arrow as strokes: straight down, and in an S where it changes its place."""
    (x, y), *others = curve.points
    end_x, end_y = others.pop()
    strokes: list[tuple[Any, ...]] = [("M", (x, y))]
    for to_x, to_y in (*others, (end_x, end_y - _TIP)):
        if abs(to_x - x) < 0.5:
            strokes.append(("L", (to_x, to_y)))
        else:
            half = (y + to_y) / 2
            strokes.append(("C", (x, half), (to_x, half), (to_x, to_y)))
        x, y = to_x, to_y
    return strokes
