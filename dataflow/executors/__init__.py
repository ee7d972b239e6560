"""What runs plans. Each executor has ``plan``, ``open`` and ``map``, and a name that stands for it."""

from __future__ import annotations

from typing import Any

from dataflow.errors import OptionError
from dataflow.executors.faults import Failure
from dataflow.executors.inline import Inline
from dataflow.executors.protocol import Executor
from dataflow.executors.ray_serve import RayServe
from dataflow.executors.session import Session
from dataflow.executors.threads import Threads
from dataflow.expr.origin import caller

__all__ = ["Executor", "Failure", "Inline", "RayServe", "Session", "Threads", "resolve"]

DEFAULT = "threads"
"""The executor that runs a flow unless another is named."""

_BY_NAME: dict[str, type[Inline] | type[Threads] | type[RayServe]] = {
    "inline": Inline,
    "threads": Threads,
    "ray": RayServe,
}


def resolve(executor: Any = None) -> Executor:
    """Return the executor that a user named.

    Parameters
    ----------
    executor : executor or str, optional
        An executor, the name of one, or None for the default.

    Raises
    ------
    OptionError
        For anything else.

    Examples
    --------
    >>> resolve("inline")
    Inline(passes=None, max_in_flight=1024, clock=None)
    """
    if executor is None:
        executor = DEFAULT
    if isinstance(executor, str) and executor in _BY_NAME:
        return _BY_NAME[executor]()
    if isinstance(executor, Executor):
        return executor
    raise OptionError(
        f"there is no executor {executor!r} in this version ({caller()}): there are "
        f"{', '.join(map(repr, _BY_NAME))}, and Inline(...), Threads(...) and RayServe(...)"
    )
