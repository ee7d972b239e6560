"""Tools for testing flows and what runs them: an oracle, and random flows to compare against it.

The strategies need Hypothesis, which is imported when one of them is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dataflow.testing.outcomes import Outcome, outcome_of, outcomes
from dataflow.testing.reference import reference

if TYPE_CHECKING:
    from dataflow.testing.strategies import flows, stages

__all__ = ["Outcome", "flows", "outcome_of", "outcomes", "reference", "stages"]

_STRATEGIES = frozenset({"flows", "stages"})


def __getattr__(name: str) -> Any:
    if name not in _STRATEGIES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from dataflow.testing import strategies
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        raise ModuleNotFoundError(
            f"{__name__}.{name} needs Hypothesis: pip install 'dataflow[testing]'", name="hypothesis"
        ) from error
    return getattr(strategies, name)


def __dir__() -> list[str]:
    return sorted(__all__)
