"""Expressions as values: equal by structure, immutable, shown as they were written, and picklable."""

import copy
import datetime
import functools
import os
import pickle
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dataflow as df
from dataflow.expr.walk import postorder
from dataflow.testing import flows, outcome_of, pool, reference

ROOT = Path(__file__).parent.parent

AnyFlow = Any  # what is composed here is checked when it runs, not by mypy
any_flow = flows(max_depth=2)


# Module-level stages, as a user's module has them: the decorator has taken the function's name.


@df.stage
def decorated(x: int) -> int:
    return x + 1


@df.stage(batch=4, name="in fours")
def batched(xs: list[int]) -> list[int]:
    return [x * 2 for x in xs]


@df.stage
class Plus:
    def __init__(self, amount: int = 1, *, note: object = None) -> None:
        self.amount = amount

    def __call__(self, x: int) -> int:
        return x + self.amount


class Holder:
    """A namespace, as classes are used."""

    @staticmethod
    @df.stage
    def inside(x: int) -> int:
        return x * 3

    @df.stage
    class Scale:
        def __call__(self, x: int) -> int:
            return x * 10


class Loaded:
    """A class stage whose arguments may be anything."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.args = args

    def __call__(self, x: int) -> int:
        return x


loaded: Any = df.stage(Loaded)


def vote(*parts: int) -> int:
    return sum(parts)


def same(one: AnyFlow, other: AnyFlow) -> None:
    assert one == other
    assert other == one
    assert (one != other) is False
    assert hash(one) == hash(other)
    assert len({one, other}) == 1


def different(one: AnyFlow, other: AnyFlow) -> None:
    assert one != other
    assert other != one
    assert (one == other) is False
    assert len({one, other}) == 2


# ------------------------------------------------------------------ laws 1 to 3, and what is not equal


@given(any_flow, any_flow, any_flow)
def test_chaining_is_associative(f: AnyFlow, g: AnyFlow, h: AnyFlow) -> None:
    same((f >> g) >> h, f >> (g >> h))


@given(any_flow)
def test_identity_is_neutral(f: AnyFlow) -> None:
    same(df.identity >> f, f)
    same(f >> df.identity, f)


@given(any_flow, any_flow, any_flow)
def test_branching_is_associative(f: AnyFlow, g: AnyFlow, h: AnyFlow) -> None:
    same((f | g) | h, f | (g | h))
    assert len((f | (g | h)).children) == sum(len(x.children) if is_open(x) else 1 for x in (f, g, h))


def is_open(flow: AnyFlow) -> bool:
    return type(flow).__name__ == "Fanout" and not flow.grouped


@given(any_flow)
def test_a_flow_built_again_is_equal(f: AnyFlow) -> None:
    """No node is shared between the two: pickling makes every one anew."""
    same(pickle.loads(pickle.dumps(f)), f)


@given(any_flow, any_flow)
def test_equal_flows_have_equal_reprs_and_hashes(f: AnyFlow, g: AnyFlow) -> None:
    assert (f == g) in (True, False)
    if f == g:
        assert repr(f) == repr(g)
        assert hash(f) == hash(g)


@given(any_flow, st.integers(-20, 40))
def test_composing_changes_no_operand(f: AnyFlow, x: int) -> None:
    before, text, value = hash(f), repr(f), outcome_of(lambda: reference(f, x))
    f >> decorated
    decorated >> f
    f | decorated
    df.fanout(f, decorated)
    f.retry(2).timeout(5).fallback(f).named("n")
    assert (hash(f), repr(f), outcome_of(lambda: reference(f, x))) == (before, text, value)


a, b, c, d = (df.stage(fn) for fn in (abs, bin, chr, hex))

DIFFERENT: dict[str, tuple[AnyFlow, AnyFlow]] = {
    "another function": (a, b),
    "another order": (a >> b, b >> a),
    "another order of branches": (a | b, b | a),
    "a chain and a fan-out": (a >> b, a | b),
    "a group and open branches": (df.fanout(a, b), a | b),
    "a group inside": (df.fanout(a, b) | c, a | b | c),
    "a group of one and its branch": (df.fanout(a), a),
    "names": (df.fanout(x=a, y=b), df.fanout(a, b)),
    "other names": (df.fanout(x=a, y=b), df.fanout(x=a, z=b)),
    "names exchanged": (df.fanout(x=a, y=b), df.fanout(y=a, x=b)),
    "a function combined": (df.combine(), df.combine(vote)),
    "a quorum": (df.combine(vote), df.combine(vote, quorum=1)),
    "another quorum": (df.combine(quorum=2), df.combine(quorum=1)),
    "within": (df.combine(quorum=1), df.combine(quorum=1, within=1)),
    "a default": (df.switch(abs, {1: a}), df.switch(abs, {1: a}, default=b)),
    "a default or a case": (df.switch(abs, {1: a, 2: b}), df.switch(abs, {1: a}, default=b)),
    "another key": (df.switch(abs, {1: a}), df.switch(abs, {2: a})),
    "another key function": (df.switch(abs, {1: a}), df.switch(bin, {1: a})),
    "keys of other types": (df.switch(abs, {1: a}), df.switch(abs, {True: a})),
    "cases exchanged": (df.switch(abs, {1: a, 2: b}), df.switch(abs, {2: a, 1: b})),
    "each": (df.each(a), a),
    "each of each": (df.each(df.each(a)), df.each(a)),
    "a race": (df.race(a, b), df.race(b, a)),
    "a race of one": (df.race(a), a),
    "times": (a.retry(1), a.retry(2)),
    "what is tried again": (a.retry(1, on=ValueError), a.retry(1)),
    "backoff": (a.retry(1, backoff=1), a.retry(1)),
    "seconds": (a.timeout(1), a.timeout(2)),
    "the handler": (a.fallback(b), a.fallback(c)),
    "what is handled": (a.fallback(b, on=OSError), a.fallback(b)),
    "body and handler": (a.fallback(b), b.fallback(a)),
    "retry of chain": ((a >> b).retry(1), a >> b.retry(1)),
    "a name": (a.named("n"), a),
    "another name": ((a >> b).named("n"), (a >> b).named("m")),
    "a name for less": ((a >> b).named("n"), a >> b.named("n")),
    "batch": (df.stage(vote, batch=2), df.stage(vote)),
    "batch size": (df.stage(vote, batch=2), df.stage(vote, batch=3)),
    "purity": (df.stage(vote, pure=False), df.stage(vote)),
    "device": (df.stage(vote, device="cuda"), df.stage(vote)),
    "placement": (df.stage(vote, placement="p"), df.stage(vote)),
    "replicas": (df.stage(vote, replicas=2), df.stage(vote)),
    "max_wait": (df.stage(vote, max_wait=1), df.stage(vote)),
    "a class and its instance": (loaded(), df.stage(Loaded())),
    "two instances": (df.stage(Loaded()), df.stage(Loaded())),
    "two lambdas": (df.stage(lambda x: x), df.stage(lambda x: x)),
    "two partials": (df.stage(functools.partial(pow, 2)), df.stage(functools.partial(pow, 3))),
    "partials by keyword": (df.stage(functools.partial(pow, exp=2)), df.stage(functools.partial(pow, exp=3))),
    "a method of two objects": (df.stage([].append), df.stage([].append)),
}


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT.keys())
def test_different_structure_is_not_equal(one: AnyFlow, other: AnyFlow) -> None:
    different(one, other)


SAME: dict[str, Callable[[], AnyFlow]] = {
    "a stage": lambda: df.stage(abs),
    "a batched stage": lambda: df.stage(vote, batch=2, device="cuda:1", placement="p", cpus=0.5),
    "a partial": lambda: df.stage(functools.partial(pow, exp=3, mod=7)),
    "a partial of a partial": lambda: df.stage(functools.partial(functools.partial(vote, 1), 2)),
    "a bound method": lambda: df.stage(str.strip) >> "ab".count,
    "a class stage": lambda: loaded(1, "a", b"b", None, 2.5, [1, (2,)], {"k": {3}}, depth=[4]),
    "a ufunc": lambda: df.stage(np.sqrt),
    "identity": lambda: pickle.loads(pickle.dumps(df.identity)),
    "a switch": lambda: df.switch(len, {"a": abs, 1: bin, None: chr}, default=str),
    "a fan-out": lambda: (df.stage(abs) | bin | chr) >> df.combine(vote, quorum=2, within=0.5),
    "a named fan-out": lambda: df.fanout(x=abs, y=bin) >> df.combine(dict),
    "each": lambda: df.each(df.each(abs)),
    "a race": lambda: df.race(int, float),
    "retry": lambda: df.stage(abs).retry(2, on=(OSError, ValueError), backoff=1),
    "timeout": lambda: df.stage(abs).timeout(1),
    "fallback": lambda: df.stage(int).fallback(float, on=ValueError),
    "named": lambda: (df.stage(int) >> float).named("n"),
}


@pytest.mark.parametrize("make", SAME.values(), ids=SAME.keys())
def test_what_is_written_alike_is_equal(make: Callable[[], AnyFlow]) -> None:
    same(make(), make())


def test_a_flow_is_no_other_thing() -> None:
    flow = df.stage(abs)
    assert flow != abs
    assert flow != 3
    assert flow is not None
    assert (flow == np.array([1, 2])) is False  # a plain no, not an array of them


# ------------------------------------------------------------------ arguments of class stages


class Point(NamedTuple):
    x: float


UTC = datetime.timezone.utc  # noqa: UP017 - spelled as the other zone is
EAST = datetime.timezone(datetime.timedelta(hours=1))

UNLIKE: dict[str, tuple[object, object]] = {
    "zero and minus zero": (0.0, -0.0),
    "in a list": ([0.0], [-0.0]),
    "in a dict": ({"k": 0.0}, {"k": -0.0}),
    "1 and True": (1, True),
    "1 and 1.0": (1, 1.0),
    "in a tuple": ((1,), (True,)),
    "in a set": (frozenset({1}), frozenset({True})),
    "a list and a tuple": ([1], (1,)),
    "text and bytes": ("a", b"a"),
    "None and False": (None, False),
    "a dict's order": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "arrays": (np.arange(3), np.arange(3)),
    "array scalars": (np.float64(0.0), np.float64(-0.0)),
    "complex zeros": (complex(0.0, 0.0), complex(0.0, -0.0)),
    "a named tuple's zeros": (Point(0.0), Point(-0.0)),
    "a named tuple's 1 and True": (Point(1), Point(True)),
    "decimals": (Decimal("1.0"), Decimal("1.00")),
    "one moment in two zones": (
        datetime.datetime(2020, 1, 1, 12, tzinfo=UTC),
        datetime.datetime(2020, 1, 1, 13, tzinfo=EAST),
    ),
}


@pytest.mark.parametrize(("one", "other"), UNLIKE.values(), ids=UNLIKE.keys())
def test_arguments_that_can_be_told_apart_are_not_equal(one: object, other: object) -> None:
    different(loaded(one), loaded(other))
    different(loaded(k=one), loaded(k=other))
    different(df.stage(functools.partial(vote, one)), df.stage(functools.partial(vote, other)))


def test_nan_equals_itself() -> None:
    same(loaded(float("nan")), loaded(float("nan")))


def test_arrays_are_compared_by_identity() -> None:
    array = np.arange(6).reshape(2, 3)
    same(loaded(array), loaded(array))
    same(loaded([array], k={"w": array}), loaded([array], k={"w": array}))
    different(loaded(array), loaded(array.copy()))


class Raises:
    """A value that can be neither compared nor shown."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("== was used on a user's value")

    def __hash__(self) -> int:
        return 7

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Elementwise(Raises):
    """A value whose == has no truth."""

    def __eq__(self, other: object) -> Any:
        return np.array([True, False])

    __hash__ = Raises.__hash__


