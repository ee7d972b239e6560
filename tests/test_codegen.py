"""Generated code: what it looks like, whom it blames, and how long values live in it."""

import functools
import re
import textwrap
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given

import dataflow as df
from dataflow.graph import lower
from dataflow.plan import Code, generate
from dataflow.testing import flows


def code_of(flow: Any, passes: Any = None, **options: Any) -> Code:
    return generate(flow.optimize(passes).region, **options)


def same_code(flow: Any, expected: str) -> None:
    assert code_of(flow).source == textwrap.dedent(expected).strip()


stage: Any = df.stage
switch: Callable[..., Any] = df.switch
a, b, c = stage(abs), stage(bin), stage(len)

# ------------------------------------------------------------------ what it looks like


def test_a_chain_is_one_call_after_the_other() -> None:
    same_code(
        a >> b >> c,
        """
        def flow(x):
            x = stage_0(x)
            x = stage_1(x)
            return stage_2(x)
        """,
    )


def test_nothing_is_the_argument() -> None:
    same_code(
        df.identity,
        """
        def flow(x):
            return x
        """,
    )


def test_a_name_is_used_again_once_its_value_is_not_needed() -> None:
    same_code(
        a >> (b | c | a) >> df.combine(max) >> b,
        """
        def flow(x):
            x = stage_0(x)
            v1 = stage_1(x)
            v2 = stage_2(x)
            x = stage_3(x)
            x = combine_4(v1, v2, x)
            return stage_5(x)
        """,
    )


def test_parts_are_put_together_as_they_are_named() -> None:
    same_code(
        df.fanout(df.fanout(a), df.fanout(**{"class": b, "b c": c})),
        """
        def flow(x):
            v1 = stage_0(x)
            v1 = (v1,)
            v2 = stage_1(x)
            x = stage_2(x)
            x = {'class': v2, 'b c': x}
            return (v1, x)
        """,
    )


def test_parts_are_given_as_keywords_where_their_names_can_be() -> None:
    assert "combine_2(x=v1, y=x)" in code_of(df.fanout(x=a, y=b) >> df.combine(dict)).source
    assert "combine_2(**{'x': v1, 'class': x})" in code_of(df.fanout(x=a, **{"class": b}) >> df.combine(dict)).source
    assert "combine_2(**{'x': v1, 'a b': x})" in code_of(df.fanout(x=a, **{"a b": b}) >> df.combine(dict)).source


def test_the_first_branches_of_a_switch_are_written_in_place() -> None:
    same_code(
        switch(len, {True: a >> b, None: b, "x": df.identity, 7: c, 8: a}, default=a) >> c,
        """
        def flow(x):
            v1 = stage_0(x)
            if v1 is True:
                v3 = stage_1(x)
                v2 = stage_2(v3)
            elif v1 is None:
                v2 = stage_3(x)
            elif v1 is key_4:
                v2 = x
            elif v1 is key_5:
                v2 = stage_6(x)
            else:
                v2 = arm_8[route_7(v1)](x)
            return stage_9(v2)
        """,
    )


def test_a_key_that_identity_does_not_tell_goes_through_the_table() -> None:
    same_code(
        switch(len, {1.5: a, (1, 2): b}, default=c),
        """
        def flow(x):
            v1 = stage_0(x)
            return arm_2[route_1(v1)](x)
        """,
    )


def test_a_long_branch_goes_through_the_table() -> None:
    long = functools.reduce(lambda flow, _: flow >> a, range(10), b)
    same_code(
        switch(len, {1: long, 2: c}),
        """
        def flow(x):
            v1 = stage_0(x)
            if v1 is key_1:
                return stage_2(x)
            else:
                return arm_4[route_3(v1)](x)
        """,
    )


def test_deep_switches_go_through_the_table() -> None:
    """Python refuses code that is indented 100 times."""
    deep = functools.reduce(lambda flow, _: switch(len, {1: flow, 2: a}), range(150), a >> b)
    source = code_of(deep).source
    assert max(len(line) - len(line.lstrip()) for line in source.splitlines()) <= 20
    compile(source, "generated", "exec")


