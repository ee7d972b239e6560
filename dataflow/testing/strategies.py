"""Hypothesis strategies for random flows. Every one maps an int to an int, so that any of them fits after any other."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from dataflow.expr.flow import Flow
from dataflow.expr.words import combine, each, fanout, identity, race, stage, switch
from dataflow.testing import pool

_Ints = Flow[int, int]

_PLAIN = (pool.double, pool.successor, pool.shuffled, pool.not_third, pool.not_seventh, pool.stops)
_BATCHED = (pool.doubles, pool.successors, pool.not_thirds)


def stages() -> SearchStrategy[Flow[int, int]]:
    """Return a strategy for single stages: plain, impure, batched, on a GPU (in name only), constructed, failing.

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
    device, amount = st.sampled_from(["cpu", "cuda"]), st.integers(0, 1)
    make: Callable[..., Any] = stage
    return st.one_of(
        st.sampled_from(_PLAIN).map(make),
        st.builds(make, st.sampled_from(_PLAIN), pure=st.just(False)),
        st.builds(make, st.sampled_from(_BATCHED), batch=st.sampled_from([1, 2, 3, 8]), device=device),
        st.builds(lambda amount: make(pool.Add)(amount), amount),
        st.builds(lambda amount, device: make(pool.AddAll, batch=4, device=device)(amount), amount, device),
    )


def flows(max_depth: int = 3) -> SearchStrategy[Flow[int, int]]:
    """Return a strategy for flows from int to int, made of every construct.

    Parameters
    ----------
    max_depth : int
        The most constructs inside one another.

    Returns
    -------
    SearchStrategy

    Examples
    --------
    >>> import dataflow as df
    >>> from hypothesis import given
    >>> @given(flows(max_depth=1))
    ... def test(flow):
    ...     assert hash(flow) == hash(flow >> df.identity)
    >>> test()
    """
    if max_depth == 0:
        return st.one_of(stages(), st.just(identity))
    return _around(st.deferred(lambda: flows(max_depth - 1)))


def _around(inner: SearchStrategy[_Ints]) -> SearchStrategy[_Ints]:
    """Return a strategy for flows that are at most one construct deeper."""
    several = st.lists(inner, min_size=1, max_size=3)
    errors = st.sampled_from([Exception, ValueError, (ArithmeticError, RuntimeError)])
    return st.one_of(
        inner,
        st.builds(_chain, several),
        st.builds(_open_fanout, inner, several),
        st.builds(_group, several, named=st.booleans()),
        st.builds(_diamond, inner, inner, inner),
        st.builds(_nested, inner, inner, inner),
        st.builds(_quorum, several, st.integers(1, 3), named=st.booleans()),
        st.builds(_switch, st.integers(2, 3), several, st.none() | inner),
        st.builds(_alike, inner, inner, several, st.none() | inner),
        st.builds(_each, several),
        st.builds(lambda flow: race(flow, flow), inner),
        st.builds(lambda flow, on: flow.retry(1, on=on), inner, errors),
        st.builds(lambda flow, other, on: flow.fallback(other, on=on), inner, inner, errors),
        st.builds(lambda flow: flow.timeout(600), inner),
        st.builds(lambda flow, name: flow.named(name), inner, st.sampled_from(["one", "other"])),
    )


def _chain(parts: list[Any]) -> _Ints:
    flow: _Ints = functools.reduce(lambda left, right: left >> right, parts)
    return flow


def _open_fanout(first: Any, others: list[Any]) -> _Ints:
    fan: Any = functools.reduce(lambda left, right: left | right, others, first)
    return _and(fan, combine(pool.total))


def _fan(parts: list[Any], named: bool) -> Any:
    return fanout(**dict(zip("abc", parts, strict=False))) if named else fanout(*parts)


def _group(parts: list[Any], named: bool) -> _Ints:
    """Take the parts themselves from a named fan-out, and with a function from another."""
    if named:
        return _and(_fan(parts, named) >> combine(), pool.total_of)
    return _and(_fan(parts, named), combine(pool.total))


def _diamond(head: Any, left: Any, right: Any) -> _Ints:
    """Write the same head in both branches: it is to run once."""
    return _and(head >> left | head >> right, combine(pool.difference))


def _nested(one: Any, other: Any, third: Any) -> _Ints:
    """Make a group one branch of a fan-out."""
    return _and(fanout(one, other) | third, combine(pool.pair_and_one))


def _quorum(parts: list[Any], least: int, named: bool) -> _Ints:
    return _and(_fan(parts, named), combine(pool.total, quorum=min(least, len(parts))))


def _switch(n: int, arms: list[Any], default: Any) -> _Ints:
    return switch(pool.modulo(n), dict(enumerate(arms)), default)


def _alike(head: Any, tail: Any, middles: list[Any], default: Any) -> _Ints:
    """Make a switch whose branches begin and end alike: both can be hoisted out of it."""
    return _switch(2, [head >> middle >> tail for middle in middles], default)


def _each(parts: list[Any]) -> _Ints:
    elements: Any = stage(pool.up_to_three)
    for part in parts:
        elements = elements >> each(part)
    return _and(elements, sum)


def _and(left: Any, right: Any) -> _Ints:
    flow: _Ints = left >> right
    return flow
