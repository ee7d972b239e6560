"""PyTorch modules as stages: what goes in, what comes out, what neighbours share, and what is survived."""

import functools
import gc
import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import cloudpickle
import numpy as np
import pytest
import torch
from executors import Kind
from faulty import failures, marks
from PIL import Image
from torch import nn

import dataflow as df
import dataflow.torch

module = dataflow.torch.module

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Double(nn.Module):
    """Doubles what it is given, whatever its type, and notes the shapes and types."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[tuple[int, ...], torch.dtype]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append((tuple(x.shape), x.dtype))
        return x + x


class Linear(nn.Linear):
    """A linear module with known weights: ones."""

    def __init__(self, given: int = 3, made: int = 2) -> None:
        super().__init__(given, made, bias=False)
        nn.init.ones_(self.weight)


# ------------------------------------------------------------------ what goes in

ITEMS: dict[str, tuple[list[Any], tuple[int, ...], torch.dtype]] = {
    "arrays": ([np.full((2, 3), x) for x in range(5)], (2, 3), torch.int64),
    "float arrays": ([np.full(3, x / 2, dtype=np.float32) for x in range(5)], (3,), torch.float32),
    "arrays without dimensions": ([np.array(x) for x in range(5)], (), torch.int64),
    "empty arrays": ([np.zeros((0, 3)) for _ in range(5)], (0, 3), torch.float64),
    "other byte order": ([np.full(3, x, dtype=">i4") for x in range(5)], (3,), torch.int32),
    "reversed views": ([np.arange(6)[::-2] for _ in range(5)], (3,), torch.int64),
    "tensors": ([torch.full((2, 3), x) for x in range(5)], (2, 3), torch.int64),
    "half tensors": ([torch.full((3,), x, dtype=torch.float16) for x in range(5)], (3,), torch.float16),
    "images": ([Image.new("RGB", (4, 2), (x, x, x)) for x in range(5)], (2, 4, 3), torch.uint8),
    "grey images": ([Image.new("L", (4, 2), x) for x in range(5)], (2, 4), torch.uint8),
    "whole numbers": (list(range(5)), (), torch.int64),
    "numbers": ([x / 2 for x in range(5)], (), torch.float64),
    "truths": ([True, False, True], (), torch.bool),
    "numpy numbers": ([np.float32(x) for x in range(5)], (), torch.float32),
    "lists": ([[x, x + 1] for x in range(5)], (2,), torch.int64),
    "nested lists": ([[[x, 1.5], [2, 3]] for x in range(5)], (2, 2), torch.float64),
    "lists of arrays": ([[np.arange(3), np.arange(3)] for _ in range(5)], (2, 3), torch.int64),
}


@pytest.mark.parametrize(("items", "shape", "dtype"), ITEMS.values(), ids=ITEMS.keys())
def test_items_are_collated(executor: Kind, items: list[Any], shape: tuple[int, ...], dtype: torch.dtype) -> None:
    net = Double()
    results = list(module(net, batch=len(items)).map(items, executor()))
    sizes = [given[0] for given, _ in net.seen]
    assert {(given[1:], kind) for given, kind in net.seen} == {(shape, dtype)}
    assert sum(sizes) == len(items)
    if executor.in_turn:
        assert sizes == [len(items)]
    flow = module(Double(), batch=4)
    for item, result in [*zip(items, results, strict=True), (items[0], flow(items[0]))]:
        expected = np.asarray(item)
        assert np.array_equal(np.asarray(result), expected + expected)
        assert isinstance(result, torch.Tensor) == isinstance(item, torch.Tensor)


def test_a_tuple_is_positional_arguments(executor: Kind) -> None:
    class Subtract(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None) -> torch.Tensor:
            assert c is None
            return a - b

    items = [(np.full(2, x), np.full(2, 1), None) for x in range(5)]
    results = list(module(Subtract(), batch=4).map(items, executor()))
    assert [result.tolist() for result in results] == [[x - 1, x - 1] for x in range(5)]


def test_a_dict_is_keyword_arguments(executor: Kind) -> None:
    class Subtract(nn.Module):
        def forward(self, *, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a - b

    fan = df.fanout(b=lambda x: np.full(2, 1), a=lambda x: np.full(2, x))
    results = list((fan >> module(Subtract(), batch=4)).map(range(5), executor()))
    assert [result.tolist() for result in results] == [[x - 1, x - 1] for x in range(5)]


def test_floating_point_numbers_take_the_type_of_the_parameters_and_others_stay() -> None:
    net = Linear()
    assert module(net, batch=4)(np.ones(3)).dtype == np.float32, "float64 in, float32 parameters"
    assert module(Linear().double(), batch=4)(np.ones(3, dtype=np.float32)).dtype == np.float64
    words = nn.Embedding(10, 3)
    result = module(words, batch=4)(np.array([1, 2]))
    assert np.array_equal(result, words.weight[[1, 2]].detach().numpy())
    assert module(Double(), batch=4)(np.float64(1.5)).dtype == np.float64, "it has no parameters"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(executor: Kind, dtype: torch.dtype) -> None:
    first, second = Linear(3, 4).to(dtype), Linear(4, 2).to(dtype)
    flow = module(first, batch=4) >> module(second, batch=4)
    arrays = [np.full(3, x, dtype=np.float32) for x in range(6)]
    numpy_type = np.float32 if dtype is torch.bfloat16 else np.float16  # NumPy has no bfloat16
    for results in (flow.map(arrays, executor()), flow.map(arrays, executor(passes=()))):
        for x, result in enumerate(results):
            assert isinstance(result, np.ndarray)
            assert (result.dtype, result.tolist()) == (numpy_type, [12 * x, 12 * x])
    for x, result in enumerate(flow.map([torch.from_numpy(array) for array in arrays], executor())):
        assert isinstance(result, torch.Tensor)
        assert (result.dtype, result.tolist()) == (dtype, [12 * x, 12 * x])


NO_ITEMS: dict[str, tuple[Any, str]] = {
    "a text": ("three", "is 'three', of type str"),
    "nothing": (None, "is None, of type NoneType"),
    "an object": (np.array([object()]), "of type ndarray"),
    "a ragged list": ([[1, 2], [3]], "is no array"),
    "a set": ({1, 2}, "of type set"),
}


@pytest.mark.parametrize(("item", "text"), NO_ITEMS.values(), ids=NO_ITEMS.keys())
def test_what_no_module_takes_is_named(executor: Kind, item: Any, text: str) -> None:
    outcomes = list(module(Double(), batch=4).map([1, 2, item, 3], executor(), on_error="record"))
    assert [isinstance(outcome, df.Failure) for outcome in outcomes] == [False, False, True, False]
    assert outcomes[2].item is item
    assert isinstance(outcomes[2].error, (TypeError, ValueError))
    assert "item 0 of the batch" in str(outcomes[2].error), "found alone, in a batch of its own"
    assert text in str(outcomes[2].error)


# ------------------------------------------------------------------ what comes out


class Pair(NamedTuple):
    """A module's own kind of tuple."""

    low: Any
    high: Any


