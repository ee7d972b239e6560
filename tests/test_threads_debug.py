"""Debug mode of the thread executor: a stage that changes its input in place though others read it too."""

from typing import Any

import numpy as np
import pytest

import dataflow as df

DEBUG = df.Threads(workers=2, debug=True)


def sort_in_place(xs: Any) -> Any:
    xs.sort()
    return xs


def sort_all_in_place(many: list[Any]) -> list[Any]:
    return [sort_in_place(xs) for xs in many]


def fails(xs: Any) -> Any:
    raise ValueError("no")


in_place = df.stage(sort_in_place)
SHARING: dict[str, Any] = {
    "branches": (in_place | list) >> df.combine(lambda a, b: b),
    "a branch deeper down": df.stage(list) >> (list | df.stage(list) >> in_place | in_place) >> df.combine(),
    "a branch in batches": (df.stage(sort_all_in_place, batch=4, device="cuda") | list) >> df.combine(),
    "a switch beside another branch": (df.switch(len, {3: in_place}) | list) >> df.combine(),
    "an attempt": in_place.retry(1).fallback(list),
    "competitors": df.race(in_place, fails),
    "a quorum": (in_place | list) >> df.combine(lambda *parts: parts, quorum=2),
}


@pytest.mark.parametrize("name", SHARING)
@pytest.mark.parametrize("item", [[3, 1, 2], np.array([3.0, 1.0, 2.0])], ids=["list", "array"])
def test_a_shared_input_that_is_changed_is_caught(name: str, item: Any) -> None:
    flow = SHARING[name]
    with flow.open(DEBUG) as session, pytest.raises(df.DataflowError, match=r"sort.* has changed its input.* in place"):
        session.run(item.copy())


@pytest.mark.parametrize("passes", [None, ()])
def test_the_stage_is_blamed(passes: Any) -> None:
    flow = df.stage(list) >> (in_place.named("sorter") | len) >> df.combine()
    (failure,) = flow.map([[2, 1]], df.Threads(debug=True, passes=passes), on_error="record")
    assert failure.stage == "sorter"
    assert __file__ in str(failure.error)


def test_what_nobody_else_reads_may_be_changed() -> None:
    flow = df.stage(list) >> in_place >> (len | df.stage(list)) >> df.combine(lambda n, xs: (n, xs))
    assert list(flow.map([[3, 1, 2], [2, 1]], DEBUG)) == [(3, [1, 2, 3]), (2, [1, 2])]


def test_what_cannot_be_pickled_is_not_looked_at() -> None:
    flow = (df.stage(lambda f: f(1)) | (lambda f: f(2))) >> df.combine()
    assert list(flow.map([lambda x: x], DEBUG)) == [(1, 2)]


def test_nothing_is_looked_at_unless_it_is_asked_for() -> None:
    flow = (in_place | list) >> df.combine()
    assert next(flow.map([[2, 1]], df.Threads())) is not None