def test_constructs_are_called_and_each_is_a_loop() -> None:
    same_code(
        df.each(a) >> b.retry(1) >> (a >> b).fallback(c),
        """
        def flow(x):
            x = [each_0(e) for e in x]
            x = construct_1(x)
            return construct_2(x)
        """,
    )


def test_code_that_is_guarded_hands_its_errors_to_blame() -> None:
    """With the item, which keeps its name to the end."""
    assert code_of(a >> b >> c, guarded=True).source.splitlines()[2:] == [
        "        v1 = stage_0(x)",
        "        v1 = stage_1(v1)",
        "        return stage_2(v1)",
        "    except Exception as error:",
        "        _blame(error, x)",
        "        raise",
    ]


def test_stacked_diamonds_are_linear() -> None:
    def diamonds(count: int) -> Any:
        return functools.reduce(lambda flow, _: flow >> (a | b) >> df.combine(max), range(count), a)

    short, long = (code_of(diamonds(count)).source.count("\n") for count in (10, 30))
    assert long - short == 20 * 3


@given(flows())
def test_every_op_that_can_fail_has_a_line_of_its_own(flow: Any) -> None:
    for made in (generate(lower(flow)), code_of(flow), code_of(flow, guarded=True)):
        compile(made.source, "generated", "exec")
        lines = made.source.splitlines()
        symbols = [symbol for symbol in re.findall(r"\b[a-z]+_\d+\b", made.source) if not symbol.startswith("key_")]
        assert sorted(symbols) == sorted(each.symbol for each in made.bindings if each.kind != "key")
        for number, line in enumerate(lines, 1):
            called = [each for each in made.bindings if each.kind != "key" and re.search(rf"\b{each.symbol}\b", line)]
            assert not called or number in made.lines
            assert all(each.op is made.lines[number] or each.kind == "route" for each in called)


# ------------------------------------------------------------------ whom it blames


def fails(x: Any, *_: Any, **__: Any) -> Any:
    raise ValueError("as it should")


def double(x: Any) -> Any:
    return x * 2


def other(x: Any) -> Any:
    return x


f = stage(fails, name="culprit")
two = stage(double)
combined = df.combine(fails)

BLAMED: dict[str, Any] = {
    "a stage by itself": f,
    "the first of a chain": f >> two >> two,
    "the last of a chain": two >> two >> f,
    "between equal stages": two >> f >> two >> two,
    "a branch": two >> (double | f | double) >> df.combine(max),
    "a branch's first": (f >> double | other) >> df.combine(max),
    "a branch of a named group": df.fanout(a=double, b=df.fanout(c=f, d=other)),
    "a key": switch(f, {True: double, False: other}),
    "a branch in place": switch(other, {1: two >> f >> two, 2: double}) >> other,
    "a second branch in place": switch(other, {"": double, 1: f}) >> other,
    "a default": switch(other, {5: double}, default=f),
    "a branch through the table": switch(other, {1.0: two >> f, 2: double}) >> other,
    "a long branch": switch(other, {1: functools.reduce(lambda flow, _: flow >> double, range(9), two) >> f, 2: other}),
    "a branch of a branch": switch(other, {1: two >> switch(double, {4: two >> f, 0: double})}),
    "a branch deep down": functools.reduce(lambda flow, _: switch(other, {1: flow}, default=double), range(8), f),
    "an element": stage(lambda x: [x, x]) >> df.each(two >> f >> two),
    "an element of an element": stage(lambda x: [[x], [x]]) >> df.each(df.each(f)),
    "an attempt": (two >> f >> two).retry(2),
    "a handler": stage(lambda x: 1 / 0).fallback(two >> f),
    "what falls back for another error": f.fallback(double, on=OSError),
    "a handler of an element's attempt": stage(lambda x: [x]) >> df.each(stage(lambda x: 1 / 0).fallback(f).retry(1)),
    "a race": df.race(f),
    "a timeout": (two >> f >> two).timeout(60),
    "a quorum's branch": (f | f) >> df.combine(max, quorum=1),
    "a batch": stage(lambda xs: fails(xs), batch=4, name="culprit"),
    "behind a batch": stage(list, batch=4) >> f,
}