class Gives(nn.Module):
    """Gives what a function makes of its input."""

    def __init__(self, make: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: torch.Tensor) -> Any:
        return self.make(x)


RESULTS: dict[str, tuple[Callable[[torch.Tensor], Any], Callable[[int], Any]]] = {
    "a row": (lambda x: x, lambda x: [x, x]),
    "a number": (lambda x: x.sum(1), lambda x: 2 * x),
    "a tuple": (lambda x: (x, x.sum(1)), lambda x: ([x, x], 2 * x)),
    "a list": (lambda x: [x, x.sum(1)], lambda x: ([x, x], 2 * x)),
    "a tuple of one": (lambda x: (x,), lambda x: ([x, x],)),
    "an empty tuple": (lambda x: (), lambda x: ()),
    "a tuple with nothing in it": (lambda x: (x, None), lambda x: ([x, x], None)),
    "a named tuple": (lambda x: Pair(x, x.sum(1)), lambda x: Pair([x, x], 2 * x)),
    "a dict": (lambda x: {"all": x, "sum": x.sum(1)}, lambda x: {"all": [x, x], "sum": 2 * x}),
    "nested": (lambda x: {"a": (x, {"b": x.sum(1)})}, lambda x: {"a": ([x, x], {"b": 2 * x})}),
}


