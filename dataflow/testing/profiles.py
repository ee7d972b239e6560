"""How far to look: named profiles for Hypothesis."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

PROFILES = {"fast": 20, "balanced": 100, "expensive": 2000}
"""The profiles, and how many examples each draws for a test."""


def register_profiles() -> None:
    """Register the profiles with Hypothesis, so that ``pytest --hypothesis-profile=expensive`` knows them."""
    # time is no property of what is tested; a large flow now and then is wanted, and what it costs is no health problem
    for name, examples in PROFILES.items():
        settings.register_profile(
            name,
            deadline=None,
            max_examples=examples,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )


def load_profile(name: str = "balanced") -> None:
    """Make Hypothesis look as far as the named profile says, from now on.

    Parameters
    ----------
    name : {"fast", "balanced", "expensive"}
        20, 100 or 2000 examples a test.

    Examples
    --------
    >>> from dataflow.testing import load_profile
    >>> load_profile("balanced")
    """
    if name not in PROFILES:
        raise ValueError(f"there is no profile {name!r}: there are {', '.join(PROFILES)}")
    register_profiles()
    settings.load_profile(name)
