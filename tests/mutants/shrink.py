"""Prints the smallest flow and items that this copy of the library gets wrong."""

from typing import Any

from hypothesis import HealthCheck, find, settings
from hypothesis import strategies as st

import dataflow as df
from dataflow.expr.stage import Stage
from dataflow.testing import flows, outcome_of, outcomes, to_python
from dataflow.testing.equivalence import recorded

ITEMS = st.lists(st.integers(-20, 60), min_size=1, max_size=8)
HOW_FAR = settings(max_examples=5000, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def written_stages(flow: Any) -> int:
    """How many stages are written in a flow."""
    return sum(map(written_stages, flow.children)) if flow.children else isinstance(flow, Stage)


def wrong(flow: Any, items: list[int]) -> bool:
    """Whether a job over the items, or a call, gives what the flow does not mean."""
    wanted = [outcomes(flow, item) for item in items]
    try:
        found = list(recorded(flow.map(items, df.Inline(), on_error="record", progress=False)))
    except Exception:
        return True
    if len(found) != len(items) or any(outcome not in may for outcome, may in zip(found, wanted, strict=True)):
        return True
    return any(outcome_of(lambda item=item: flow(item)) not in may for item, may in zip(items, wanted, strict=True))


def main() -> None:
    """Find it and print it."""
    flow, items = find(st.tuples(flows(), ITEMS), lambda pair: wrong(*pair), settings=HOW_FAR)
    print(written_stages(flow), len(items), to_python(flow), items)


if __name__ == "__main__":
    main()
