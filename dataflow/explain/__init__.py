"""Explaining a plan: as text, as a diagram, as JSON, as a picture. What is explained is the very thing that runs."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

from dataflow.errors import OptionError
from dataflow.explain.diagram import to_dot, to_mermaid
from dataflow.explain.picture import Picture, visualize
from dataflow.explain.places import Place
from dataflow.explain.record import to_json
from dataflow.explain.text import to_text
from dataflow.expr.origin import caller
from dataflow.plan import Plan

__all__ = ["Picture", "Place", "explain", "notebook", "visualize"]

_FORMATS: dict[str, Callable[[Plan, str, Sequence[Place]], str]] = {
    "text": to_text,
    "mermaid": lambda plan, executor, places: to_mermaid(plan),
    "dot": lambda plan, executor, places: to_dot(plan),
    "json": to_json,
}
_STYLE = "font: 12px/1.4 ui-monospace, Menlo, Consolas, monospace; margin: 8px 0; overflow-x: auto; white-space: pre"


def explain(plan: Plan, format: str = "text", *, executor: str = "", places: Sequence[Place] = ()) -> str:
    """Say what will run, and why.

    Parameters
    ----------
    plan : Plan
        What to explain.
    format : {"text", "mermaid", "dot", "json"}
        Text for people, the source of a diagram, or JSON for programs (the schema is in `dataflow.explain.record`).
    executor : str
        The name of what would run it.
    places : sequence of Place
        In which processes, where they are several.

    Raises
    ------
    OptionError
        For another format.

    Examples
    --------
    >>> import dataflow as df
    >>> print(explain((df.stage(abs) >> str).optimize(), "mermaid"))
    flowchart TD
      ...
    """
    if format not in _FORMATS:
        raise OptionError(f"there is no format {format!r} ({caller()}): there are {', '.join(map(repr, _FORMATS))}")
    return _FORMATS[format](plan, executor, places)


def notebook(plan: Plan) -> dict[str, str]:
    """Return a plan as notebooks display it: its flow as text; its picture and its explanation as HTML.

    Examples
    --------
    >>> import dataflow as df
    >>> bundle = notebook((df.stage(abs) >> str).optimize())
    >>> bundle["text/plain"], bundle["text/html"][:4]
    ('abs >> str', '<div')
    """
    picture, text = Picture(plan).svg, html.escape(to_text(plan))
    return {
        "text/plain": repr(plan.flow),
        "text/html": f'<div style="overflow-x: auto">{picture}</div>\n<pre style="{_STYLE}">{text}</pre>',
    }