class Unhashable(Raises):
    def __hash__(self) -> int:
        raise RuntimeError("no hash")


@pytest.mark.parametrize("kind", [Raises, Elementwise, Unhashable])
def test_awkward_values_are_compared_by_identity(kind: type) -> None:
    one, other = kind(), kind()
    same(loaded(one), loaded(one))
    different(loaded(one), loaded(other))
    assert "Loaded(" in repr(loaded(one))


def test_a_value_that_holds_itself() -> None:
    endless: list[object] = []
    endless.append(endless)
    same(loaded(endless), loaded(endless))


def test_what_is_changed_later_does_not_change_the_flow() -> None:
    """A flow is immutable: it is equal to what it was equal to, whatever becomes of the lists it was made with."""
    given = [1, 2]
    flow = loaded(given)
    same(flow, loaded([1, 2]))
    given.append(3)
    same(flow, loaded([1, 2]))
    cases: dict[int, Any] = {1: abs}
    route = df.switch(len, cases)
    cases[2] = bin
    same(route, df.switch(len, {1: abs}))


# ------------------------------------------------------------------ what the operators build


def test_or_is_flat_whatever_the_parentheses() -> None:
    flat = a | b | c | d
    for other in (((a | b) | c) | d, a | (b | (c | d)), (a | b) | (c | d), a | (b | c) | d):
        same(flat, other)
        assert other.children == (a, b, c, d)
    assert reference(df.stage(len) | str.upper | (df.stage(str.lower) | str.title), "aB") == (2, "AB", "ab", "Ab")