def plain(value: Any) -> Any:
    """Return a result with lists and numbers in the places of arrays and tensors."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, tuple):
        parts = [plain(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value if value is None else value.tolist()


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return leaves(tuple(value.values()))
    if isinstance(value, tuple):
        return [leaf for part in value for leaf in leaves(part)]
    return [] if value is None else [value]


@pytest.mark.parametrize(("make", "expected"), RESULTS.values(), ids=RESULTS.keys())
def test_results_are_of_the_kind_of_the_items(executor: Kind, make: Any, expected: Any) -> None:
    flow = module(Gives(make), batch=4)
    for of_tensors, items in (
        (False, [np.full(2, x) for x in range(6)]),
        (False, [[x, x] for x in range(6)]),
        (True, [torch.full((2,), x) for x in range(6)]),
    ):
        results = list(flow.map(items, executor()))
        assert [plain(result) for result in results] == [expected(x) for x in range(6)]
        assert plain(flow(items[3])) == expected(3)
        if isinstance(expected(0), (tuple, dict)):
            assert {type(result) for result in results} == {type(expected(0))}
        for leaf in leaves(tuple(results)):
            assert isinstance(leaf, torch.Tensor if of_tensors else (np.ndarray, np.generic))


def test_results_are_tensors_where_any_part_of_an_item_is_one(executor: Kind) -> None:
    class Add(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a + b

    items = [(np.full(2, x), torch.full((2,), x)) for x in range(5)]
    for x, result in enumerate(module(Add(), batch=4).map(items, executor())):
        assert isinstance(result, torch.Tensor)
        assert result.tolist() == [2 * x, 2 * x]


@pytest.mark.parametrize(
    ("make", "returned"),
    [
        (lambda x: x[1:], "{less} result"),
        (lambda x: torch.cat([x, x[:1]]), "{more} result"),
        (lambda x: x.sum(), "one result for all"),
        (lambda x: (x, x[1:]), "{less} result"),
        (lambda x: {"all": x, "sum": x.sum()}, "one result for all"),
    ],
    ids=["too few", "too many", "a mean", "in a tuple", "in a dict"],
)
def test_a_first_dimension_that_is_not_the_batch_is_an_error_with_both_numbers(
    executor: Kind, make: Any, returned: str
) -> None:
    flow = module(Gives(make), batch=4, name="odd") >> module(nn.ReLU(), batch=4)
    outcomes = list(flow.map([np.full(2, x) for x in range(4)], executor(), on_error="record"))
    assert marks(outcomes) == [df.BatchSizeError] * 4
    for failure in failures(outcomes):
        text = str(failure.error)
        given = int(text.partition("was given ")[2].split()[0])
        assert f"returned {returned.format(less=given - 1, more=given + 1)}" in text
        assert "stage 'odd'" in text
        assert failure.stage == "odd"
    if executor.in_turn:
        assert "was given 4 items" in str(outcomes[0].error)


@pytest.mark.parametrize("value", [None, 3, "text", [1, 2], {"a": "b"}], ids=str)
def test_what_cannot_be_split_is_named(executor: Kind, value: Any) -> None:
    flow = module(Gives(lambda x: value), batch=4, name="odd")
    with pytest.raises(TypeError, match=r"stage 'odd': the module returned .* what can be split is a tensor"):
        list(flow.map([1, 2], executor()))


# ------------------------------------------------------------------ how it runs


class Modes(nn.Module):
    """Notes the modes that it runs in."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: set[tuple[bool, bool, bool]] = set()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.modes.add((self.training, torch.is_inference_mode_enabled(), torch.is_grad_enabled()))
        return self.drop(x)


