"""A flow over a dataset of Ray Data: the same results as `map`, and failures recorded beside them."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import dataflow as df
from dataflow.ray_data import map_batches
from dataflow.ray_data.segments import segments

pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning"),  # Ray Data's own settings, read by itself
]


class Scaled:
    """Knows in which process it was made."""

    def __init__(self) -> None:
        self.made = os.getpid()

    def __call__(self, xs: list[Any]) -> list[Any]:
        assert self.made == os.getpid()
        return [None if x % 5 == 0 else np.full(3, x, dtype=np.float32) for x in xs]


def refuse_sevens(x: int) -> int:
    if x % 7 == 0:
        raise ValueError(f"a seven: {x}")
    return int(x)


def total(x: Any, doubled: int) -> float:
    return float("nan") if x is None else float(np.sum(x)) + doubled


def three_pools() -> Any:
    scaled: Any = df.stage(Scaled, batch=16, placement="models")
    return df.stage(refuse_sevens) >> (scaled() | (lambda x: 2 * x)) >> df.combine(total)


# ------------------------------------------------------------------ what becomes a pool


def names(flow: Any) -> list[tuple[str, int, int]]:
    return [(each.name, each.start, each.stop) for each in segments(flow.optimize())]


def test_all_in_one_placement_is_one_pool() -> None:
    assert names(df.stage(abs) >> df.stage(len, batch=4)) == [("ingress", 0, 2)]
    assert [each.name for each in segments(df.identity.optimize())] == ["ingress"]


def test_a_plan_is_cut_where_the_placement_changes() -> None:
    assert [name for name, _, _ in names(three_pools())] == ["ingress", "models"]  # and what joins, with them


def test_a_construct_over_several_placements_is_one_pool_with_what_they_ask_for() -> None:
    arms = {0: df.stage(len, batch=3, placement="a", cpus=2), 1: df.stage(list, batch=2, placement="b", cpus=1)}
    (held,) = [each for each in segments((df.stage(abs) >> df.switch(bool, arms)).optimize()) if "a" in each.name]
    assert (held.name, held.cpus) == ("a+b", 3)
    assert held.rows % 6 == 0


def test_what_one_pool_cannot_be_is_refused() -> None:
    arms = {0: df.stage(len, placement="a", replicas=2), 1: df.stage(str, placement="b", replicas=3)}
    with pytest.raises(df.LoweringError, match="different numbers of processes"):
        segments(df.switch(bool, arms).optimize())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"on_error": "ignore"}, "on_error"),
        ({"on_error": "record", "failure": "result"}, "two columns"),
    ],
)
def test_what_is_no_option(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        map_batches(None, df.stage(abs), **options)  # type: ignore[arg-type]


# ------------------------------------------------------------------ on Ray


@pytest.fixture
def data(ray_runs: None) -> Iterator[Any]:
    import logging

    import ray.data

    context = ray.data.DataContext.get_current()
    before = context.enable_progress_bars, context.execution_options.preserve_order
    context.enable_progress_bars, context.execution_options.preserve_order = False, True
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    yield ray.data
    context.enable_progress_bars, context.execution_options.preserve_order = before


@pytest.mark.timeout(240)
def test_results_are_those_of_map_and_failures_are_recorded(data: Any) -> None:
    flow = three_pools()
    rows = map_batches(data.range(200), flow, column="id", on_error="record").take_all()
    wanted = list(flow.map(range(200), "inline", on_error="record"))
    assert [row["id"] for row in rows] == list(range(200))
    for row, outcome in zip(rows, wanted, strict=True):
        if isinstance(outcome, df.Failure):
            error = {"type": "ValueError", "message": str(outcome.error), "stage": outcome.stage}
            assert (row["failure"], row["result"]) == (error, None)
        else:
            assert row["failure"] is None
            assert np.array_equal(row["result"], outcome, equal_nan=True)


@pytest.mark.timeout(240)
def test_rows_are_dicts_and_those_that_fail_can_be_left_out(data: Any) -> None:
    images = [np.ones((2, 2)) * number for number in range(8)]
    items = [{"x": number, "text": f"n{number}", "image": image} for number, image in enumerate(images)]

    def describe(row: Any) -> Any:
        assert row["x"] != 3
        return {"text": row["text"].upper(), "sum": float(row["image"].sum()), "ragged": np.zeros(row["x"])}

    rows = map_batches(data.from_items(items), df.stage(describe), output="x", on_error="skip", batch_size=3).take_all()
    assert [row["x"]["text"] for row in rows] == [f"N{number}" for number in range(8) if number != 3]
    assert [row["x"]["sum"] for row in rows] == [4.0 * number for number in range(8) if number != 3]
    assert [len(row["x"]["ragged"]) for row in rows] == [number for number in range(8) if number != 3]
    assert all(np.array_equal(row["image"], np.ones((2, 2)) * int(row["text"][1:])) for row in rows)


@pytest.mark.timeout(240)
def test_an_error_ends_the_job(data: Any) -> None:
    with pytest.raises(Exception, match="a seven: 0"):
        map_batches(data.range(8), df.stage(refuse_sevens), column="id").take_all()