def test_a_fanout_is_a_group_of_its_own() -> None:
    group = df.fanout(a, b)
    assert (group | c).children == (group, c)
    assert (c | group).children == (c, group)
    assert df.fanout(a, df.fanout(b, c)).children == (a, df.fanout(b, c))
    assert df.fanout(a | b, c).children == (a | b, c)
    assert (df.fanout(x=a) | b).children == (df.fanout(x=a), b)
    assert reference(df.fanout(abs, df.fanout(abs, abs)) | abs, -1) == ((1, (1, 1)), 1)


def test_a_named_group_takes_in_no_branches() -> None:
    assert ((a | b).named("n") | c).children == ((a | b).named("n"), c)


def test_chain_binds_tighter_than_branch() -> None:
    same(a >> b | c >> d, (a >> b) | (c >> d))
    assert (a >> b | c >> d).children == (a >> b, c >> d)


def test_plain_callables_become_stages_on_either_side() -> None:
    same(str.strip >> df.stage(len), df.stage(str.strip) >> df.stage(len))
    same(df.stage(len) >> bin, df.stage(len) >> df.stage(bin))
    same(abs | df.stage(bin), df.stage(abs) | df.stage(bin))
    same(df.stage(abs) | bin, df.stage(abs) | df.stage(bin))
    same(int | df.stage(bin), df.stage(int) | df.stage(bin))
    same(np.sqrt >> df.stage(abs), df.stage(np.sqrt) >> df.stage(abs))
    same(df.each(abs), df.each(df.stage(abs)))
    same(df.race(abs, bin), df.race(df.stage(abs), df.stage(bin)))
    same(a.fallback(bin), a.fallback(df.stage(bin)))
    same(df.switch(len, {1: abs}, default=bin), df.switch(df.stage(len), {1: df.stage(abs)}, default=df.stage(bin)))