def test_modules_run_in_inference_and_evaluation_mode(executor: Kind) -> None:
    net = Modes()
    assert net.training
    flow = module(net, batch=4)
    assert net.training, "nothing is done to it until it runs"
    results = list(flow.map([np.ones(100, dtype=np.float32)] * 5, executor()))
    assert all(result.tolist() == [1.0] * 100 for result in results)
    assert not net.training
    net.train()
    with flow.open(executor()) as session:
        assert session.run(np.ones(3)).tolist() == [1.0] * 3
        net.train()
        assert session.run(np.ones(3)).tolist() == [1.0] * 3, "trained further in between"
    net.drop.train()
    assert module(net, batch=4)(np.ones(100)).tolist() == [1.0] * 100, "only a part of it was in training mode"
    assert net.modes == {(False, True, False)}
    assert not torch.is_inference_mode_enabled()


def test_modules_that_need_gradients_are_used_as_they_are(executor: Kind) -> None:
    net = Linear()
    flow = module(net, batch=4)
    assert flow(np.ones(3)).tolist() == [3.0, 3.0]
    with torch.no_grad():
        net.weight.mul_(2)
    assert flow(np.ones(3)).tolist() == [6.0, 6.0]
    assert net.weight.requires_grad
    given = torch.ones(3, requires_grad=True)
    assert [result.tolist() for result in flow.map([given], executor())] == [[6.0, 6.0]]


MADE: list[nn.Module] = []


class Made(Linear):
    """Notes that it has been made."""

    def __init__(self, given: int = 3, made: int = 2) -> None:
        super().__init__(given, made)
        MADE.append(self)


@pytest.mark.parametrize("factory", [Made, functools.partial(Made, 3, made=2), lambda: Made()], ids=lambda _: "")
def test_a_factory_makes_a_module_once_for_each_session(executor: Kind, factory: Any) -> None:
    MADE.clear()
    flow = module(factory, batch=4) >> module(nn.ReLU, batch=4)
    assert MADE == [], "not before it is needed"
    for times in (1, 2):
        with flow.open(executor()) as session:
            assert len(MADE) == times, "here it is needed"
            assert [result.tolist() for result in session.map([np.ones(3)] * 9)] == [[3.0, 3.0]] * 9
            session.run(np.ones(3))
        assert len(MADE) == times
    MADE.clear()


def test_a_factory_that_makes_no_module_is_named(executor: Kind) -> None:
    flow = module(lambda: 3, batch=4, name="odd")  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match=r"stage 'odd': the factory .*<lambda> returned 3, of type int"):
        flow.open(executor())


def test_what_is_neither_module_nor_factory_is_refused_when_it_is_written() -> None:
    with pytest.raises(df.CompositionError, match=r"module was given 3, of type int .*test_torch\.py"):
        module(3, batch=4)  # type: ignore[arg-type]
    with pytest.raises(df.CompositionError, match=r"cannot be called without arguments .*functools\.partial"):
        module(nn.Linear, batch=4)
    with pytest.raises(df.OptionError, match="batch must be a whole number of at least 1, not 0"):
        module(nn.ReLU, batch=0)
    with pytest.raises(df.OptionError, match=r"device must be one that torch knows, not 'gpu' .*test_torch\.py"):
        module(nn.ReLU, batch=4, device="gpu")
    with pytest.raises(TypeError):
        module(nn.ReLU)  # type: ignore[call-arg]


def test_names_are_those_of_the_module(executor: Kind) -> None:
    assert "ReLU" in repr(module(nn.ReLU(), batch=4))
    assert "ReLU" in repr(module(nn.ReLU, batch=4))
    assert "mine" in repr(module(nn.ReLU, batch=4, name="mine"))
    assert "mine" in module(nn.ReLU, batch=4, name="mine").explain(executor())


