"""What a flow takes, as far as its annotations say."""

from __future__ import annotations

from typing import Any

from dataflow.expr import hints
from dataflow.expr.flow import Flow
from dataflow.expr.nodes import Chain, Each, Fanout, Race, Switch
from dataflow.expr.stage import Stage
from dataflow.testing import pool
from dataflow.testing.rebuild import stages_of


def input_type(flow: Flow[Any, Any]) -> Any:
    """Return the annotated type of the items that a flow takes.

    Parameters
    ----------
    flow : Flow
        The flow.

    Raises
    ------
    ValueError
        Where no stage that the item comes to is annotated.

    Examples
    --------
    >>> import dataflow as df
    >>> def clean(text: str) -> str:
    ...     return text.strip()
    >>> input_type(df.each(clean) >> len)
    list[str]
    """
    stages = stages_of(flow)
    if all(getattr(stage.fn, "__module__", None) == pool.__name__ for stage in stages):
        return int  # a flow of `flows`, or one that takes anything
    found = _taken(flow)
    if found is not hints.UNKNOWN:
        return found
    raise ValueError(
        f"the first stages of {flow!r} do not say what they take: annotate one (def fn(item: int) ...), or write a "
        "strategy of your own in place of inputs_for"
    )


def _taken(flow: Flow[Any, Any]) -> Any:
    match flow:
        case Stage():
            return hints.taken(flow)
        case Chain():
            neutral = not stages_of(flow.children[0])  # an identity under a name, say
            return _taken(flow.children[1 if neutral else 0])
        case Each():
            element = _taken(flow.body)
            return element if element is hints.UNKNOWN else list[element]  # type: ignore[valid-type]
        case Fanout() | Race() | Switch():
            known = (found for part in flow.children if (found := _taken(part)) is not hints.UNKNOWN)
            return next(known, hints.UNKNOWN)
    return _taken(flow.children[0]) if flow.children else hints.UNKNOWN
