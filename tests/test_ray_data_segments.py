"""Where a plan is cut for Ray Data, and that its segments, one after another, give what the flow means. No Ray runs."""

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dataflow as df
from dataflow.executors.ray_serve.cluster import Share
from dataflow.executors.ray_serve.shipping import ship
from dataflow.ray_data import map_batches
from dataflow.ray_data.actors import CARRIED, Job, named
from dataflow.ray_data.asking import asked, size_of
from dataflow.ray_data.segments import arranged, segments
from dataflow.ray_data.table import items as table_items
from dataflow.testing import Outcome, flows, outcomes, pool
from dataflow.testing.rebuild import rebuilt, with_options

pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")  # Ray Data's, when it is imported

SECONDS = 10.0


def here(
    flow: Any, items: Sequence[Any], *, rows: int = 1024, passes: Any = None, **options: Any
) -> list[dict[str, Any]]:
    """Run a flow as Ray Data would, so many rows at a time, in this process."""
    import pyarrow

    told: dict[str, Any] = {"column": "x", "output": "result", "failure": "failure", "result_type": None}
    plan = flow.optimize(passes)
    job = Job(ship(plan, passes), **{"on_error": "record", **told, **options})
    table = pyarrow.table({"x": list(items)})
    cut = segments(plan)
    for index, segment in enumerate(cut):
        actor: Any = named(segment)(job, segment, first=index == 0, last=index == len(cut) - 1)
        done = [actor(table.slice(start, rows)) for start in range(0, table.num_rows, rows)]
        table = pyarrow.concat_tables(done) if done else table
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def shape(flow: Any) -> list[tuple[str, list[str]]]:
    plan = flow.optimize()
    steps = arranged(plan)
    return [(each.name, [step.name for step in steps[each.start : each.stop]]) for each in segments(plan)]


def at(place: str, fn: Any, **options: Any) -> Any:
    return df.stage(fn, placement=place, **options)


# ------------------------------------------------------------------ where it is cut


def test_all_in_one_placement_is_one_pool() -> None:
    assert [name for name, _ in shape(df.stage(abs) >> df.stage(len, batch=4))] == ["cpu"]
    assert shape(df.identity) == [("cpu", [])]
    assert [name for name, _ in shape(at("there", abs) >> at("there", str, batch=2))] == ["there"]


def test_steps_of_one_placement_come_together() -> None:
    left = df.stage(abs) >> at("a", str, batch=2)
    right = df.stage(float) >> at("b", len, batch=2) >> df.stage(bool)
    names = [name for name, _ in shape((left | right) >> df.combine(max))]
    assert names == ["cpu", "a", "b", "cpu"], "not: cpu, a, cpu, b, cpu"


def test_what_has_no_stage_goes_with_what_it_follows() -> None:
    flow = df.stage(abs) >> (at("a", str, batch=2) | at("a", len, batch=3)) >> df.combine(max)
    assert [name for name, _ in shape(flow)] == ["cpu", "a"]


def test_a_construct_over_several_placements_is_one_pool_with_what_they_ask_for() -> None:
    arms = {0: at("a", len, batch=3, cpus=2), 1: at("b", list, batch=2, cpus=1)}
    (held,) = [each for each in segments((df.stage(abs) >> df.switch(bool, arms)).optimize()) if "a" in each.name]
    assert (held.name, held.cpus) == ("a+b", 3)
    assert held.rows % 6 == 0


def test_what_one_pool_cannot_be_is_refused() -> None:
    arms = {0: at("a", len, replicas=2), 1: at("b", str, replicas=3)}
    with pytest.raises(df.LoweringError, match="different numbers of processes"):
        segments(df.switch(bool, arms).optimize())


def test_a_pool_asks_for_what_its_own_steps_ask_for() -> None:
    flow = at("a", abs, cpus=2) >> df.stage(str) >> at("a", len, cpus=1, memory=10, pure=False)
    assert [(each.cpus, each.memory, each.pure) for each in segments(flow.optimize())] == [
        (2, None, True),
        (None, None, True),
        (1, 10, False),
    ]


def test_impure_stages_stay_in_order() -> None:
    parts = [at("a" if number % 2 else "b", fn, pure=False) for number, fn in enumerate([abs, float, str, bool])]
    names = [step for _, steps in shape(df.fanout(*parts)) for step in steps]
    assert [name for name in names if name in ("abs", "float", "str", "bool")] == ["abs", "float", "str", "bool"]