def test_a_device_that_is_not_there_is_named_when_it_is_opened(executor: Kind) -> None:
    flow = module(nn.ReLU, batch=4, device="cuda:99", name="far")
    assert list(flow.optimize().steps)
    with pytest.raises(RuntimeError, match=r"stage 'far' is to run on the device 'cuda:99', which is not there") as got:
        flow.open(executor())
    assert "this process has cpu" in str(got.value)


@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
def test_stages_of_modules_pickle(executor: Kind, pickler: Any) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    flow = module(net, batch=4, name="mlp") >> module(functools.partial(nn.Softmax, dim=-1), batch=4)
    again = pickle.loads(pickler.dumps(flow))
    items = list(np.random.default_rng(0).normal(size=(10, 3)))
    for one, other in zip(flow.map(items, executor()), again.map(items, executor()), strict=True):
        assert np.array_equal(one, other)
    assert repr(again) == repr(flow)
    assert again.optimize().digest == flow.optimize().digest


def test_a_flow_pickles_after_it_has_run(executor: Kind) -> None:
    flow = module(Linear(), batch=4)
    assert flow(np.ones(3)).tolist() == [3.0, 3.0]
    list(flow.map([np.ones(3)], executor()))
    assert pickle.loads(pickle.dumps(flow))(np.ones(3)).tolist() == [3.0, 3.0]


# ------------------------------------------------------------------ what neighbours share


