"""The strategies: every draw is a valid flow within its bounds, of every construct, prints as Python, and shrinks."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.vendor import pretty

import dataflow as df
import dataflow.testing.pool
from dataflow.expr.nodes import Chain, Combine, Each, Fallback, Fanout, Identity, Named, Race, Retry, Switch, Timeout
from dataflow.expr.stage import Stage
from dataflow.expr.walk import postorder
from dataflow.testing import (
    Fault,
    Gate,
    Injected,
    Outcome,
    faults,
    flows,
    inputs_for,
    load_profile,
    outcome_of,
    outcomes,
    pool,
    reference,
    stages,
    to_python,
)
from dataflow.testing.equivalence import recorded
from dataflow.testing.profiles import PROFILES
from dataflow.testing.rebuild import stages_of

NAMES = {"df": df, "pool": pool, "functools": functools, "np": np, "dataflow": dataflow}
ITEMS = st.integers(-20, 60)


def nodes(flow: Any) -> list[Any]:
    return list(postorder(flow))


def written_stages(flow: Any) -> int:
    """How many stages are written in a flow, each as often as it is."""
    return sum(map(written_stages, flow.children)) if flow.children else isinstance(flow, Stage)


def depth(flow: Any) -> int:
    inner = max(map(depth, flow.children), default=0)
    return inner + (not isinstance(flow, (Stage, Identity, Combine)))


# ------------------------------------------------------------------ what is drawn


def is_stage(node: Any) -> bool:
    return isinstance(node, Stage)


WANTED: dict[str, Callable[[Any], bool]] = {
    "a chain": lambda node: isinstance(node, Chain),
    "an open fan-out": lambda node: isinstance(node, Fanout) and not node.grouped,
    "a group": lambda node: isinstance(node, Fanout) and node.grouped and node.names is None,
    "a named fan-out": lambda node: isinstance(node, Fanout) and node.names is not None,
    "a quorum": lambda node: isinstance(node, Combine) and node.quorum is not None and node.within is None,
    "a quorum with within": lambda node: isinstance(node, Combine) and node.within is not None,
    "a switch": lambda node: isinstance(node, Switch) and node.default is None,
    "a switch with a default": lambda node: isinstance(node, Switch) and node.default is not None,
    "an each": lambda node: isinstance(node, Each),
    "a race of equals": lambda node: isinstance(node, Race) and node.bodies[0] == node.bodies[1],
    "a race of different flows": lambda node: isinstance(node, Race) and node.bodies[0] != node.bodies[1],
    "a retry": lambda node: isinstance(node, Retry) and not node.backoff,
    "a retry with backoff": lambda node: isinstance(node, Retry) and bool(node.backoff),
    "a retry on some errors": lambda node: isinstance(node, Retry) and node.on != (Exception,),
    "a timeout": lambda node: isinstance(node, Timeout),
    "a fallback": lambda node: isinstance(node, Fallback),
    "a name": lambda node: isinstance(node, Named),
    "identity": lambda node: isinstance(node, Identity),
    "an impure stage": lambda node: is_stage(node) and not node.options.pure,
    "a batched stage": lambda node: is_stage(node) and (node.options.batch or 0) > 1,
    "an impure batched stage": lambda node: (
        isinstance(node, Stage) and bool(node.options.batch) and not node.options.pure
    ),
    "a GPU stage": lambda node: is_stage(node) and node.options.gpu,
    "a placed GPU stage": lambda node: (
        isinstance(node, Stage) and node.options.gpu and node.options.placement == "here"
    ),
    "a placed CPU stage": lambda node: (
        isinstance(node, Stage) and not node.options.gpu and bool(node.options.placement)
    ),
    "a stage with replicas": lambda node: is_stage(node) and node.options.replicas != 1,
    "a stage with resources": lambda node: is_stage(node) and node.options.cpus is not None,
    "a class stage": lambda node: is_stage(node) and node.constructed and node.options.batch is None,
    "a batched class stage": lambda node: is_stage(node) and node.constructed and bool(node.options.batch),
}


@pytest.mark.parametrize("wanted", WANTED.values(), ids=WANTED.keys())
def test_every_construct_is_drawn(wanted: Callable[[Any], bool]) -> None:
    quick = settings(max_examples=3000, database=None, derandomize=True, phases=[Phase.generate])
    find(flows(), lambda flow: any(map(wanted, nodes(flow))), settings=quick)


@given(st.data(), st.integers(0, 3), st.integers(1, 16))
def test_bounds_on_depth_and_size(data: Any, max_depth: int, max_size: int) -> None:
    flow = data.draw(flows(max_depth, max_size))
    assert written_stages(flow) <= max_size
    assert depth(flow) <= 4 * max_depth, "a construct writes a few: a chain, a fan-out in it, an each after it"


@given(flows(without=["race", "timeout"]))
def test_constructs_can_be_left_out(flow: Any) -> None:
    assert not any(isinstance(node, (Race, Timeout)) for node in nodes(flow))


def test_an_unknown_construct_is_refused() -> None:
    with pytest.raises(ValueError, match="no construct 'loop': there are chain,"):
        flows(without=["loop"])


@given(flows(), ITEMS)
def test_every_draw_runs_and_is_picklable(flow: Any, x: int) -> None:
    import pickle

    assert pickle.loads(pickle.dumps(flow)) == flow
    assert outcome_of(lambda: reference(flow, x)) in outcomes(flow, x)


@given(stages())
def test_stages_are_single(flow: Any) -> None:
    assert isinstance(flow, Stage)


# ------------------------------------------------------------------ printed as Python


@given(flows())
def test_what_is_printed_makes_an_equal_flow(flow: Any) -> None:
    again = eval(to_python(flow), dict(NAMES))
    assert again == flow
    assert hash(again) == hash(flow)
    assert to_python(again) == to_python(flow)


@given(flows())
def test_hypothesis_prints_it_so(flow: Any) -> None:
    assert eval(pretty.pretty(flow), dict(NAMES)) == flow


def test_a_failing_example_is_printed_to_be_pasted() -> None:
    @settings(database=None, print_blob=False)
    @given(flow=flows(max_depth=2), fault=faults("raise on items"))
    def check(flow: Any, fault: Fault) -> None:
        assert not any(isinstance(node, Switch) for node in nodes(flow))

    with pytest.raises(AssertionError) as caught:
        check()
    printed = "\n".join(caught.value.__notes__)
    assert "flow=df.switch(df.stage(pool.Modulo(n=2)), {0: df.stage(pool.successor)})," in printed, printed
    assert "kind='raise on items'" in printed


@df.stage
def decorated(x: int) -> int:
    return x + 1


@df.stage(batch=2, placement="here")
class Decorated:
    def __init__(self, amount: int, *, sign: int = 1) -> None:
        self.amount = amount * sign

    def __call__(self, xs: list[int]) -> list[int]:
        return [x + self.amount for x in xs]


def test_functions_are_written_by_their_names() -> None:
    here = __name__
    flow = decorated >> Decorated(2, sign=-1) >> df.stage(functools.partial(max, 0)) >> "abc".count >> np.sqrt
    text = to_python(flow)
    assert text == (
        f"{here}.decorated >> {here}.Decorated(2, sign=-1) >> df.stage(functools.partial(max, 0)) >> "
        "df.stage('abc'.count) >> df.stage(numpy.sqrt)"
    )
    import sys

    assert eval(text, {**NAMES, "numpy": np, here.partition(".")[0]: sys.modules[here.partition(".")[0]]}) == flow


@pytest.mark.parametrize(
    "flow",
    [
        df.fanout(**{"not a name": df.stage(abs), "a": df.stage(abs)}),
        df.stage(abs).named("it's") >> df.stage(abs, name="b"),
        df.stage(abs).retry(1, on=(ValueError, KeyError), backoff=0.5).timeout(1.5).fallback(abs, on=OSError),
        df.switch(abs, {None: abs, "k": abs, (1, 2.5): abs, b"x": abs, float("inf"): abs}, default=abs),
        (df.stage(abs) >> abs).named("chain").retry(2) | (df.stage(abs) | abs).timeout(1),
        df.stage(pool.Add)(-0.0),
        df.stage(pool.Add)([{"a": {1, 2}}, frozenset(), set(), (1,)]),
    ],
)
def test_corners_are_written(flow: Any) -> None:
    assert eval(to_python(flow), dict(NAMES)) == flow


@pytest.mark.parametrize("thing", [lambda x: x, object().__eq__])
def test_what_has_no_name_is_refused(thing: Any) -> None:
    with pytest.raises(ValueError, match=r"cannot be (imported by name|written)"):
        to_python(df.stage(thing))


def test_what_cannot_be_written_is_printed_as_it_shows() -> None:
    assert pretty.pretty(df.stage(lambda x: x) >> abs) == "<lambda> >> abs"


# ------------------------------------------------------------------ shrinking


@pytest.mark.parametrize(
    ("wanted", "most"),
    [
        (lambda flow: any(isinstance(node, Retry) for node in nodes(flow)), 1),
        (lambda flow: any(isinstance(node, Each) for node in nodes(flow)), 3),
        (lambda flow: len(stages_of(flow)) >= 4, 6),
        (lambda flow: outcomes(flow, 3)[0].error is ValueError, 1),
        (lambda flow: any(isinstance(node, Race) for node in nodes(flow)) and "combine" in repr(flow), 4),
    ],
    ids=["a retry", "an each", "four stages", "a failure", "a race and a combine"],
)
def test_examples_shrink_to_few_stages(wanted: Callable[[Any], bool], most: int) -> None:
    found = find(flows(), wanted, settings=settings(max_examples=2000, database=None, derandomize=True))
    assert written_stages(found) <= most, to_python(found)


# ------------------------------------------------------------------ inputs


def shout(text: str) -> str:
    return text.upper()


def unsaid(text):  # type: ignore[no-untyped-def]
    return text


@given(st.data())
def test_inputs_are_of_the_annotated_type(data: Any) -> None:
    assert isinstance(data.draw(inputs_for(df.stage(shout) >> len)), str)
    assert isinstance(data.draw(inputs_for(df.identity.named("x") >> df.each(shout).retry(1))), list)
    assert isinstance(data.draw(inputs_for(df.fanout(a=unsaid, b=shout))), str)


@given(st.data(), flows(max_depth=2))
def test_inputs_of_random_flows_are_ints(data: Any, flow: Any) -> None:
    assert type(data.draw(inputs_for(flow))) is int


def test_without_annotation_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="annotate one"):
        inputs_for(df.stage(unsaid))


# ------------------------------------------------------------------ faults


@given(flows(max_depth=2), faults("raise on items", "raise on call", "wrong length", "mutate"), st.lists(ITEMS))
def test_a_flow_with_a_fault_gives_what_it_may(flow: Any, fault: Fault, xs: list[int]) -> None:
    broken = fault.into(flow)
    results = list(recorded(broken.map(xs, "inline", on_error="record", progress=False)))
    assert len(results) == len(xs)
    for x, result in zip(xs, results, strict=True):
        assert result in outcomes(broken, x)


def test_raising_on_items() -> None:
    broken: Any = Fault("raise on items", items=(2,)).into(df.stage(pool.doubles, batch=4))
    assert list(recorded(broken.map([1, 2, 3], on_error="record"))) == [
        Outcome(2),
        Outcome(None, Injected),
        Outcome(6),
    ]


def test_raising_on_a_call() -> None:
    broken: Any = Fault("raise on call", call=1).into(df.stage(pool.double))
    assert [outcome_of(lambda: broken(1)).error for _ in range(3)] == [None, Injected, None]
    assert outcomes(broken, 1) == [Outcome(2), Outcome(None, Injected)]
    assert outcomes(Fault("raise on call").into(df.stage(pool.double)).fallback(abs), 1) == [Outcome(2), Outcome(1)]


def test_a_wrong_length() -> None:
    broken: Any = Fault("wrong length", items=(2,)).into(df.stage(pool.doubles, batch=4))
    assert outcomes(broken, 2) == [Outcome(None, df.BatchSizeError)]
    assert [outcome.error for outcome in recorded(broken.map([1, 2, 3], on_error="record"))] == [
        None,
        df.BatchSizeError,
        None,
    ]


def test_a_stage_that_changes_its_list() -> None:
    seen: list[list[int]] = []

    def keep(xs: list[int]) -> list[int]:
        seen.append(xs)
        return xs

    broken: Any = Fault("mutate").into(df.stage(keep, batch=4))
    assert list(broken.map([1, 2, 3])) == [1, 2, 3]
    assert seen == [[]]


def test_hanging_until_released() -> None:
    with pytest.raises(ValueError, match="needs the gate"):
        Fault("hang", items=(1,)).into(df.stage(abs))
    with Gate() as gate:
        broken: Any = df.race(Fault("hang", items=(1,)).into(df.stage(pool.double), gate), abs)
        assert broken(1) == 1
        assert gate.arrived == 1
        assert broken(2) in (4, 2)


def test_a_fault_is_in_one_stage_however_often_it_is_written() -> None:
    a, b = df.stage(pool.double), df.stage(pool.successor)
    flow: Any = (a >> b | a) >> df.combine(pool.total)
    broken = Fault("raise on items", at=1, items=(4,)).into(flow)
    assert outcomes(broken, 2)[0].error is Injected
    assert outcomes(broken, 3) == outcomes(flow, 3)
    assert len(stages_of(broken)) == 2
    assert Fault("mutate").into(df.identity) is df.identity


# ------------------------------------------------------------------ profiles


def test_profiles() -> None:
    before = settings.get_current_profile_name()
    try:
        for name, examples in PROFILES.items():
            load_profile(name)
            assert settings.default is not None
            assert settings.default.max_examples == examples
            assert settings.default.deadline is None
        with pytest.raises(ValueError, match="no profile 'quick': there are fast, balanced, expensive"):
            load_profile("quick")
    finally:
        settings.load_profile(before)