def test_assignment_operators_bind_a_new_flow() -> None:
    flow: AnyFlow = a
    flow >>= b
    same(flow, a >> b)
    flow |= c
    same(flow, (a >> b) | c)
    same(a, df.stage(abs))


def test_a_stage_keeps_its_options_under_another_name() -> None:
    renamed: AnyFlow = batched.named("other")
    assert renamed.name == "other"
    assert renamed.options.batch == 4
    assert renamed.origin == batched.origin


def test_names_and_where_they_come_from() -> None:
    assert decorated.name == "decorated"
    assert batched.name == "in fours"
    assert Plus(1).name == "Plus"
    assert (Plus(1).origin.file, decorated.origin.file) == (__file__, __file__)
    assert decorated.origin.line == decorated.fn.__code__.co_firstlineno
    assert df.stage(functools.partial(vote, 1)).name == "vote"
    assert df.stage(Loaded()).name == "Loaded"
    line = sys._getframe().f_lineno + 1
    flow = df.stage(abs) | abs
    assert flow.origin == (__file__, line)


def test_options_are_part_of_the_stage() -> None:
    options = df.stage(vote, batch=3, max_wait=1, device="cuda:1", replicas=(1, 8), gpus=0.5, memory=2**30).options
    assert (options.batch, options.max_wait, options.device, options.gpu) == (3, 1, "cuda:1", True)
    assert (options.replicas, options.gpus, options.memory, options.pure) == ((1, 8), 0.5, 2**30, True)
    assert df.stage(vote).options.max_wait == 0.002
    assert not df.stage(vote, device="cpu").options.gpu