class Work:
    """How often batches were collated, run and split."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.collated = self.run = self.split = 0
        for method in ("collate", "forward", "split"):
            self._count(monkeypatch, method)

    def _count(self, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
        original = getattr(dataflow.torch._Module, method)
        name = {"collate": "collated", "forward": "run", "split": "split"}[method]

        def counting(*given: Any, **options: Any) -> Any:
            setattr(self, name, getattr(self, name) + 1)
            return original(*given, **options)

        monkeypatch.setattr(dataflow.torch._Module, method, counting)

    @property
    def done(self) -> tuple[int, int, int]:
        return self.collated, self.run, self.split


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


ROWS = [np.full(3, x, dtype=np.float32) for x in range(8)]


def test_a_region_of_neighbours_collates_once_and_splits_once(work: Work) -> None:
    flow = module(Linear(3, 4), batch=8) >> module(nn.ReLU, batch=8) >> module(Linear(4, 2), batch=8)
    assert [result.tolist() for result in flow.map(ROWS, "inline")] == [[12.0 * x] * 2 for x in range(8)]
    assert work.done == (1, 3, 1)
    list(flow.map(ROWS * 3, "inline"))
    assert work.done == (4, 12, 4)


def test_what_no_pass_has_put_together_collates_and_splits_each_by_itself(work: Work) -> None:
    flow = module(Linear(3, 4), batch=8) >> module(nn.ReLU, batch=8) >> module(Linear(4, 2), batch=8)
    results = list(flow.map(ROWS, df.Inline(passes=())))
    assert [result.tolist() for result in results] == [[12.0 * x] * 2 for x in range(8)]
    assert work.done == (3, 3, 3)


def test_siblings_share_the_collated_batch(work: Work) -> None:
    flow = (module(Linear(3, 1), batch=8) | module(Linear(3, 2), batch=8) | module(nn.ReLU, batch=8)) >> df.combine()
    for x, (one, two, three) in enumerate(flow.map(ROWS, "inline")):
        assert (one.tolist(), two.tolist(), three.tolist()) == ([3.0 * x], [3.0 * x] * 2, [x] * 3)
    assert work.done == (1, 3, 3)


def test_a_backbone_and_its_heads_share_one_batch(work: Work) -> None:
    flow = module(Linear(3, 4), batch=8) >> (module(Linear(4, 1), batch=8) | module(Linear(4, 2), batch=8))
    for x, (one, two) in enumerate(flow.map(ROWS, "inline")):
        assert (one.tolist(), two.tolist()) == ([12.0 * x], [12.0 * x] * 2)
    assert work.done == (1, 3, 2)


def test_what_lies_between_takes_a_batch_apart(work: Work) -> None:
    flow = module(Linear(3, 4), batch=8) >> np.negative >> module(Linear(4, 2), batch=8)
    assert [result.tolist() for result in flow.map(ROWS, "inline")] == [[-12.0 * x] * 2 for x in range(8)]
    assert work.done == (2, 2, 2)


def test_the_same_module_written_twice_runs_once(work: Work) -> None:
    net = Linear()
    flow = (module(net, batch=8) | module(net, batch=8)) >> df.combine(lambda a, b: float(a[0] + b[0]))
    assert list(flow.map(ROWS, "inline")) == [6.0 * x for x in range(8)]
    assert work.done == (1, 1, 1)


def test_stages_that_are_no_modules_share_batches_with_modules(executor: Kind) -> None:
    double = df.stage(lambda rows: [2 * row for row in rows], batch=8)
    flow = double >> module(Linear(), batch=8) >> double
    assert [result.tolist() for result in flow.map(ROWS, executor())] == [[12.0 * x] * 2 for x in range(8)]


def test_modules_that_work_in_place_harm_neither_siblings_nor_items(executor: Kind) -> None:
    flow = (
        module(nn.ReLU(inplace=True), batch=4)
        | module(Gives(lambda x: x.mul_(10)), batch=4)
        | module(Gives(lambda x: x.clone()), batch=4)
    )
    for make in (np.array, torch.tensor):
        items = [make([-1.0, float(x)]) for x in range(6)]
        for passes in (None, ()):
            for x, (relu, tenfold, same) in enumerate(flow.map(items, executor(passes=passes))):
                assert (relu.tolist(), tenfold.tolist(), same.tolist()) == ([0, x], [-10, 10 * x], [-1, x])
        assert [item.tolist() for item in items] == [[-1, x] for x in range(6)]


def test_a_module_that_gives_its_input_back_gives_it_to_nobody_else(executor: Kind) -> None:
    """What one stage is given must not change when the next works in place on the result."""
    flow = module(nn.Identity, batch=4) >> (
        module(nn.Identity, batch=4) | module(Gives(lambda x: x.add_(1)), batch=4) | module(nn.Identity, batch=4)
    )
    for x, (one, two, three) in enumerate(flow.map([torch.tensor([float(x)]) for x in range(6)], executor())):
        assert (one.item(), two.item(), three.item()) == (x, x + 1, x)


# ------------------------------------------------------------------ items that do not go together


def test_shapes_that_differ_are_named_with_the_items(executor: Kind) -> None:
    flow = module(Linear(), batch=8, pure=False)
    items = [np.ones(3), np.ones(3), np.ones(4), np.ones(3), np.ones((2, 3)), np.ones(3), np.ones(3)]
    for make in (lambda item: item, torch.from_numpy):
        outcomes = list(flow.map([make(item) for item in items], executor(), on_error="record"))
        if executor.in_turn:
            assert marks(outcomes) == [ValueError] * 7
            assert (
                "the items of a batch of 7 differ in shape: (3,) (items 0, 1, 3 and 2 more); (4,) (item 2); "
                "(2, 3) (item 4)"
            ) in str(outcomes[0].error)


def test_types_and_kinds_that_differ_are_named_with_the_items(executor: Kind) -> None:
    flow = module(Double(), batch=8, pure=False)
    for items, text in (
        ([np.ones(3), np.ones(3, dtype=int)], "differ in dtype: float64 (item 0); int64 (item 1)"),
        ([np.ones(3), torch.ones(3)], "differ in kind: an array (item 0); a tensor (item 1)"),
        ([(1, 2), (1, 2, 3)], "differ in kind: a tuple of 2 (item 0); a tuple of 3 (item 1)"),
        ([{"a": 1}, {"b": 1}], "differ in kind: a dict of 'a' (item 0); a dict of 'b' (item 1)"),
    ):
        outcomes = list(flow.map(items, executor(), on_error="record"))
        if executor.in_turn:
            assert all(text in str(failure.error) for failure in failures(outcomes)), text
            assert len(failures(outcomes)) == 2


def test_only_the_odd_item_fails_and_the_note_says_how_it_was_odd(executor: Kind) -> None:
    items = [np.ones(3) if x != 5 else np.ones(4) for x in range(8)]
    outcomes = list(module(Linear(), batch=8, name="linear").map(items, executor(), on_error="record"))
    assert [isinstance(outcome, df.Failure) for outcome in outcomes] == [x == 5 for x in range(8)]
    assert isinstance(outcomes[5].error, RuntimeError), "the module's own, on a batch of nothing but this item"
    assert outcomes[5].stage == "linear"
    if executor.in_turn:
        note = "".join(outcomes[5].error.__notes__)
        assert "found by splitting a batch of 8" in note
        assert "differ in shape: (3,) (items 0, 1, 2 and 4 more); (4,) (item 5)" in note


def test_items_of_two_shapes_each_run_with_their_like(executor: Kind) -> None:
    items = [np.ones(3 if x % 2 else 4) for x in range(12)]
    results = list(module(nn.ReLU, batch=8).map(items, executor()))
    assert [result.shape for result in results] == [item.shape for item in items]


def test_an_odd_item_in_a_region_fails_alone(executor: Kind) -> None:
    flow = module(Linear(3, 4), batch=8, name="first") >> (
        module(Linear(4, 2), batch=8, name="left") | module(Gives(refuse_fives), batch=8, name="right")
    )
    items = [np.full(3, float(x)) if x != 3 else np.ones(5) for x in range(8)]
    outcomes = list(flow.map(items, executor(), on_error="record"))
    assert [isinstance(outcome, df.Failure) for outcome in outcomes] == [x in (3, 5) for x in range(8)]
    assert [failure.stage for failure in failures(outcomes)] == ["first", "right"]
    assert outcomes[7][0].tolist() == [84.0, 84.0]


def refuse_fives(x: torch.Tensor) -> torch.Tensor:
    if (x == 15).any():  # of a five, the first module makes 15
        raise ValueError("a five")
    return x


# ------------------------------------------------------------------ out of memory


class Hungry(nn.Module):
    """Runs out of memory on more rows than fit; notes the sizes, and what of failed calls was still held."""

    def __init__(self, fits: int) -> None:
        super().__init__()
        self.fits = fits
        self.sizes: list[int] = []
        self.held: list[int] = []
        self._activations: list[weakref.ref[torch.Tensor]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.held.append(sum(ref() is not None for ref in self._activations))
        self.sizes.append(len(x))
        if len(x) > self.fits:
            activation = x * 2
            self._activations.append(weakref.ref(activation))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return x + 1


@pytest.fixture
def emptied(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What `torch.cuda.empty_cache` was called with, which a failed call is to be followed by."""
    calls: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append(True))
    return calls


