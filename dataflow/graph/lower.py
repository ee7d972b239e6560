"""Lowering: from an expression to its graph, one op for each thing written."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from typing import Any

from dataflow.expr import nodes as expr
from dataflow.expr.flow import Flow
from dataflow.expr.stage import Stage
from dataflow.expr.walk import postorder
from dataflow.graph import ops
from dataflow.graph.region import Builder, Region, Value

_Regions = dict[int, Region]
_Emission = Generator[tuple[Flow[Any, Any], Value, tuple[str, ...]], Value, Value]


def lower(flow: Flow[Any, Any]) -> Region:
    """Return the graph of a flow, with nothing optimized.

    A flow that is used several times on one input is lowered once for that input if it is pure, so that an expression
    that shares its parts becomes a graph of its distinct parts.

    Examples
    --------
    >>> import dataflow as df
    >>> [node.op.name for node in lower(df.stage(abs) >> str).nodes]
    ['input', 'call', 'call', 'output']
    """
    regions: _Regions = {}
    pure: dict[int, bool] = {}
    for node in postorder(flow):
        own = node.options.pure if isinstance(node, Stage) else True
        pure[id(node)] = own and all(pure[id(child)] for child in node.children)
        # bodies become regions before the constructs that hold them, so that nesting needs no recursion
        for body in _bodies(node):
            if id(body) not in regions:
                regions[id(body)] = _Lowering(regions, pure).region(body)
    return _Lowering(regions, pure).region(flow)


def _bodies(node: Flow[Any, Any]) -> tuple[Flow[Any, Any], ...]:
    if isinstance(node, expr.Switch):
        return node.children[1:]
    if isinstance(node, (expr.Each, expr.Race, expr.Retry, expr.Timeout, expr.Fallback)):
        return node.children
    if isinstance(node, expr.Chain):
        found: tuple[Flow[Any, Any], ...] = ()
        for part, after in itertools.pairwise(node.children):
            if _has_quorum(after):
                fan, _ = _unnamed(part)
                found += fan.children
        return found
    return ()


def _has_quorum(flow: Flow[Any, Any]) -> bool:
    combine, _ = _unnamed(flow)
    return isinstance(combine, expr.Combine) and combine.quorum is not None


def _unnamed(flow: Flow[Any, Any]) -> tuple[Flow[Any, Any], tuple[str, ...]]:
    scope: tuple[str, ...] = ()
    while isinstance(flow, expr.Named):
        scope = (*scope, flow.name)
        flow = flow.body
    return flow, scope


class _Lowering:
    """The lowering of one region."""

    def __init__(self, regions: _Regions, pure: dict[int, bool]) -> None:
        self._regions = regions
        self._pure = pure
        self._build = Builder()
        self._done: dict[tuple[int, Value, tuple[str, ...]], Value] = {}

    def region(self, flow: Flow[Any, Any]) -> Region:
        """Return the region of a flow.

        Each `_emit` asks for the parts that it needs by yielding them; they wait on this stack and not on Python's,
        which is not deep enough for fan-outs inside fan-outs inside fan-outs.
        """
        stack = [self._emit(flow, Value(0), ())]
        made: Value | None = None
        while stack:
            try:
                wanted = stack[-1].send(made)  # type: ignore[arg-type]
            except StopIteration as done:
                made = done.value
                stack.pop()
            else:
                made = None
                stack.append(self._emit(*wanted))
        return self._build.region(made or Value(0))

    def _emit(self, flow: Flow[Any, Any], value: Value, scope: tuple[str, ...]) -> _Emission:
        """Add what `flow` does to `value`, and return the value that it makes."""
        if isinstance(flow, Stage):
            return self._build.add(ops.Call(stage=flow, origin=flow.origin, scope=scope), value)
        spot = (id(flow), value, scope)
        if spot not in self._done:
            result = yield from self._compose(flow, value, scope)
            if not self._pure[id(flow)]:
                return result
            self._done[spot] = result
        return self._done[spot]

    def _compose(self, flow: Flow[Any, Any], value: Value, scope: tuple[str, ...]) -> _Emission:
        build, origin = self._build, flow.origin
        match flow:
            case expr.Chain():
                return (yield from self._chain(flow, value, scope))
            case expr.Fanout():
                parts = []
                for part in flow.children:
                    parts.append((yield part, value, scope))
                return build.add(ops.Pack(size=len(parts), names=flow.names, origin=origin, scope=scope), *parts)
            case expr.Named():
                return (yield flow.body, value, (*scope, flow.name))
            case expr.Identity():
                return build.add(ops.Same(origin=origin, scope=scope), value)
            case expr.Combine():
                return build.add(ops.Spread(fn=flow.fn, origin=origin, scope=scope), value)
            case expr.Switch():
                key = yield flow.key, value, scope
                default = flow.default is not None
                chosen = build.add(ops.Route(keys=flow.keys, default=default, origin=origin, scope=scope), key)
                arms = tuple(self._regions[id(arm)] for arm in flow.children[1:])
                return build.add(ops.Switch(arms=arms, keys=flow.keys, origin=origin, scope=scope), chosen, value)
        return build.add(self._construct(flow, scope), value)

    def _construct(self, flow: Flow[Any, Any], scope: tuple[str, ...]) -> ops.Op:
        origin = flow.origin
        bodies = tuple(self._regions[id(body)] for body in flow.children)
        match flow:
            case expr.Each():
                return ops.Each(body=bodies[0], origin=origin, scope=scope)
            case expr.Race():
                return ops.Race(competitors=bodies, origin=origin, scope=scope)
            case expr.Retry(times=times, on=on, backoff=backoff):
                return ops.Retry(body=bodies[0], times=times, on=on, backoff=backoff, origin=origin, scope=scope)
            case expr.Timeout(seconds=seconds):
                return ops.Timeout(body=bodies[0], seconds=seconds, origin=origin, scope=scope)
            case expr.Fallback(on=on):
                return ops.Fallback(body=bodies[0], handler=bodies[1], on=on, origin=origin, scope=scope)
        raise NotImplementedError(f"no op for {type(flow).__name__}")

    def _chain(self, flow: expr.Chain[Any, Any], value: Value, scope: tuple[str, ...]) -> _Emission:
        parts = flow.children
        skip = False
        for part, after in zip(parts, (*parts[1:], None), strict=True):
            if skip:
                skip = False
            elif after is not None and _has_quorum(after):
                value = self._quorum(part, after, value, scope)
                skip = True
            else:
                value = yield part, value, scope
        return value

    def _quorum(self, part: Flow[Any, Any], after: Flow[Any, Any], value: Value, scope: tuple[str, ...]) -> Value:
        fan, names = _unnamed(part)
        combine, own = _unnamed(after)
        if not isinstance(combine, expr.Combine):
            raise NotImplementedError("a quorum is a combine")
        branches = tuple(self._regions[id(branch)] for branch in fan.children)
        op = ops.Quorum(
            branches=branches,
            names=fan.names if isinstance(fan, expr.Fanout) else None,
            fn=combine.fn,
            quorum=combine.quorum or 0,
            within=combine.within,
            origin=combine.origin,
            scope=(*scope, *names, *own),
        )
        return self._build.add(op, value)
