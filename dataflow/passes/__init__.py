"""Passes: graph to graph, each keeping the meaning, each saying what it did and refused."""

from __future__ import annotations

from collections.abc import Iterable

from dataflow.errors import OptionError
from dataflow.expr.origin import caller
from dataflow.graph import Region, verify
from dataflow.passes import batch, canonicalize, drop, fuse, hoist, merge
from dataflow.passes.base import Pass, Remark, Remarks

__all__ = ["DEFAULT", "Pass", "Remark", "Remarks", "optimize", "select"]

DEFAULT: tuple[Pass, ...] = (canonicalize.PASS, merge.PASS, drop.PASS, hoist.PASS, batch.PASS, fuse.PASS)
"""The passes that run unless others are named, in order.

Batches come before fusion: ops that have come to share their batches leave fewer borders for fusion to stop at.
"""

_BY_NAME = {each.name: each for each in DEFAULT}


def select(passes: Iterable[str | Pass] | str | None = None) -> tuple[Pass, ...]:
    """Return the passes that a user named.

    Parameters
    ----------
    passes : iterable of str or Pass, or str, optional
        Names or passes in the order in which they run. Names that begin with ``-`` leave passes out of the defaults,
        and cannot be mixed with others. None means the defaults.

    Raises
    ------
    OptionError
        For a name that no pass has.

    Examples
    --------
    >>> [each.name for each in select("-fuse")]
    ['canonicalize', 'merge', 'drop', 'hoist', 'batch']
    """
    if passes is None:
        return DEFAULT
    wanted = (passes,) if isinstance(passes, (str, Pass)) else tuple(passes)
    left_out = {name[1:] for name in wanted if isinstance(name, str) and name.startswith("-")}
    for name in (*left_out, *(name for name in wanted if isinstance(name, str) and not name.startswith("-"))):
        if name not in _BY_NAME:
            raise OptionError(f"there is no pass {name!r} ({caller()}): the passes are {', '.join(_BY_NAME)}")
    if left_out:
        if len(left_out) < len(set(wanted)):
            raise OptionError(f"passes are named either to run or, with '-', to be left out ({caller()}): {passes!r}")
        return tuple(each for each in DEFAULT if each.name not in left_out)
    return tuple(_BY_NAME[each] if isinstance(each, str) else each for each in wanted)


def optimize(region: Region, passes: Iterable[Pass] = DEFAULT, *, check: bool = False) -> tuple[Region, list[Remark]]:
    """Run passes over a graph.

    Passes that repeat are run in turn until none changes anything; then the others, once each.

    Parameters
    ----------
    region : Region
        The graph; it stays as it is.
    passes : iterable of Pass
        In order.
    check : bool
        Verify the graph after every pass.

    Returns
    -------
    Region, list of Remark
        The graph in its place (the same one where nothing changed), and every decision.
    """
    chosen = tuple(passes)
    done: list[Remark] = []
    refused: list[Remark] = []
    while True:
        before, refused = region, []
        for each in chosen:
            if each.repeats:
                region = _run(each, region, check, done, refused)
        if region is before:
            break
    for each in chosen:
        if not each.repeats:
            region = _run(each, region, check, done, refused)
    return region, done + refused


def _run(each: Pass, region: Region, check: bool, done: list[Remark], refused: list[Remark]) -> Region:
    remarks = Remarks(each.name)
    region = each.run(region, remarks)
    if check:
        verify(region)
    done += [row for row in remarks.rows if row.verdict == "did"]
    refused += [row for row in remarks.rows if row.verdict == "refused"]
    return region