def test_a_long_plan_is_cut_in_linear_time() -> None:
    chain: Any = df.stage(abs)
    for number in range(5000):
        chain = chain >> at(f"p{number % 2}", pool.double if number % 4 < 2 else pool.successor)
    plan = chain.optimize(passes=())
    began = time.process_time()
    assert len(segments(plan)) == 5001
    assert time.process_time() - began < SECONDS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"on_error": "ignore"}, "on_error"),
        ({"on_error": "record", "failure": "result"}, "two columns"),
        ({"output": CARRIED}, "two columns"),
        ({"processes": 0}, "processes"),
        ({"processes": (3, 2)}, "processes"),
    ],
)
def test_what_is_no_option(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        map_batches(None, df.stage(abs), **options)  # type: ignore[arg-type]


def test_what_is_no_flow() -> None:
    with pytest.raises(df.CompositionError, match="map_batches was given 3"):
        map_batches(None, 3)  # type: ignore[arg-type]


# ------------------------------------------------------------------ what the segments give


def outcome(row: dict[str, Any]) -> Outcome | str:
    failure = row["failure"]
    return Outcome(row["result"]) if failure is None else str(failure["type"])


def allowed(flow: Any, x: Any) -> Iterator[Outcome | str]:
    for each in outcomes(flow, x):
        kind: Any = each.error
        named_kind = kind and (
            kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        )
        yield each if kind is None else named_kind


placements = st.lists(st.sampled_from([None, "a", "b"]), min_size=1, max_size=5)


@settings(deadline=None)
@given(flows(), st.lists(st.integers(-20, 60), max_size=12), placements, st.integers(1, 13), st.booleans())
def test_any_flow_gives_what_it_means(flow: Any, xs: list[int], places: list[Any], rows: int, plain: bool) -> None:
    turns = itertools.cycle(places)
    spread = rebuilt(flow, lambda stage: with_options(stage, placement=next(turns)))
    found = here(spread, xs, rows=rows, passes=() if plain else None)
    assert [row["x"] for row in found] == xs
    for x, row in zip(xs, found, strict=True):
        assert outcome(row) in list(allowed(flow, x))


def test_results_are_the_very_objects() -> None:
    given_back = [(1, [2.0]), {"a": None}, {1, 2}, None, b"x", float("inf"), True, 10**30]
    rows = here(df.stage(given_back.__getitem__) >> at("there", lambda x: x), range(len(given_back)))
    assert [row["result"] for row in rows] == given_back
    assert all(type(row["result"]) is type(wanted) for row, wanted in zip(rows, given_back, strict=True))
    assert not any(row["failure"] for row in rows)


def test_a_typed_column_is_of_its_type_and_what_does_not_fit_has_failed() -> None:
    import pyarrow

    rows = here(df.stage([1, None, "x", 2.0].__getitem__, name="pick"), range(4), result_type=pyarrow.int64())
    assert [row["result"] for row in rows] == [1, None, None, 2]
    assert [row["failure"] is None for row in rows] == [True, True, False, True]
    assert "does not fit int64" in rows[2]["failure"]["message"]
    assert rows[2]["failure"]["stage"] == "pick"


def test_what_cannot_be_pickled_fails_by_itself() -> None:
    import threading

    def odd(x: int) -> Any:
        return threading.Lock() if x == 1 else x

    for flow in (df.stage(odd), df.stage(odd) >> at("there", lambda x: x)):
        rows = here(flow, range(3))
        assert [row["result"] for row in rows] == [0, None, 2]
        assert "cannot be sent to another process" in rows[1]["failure"]["message"]


def refuse_one(x: int) -> int:
    if x == 1:
        raise ValueError("one")
    return x


def test_rows_that_fail_are_recorded_left_out_or_raise() -> None:
    flow = df.stage(refuse_one) >> at("there", lambda x: 2 * x)
    rows = here(flow, range(3))
    assert [row["failure"] for row in rows] == [
        None,
        {"type": "ValueError", "message": "one", "stage": "refuse_one"},
        None,
    ]
    assert here(flow, range(3), on_error="skip") == [{"x": 0, "result": 0}, {"x": 2, "result": 4}]
    with pytest.raises(ValueError, match="one") as caught:
        here(flow, range(3), on_error="raise")
    assert any("refuse_one" in note for note in caught.value.__notes__)


def test_all_rows_fail() -> None:
    flow = df.stage(refuse_one) >> at("there", lambda x: 2 * x)
    assert [row["result"] for row in here(flow, [1, 1])] == [None, None]
    assert here(flow, [1, 1], on_error="skip") == []


def test_an_error_without_words() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def mute(x: int) -> int:
        raise MuteError

    (row,) = here(df.stage(mute), [1])
    assert "__str__ fails" in row["failure"]["message"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_everything_ends_the_job(kind: type[BaseException]) -> None:
    def end(x: int) -> int:
        raise kind

    with pytest.raises(df.DataflowError, match=kind.__name__):
        here(df.stage(end), [1])


def test_a_column_that_is_not_there() -> None:
    with pytest.raises(df.DataflowError, match=r"no column 'y': it has 'x'"):
        here(df.stage(abs), [1], column="y")


def test_rows_are_dicts_and_arrays_in_them_belong_to_the_stage() -> None:
    import pyarrow
    from ray.data.extensions import ArrowTensorArray

    def change(row: Any) -> Any:
        row["image"] += row["n"]
        return row["image"].tolist()

    flow: Any = df.stage(change)
    plan = flow.optimize()
    job = Job(ship(plan, None), None, "result", "failure", None, "record")
    (segment,) = segments(plan)
    images = ArrowTensorArray.from_numpy(np.zeros((2, 2)))
    actor: Any = named(segment)(job, segment, first=True, last=True)
    made = actor(pyarrow.table({"image": images, "n": [1.0, 2.0]})).to_pylist()
    assert [row["result"] for row in made] == [[1.0, 1.0], [2.0, 2.0]]
    assert [row["image"].tolist() for row in made] == [[0.0, 0.0]] * 2


@pytest.mark.parametrize("shapes", [[(2, 3), (2, 3)], [(2, 3), (1, 3)], [(), ()], [(0,), (0,)]])
@pytest.mark.parametrize("kind", [np.float32, np.int64, np.bool_])
@pytest.mark.parametrize("chunks", [1, 2])
def test_arrays_come_as_they_are(shapes: Any, kind: Any, chunks: int) -> None:
    import pyarrow
    from ray.data.block import BlockAccessor

    arrays = [np.ones(shape, dtype=kind) for shape in shapes]
    block: Any = BlockAccessor.batch_to_block({"x": arrays})
    whole: Any = pyarrow.concat_tables([BlockAccessor.for_block(block).to_arrow()] * chunks)
    given_out = table_items(whole, "x")
    for value, wanted in zip(given_out, arrays * chunks, strict=True):
        assert np.array_equal(value, wanted)
        if wanted.shape:
            assert (value.dtype, value.shape, value.flags.writeable) == (kind, wanted.shape, True)
    assert [list(row) for row in table_items(whole, None)] == [["x"]] * len(given_out)


def test_another_plan_than_was_sent_is_refused() -> None:
    import dataclasses

    plan = df.stage(abs).optimize()
    job = Job(dataclasses.replace(ship(plan, None), digest="another"), "x", "result", "failure", None, "record")
    with pytest.raises(df.LoweringError, match="another"):
        named(segments(plan)[0])(job, segments(plan)[0], first=True, last=True)


def test_torch_modules() -> None:
    import pyarrow
    import torch

    from dataflow.torch import module

    net = torch.nn.Linear(4, 3)
    flow = (
        df.stage(torch.tensor)
        >> module(net, batch=8, placement="models")
        >> df.stage(lambda scores: scores.argmax().item())
    )
    items = np.random.default_rng(0).random((20, 4), dtype=np.float32).tolist()
    rows = here(flow, items, result_type=pyarrow.int64())
    assert [row["result"] for row in rows] == list(flow.map(items))


# ------------------------------------------------------------------ what a pool asks for


def test_how_many_processes() -> None:
    flow = df.stage(abs) >> at("a", str, replicas=(2, 5)) >> at("b", len, cpus=2) >> df.stage(bool, pure=False)
    cut = segments(flow.optimize())
    assert [size_of(each, None)[0] for each in cut] == [1, 2, 1, 1]
    assert [size_of(each, 3) for each in cut] == [(3, 3), (2, 5), (1, 1), (3, 3)]
    assert size_of(cut[3], None) == (1, 1), "one, for what is not pure may count what it has seen"


def test_options_reach_ray() -> None:
    flow = df.stage(abs) >> at("a", str, device="cuda", cpus=0.5, memory=10) >> at("b", len, gpus=0.25, pure=False)
    cut = segments(flow.optimize())
    made = [asked(each, (1, 4), Share(0.3)) for each in cut]
    assert all((each["compute"].min_size, each["compute"].max_size) == (1, 4) for each in made)
    assert [{key: value for key, value in each.items() if key != "compute"} for each in made] == [
        {"num_cpus": 0.3},
        {"num_cpus": 0.5, "num_gpus": 1, "memory": 10},
        {"num_cpus": 0.3, "num_gpus": 0.25, "max_restarts": 0},
    ]
