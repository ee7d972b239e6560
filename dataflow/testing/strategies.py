"""Hypothesis strategies: random flows, inputs for a flow, and what may go wrong in it.

Every flow drawn maps an int to an int, so that any of them fits after any other. A failing example is printed as Python
that can be pasted, given ``import dataflow as df`` and ``from dataflow.testing import pool``.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Collection
from typing import Any, cast

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from hypothesis.vendor import pretty

from dataflow.expr.flow import Flow
from dataflow.expr.words import combine, each, fanout, identity, race, stage, switch
from dataflow.testing import pool
from dataflow.testing.faulty import KINDS, Fault, Kind
from dataflow.testing.inputs import input_type
from dataflow.testing.source import NotWritable, to_python

_Ints = Flow[int, int]
_Part = Callable[..., _Ints]  # draws a part: its share of the size, and what the construct takes for itself

_PLAIN = (pool.successor, pool.double, pool.not_third, pool.not_seventh, pool.shuffled, pool.stops)
_BATCHED = (pool.successors, pool.doubles, pool.not_thirds)
_NEVER_FAILS = (pool.successors, pool.doubles)  # an impure batched stage fails its whole batch
_FOR_EVER = 600.0  # seconds; no example takes so long

_ints = st.integers(-20, 60)
_amounts = st.integers(0, 1)
_sizes = st.sampled_from([2, 1, 3, 8])
_devices = st.sampled_from(["cpu", "cuda"])
_placements = st.sampled_from([None, "here", "there"])
_errors: SearchStrategy[Any] = st.sampled_from([Exception, ValueError, (ArithmeticError, RuntimeError)])
_names = st.sampled_from(["one", "other"])
_alone: SearchStrategy[dict[str, Any]] = st.sampled_from([{}, {"placement": "here"}, {"replicas": 2}, {"cpus": 0.5}])
_make = cast("Callable[..., Any]", stage)


@st.composite
def stages(draw: DrawFn) -> _Ints:
    """Return a strategy for single stages: plain, impure, batched, constructed, failing, on a GPU in name only.

    An impure batched stage fails its whole batch, so none here is impure, batched and failing.

    Examples
    --------
    >>> import dataflow as df
    >>> from hypothesis import given
    >>> @given(stages())
    ... def test(flow):
    ...     assert isinstance(flow, df.Flow)
    >>> test()
    """
    match draw(st.integers(0, 6)):
        case 0:
            return _flow(_make(draw(st.sampled_from(_PLAIN))))
        case 1:
            return _flow(_make(draw(st.sampled_from(_PLAIN)), pure=False))
        case 2:
            fn, size = draw(st.sampled_from(_BATCHED)), draw(_sizes)
            return _flow(_make(fn, batch=size, device=draw(_devices), placement=draw(_placements)))
        case 3:
            return _flow(_make(pool.Add)(draw(_amounts)))
        case 4:
            return _flow(_make(pool.AddAll, batch=draw(_sizes), device=draw(_devices))(draw(_amounts)))
        case 5:
            return _flow(_make(draw(st.sampled_from(_PLAIN)), **draw(_alone)))
        case _:
            return _flow(_make(draw(st.sampled_from(_NEVER_FAILS)), batch=draw(_sizes), pure=False))


def flows(max_depth: int = 3, max_size: int = 20, *, without: Collection[str] = ()) -> SearchStrategy[_Ints]:
    """Return a strategy for flows from int to int, made of every construct.

    Parameters
    ----------
    max_depth : int
        The most constructs inside one another.
    max_size : int
        The most stages.
    without : collection of str
        Constructs to leave out, of ``chain``, ``fanout``, ``group``, ``diamond``, ``nested``, ``quorum``, ``switch``,
        ``alike``, ``each``, ``race``, ``retry``, ``fallback``, ``timeout``, ``named``.

    Returns
    -------
    SearchStrategy
        Every flow is valid and, but for what a ``race`` leaves open, deterministic. It shrinks to few stages.

    Examples
    --------
    >>> import dataflow as df
    >>> from hypothesis import given
    >>> @given(flows(max_depth=1))
    ... def test(flow):
    ...     assert hash(flow) == hash(flow >> df.identity)
    >>> test()
    """
    unknown = sorted(set(without) - set(_CONSTRUCTS))
    if unknown:
        raise ValueError(f"there is no construct {unknown[0]!r}: there are {', '.join(_CONSTRUCTS)}")
    return _drawn(max_depth, max_size, tuple(name for name in _CONSTRUCTS if name not in without))


@st.composite
def _drawn(draw: DrawFn, depth: int, size: int, constructs: tuple[str, ...]) -> _Ints:
    """Draw a flow. A smaller one takes fewer choices, with the same meaning, so that a part can replace the whole."""
    if depth <= 0 or size <= 1:
        return draw(stages()) if draw(st.integers(0, 7)) < 7 else identity
    choice = draw(st.integers(0, len(constructs) + 1))
    if choice < 2:
        return draw(stages()) if choice == 0 else identity
    build, least = _CONSTRUCTS[constructs[choice - 2]]
    if size < least:
        return draw(stages())

    def part(share: int, own: int = 0) -> _Ints:
        return draw(_drawn(depth - 1, (size - own) // share, constructs))

    return build(draw, part)


def inputs_for(flow: Flow[Any, Any]) -> SearchStrategy[Any]:
    """Return a strategy for items that a flow takes, by the annotation of its first stage.

    Parameters
    ----------
    flow : Flow
        A flow of `flows`, or one whose first stage is annotated.

    Raises
    ------
    ValueError
        Where there is no annotation to go by: write a strategy of your own.

    Examples
    --------
    >>> import dataflow as df
    >>> from hypothesis import given, strategies as st
    >>> def shout(text: str) -> str:
    ...     return text.upper()
    >>> @given(inputs_for(df.stage(shout)))
    ... def test(item):
    ...     assert isinstance(item, str)
    >>> test()
    """
    found = input_type(flow)
    if found is int:
        return _ints
    return st.from_type(found)


@st.composite
def faults(draw: DrawFn, *kinds: Kind) -> Fault:
    """Return a strategy for faults, to be put into flows of `flows` with `Fault.into`.

    Parameters
    ----------
    *kinds : str
        Those of `Fault`; all of them by default.

    Examples
    --------
    >>> from dataflow.testing import flows, outcome_of, outcomes
    >>> from hypothesis import given
    >>> @given(flows(max_depth=1), faults("raise on items", "wrong length", "mutate"))
    ... def test(flow, fault):
    ...     broken = fault.into(flow)
    ...     assert outcome_of(lambda: broken(5)) in outcomes(broken, 5)
    >>> test()
    """
    items = st.lists(_ints, min_size=1, max_size=4, unique=True)
    kind = draw(st.sampled_from(kinds or KINDS))
    if kind == "raise on call":
        return Fault(kind, at=draw(st.integers(0, 5)), call=draw(st.integers(0, 5)))
    if kind == "mutate":
        return Fault(kind, at=draw(st.integers(0, 5)))
    return Fault(kind, at=draw(st.integers(0, 5)), items=tuple(sorted(draw(items))))


# ------------------------------------------------------------------ the constructs


def _several(draw: DrawFn, part: _Part, own: int = 0) -> list[Any]:
    count = draw(st.integers(1, 3))
    return [part(count, own) for _ in range(count)]


def _chain(draw: DrawFn, part: _Part) -> _Ints:
    return _flow(functools.reduce(operator.rshift, _several(draw, part)))


def _open_fanout(draw: DrawFn, part: _Part) -> _Ints:
    parts = [part(3), part(3)] + ([part(3)] if draw(st.booleans()) else [])
    return _flow(functools.reduce(operator.or_, parts) >> combine(pool.weighed))


def _fan(draw: DrawFn, part: _Part, own: int = 0) -> tuple[Any, int, bool]:
    """Draw a group, how many branches it has, and whether they have names."""
    named, parts = draw(st.booleans()), _several(draw, part, own)
    return fanout(**dict(zip("cab", parts, strict=False))) if named else fanout(*parts), len(parts), named


def _group(draw: DrawFn, part: _Part) -> _Ints:
    """Draw a group; from a named one the parts themselves may be taken."""
    fan, _, named = _fan(draw, part, own=1)
    themselves = named and draw(st.booleans())
    return _flow(fan >> combine() >> pool.weighed_of if themselves else fan >> combine(pool.weighed))


def _diamond(draw: DrawFn, part: _Part) -> _Ints:
    """Write the same head in both branches: it is to run once."""
    head, left, right = part(4), part(4), part(4)
    return _flow((head >> left | head >> right) >> combine(pool.difference))


def _nested(draw: DrawFn, part: _Part) -> _Ints:
    """Make a group one branch of a fan-out."""
    return _flow((fanout(part(3), part(3)) | part(3)) >> combine(pool.pair_and_one))


def _quorum(draw: DrawFn, part: _Part) -> _Ints:
    fan, count, _ = _fan(draw, part)
    within = _FOR_EVER if draw(st.booleans()) else None
    return _flow(fan >> combine(pool.weighed, quorum=draw(st.integers(1, count)), within=within))


def _switch(draw: DrawFn, part: _Part) -> _Ints:
    arms = _several(draw, lambda share, own: part(share + 1, 1))
    default = part(4, 1) if draw(st.booleans()) else None
    return switch(pool.modulo(draw(st.integers(2, 3))), dict(enumerate(arms)), default)


def _alike(draw: DrawFn, part: _Part) -> _Ints:
    """Make a switch whose branches begin and end alike: both can be hoisted out of it."""
    head, tail = part(9, 1), part(9, 1)
    middles = [part(9, 1) for _ in range(draw(st.integers(1, 2)))]
    default = head >> part(9, 1) >> tail if draw(st.booleans()) else None
    return switch(pool.modulo(2), {n: head >> middle >> tail for n, middle in enumerate(middles)}, default)


def _each(draw: DrawFn, part: _Part) -> _Ints:
    elements: Any = stage(pool.up_to_three)
    for body in _several(draw, part, own=2):
        elements = elements >> each(body)
    return _flow(elements >> pool.weighed_all)


def _race(draw: DrawFn, part: _Part) -> _Ints:
    return race(part(2), part(2))


def _retry(draw: DrawFn, part: _Part) -> _Ints:
    backoff = 0.001 if draw(st.booleans()) else 0.0
    return part(1).retry(draw(st.integers(1, 2)), on=draw(_errors), backoff=backoff)


def _fallback(draw: DrawFn, part: _Part) -> _Ints:
    return part(2).fallback(part(2), on=draw(_errors))


def _timeout(draw: DrawFn, part: _Part) -> _Ints:
    return part(1).timeout(_FOR_EVER)


def _named(draw: DrawFn, part: _Part) -> _Ints:
    return part(1).named(draw(_names))


_CONSTRUCTS: dict[str, tuple[Callable[[DrawFn, _Part], _Ints], int]] = {
    "chain": (_chain, 3),
    "fanout": (_open_fanout, 3),
    "group": (_group, 4),
    "diamond": (_diamond, 4),
    "nested": (_nested, 3),
    "quorum": (_quorum, 3),
    "switch": (_switch, 5),
    "alike": (_alike, 10),
    "each": (_each, 5),
    "race": (_race, 2),
    "retry": (_retry, 1),
    "fallback": (_fallback, 2),
    "timeout": (_timeout, 1),
    "named": (_named, 1),
}
"""How each construct is drawn, and the fewest stages that it needs room for."""


def _flow(made: Any) -> _Ints:
    return cast("_Ints", made)


def _print(flow: Flow[Any, Any], printer: Any, cycle: bool) -> None:
    """Print a flow of a failing example as Python, as far as it can be written so."""
    try:
        printer.text(to_python(flow))
    except NotWritable:
        printer.text(repr(flow))


pretty.for_type_by_name(Flow.__module__, Flow.__name__, _print)
