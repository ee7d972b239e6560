"""Samples, and what may be said of them: percentiles, medians, and how sure one can be of a median."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.95
_MANY = 200
_NORMAL = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


class Interval(NamedTuple):
    """A median, and the interval in which the true one lies with 95% confidence.

    Parameters
    ----------
    middle : float
        The median of the samples.
    low, high : float
        The ends of the interval.
    """

    middle: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """Half the interval's length, as a share of the median."""
        return (self.high - self.low) / 2 / abs(self.middle) if self.middle else math.inf

    def inverse(self) -> Interval:
        """Return the interval of one over it: of a rate, where this is of a time."""
        return Interval(1 / self.middle, 1 / self.high, 1 / self.low)


def median(samples: Sequence[float]) -> Interval:
    """Return the median of samples and its confidence interval.

    The ends are two of the samples themselves: how many samples lie below the true median is binomial, whatever the
    samples' distribution. Fewer than six samples cannot give 95%; their interval is from the least to the greatest.

    Parameters
    ----------
    samples : sequence of float
        At least one, in any order.

    Examples
    --------
    >>> median([5, 1, 2, 4, 3, 9, 7, 8, 6])
    Interval(middle=5, low=2, high=8)
    """
    ordered = sorted(samples)
    left_out = _left_out(len(ordered))
    return Interval(statistics.median(ordered), ordered[left_out], ordered[-1 - left_out])


def _left_out(count: int) -> int:
    """Return how many samples at each end the interval may leave out."""
    if count > _MANY:  # the binomial is as good as normal, and its exact terms have thousands of digits
        return int((count - _NORMAL * count**0.5) / 2) - 1
    tail = (1 - CONFIDENCE) / 2
    below = 0.0
    for rank in range(count // 2):
        below += math.comb(count, rank) / 2**count
        if below > tail:
            return max(0, rank - 1)
    return max(0, count // 2 - 1)


def ratios(samples: Sequence[float], to: Sequence[float]) -> Interval:
    """Return the median ratio of samples taken in pairs, one of each in every round.

    Where one stopped early, the rounds that both have are compared.

    Examples
    --------
    >>> ratios([2.0, 4.0, 6.6], [1.0, 2.0, 3.0]).middle
    2.0
    """
    return median([own / base for own, base in zip(samples, to, strict=False)])


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which a share of ordered samples lies, interpolated between its neighbours.

    Parameters
    ----------
    ordered : sequence of float
        At least one, in ascending order.
    share : float
        Between 0 and 1.

    Examples
    --------
    >>> percentile([1.0, 2.0, 3.0, 4.0, 5.0], 0.5), percentile([1.0, 2.0], 0.75)
    (3.0, 1.75)
    """
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