@pytest.mark.parametrize("flow", BLAMED.values(), ids=BLAMED.keys())
@pytest.mark.parametrize("passes", [None, (), "-fuse"], ids=["optimized", "plain", "not fused"])
def test_the_stage_that_fails_is_blamed(flow: Any, passes: Any) -> None:
    executor = df.Inline(passes=passes)
    with flow.open(executor) as session, pytest.raises(ValueError, match="as it should") as caught:
        session.run(1)
    blamed(caught.value, flow)
    [result] = flow.map([1], executor, on_error="record", progress=False)
    assert result.stage.split("/")[-1].split("#")[0] == "culprit"
    blamed(result.error, flow)


@pytest.mark.parametrize("flow", BLAMED.values(), ids=BLAMED.keys())
def test_the_stage_that_fails_is_blamed_by_calls(flow: Any) -> None:
    for _ in range(2):  # the first makes the others direct
        with pytest.raises(ValueError, match="as it should") as caught:
            flow(1)
        blamed(caught.value, flow)


def blamed(error: BaseException, flow: Any) -> None:
    """Check that the stage and its place are named, by one note."""
    [note] = error.__notes__
    assert re.match(r"dataflow: stage 'culprit(#\d)?' \(.*test_codegen\.py:\d+\) failed", note), note


@pytest.mark.parametrize(
    "make", [lambda flow: flow, lambda flow: flow.retry(1) >> other], ids=["direct", "at a distance"]
)
def test_a_combine_that_fails_is_blamed(make: Callable[[Any], Any]) -> None:
    for parts in (stage(double) | other, df.fanout(x=double, y=other)):
        with pytest.raises(ValueError, match="as it should") as caught:
            (make(parts >> combined) if make(f) is f else (parts.retry(1) >> combined))(1)
        assert re.match(r"dataflow: op 'combine\(fails\)' \(.*test_codegen\.py:\d+\) failed", caught.value.__notes__[0])


@pytest.mark.parametrize("keys", [{True: double, False: double}, {1.5: double}, {1: two, 2: other, 3: two}])
def test_a_switch_without_a_branch_is_blamed(keys: dict[Any, Any]) -> None:
    flow = two >> switch(other, keys) >> other
    with pytest.raises(df.RoutingError, match="the key 22, of type int") as caught:
        flow(11)
    assert re.match(r"dataflow: op '(switch|route)' \(.*test_codegen\.py:\d+\) failed", caught.value.__notes__[0])


def test_an_element_that_cannot_be_iterated_is_the_fault_of_each() -> None:
    with pytest.raises(TypeError, match="not iterable") as caught:
        (two >> df.each(double))(1)
    assert re.match(r"dataflow: op 'each' \(.*test_codegen\.py:\d+\) failed", caught.value.__notes__[0])


def test_a_flow_within_a_stage_leaves_the_blame_with_its_own_stage() -> None:
    inner = two >> f

    def runs_another(x: Any) -> Any:
        return inner(x)

    with pytest.raises(ValueError, match="as it should") as caught:
        (two >> runs_another)(1)
    assert "stage 'culprit'" in caught.value.__notes__[0]


# ------------------------------------------------------------------ how long values live


class Thing:
    """Something that can be watched."""


def test_a_value_lives_no_longer_than_it_is_needed() -> None:
    made: list[weakref.ref[Thing]] = []
    alive: list[list[bool]] = []

    def make(_: Any) -> Thing:
        alive.append([ref() is not None for ref in made])
        thing = Thing()
        made.append(weakref.ref(thing))
        return thing

    flow = functools.reduce(lambda flow, _: flow >> make, range(5), stage(make))
    flow(None)
    # the argument of the call under way is alive, and nothing before it
    assert alive == [[], [True], [False, True], [False, False, True], [False] * 3 + [True], [False] * 4 + [True]]


def test_a_value_ends_inside_the_step_that_needs_it_last() -> None:
    same_code(
        a >> stage(list, batch=2) >> b >> c,
        """
        def flow(x):
            x = stage_0(x)
            x = stage_1(x)
            x = stage_2(x)
            return stage_3(x)
        """,
    )