@pytest.mark.parametrize("place", ["alone", "in a region"])
def test_out_of_memory_halves_the_batch_and_the_size_is_remembered(
    executor: Kind, emptied: list[bool], place: str
) -> None:
    net = Hungry(5)
    flow = module(net, batch=16)
    if place == "in a region":
        flow = module(nn.Identity, batch=16) >> flow >> module(nn.Identity, batch=16)
    items = [np.full(3, float(x)) for x in range(48)]
    with flow.open(executor()) as session:
        assert [result.tolist() for result in session.map(items)] == [[x + 1.0] * 3 for x in range(48)]
        learnt = len(net.sizes)
        assert [result.tolist() for result in session.map(items)] == [[x + 1.0] * 3 for x in range(48)]
    assert max(net.sizes[learnt:]) <= 5
    assert emptied
    if executor.in_turn:
        assert net.sizes == [16, 8, *[4] * 12, *[4] * 12]
        assert set(net.held) == {0}, "the frames of a failed call, and their tensors, are gone when the next begins"
        assert len(emptied) == 2, "once after each failed call"


def test_an_item_that_does_not_fit_by_itself_fails_alone(executor: Kind, emptied: list[bool]) -> None:
    def heavy(x: torch.Tensor) -> torch.Tensor:
        if (x == 3).any():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x

    outcomes = list(module(Gives(heavy), batch=8).map(range(8), executor(), on_error="record"))
    assert marks(outcomes) == [0, 1, 2, torch.OutOfMemoryError, 4, 5, 6, 7]


