"""A flow over a dataset of Ray Data: the same results as `map`, and failures recorded beside them."""

import functools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dataflow as df
from dataflow.ray_data import map_batches
from dataflow.testing import outcomes
from dataflow.testing.outcomes import same_value
from dataflow.testing.strategies import flows

pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning"),  # Ray Data's own settings, read by itself
]


class Scaled:
    """Knows in which process it was made."""

    def __init__(self) -> None:
        self.made = os.getpid()

    def __call__(self, xs: list[Any]) -> list[Any]:
        if self.made != os.getpid():
            raise RuntimeError("made elsewhere")
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


def test_results_are_those_of_map_and_failures_are_recorded(data: Any) -> None:
    flow = three_pools()
    rows = map_batches(data.from_items(list(range(200))), flow, column="item").take_all()
    wanted = list(flow.map(range(200), "inline", on_error="record"))
    assert [row["item"] for row in rows] == list(range(200))
    for row, outcome in zip(rows, wanted, strict=True):
        if isinstance(outcome, df.Failure):
            error = {"type": "ValueError", "message": str(outcome.error), "stage": outcome.stage}
            assert (row["failure"], row["result"]) == (error, None)
        else:
            assert row["failure"] is None
            assert same_value(row["result"], outcome)


@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(flows(), st.lists(st.integers(-20, 60), min_size=1, max_size=12))
def test_any_flow(data: Any, flow: Any, xs: list[int]) -> None:
    rows = map_batches(data.from_items(xs), flow, column="item").take_all()
    assert [row["item"] for row in rows] == xs
    for x, row in zip(xs, rows, strict=True):
        failed = row["failure"] and row["failure"]["type"].rpartition(".")[2]
        assert any(
            failed == each.error.__name__ if each.error else not failed and each.value == row["result"]
            for each in outcomes(flow, x)
        )


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


def test_an_error_ends_the_job(data: Any) -> None:
    with pytest.raises(Exception, match=r"(?s)a seven: 0.*stage 'refuse_sevens'"):
        map_batches(
            data.from_items(list(range(8))), df.stage(refuse_sevens), column="item", on_error="raise"
        ).take_all()


class Broken:
    """Cannot be made."""

    def __init__(self) -> None:
        raise OSError("no weights")

    def __call__(self, x: int) -> int:
        return x


def test_what_cannot_be_constructed_ends_the_job(data: Any) -> None:
    broken: Any = df.stage(Broken)
    with pytest.raises(Exception, match="no weights"):
        map_batches(data.from_items(list(range(8))), broken(), column="item").take_all()


def die_once(x: int, marker: Path) -> int:
    if x == 5 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return x


@pytest.mark.parametrize("pure", [True, False])
def test_a_process_that_dies(data: Any, tmp_path: Path, pure: bool) -> None:
    flow = df.stage(functools.partial(die_once, marker=tmp_path / "died"), pure=pure)
    made = map_batches(data.from_items(list(range(8))), flow, column="item")
    if pure:
        assert [row["result"] for row in made.take_all()] == list(range(8))
    else:
        with pytest.raises(Exception, match=r"(?i)died"):
            made.take_all()
    assert (tmp_path / "died").exists()


@pytest.mark.parametrize("options", [{"gpus": 7}, {"cpus": 1000}, {"memory": 2**60}, {"gpus": 1, "replicas": 9}])
def test_what_the_cluster_has_not_is_refused(data: Any, options: dict[str, Any]) -> None:
    with pytest.raises(df.LoweringError, match="that the cluster has"):
        map_batches(data.from_items(list(range(8))), df.stage(abs, **options), column="item")