# ------------------------------------------------------------------ immutable and shown as written


@pytest.mark.parametrize("flow", [a, a >> b, a | b, a.retry(1), df.identity, Plus(1)], ids=repr)
def test_a_flow_cannot_be_changed(flow: AnyFlow) -> None:
    before = hash(flow)
    for name in ("fn", "children", "origin", "anything", "_hash"):
        with pytest.raises(AttributeError):
            setattr(flow, name, 1)
        with pytest.raises(AttributeError):
            delattr(flow, name)
    assert hash(flow) == before


def test_copies_are_the_flow_itself() -> None:
    flow = a >> b
    assert copy.copy(flow) is flow
    assert copy.deepcopy(flow) is flow


WRITTEN = [
    "identity",
    "stage(abs) >> bin",
    "stage(abs) | bin | len",
    "stage(abs) >> bin | stage(len) >> hex",
    "fanout(abs, bin)",
    "fanout(x=abs, y=bin) >> combine(dict)",
    "(stage(abs) | bin) >> combine()",
    "(stage(abs) | bin) >> combine(max, quorum=1, within=0.5)",
    "switch(len, {'a': abs, None: bin}, default=hex)",
    "switch(stage(len) >> abs, {1: stage(abs) >> bin})",
    "each(stage(abs) >> bin)",
    "race(abs, stage(bin) >> len)",
    "stage(abs).retry(2)",
    "stage(abs).retry(2, on=OSError, backoff=0.5)",
    "stage(abs).retry(2, on=(OSError, ValueError))",
    "(stage(abs) >> bin).timeout(1.5)",
    "(stage(abs) | bin).timeout(1000000)",
    "(stage(abs) | bin).fallback(stage(bin) >> len, on=OSError)",
    "(stage(abs) >> bin).named('pair').retry(1)",
    "each(abs).retry(1).timeout(2)",
    "identity.retry(1)",
    "combine(max).named('top')",
]


@pytest.mark.parametrize("text", WRITTEN)
def test_repr_is_the_python_that_writes_it(text: str) -> None:
    words = {name: getattr(df, name) for name in ("combine", "each", "fanout", "identity", "race", "stage", "switch")}
    flow = eval(text, dict(words))
    shown = repr(flow)
    # each stage is shown by its name alone; as a bare function it stands beside another, so it is lifted first
    lifted = {fn.__name__: df.stage(fn) for fn in (abs, bin, len, hex)} | {"dict": dict, "max": max}
    same(eval(shown, words | lifted), flow)


def test_repr_of_stages() -> None:
    assert repr(decorated) == "decorated"
    assert repr(batched) == "in fours"
    assert repr(Plus(2, note="x" * 100)).startswith("Plus(2, note='xxx")
    assert len(repr(Plus(2, note="x" * 100))) < 80
    assert repr(df.stage(lambda x: x)) == "<lambda>"

    def local(x: int) -> int:
        return x

    assert repr(df.stage(local)) == "local"
    assert "Plus" in repr(Plus)


