"""A functional dataflow library for multi-model inference.

A pipeline is an expression: ``>>`` chains, ``|`` fans out, `combine` gathers, `switch` routes. It builds a lazy graph,
which passes optimize, and which runs unchanged wherever an executor takes it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dataflow.errors import (
    BatchSizeError,
    CompositionError,
    DataflowError,
    DeadlineExceeded,
    LoweringError,
    OptionError,
    QueueFull,
    RemoteError,
    ReplicaLost,
    RoutingError,
    SessionClosed,
)
from dataflow.expr import Flow, combine, each, fanout, identity, race, stage, switch

if TYPE_CHECKING:
    from dataflow import testing as testing
    from dataflow import torch as torch
    from dataflow.executors import Failure, Inline, RayServe, Session, Threads
    from dataflow.plan import Plan

__all__ = [
    "BatchSizeError",
    "CompositionError",
    "DataflowError",
    "DeadlineExceeded",
    "Failure",
    "Flow",
    "Inline",
    "LoweringError",
    "OptionError",
    "Plan",
    "QueueFull",
    "RayServe",
    "RemoteError",
    "ReplicaLost",
    "RoutingError",
    "Session",
    "SessionClosed",
    "Threads",
    "combine",
    "each",
    "fanout",
    "identity",
    "race",
    "stage",
    "switch",
]

# what needs networkx, or an optional dependency, is imported when it is first asked for
_LATER = {
    "Failure": "dataflow.executors",
    "Inline": "dataflow.executors",
    "RayServe": "dataflow.executors",
    "Session": "dataflow.executors",
    "Threads": "dataflow.executors",
    "Plan": "dataflow.plan",
}
_MODULES = ("testing", "torch")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"dataflow.{name}")
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("dataflow")
    raise AttributeError(f"module 'dataflow' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
