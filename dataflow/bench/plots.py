"""The plots of a report, as SVG: bars of speed, latency curves, stacked times, throughput by batch size."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

from dataflow.bench.samples import median
from dataflow.bench.tables import SHARES, AnyTable, Curves, LatencyTable, Table, TimeTable

COLOURS = ("#3b6fb6", "#e08a2e", "#3f9c6d", "#b8474f", "#7d62a8", "#8a6d5a", "#c76fa5", "#6b7280")
_INK = "#7a8290"  # reads on white and on black
_WIDTH = 9.0

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _INK,
    "grid.alpha": 0.2,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def plot(table: AnyTable, name: str) -> str:
    """Return a table as an SVG element; nothing where it holds nothing to be drawn.

    Parameters
    ----------
    table : Table, LatencyTable, TimeTable or Curves
        What to draw.
    name : str
        Different for each plot of a page, so that no two elements in it have one identity.
    """
    match table:
        case Table():
            draw: Callable[[Any], None] = _bars(table)
            rows = sum(1 for row in table.rows if row.samples)
        case LatencyTable():
            draw, rows = _tails(table), 10 * any(row.latencies for row in table.rows)
        case TimeTable():
            measured = sum(1 for row in table.rows if row.parts)
            draw, rows = _stacks(table), measured and measured + 3  # for the legend
        case Curves():
            draw, rows = _lines(table), 10 * any(curve.points for curve in table.curves)
    return _drawn(draw, 0.8 + 0.32 * rows, name) if rows else ""


def _drawn(draw: Callable[[Any], None], height: float, name: str) -> str:
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'dataflow[bench]'") from error
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        draw(figure.add_subplot())
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def _bars(table: Table) -> Callable[[Any], None]:
    rows = [(row.name, row.seconds) for row in table.rows if row.seconds is not None]
    values = [seconds.inverse() if table.rate else seconds for _, seconds in rows]

    def draw(axes: Any) -> None:
        scale, unit = (1.0, "a second") if table.rate else _scale(max(value.middle for value in values))
        widths = [value.middle * scale for value in values]
        below = [(value.middle - value.low) * scale for value in values]
        above = [(value.high - value.middle) * scale for value in values]
        colours = [COLOURS[0] if name == table.reference else COLOURS[1] for name, _ in rows]
        axes.barh([name for name, _ in rows], widths, color=colours, height=0.62)
        axes.errorbar(widths, range(len(rows)), xerr=(below, above), fmt="none", ecolor=_INK, elinewidth=1, capsize=3)
        for place, value in enumerate(values):
            factor = value.middle / values[0].middle
            axes.annotate(f"  {factor:.3g}x", (value.high * scale, place), va="center", fontsize=9)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.12)
        spread = max(widths) / min(widths)
        if spread > 30:
            axes.set_xscale("log")
        axes.set_xlabel(unit)

    return draw


def _tails(table: LatencyTable) -> Callable[[Any], None]:
    ticks = (0.0, 0.5, 0.9, 0.99, 0.999)

    def place(share: float) -> float:
        return -math.log10(1 - share)

    def draw(axes: Any) -> None:
        for colour, row in enumerate(row for row in table.rows if row.latencies):
            assert row.latencies is not None
            pairs = [(s, q) for s, q in zip(SHARES, row.latencies.quantiles, strict=True) if s < 1]
            milliseconds = [q * 1e3 for _, q in pairs]
            axes.plot([place(s) for s, _ in pairs], milliseconds, label=row.name, color=COLOURS[colour % len(COLOURS)])
        axes.set_xticks([place(tick) for tick in ticks], ["least", *(f"p{100 * tick:g}" for tick in ticks[1:])])
        axes.set_yscale("log")
        axes.set_ylabel("milliseconds")
        axes.legend()

    return draw


def _stacks(table: TimeTable) -> Callable[[Any], None]:
    rows = [row for row in table.rows if row.parts]
    names = list(dict.fromkeys(name for row in rows for name in row.parts))
    scale, unit = _scale(max((sum(row.parts.values()) for row in rows), default=1.0))

    def draw(axes: Any) -> None:
        start = [0.0] * len(rows)
        for colour, name in enumerate(names):
            widths = [row.parts.get(name, 0.0) * scale for row in rows]
            shade = _INK if name == "glue" else COLOURS[colour % len(COLOURS)]
            axes.barh([row.name for row in rows], widths, left=start, label=name, color=shade, height=0.55)
            start = [before + width for before, width in zip(start, widths, strict=True)]
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"{unit} an item")
        axes.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1))

    return draw


def _lines(table: Curves) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        for colour, curve in enumerate(table.curves):
            places = [point.x for point in curve.points]
            rates = [median(point.samples).inverse() for point in curve.points]
            shade = COLOURS[colour % len(COLOURS)]
            axes.plot(places, [rate.middle for rate in rates], marker="o", label=curve.name, color=shade)
            axes.fill_between(
                places, [rate.low for rate in rates], [rate.high for rate in rates], color=shade, alpha=0.15
            )
            axes.set_xticks(places, [f"{x:g}" for x in places])
        axes.set_xscale("log", base=2)
        axes.minorticks_off()
        if table.curves:
            places = sorted({point.x for curve in table.curves for point in curve.points})
            axes.set_xticks(places, [f"{x:g}" for x in places])
        axes.set_ylim(bottom=0)
        axes.set_xlabel(table.x)
        axes.set_ylabel("a second")
        axes.legend()

    return draw


def _scale(seconds: float) -> tuple[float, str]:
    for scale, unit in ((1.0, "seconds"), (1e3, "milliseconds"), (1e6, "microseconds")):
        if seconds * scale >= 1:
            return scale, unit
    return 1e9, "nanoseconds"