def test_repr_of_much_is_cut() -> None:
    long = functools.reduce(lambda left, right: left >> right, [a] * 10_000)
    assert 1000 < len(repr(long)) < 3000
    diamonds = a
    for _ in range(60):
        diamonds = (diamonds | diamonds) >> df.combine(vote)
    assert 1000 < len(repr(diamonds)) < 3000


# ------------------------------------------------------------------ pickling

PICKLED: dict[str, AnyFlow] = {
    "a decorated function": decorated,
    "with options": batched,
    "renamed": decorated.named("other"),
    "a class stage": Plus(3, note="n"),
    "two of them": Plus(3) >> Plus(amount=4),
    "in a namespace": Holder.inside >> Holder.Scale(),
    "builtins": df.stage(abs) >> str >> str.strip >> int,
    "a partial": decorated >> functools.partial(pow, 2),
    "a ufunc": decorated >> np.sqrt,
    "every construct": (
        df.switch(
            len,
            {0: decorated, None: df.each(decorated)},
            default=df.fanout(x=decorated, y=df.race(decorated, Plus(1))) >> df.combine(dict),
        )
        >> ((decorated | batched) >> df.combine(vote, quorum=1, within=2.0)).named("n")
        >> decorated.retry(2, on=OSError, backoff=1).timeout(3).fallback(df.identity, on=(ValueError,))
    ),
}


@pytest.mark.parametrize("module", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
@pytest.mark.parametrize("flow", PICKLED.values(), ids=PICKLED.keys())
def test_a_pickled_flow_is_equal(flow: AnyFlow, module: types.ModuleType) -> None:
    again = module.loads(module.dumps(flow))
    same(again, flow)
    assert repr(again) == repr(flow)
    assert again.origin == flow.origin


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_will_do(protocol: int) -> None:
    same(pickle.loads(pickle.dumps(PICKLED["every construct"], protocol)), PICKLED["every construct"])


def test_a_pickled_flow_means_the_same() -> None:
    flow = decorated >> Plus(3) >> batched >> Holder.inside >> Holder.Scale()
    assert reference(pickle.loads(pickle.dumps(flow)), 1) == reference(flow, 1) == 300


def test_lambdas_and_local_functions_travel_by_cloudpickle() -> None:
    offset = 5

    def local(x: int) -> int:
        return x + offset

    @df.stage
    class Inner:
        def __call__(self, x: int) -> int:
            return x * offset

    flow: AnyFlow = decorated >> local >> (lambda x: x * 2) >> Inner()
    assert reference(cloudpickle.loads(cloudpickle.dumps(flow)), 1) == 70


def test_a_function_that_uses_a_stage_class_travels() -> None:
    by_value = cloudpickle.loads(cloudpickle.dumps(lambda x: reference(Plus(x) >> decorated, x)))
    assert by_value(2) == 5
    assert pickle.loads(pickle.dumps(Plus)) is Plus
    assert pickle.loads(pickle.dumps(Holder.Scale)) is Holder.Scale


@df.stage
def decorated_and_wrapped(x: int) -> int:
    return x - 1


decorated_and_wrapped = decorated_and_wrapped.retry(2)  # type: ignore[assignment]


def test_a_decorated_function_whose_name_went_to_a_larger_flow() -> None:
    same(pickle.loads(pickle.dumps(decorated_and_wrapped)), decorated_and_wrapped)


def test_sharing_is_kept() -> None:
    part = a >> b
    flow = (part | part) >> df.combine(vote)
    again = pickle.loads(pickle.dumps(flow))
    assert again.children[0].children[0] is again.children[0].children[1]
    diamonds: AnyFlow = decorated
    for _ in range(50):
        diamonds = (diamonds | diamonds) >> df.combine(vote)
    assert len(pickle.dumps(diamonds)) < 50_000
    again = pickle.loads(pickle.dumps(diamonds))
    assert len(list(postorder(again))) == len(list(postorder(diamonds))) == 50 * 3 + 1
    same(again, diamonds)


def test_stages_found_in_another_process_by_name(tmp_path: Path) -> None:
    """What is pickled here is loaded where nothing but the module's name is known."""
    flow = decorated >> Plus(3) >> batched >> Holder.inside
    (tmp_path / "flow.pickle").write_bytes(pickle.dumps(flow))
    code = (
        "import pickle, sys\n"
        "from dataflow.testing import reference\n"
        f"flow = pickle.load(open({str(tmp_path / 'flow.pickle')!r}, 'rb'))\n"
        "sys.stdout.write(f'{reference(flow, 1)} {flow!r}')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment("0"), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"30 {flow!r}"


def environment(seed: str) -> dict[str, str]:
    return os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}


def test_text_and_pickle_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "import hashlib, pickle, sys, test_expr_structure as t\n"
        "for name, flow in t.PICKLED.items():\n"
        "    sys.stdout.write(f'{name}: {flow!r} {hashlib.sha256(pickle.dumps(flow)).hexdigest()}\\n')"
    )
    printed = set()
    for seed in ("0", "1", "12345"):
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment(seed), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        printed.add(done.stdout)
    assert len(printed) == 1


