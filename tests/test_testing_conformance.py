"""The library's own executors keep the contract; and the contract finds executors that do not."""

from typing import Any, ClassVar

import pytest

import dataflow as df
from dataflow.testing import ExecutorConformance, Simulated


class TestInline(ExecutorConformance):
    differs: ClassVar = {
        "beside": "everything runs in the calling thread, one after the other",
        "unordered": "what runs one after the other is done in order",
        "accepts": "submit runs the item before it returns",
        "refuses": "nothing ever waits, so there is no queue to be full",
        "reads aside": "the calling thread reads the source when a result is asked for",
    }

    @pytest.fixture
    def executor(self) -> Any:
        return df.Inline()


class TestThreads(ExecutorConformance):
    @pytest.fixture(params=[2, 4], ids=["two workers", "four workers"])
    def executor(self, request: Any) -> Any:
        return df.Threads(workers=request.param)


class TestSimulated(ExecutorConformance):
    rounds = 2  # it takes no items together
    differs: ClassVar = {
        "beside": "what goes on at once does so in virtual time: stages are called one after the other",
        "blocks": "everything runs in one thread, so a stage that really blocks stops the world",
        "by itself": "virtual time goes on only while somebody waits for a result",
        "reads aside": "the calling thread reads the source when a result is asked for",
    }

    @pytest.fixture(params=[0, 1, 2])
    def executor(self, request: Any) -> Any:
        return Simulated(seed=request.param)


# ------------------------------------------------------------------ executors that do not keep the contract


class Careless(df.Inline):
    """An Inline that does something else with the outcomes of a job."""

    def map(self, program: Any, items: Any, **options: Any) -> Any:
        outcomes = list(super().map(program, items, **options))
        return iter(self.change(outcomes))

    def change(self, outcomes: list[Any]) -> list[Any]:
        raise NotImplementedError


class Loses(Careless):
    def change(self, outcomes: list[Any]) -> list[Any]:
        return outcomes[:-1]


class Repeats(Careless):
    def change(self, outcomes: list[Any]) -> list[Any]:
        return [*outcomes, *outcomes[:1]]


class Shuffles(Careless):
    def change(self, outcomes: list[Any]) -> list[Any]:
        return outcomes[::-1]


class Exchanges(Careless):
    """Gives one item the outcome of another, when they are many."""

    def change(self, outcomes: list[Any]) -> list[Any]:
        return outcomes if len(outcomes) < 3 else [outcomes[1], outcomes[0], *outcomes[2:]]


class Inline(TestInline):
    __test__ = False


@pytest.mark.parametrize("wrong", [Loses, Repeats, Shuffles, Exchanges])
def test_what_is_wrong_with_outcomes_is_found(wrong: type[Careless]) -> None:
    with pytest.raises(AssertionError):
        Inline().test_one_outcome_an_item_in_order(wrong(), "batches")


def test_reading_too_far_ahead_is_found() -> None:
    class Greedy(df.Inline):
        def map(self, program: Any, items: Any, **options: Any) -> Any:
            return super().map(program, [next(items) for _ in range(30)], **options)

    with pytest.raises(AssertionError):
        Inline().test_read_ahead_is_bounded(Greedy(), None, 3)


def test_a_difference_that_is_not_there_is_found() -> None:
    class Modest(Inline):
        differs: ClassVar = {**TestInline.differs, "clock": "it says that it has no clock"}

    with pytest.raises(AssertionError):
        Modest().test_parameters_that_are_lacking(df.Inline())


def test_a_difference_that_is_not_declared_is_found() -> None:
    class Boastful(Inline):
        differs: ClassVar = {}

    with pytest.raises(AssertionError):
        Boastful().test_parameters_that_are_lacking(df.Inline())


def test_a_difference_wants_a_known_name_and_a_reason() -> None:
    class Unknown(Inline):
        differs: ClassVar = {"colours": "it has none of them"}

    class Silent(Inline):
        differs: ClassVar = {"clock": "no"}

    for wrong in (Unknown, Silent):
        with pytest.raises(AssertionError):
            wrong().test_differences_are_declared_with_a_reason()
