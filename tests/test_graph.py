"""Graphs and the rewriting of them: what verify refuses, and that groups of ops become one op without harm."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dataflow as df
from dataflow.graph import (
    AFTER,
    Builder,
    InvalidGraph,
    Port,
    Region,
    Value,
    contract,
    lower,
    ops,
    regions,
    rewrite,
    to_text,
    verify,
    without,
)
from dataflow.passes import Remarks, drop, optimize
from dataflow.passes.cluster import clusters
from dataflow.testing import flows

# ------------------------------------------------------------------ verify


def call(fn: Callable[..., Any] = abs, **options: Any) -> ops.Call:
    return ops.Call(stage=df.stage(**options)(fn))


def region(*rows: ops.Op) -> Region:
    """Return a chain of ops."""
    build = Builder()
    return build.region(functools.reduce(lambda value, op: build.add(op, value), rows, Value(0)))


def broken(change: Callable[[Any], object], *rows: ops.Op) -> Region:
    """Return a chain of ops whose networkx graph was changed behind its back."""
    graph: Any = nx.MultiDiGraph(region(*rows).graph)
    change(graph)
    return Region(graph)


def two_in(op: ops.Op) -> Region:
    """Return a region of one op on two inputs."""
    build = Builder(2)
    return build.region(build.add(op, Value(0), Value(1)))


PAIR = two_in(ops.Pack(size=2))
ONE = region(call())

BROKEN: dict[str, tuple[Callable[[], Region], str]] = {
    "a gap in the numbers": (
        lambda: broken(lambda graph: nx.relabel_nodes(graph, {1: 7}, copy=False), call(), call()),
        "not numbered from 0, in order",
    ),
    "an input after an op": (lambda: region(call(), ops.Input()), "inputs do not come first"),
    "no output": (lambda: broken(lambda graph: graph.remove_node(2), call()), "not exactly one output, last"),
    "two outputs": (lambda: region(call(), ops.Output()), "not exactly one output, last"),
    "an edge without a port": (
        lambda: broken(lambda graph: graph.add_edge(0, 1, key=(0, AFTER)), call()),
        "edge 0->1 is no Port",
    ),
    "an edge back": (
        lambda: broken(lambda graph: graph.add_edge(2, 1, key=Port(0, AFTER)), call(), call()),
        "edge 2->1 does not ascend",
    ),
    "an output that is not there": (
        lambda: broken(
            lambda graph: (graph.remove_edge(1, 2, Port(0, 0)), graph.add_edge(1, 2, key=Port(1, 0))), call(), call()
        ),
        "node 1 has no output 1",
    ),
    "an empty port": (
        lambda: broken(lambda graph: graph.remove_edge(0, 1, Port(0, 0)), call()),
        r"node 1 \(call\) does not have each of its ports filled once",
    ),
    "a port filled twice": (
        lambda: broken(lambda graph: graph.add_edge(0, 2, key=Port(0, 0)), call(), call()),
        r"node 2 \(call\) does not have each of its ports filled once",
    ),
    "a port too many": (
        lambda: broken(lambda graph: graph.add_edge(0, 1, key=Port(0, 1)), call()),
        r"node 1 \(call\) does not have each of its ports filled once",
    ),
    "a body of two inputs": (lambda: region(ops.Each(body=PAIR)), "each: a body has one input and one output"),
    "a body of two outputs": (
        lambda: region(ops.Retry(body=Builder().region(Value(0), Value(0)), times=1, on=(Exception,), backoff=0)),
        "retry: a body has one input and one output",
    ),
    "a body that is broken": (
        lambda: region(ops.Each(body=region(call(), ops.Output()))),
        "not exactly one output, last",
    ),
    "batches of two sizes": (
        lambda: region(
            ops.Batched(body=region(call(batch=2), call(batch=3)), placement="cpu", batch=2),
        ),
        "batched stages of one size",
    ),
    "a batch around a combine": (
        lambda: region(ops.Batched(body=region(ops.Spread(fn=max)), placement="cpu", batch=2)),
        "batched stages of one size",
    ),
    "a batched stage in a fused step": (
        lambda: region(ops.Fused(body=region(call(), call(batch=2)), placement="cpu")),
        "a fused step holds only what runs on the CPU",
    ),
    "a GPU stage deep in a fused step": (
        lambda: region(ops.Fused(body=region(ops.Each(body=region(call(device="cuda")))), placement="cpu")),
        "a fused step holds only what runs on the CPU",
    ),
    "a switch with too few branches": (
        lambda: two_in(ops.Switch(arms=(ONE,), keys=(1, 2))),
        "an arm a key, and at most a default",
    ),
    "a switch with too many branches": (
        lambda: two_in(ops.Switch(arms=(ONE, ONE, ONE), keys=(1,))),
        "an arm a key, and at most a default",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_verify_refuses(name: str) -> None:
    make, rule = BROKEN[name]
    with pytest.raises(InvalidGraph, match=rule):
        verify(make())


def test_verify_refuses_nodes_that_are_not_those_of_the_graph() -> None:
    """A region may be given its nodes as read, and they must be what networkx would give."""
    right = region(call())
    with pytest.raises(InvalidGraph, match="not those of the graph"):
        verify(Region(right.graph, region(call(), call()).nodes))


@given(flows())
def test_verify_holds_of_every_flow_and_after_every_pass(flow: Any) -> None:
    graph = lower(flow)
    verify(graph)
    optimize(graph, check=True)


# ------------------------------------------------------------------ regions are values


def test_a_region_is_frozen() -> None:
    with pytest.raises(nx.NetworkXError):
        region(call()).graph.add_node(9)


@pytest.mark.parametrize("wrap", [df.each, lambda flow: flow.retry(1), lambda flow: df.switch(abs, {1: flow, 2: len})])
def test_equal_regions_have_one_key_however_deep(wrap: Callable[[Any], Any]) -> None:
    one, other = (functools.reduce(lambda flow, _: wrap(flow), range(300), df.stage(abs)) for _ in range(2))
    assert one is not other
    assert lower(one).key() == lower(other).key()
    assert lower(one).key() != lower(wrap(one)).key()
    assert lower(one).pure()


def test_held_regions_come_in_the_order_in_which_they_are_written() -> None:
    flow = df.switch(abs, {1: df.each(str), 2: df.each(len)}) >> df.each(repr)
    held = [to_text(each).splitlines()[-2] for each in regions(lower(flow))]
    assert [line for line in held if "call" in line] == [
        "%1 = call str(%0)",
        "%1 = call len(%0)",
        "%1 = call repr(%0)",
    ]


def test_a_rewrite_that_changes_nothing_gives_the_same_region() -> None:
    graph = lower(df.switch(abs, {1: df.each(str)}, default=str))
    assert rewrite(graph, lambda _, each: each) is graph


# ------------------------------------------------------------------ what random graphs compute


@st.composite
def graphs(draw: Any) -> tuple[Region, list[Any]]:
    """Draw a graph of up to 15 ops on one or two values each, and a class (or none) for each op."""
    build = Builder(2)
    values = [Value(0), Value(1)]
    for _ in range(draw(st.integers(0, 15))):
        inputs = draw(st.lists(st.sampled_from(values), min_size=1, max_size=2))
        after = draw(st.sets(st.sampled_from(values[2:]), max_size=1)) if values[2:] else set()
        op = ops.Pack(size=len(inputs))
        values.append(build.add(op, *inputs, after=tuple(value.node for value in after)))
    made = build.region(*draw(st.lists(st.sampled_from(values), min_size=1, max_size=3)))
    classes = [None, None, *draw(st.lists(st.sampled_from([None, "a", "b"]), min_size=len(values), max_size=32)), None]
    return made, [*classes[: len(made.nodes) - 1], None]


def computed(made: Region, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """Run a graph of packs, with what has been contracted in it."""
    values = {Value(index): item for index, item in enumerate(inputs)}
    for node in made.ops():
        given = [values[value] for value in node.inputs]
        results = computed(node.op.bodies[0], given) if node.op.bodies else (tuple(given),)
        values.update({Value(node.id, output): result for output, result in enumerate(results)})
    return tuple(values[value] for value in made.outputs)


def fused(body: Region, _: Any) -> ops.Op:
    return ops.Fused(body=body, placement="cpu")


@given(graphs(), st.booleans())
def test_contracting_clusters_keeps_the_graph_whole_and_its_meaning(drawn: Any, siblings: bool) -> None:
    made, classes = drawn
    groups = clusters(made, dict(enumerate(classes)), siblings=siblings)
    contracted = contract(made, groups, fused)
    verify(contracted)
    assert nx.is_directed_acyclic_graph(contracted.graph)
    assert computed(contracted, "xy") == computed(made, "xy")
    steps = [node.op for node in contracted.nodes if isinstance(node.op, ops.Fused)]
    assert sorted(len(list(step.body.ops())) for step in steps) == sorted(map(len, groups))


@given(graphs())
def test_neighbours_of_one_class_are_apart_only_where_the_later_has_more_to_wait_for(drawn: Any) -> None:
    made, classes = drawn
    groups = clusters(made, dict(enumerate(classes)), siblings=False)
    assert len({node.id for group in groups for node in group}) == sum(map(len, groups))
    for group in groups:
        assert len({classes[node.id] for node in group}) == 1
        assert classes[group[0].id] is not None
    for node in made.nodes:
        for source in {value.node for value in node.inputs}:
            if classes[source] != classes[node.id] or classes[source] is None:
                continue
            if not any({source, node.id} <= {member.id for member in group} for group in groups):
                more = nx.ancestors(made.graph, node.id) - nx.ancestors(made.graph, source)
                assert any(classes[other] != classes[node.id] for other in more)


@given(graphs(), st.data())
def test_without_uses_others_in_the_places_of_what_it_leaves_out(drawn: Any, data: Any) -> None:
    made, _ = drawn
    gone = data.draw(st.sets(st.sampled_from([Value(node.id) for node in made.ops()]))) if list(made.ops()) else set()
    instead = {value: Value(value.node % 2) for value in gone}
    left = without(made, instead)
    verify(left)
    assert len(left.nodes) == len(made.nodes) - len(gone)


# ------------------------------------------------------------------ drop


def test_drop_leaves_out_what_nothing_uses_and_says_so() -> None:
    build = Builder()
    build.add(call(len), build.add(call(str), Value(0)))
    unused = build.region(Value(0))
    remarks = Remarks("drop")
    assert to_text(drop.run(unused, remarks)) == "%0 = input\noutput %0"
    assert [(row.subject, row.reason) for row in remarks.rows] == [
        ("str", "nothing uses its result any more"),
        ("len", "nothing uses its result any more"),
    ]


def test_drop_keeps_what_is_not_pure_and_what_it_needs() -> None:
    build = Builder()
    build.add(call(len, pure=False), build.add(call(str), Value(0)))
    unused = build.region(Value(0))
    assert drop.run(unused, Remarks("drop")) is unused


def test_drop_keeps_what_others_wait_for() -> None:
    build = Builder()
    awaited = build.add(call(str), Value(0))
    kept = build.region(build.add(call(len), Value(0), after=(awaited.node,)))
    assert drop.run(kept, Remarks("drop")) is kept


# ------------------------------------------------------------------ order


def test_steps_leave_the_order_of_what_is_not_pure() -> None:
    ran: list[str] = []

    def noted(name: str, **options: Any) -> Any:
        return df.stage(pure=False, **options)(lambda x: (ran.append(name), x)[1])

    one = noted("1") >> noted("2", placement="there")
    other = noted("3") >> noted("4", placement="there")
    flow = (one | other) >> df.combine(max)
    flow(0)
    list(flow.map([0], "inline"))
    assert ran == ["1", "2", "3", "4"] * 2