# ------------------------------------------------------------------ sizes

MANY = 10_000
DEEP = 200


def long_chain(left: bool) -> AnyFlow:
    stages = [df.stage(fn) for fn in (abs, bin, len)] * (MANY // 3)
    if left:
        return functools.reduce(lambda flow, stage: flow >> stage, stages)
    return functools.reduce(lambda flow, stage: stage >> flow, reversed(stages))


def wide(n: int) -> AnyFlow:
    return functools.reduce(lambda flow, stage: flow | stage, [df.stage(abs)] * n)


def test_long_chains_and_wide_fanouts() -> None:
    left, right = long_chain(True), long_chain(False)
    same(left, right)
    assert len(left.children) == MANY // 3 * 3
    same(pickle.loads(pickle.dumps(left)), left)
    assert repr(left) == repr(right)
    fan = wide(MANY)
    assert len(fan.children) == MANY
    same(fan, wide(MANY))
    different(fan, wide(MANY - 1))
    assert reference(left, -3) == len(bin(5))


NESTED: dict[str, Callable[[AnyFlow], AnyFlow]] = {
    "each": lambda flow: df.each(flow),
    "retry": lambda flow: flow.retry(1),
    "timeout": lambda flow: flow.timeout(1),
    "fallback": lambda flow: flow.fallback(abs),
    "handler": lambda flow: df.stage(abs).fallback(flow),
    "named": lambda flow: flow.named("n"),
    "race": lambda flow: df.race(flow, abs),
    "fanout": lambda flow: df.fanout(flow, abs),
    "named fanout": lambda flow: df.fanout(x=flow),
    "switch": lambda flow: df.switch(len, {1: flow}),
    "switch key": lambda flow: df.switch(flow, {1: abs}),
    "chain": lambda flow: (flow >> abs).named("n") >> bin,
    "diamond": lambda flow: (flow | flow) >> df.combine(vote),
}


@pytest.mark.parametrize("around", NESTED.values(), ids=NESTED.keys())
def test_constructs_nest_deep(around: Callable[[AnyFlow], AnyFlow]) -> None:
    def nested() -> AnyFlow:
        return functools.reduce(lambda flow, _: around(flow), range(DEEP), a >> b)

    flow = nested()
    same(flow, nested())
    different(flow, around(flow))
    same(pickle.loads(pickle.dumps(flow)), flow)
    assert repr(flow)
    same(flow >> df.identity, flow)


def test_flows_are_made_and_hashed_in_many_threads() -> None:
    flow = long_chain(True)
    marks: list[int] = []
    threads = [threading.Thread(target=lambda: marks.append(hash(flow))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(marks) == {hash(long_chain(True))}


def test_the_pool_of_random_flows_has_equal_stages() -> None:
    """What the random flows are made of meets itself, or merging would never be tried."""
    same(df.switch(pool.modulo(2), {0: pool.double}), df.switch(pool.modulo(2), {0: pool.double}))
    different(df.stage(pool.modulo(2)), df.stage(pool.modulo(3)))
