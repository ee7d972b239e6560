"""What a pass is, and what it says about its decisions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

from dataflow.graph import Region, ops

_MOST_NAMED = 8


@dataclasses.dataclass(frozen=True)
class Remark:
    """One decision of a pass, taken or refused, with its reason.

    Parameters
    ----------
    by : str
        The pass's name.
    verdict : {"did", "refused"}
        Whether the graph was changed.
    subject : str
        What it was about: the stages by name.
    reason : str
        Why, and where refused what would change it.
    """

    by: str
    verdict: Literal["did", "refused"]
    subject: str
    reason: str


class Remarks:
    """Collects the remarks of one pass over one graph.

    Parameters
    ----------
    by : str
        The pass's name.
    """

    def __init__(self, by: str) -> None:
        self.by = by
        self.rows: list[Remark] = []

    def did(self, subject: str, reason: str) -> None:
        """Record a change."""
        self.rows.append(Remark(self.by, "did", subject, reason))

    def refused(self, subject: str, reason: str) -> None:
        """Record a change that could have been expected and was not made."""
        self.rows.append(Remark(self.by, "refused", subject, reason))


@dataclasses.dataclass(frozen=True)
class Pass:
    """A rewriting of graphs that keeps their meaning.

    Parameters
    ----------
    name : str
        By which it can be left out.
    about : str
        What it does, in a line.
    run : callable
        Takes a region and the `Remarks` to fill; gives the region in its place, or the same one where nothing changed.
    repeats : bool
        Whether it is run, with the other such passes, until none of them changes anything.
    """

    name: str
    about: str
    run: Callable[[Region, Remarks], Region]
    repeats: bool = True


def subject(members: Sequence[ops.Op]) -> str:
    """Return the names of ops that belong together, the middle left out where they are many."""
    if len(members) <= _MOST_NAMED:
        return " + ".join(op.label() for op in members)
    first = " + ".join(op.label() for op in members[: _MOST_NAMED - 2])
    return f"{first} + … + {members[-1].label()} ({len(members)} ops)"
