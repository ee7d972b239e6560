"""Tools for testing flows and what runs them: an oracle, random flows to compare against it, laws, and virtual time.

The oracle needs nothing but Python. What needs more is imported when it is first asked for: the strategies need
Hypothesis, `ExecutorConformance` needs pytest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dataflow.testing.clock import Gate, VirtualClock
from dataflow.testing.leaks import assert_no_leaks
from dataflow.testing.outcomes import Outcome, outcome_of, outcomes
from dataflow.testing.reference import Failed, reference, reference_map
from dataflow.testing.source import to_python

if TYPE_CHECKING:
    from dataflow.testing import laws
    from dataflow.testing.capturing import capture
    from dataflow.testing.conformance import ExecutorConformance
    from dataflow.testing.equivalence import assert_equivalent
    from dataflow.testing.faulty import Fault, Injected
    from dataflow.testing.profiles import load_profile
    from dataflow.testing.simulated import Simulated
    from dataflow.testing.strategies import faults, flows, inputs_for, stages

__all__ = [
    "ExecutorConformance",
    "Failed",
    "Fault",
    "Gate",
    "Injected",
    "Outcome",
    "Simulated",
    "VirtualClock",
    "assert_equivalent",
    "assert_no_leaks",
    "capture",
    "faults",
    "flows",
    "inputs_for",
    "laws",
    "load_profile",
    "outcome_of",
    "outcomes",
    "reference",
    "reference_map",
    "stages",
    "to_python",
]

_LATER = {
    "ExecutorConformance": "conformance",
    "Fault": "faulty",
    "Injected": "faulty",
    "Simulated": "simulated",
    "assert_equivalent": "equivalence",
    "capture": "capturing",
    "faults": "strategies",
    "flows": "strategies",
    "inputs_for": "strategies",
    "load_profile": "profiles",
    "stages": "strategies",
}
_MODULES = frozenset({"laws"})
_NEEDS = {"hypothesis": "Hypothesis: pip install 'dataflow[testing]'", "pytest": "pytest: pip install pytest"}


def __getattr__(name: str) -> Any:
    if name not in _LATER and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_LATER.get(name, name)}")
    except ModuleNotFoundError as error:
        if error.name not in _NEEDS:
            raise
        raise ModuleNotFoundError(f"{__name__}.{name} needs {_NEEDS[error.name]}", name=error.name) from error
    return module if name in _MODULES else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
