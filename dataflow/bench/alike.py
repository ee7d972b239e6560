"""Whether two results are the same answer, where batches of other sizes may round differently."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

TOLERANCE = 1e-4


def alike(one: Any, other: Any, tolerance: float = TOLERANCE) -> bool:
    """Return whether two results are the same, numbers within a tolerance, relative to 1 or to the greater number.

    Arrays and tensors are compared by their elements, tuples, lists and mappings by what they hold, anything else
    by ``==``.

    Examples
    --------
    >>> alike((1.0, [np.ones(2)]), (1.000001, [np.ones(2)])), alike({"a": 1}, {"a": 2}), alike(float("nan"), math.nan)
    (True, False, True)
    """
    if one is other:
        return True
    if hasattr(one, "detach") and hasattr(other, "detach"):
        one, other = one.detach().cpu(), other.detach().cpu()
    if hasattr(one, "__array__") or hasattr(other, "__array__"):
        left, right = np.asarray(one), np.asarray(other)
        if left.shape != right.shape:
            return False
        if left.dtype.kind in "fc" or right.dtype.kind in "fc":
            return bool(np.allclose(left, right, rtol=tolerance, atol=tolerance, equal_nan=True))
        return bool(np.array_equal(left, right))
    if isinstance(one, float) or isinstance(other, float):
        try:
            close = math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
            return close or (math.isnan(one) and math.isnan(other))
        except TypeError:
            return False
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(alike(one[key], other[key], tolerance) for key in one)
    if isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)):
        return len(one) == len(other) and all(alike(*pair, tolerance) for pair in zip(one, other, strict=True))
    return bool(one == other)
