"""Where the steps of a plan run, for executors that run them in several processes."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Place:
    """Where some of the steps run.

    Parameters
    ----------
    name : str
        What the place is called.
    steps : tuple of str
        The names of the steps.
    asks : str
        What it asks for.
    reached : str
        How what it works on gets there.
    why : str
        Why it is what it is.
    """

    name: str
    steps: tuple[str, ...]
    asks: str
    reached: str
    why: str