def test_failed_batches_leave_no_tensors_behind(executor: Kind) -> None:
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()

    def fails(x: torch.Tensor) -> torch.Tensor:
        made = x * 2
        alive.add(made)
        raise ValueError("no")

    flow = module(nn.Identity, batch=8) >> module(Gives(fails), batch=8)
    gc.disable()
    try:
        assert list(flow.map([np.ones(3)] * 20, executor(), on_error="skip")) == []
        assert len(alive) == 0
    finally:
        gc.enable()


# ------------------------------------------------------------------ a GPU


@on_a_gpu
def test_a_module_is_copied_to_its_device_and_results_come_home(executor: Kind) -> None:
    net = Linear()
    flow = module(net, batch=4, device="cuda")
    assert isinstance(flow(np.ones(3)), np.ndarray)
    for result in flow.map([torch.ones(3)] * 5, executor()):
        assert result.device.type == "cpu"
        assert result.tolist() == [3.0, 3.0]
    for result in flow.map([torch.ones(3, device="cuda")] * 5, executor()):
        assert result.device.type == "cuda"
    assert net.weight.device.type == "cpu", "yours stays where it is"


@on_a_gpu
def test_a_module_on_a_gpu_makes_a_gpu_stage(executor: Kind) -> None:
    flow = module(Linear().cuda(), batch=4)
    assert flow.options.gpu
    assert [result.tolist() for result in flow.map([np.ones(3)] * 5, executor())] == [[3.0, 3.0]] * 5


@on_a_gpu
def test_what_lies_between_neighbours_on_a_gpu_stays_there(work: Work) -> None:
    seen: list[str] = []

    def look(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.device.type)
        return x

    flow = module(Linear(3, 4), batch=8, device="cuda", placement="gpu") >> module(
        Gives(look), batch=8, device="cuda", placement="gpu"
    )
    list(flow.map(ROWS, "inline"))
    assert seen == ["cuda"]
    assert work.done == (1, 2, 1)


@on_a_gpu
def test_a_gpu_that_is_full_is_survived(executor: Kind) -> None:
    free, _ = torch.cuda.mem_get_info()
    width = free // 4 // 3  # floats: three rows fill the memory

    def wide(x: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(x), width, device=x.device).sum(1)

    flow = module(Gives(wide), batch=8, device="cuda")
    with flow.open(executor()) as session:
        assert [float(result) for result in session.map(range(16))] == pytest.approx([width] * 16, rel=1e-3)


# ------------------------------------------------------------------ threads

COUNTING = """
import os, sys, threading
import numpy as np, torch
import dataflow as df, dataflow.torch

def foreign():
    return len(os.listdir("/proc/self/task")) - threading.active_count()

torch.set_num_threads(1)
items = [np.ones(64, dtype=np.float32)] * 64
flow = dataflow.torch.module(torch.nn.Linear(64, 256), batch=64)
with flow.open(df.Threads(workers=2)) as session:
    before = foreign()
    list(session.map(items))
    print(foreign() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="counts the threads of the process by /proc")
def test_torchs_number_of_threads_holds_in_workers() -> None:
    """OpenMP keeps it by thread: a worker that is not told starts a team of its own, as large as there are cores."""
    done = subprocess.run(
        [sys.executable, "-c", COUNTING],
        env=os.environ | {"OMP_NUM_THREADS": "3"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0"]
