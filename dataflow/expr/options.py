# mypy: disable-error-code="redundant-expr,unreachable"
# What a user gives is looked at whatever its annotation says.
"""The options of a stage, and the checks of every number and type that a user writes in an expression."""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
from typing import Any

from dataflow.errors import CompositionError, OptionError
from dataflow.expr.origin import caller

_DEVICE = re.compile(r"cpu|[a-z]+(:\d+)?")


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What a stage asks for.

    Parameters
    ----------
    name : str, optional
        In graphs, errors and metrics; None means the callable's qualified name.
    batch : int, optional
        The most items a call; None calls on one item.
    max_wait : float
        Seconds that a first item may wait for its batch when items come one by one; never waited in ``map``.
    device : str
        ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
    pure : bool
        Whether the same input gives the same result and running twice does no harm.
    replicas : int or (int, int)
        How many instances; a pair is the range to scale in.
    cpus, gpus : float, optional
        Cores and GPUs a replica; fractions allowed.
    memory : int, optional
        Bytes a replica.
    placement : str, optional
        Stages of one placement share a process.
    """

    name: str | None = None
    batch: int | None = None
    max_wait: float = 0.002
    device: str = "cpu"
    pure: bool = True
    replicas: int | tuple[int, int] = 1
    cpus: float | None = None
    gpus: float | None = None
    memory: int | None = None
    placement: str | None = None

    def __post_init__(self) -> None:
        if self == _DEFAULTS.get("options"):
            return
        if self.name is not None and (not isinstance(self.name, str) or not self.name):
            raise _bad("stage", "name", self.name, "a non-empty string")
        if self.batch is not None:
            whole_number("stage", "batch", self.batch, 1)
        duration("stage", "max_wait", self.max_wait, zero=True)
        if not isinstance(self.device, str) or not _DEVICE.fullmatch(self.device):
            raise _bad("stage", "device", self.device, 'a device such as "cpu", "cuda" or "cuda:1"')
        if not isinstance(self.pure, bool):
            raise _bad("stage", "pure", self.pure, "True or False")
        if isinstance(self.replicas, tuple):
            if len(self.replicas) != 2:
                raise _bad("stage", "replicas", self.replicas, "a whole number, or a pair such as (1, 8)")
            low, high = self.replicas
            whole_number("stage", "replicas", low, 1)
            whole_number("stage", "replicas", high, low)
        else:
            whole_number("stage", "replicas", self.replicas, 1)
        for option in ("cpus", "gpus", "memory"):
            value = getattr(self, option)
            if value is not None and not (_real(value) and value >= 0):
                raise _bad("stage", option, value, "a number of at least 0, or None")
        if self.placement is not None and (not isinstance(self.placement, str) or not self.placement):
            raise _bad("stage", "placement", self.placement, "a non-empty string, or None")

    @property
    def gpu(self) -> bool:
        """Whether the stage runs on a GPU: every device that is not the CPU counts as one."""
        return self.device.partition(":")[0] != "cpu"

    def renamed(self, name: str) -> Options:
        """Return the same options under another name."""
        return dataclasses.replace(self, name=name)

    def given(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, by name."""
        fields = dataclasses.fields(self)
        return {f.name: getattr(self, f.name) for f in fields if getattr(self, f.name) != f.default}


def whole_number(where: str, option: str, value: Any, least: int) -> int:
    """Return `value` if it is a whole number of at least `least`; raise `OptionError` otherwise."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < least:
        raise _bad(where, option, value, f"a whole number of at least {least}")
    return int(value)


def duration(where: str, option: str, value: Any, *, zero: bool) -> float:
    """Return `value` as seconds if it is a finite number that is not negative (nor zero, unless allowed)."""
    if not _real(value) or value < 0 or (value == 0 and not zero):
        raise _bad(where, option, value, f"seconds, {'at least' if zero else 'more than'} 0")
    return float(value)


def exception_types(where: str, on: Any) -> tuple[type[Exception], ...]:
    """Return `on` as a tuple of exception types."""
    types = on if isinstance(on, tuple) else (on,)
    if not types or not all(isinstance(cls, type) and issubclass(cls, Exception) for cls in types):
        raise _bad(where, "on", on, "an exception type, or a tuple of them, all below Exception")
    return types


def _real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _bad(where: str, option: str, value: object, fits: str) -> CompositionError:
    return OptionError(f"{where}: {option} must be {fits}, not {value!r} ({caller()})")


_DEFAULTS: dict[str, Options] = {}
_DEFAULTS["options"] = Options()
