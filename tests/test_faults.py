"""What must be survived, and how: every item ends in its value, its failure or its cancellation, in order.

Each test runs on every executor, in every way to run a flow there (`executors.py`); none sleeps to wait.
"""

import contextvars
import gc
import itertools
import math
import pickle
import queue
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import numpy as np
import pytest
from executors import Kind, awaited
from faulty import Awkward, Batched, Counting, Poison, fails, failures, marks, refusing, same

import dataflow as df
from dataflow.executors.aside import Aside, started_by
from dataflow.executors.clock import SystemClock
from dataflow.testing.clock import Gate, VirtualClock

LIMIT = 20.0  # real seconds after which something counts as hanging

Run = Callable[..., Any]


# ================================================================== exceptions
# ------------------------------------------------------------------ a stage's own error


class Told(Exception):
    """An error with more to it than a text."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text, code)
        self.code = code


RAISED = Told("as it is", 7)


def raises_told(x: Any) -> Any:
    try:
        raise KeyError("the cause")
    except KeyError as cause:
        raise RAISED from cause


def raises_told_in_a_batch(xs: Any) -> Any:
    return [raises_told(x) for x in xs]


RAISING: dict[str, Any] = {
    "alone": df.stage(raises_told),
    "fused": df.stage(same) >> raises_told >> same,
    "batched": df.stage(raises_told_in_a_batch, batch=4, name="raises_told"),
    "in a region": df.stage(list, batch=4) >> df.stage(raises_told_in_a_batch, batch=4, name="raises_told"),
    "fan-out": df.stage(same) | raises_told,
    "switch": df.switch(lambda x: 0, {0: df.stage(same) >> raises_told}),
    "switch, batched": df.switch(lambda x: 0, {0: df.stage(raises_told_in_a_batch, batch=4, name="raises_told")}),
    "key": df.switch(raises_told, {0: abs}),
    "each": df.stage(lambda x: [x, x]) >> df.each(raises_told),
    "retry": df.stage(raises_told).retry(2),
    "fallback": df.stage(raises_told).fallback(abs, on=OSError),
    "handler": df.stage(fails).fallback(raises_told),
    "timeout": df.stage(raises_told).timeout(600),
    "race": df.race(fails, raises_told),
    "quorum": (df.stage(raises_told) | same) >> df.combine(max, quorum=2),
    "combine": (df.stage(same) | same) >> df.combine(lambda a, b: raises_told(a)),
}


@pytest.fixture
def raised() -> Iterator[Exception]:
    """The one error that `raises_told` raises, as it was before."""
    RAISED.__dict__.pop("__notes__", None)
    yield RAISED
    RAISED.__dict__.pop("__notes__", None)
    RAISED.__traceback__ = RAISED.__cause__ = RAISED.__context__ = None


@pytest.mark.parametrize("flow", RAISING.values(), ids=RAISING.keys())
def test_a_stages_error_arrives_as_itself_with_a_note(run: Run, raised: Told, flow: Any) -> None:
    for _ in range(2):  # a flow that has been called is called another way
        with pytest.raises(Told) as caught:
            run(flow, 3)
        assert caught.value is raised
        assert (raised.args, raised.code) == (("as it is", 7), 7)
        assert isinstance(raised.__cause__, KeyError)
        assert caught.traceback[-1].name == "raises_told"
    (note,) = raised.__notes__
    if "combine" in note:
        assert flow is RAISING["combine"]
        assert note.startswith(f"dataflow: op 'combine(<lambda>)' ({__file__}:")
    else:
        batched = any(step.batches for step in flow.optimize().steps)
        fn = raises_told_in_a_batch if batched else raises_told
        assert note.startswith(f"dataflow: stage 'raises_told' ({__file__}:{fn.__code__.co_firstlineno}) failed")
    assert note.endswith("in this process")


@pytest.mark.parametrize("flow", RAISING.values(), ids=RAISING.keys())
def test_a_failure_names_the_items_index_and_the_stage(job: Run, raised: Told, flow: Any) -> None:
    outcomes = job(flow, range(3), "record")
    assert [(failure.index, failure.item) for failure in outcomes] == [(0, 0), (1, 1), (2, 2)]
    assert all(failure.error is raised for failure in outcomes)
    assert {failure.stage for failure in outcomes} in ({"raises_told"}, {"combine(<lambda>)"})
    assert [f"on item {index}" in note for index, note in enumerate(raised.__notes__)] == [True] * 3


def test_a_failures_traceback_begins_where_the_users_code_does(job: Run) -> None:
    for flow in (df.stage(fails), df.stage(Batched(fails), batch=2), df.stage(fails).retry(1)):
        for failure in job(flow, range(3), "record"):
            trace = failure.error.__traceback__
            assert not trace.tb_frame.f_globals["__name__"].startswith("dataflow.executors")
            while trace.tb_next is not None:
                trace = trace.tb_next
            assert trace.tb_frame.f_code is fails.__code__


def test_the_note_says_whether_the_stage_was_fused(job: Run) -> None:
    flow = df.stage(same) >> refusing(1) >> abs
    for options, inside in (({}, "fused into step 'same+"), ({"passes": ()}, "not fused")):
        (failure,) = failures(job(flow, [0, 1], "record", **options))
        (note,) = failure.error.__notes__
        assert inside in note
        assert "on item 1" in note


def test_an_error_that_is_raised_again_and_again_does_not_collect_notes_without_end(job: Run) -> None:
    error = OSError("always the same")

    def raises(x: int) -> int:
        raise error

    outcomes = job(df.stage(raises), range(1000), "record")
    assert all(failure.error is error for failure in outcomes)
    assert len(error.__notes__) <= 100


# ------------------------------------------------------------------ what ends everything

ENDING: dict[str, Callable[[Any], Any]] = {
    "alone": lambda fn: df.stage(fn),
    "fused": lambda fn: df.stage(same) >> fn >> same,
    "batched": lambda fn: df.stage(Batched(fn), batch=2),
    "region": lambda fn: df.stage(Batched(), batch=2) >> df.stage(Batched(fn), batch=2),
    "retry": lambda fn: df.stage(fn).retry(3),
    "retry, batched": lambda fn: df.stage(Batched(fn), batch=2).retry(3),
    "fallback": lambda fn: df.stage(fn).fallback(same),
    "timeout": lambda fn: df.stage(fn).timeout(600),
    "timeout, batched": lambda fn: df.stage(Batched(fn), batch=2).timeout(600),
    "race": lambda fn: df.race(fn, fails),
    "race, batched": lambda fn: df.race(df.stage(Batched(fn), batch=2), fails),
    "quorum": lambda fn: (df.stage(fn) | same) >> df.combine(max, quorum=1),
    "quorum in time": lambda fn: (df.stage(fn) | fails) >> df.combine(max, quorum=1, within=600),
    "each": lambda fn: df.stage(lambda x: [x]) >> df.each(fn),
    "switch": lambda fn: df.switch(same, {}, default=fn),
    "key": lambda fn: df.switch(fn, {}, default=same),
    "combine": lambda fn: (df.stage(same) | same) >> df.combine(lambda a, b: fn(a)),
}


class Stops(BaseException):
    """A program's own way to end."""


ENDS = [KeyboardInterrupt("now"), SystemExit(3), Stops()]


@pytest.mark.parametrize("around", ENDING.values(), ids=ENDING.keys())
def test_what_ends_the_program_is_no_failure_for_one_item(run: Run, around: Any) -> None:
    for error in ENDS:

        def ends(x: Any, error: BaseException = error) -> Any:
            raise error

        with pytest.raises(type(error)) as caught:
            run(around(ends), 1)
        assert caught.value is error
        assert not hasattr(error, "__notes__")


@pytest.mark.parametrize("around", ENDING.values(), ids=ENDING.keys())
def test_what_ends_the_program_is_neither_recorded_nor_skipped(job: Run, around: Any) -> None:
    for error, on_error in itertools.product(ENDS, ("record", "skip")):

        def ends(x: Any, error: BaseException = error) -> Any:
            raise error

        with pytest.raises(type(error)) as caught:
            job(around(ends), range(3), on_error)
        assert caught.value is error


def test_a_source_that_ends_the_program_ends_it(job: Run) -> None:
    def source() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    for flow in (df.stage(same), df.stage(Batched(), batch=4)):
        with pytest.raises(KeyboardInterrupt):
            job(flow, source(), "skip")


# ------------------------------------------------------------------ StopIteration


# the same, where nothing else can take the failing stage's place
FAILING: dict[str, Callable[[Any], Any]] = ENDING | {
    "quorum": lambda fn: (df.stage(fn) | same) >> df.combine(max, quorum=2),
    "fallback": lambda fn: df.stage(fn).fallback(same, on=StopIteration),
    "quorum in time": lambda fn: (df.stage(fn) | same) >> df.combine(max, quorum=2, within=600),
    "race": lambda fn: df.race(fn),
    "race, batched": lambda fn: df.race(df.stage(Batched(fn), batch=2)),
    "each, batched": lambda fn: df.stage(lambda x: [x]) >> df.each(df.stage(Batched(fn), batch=2)),
}


def stops_at_two(x: int) -> int:
    return next(iter(())) if x == 2 else x


@pytest.mark.parametrize("around", FAILING.values(), ids=FAILING.keys())
def test_stop_iteration_from_a_stage_is_no_short_output(job: Run, around: Any) -> None:
    outcomes = job(around(stops_at_two), range(5), "record")
    assert len(outcomes) == 5
    assert [isinstance(outcome, df.Failure) for outcome in outcomes] == [x == 2 for x in range(5)]
    assert type(outcomes[2].error) is RuntimeError
    assert "StopIteration" in str(outcomes[2].error)


@pytest.mark.parametrize("around", FAILING.values(), ids=FAILING.keys())
def test_stop_iteration_from_a_stage_is_a_runtime_error(run: Run, around: Any) -> None:
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        run(around(stops_at_two), 2)
    assert type(caught.value) is RuntimeError
    assert any("stage" in note or "combine" in note for note in caught.value.__notes__)


def test_other_errors_that_end_loops_are_no_short_output(job: Run) -> None:
    def stops(x: int) -> int:
        if x == 2:
            raise StopAsyncIteration
        return x

    outcomes = job(df.stage(stops), range(5), "record")
    assert [isinstance(outcome, df.Failure) for outcome in outcomes] == [x == 2 for x in range(5)]
    with pytest.raises((StopAsyncIteration, RuntimeError)):
        job(df.stage(stops), range(5))


# ------------------------------------------------------------------ errors that are awkward themselves


class Unshowable(Exception):
    """Neither text nor representation."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Unnotable(Exception):
    """Takes no notes."""

    def add_note(self, note: str) -> None:
        raise RuntimeError("no notes")


class Untraceable(Exception):
    """Has notes of its own kind, and is equal to everything."""

    __notes__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not compared")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("kind", [Unshowable, Unnotable, Untraceable])
def test_an_error_that_cannot_be_shown_still_arrives(job: Run, kind: Any) -> None:
    def raises(x: int) -> int:
        if x == 1:
            raise kind
        return x

    for around in FAILING.values():
        outcomes = job(around(raises), range(3), "record")
        assert [isinstance(outcome, df.Failure) for outcome in outcomes] == [False, True, False]
        assert type(outcomes[1].error) is kind
        with pytest.raises(kind):
            job(around(raises), range(3))


@pytest.mark.parametrize("kind", [Unshowable, Unnotable, Untraceable])
def test_an_error_that_cannot_be_shown_still_arrives_for_one_item(run: Run, kind: Any) -> None:
    def raises(x: int) -> int:
        raise kind

    for flow in (df.stage(raises), df.stage(abs) >> raises, df.stage(Batched(raises), batch=4), df.race(raises)):
        with pytest.raises(kind) as caught:
            run(flow, 1)
        assert caught.traceback[-1].name == "raises"


def test_a_key_that_cannot_be_shown_is_still_a_routing_error(run: Run) -> None:
    class Key:
        def __repr__(self) -> str:
            raise RuntimeError("not shown")

    with pytest.raises(df.RoutingError, match="Key"):
        run(df.switch(lambda x: Key(), {1: abs}), 1)


def test_errors_and_failures_pickle_with_their_notes(job: Run) -> None:
    flow = df.switch(lambda x: x, {0: df.stage(Batched(), batch=2), 1: df.stage(lambda xs: xs[1:], batch=2)})
    for failure in failures(job(flow, [0, 1, 2], "record")):
        again = pickle.loads(pickle.dumps(failure))
        assert type(again.error) is type(failure.error)
        assert str(again.error) == str(failure.error)
        assert again.error.__notes__ == failure.error.__notes__
        assert (again.index, again.item, again.stage) == (failure.index, failure.item, failure.stage)


def test_of_several_branches_that_fail_one_error_arrives_and_nothing_is_heard_of_the_others(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", heard.append)
    monkeypatch.setattr(sys, "unraisablehook", heard.append)

    def raising(name: str) -> Callable[[Any], Any]:
        def raises(x: Any) -> Any:
            raise Poison(name)

        return raises

    branches = [raising("a"), df.stage(Batched(raising("b")), batch=2), raising("c")]
    flows = [
        df.fanout(*branches) >> df.combine(max),
        df.fanout(*branches) >> df.combine(max, quorum=2),
        df.fanout(*branches) >> df.combine(max, quorum=2, within=600),
        df.race(*branches),
    ]
    for flow in flows:
        with pytest.raises(Poison) as caught:
            run(flow, 1)
        assert caught.value.args[0] in ("a", "b", "c")
        assert len(caught.value.__notes__) == 1
        del caught
    gc.collect()
    assert heard == []
    assert caplog.records == []


# ------------------------------------------------------------------ the source


def broken_after(count: int) -> Iterator[int]:
    yield from range(count)
    raise OSError("the source is broken")


@pytest.mark.parametrize("batch", [None, 4], ids=["one by one", "batched"])
@pytest.mark.parametrize("count", [0, 1, 4, 6])
def test_what_came_before_a_broken_source_is_delivered(executor: Kind, batch: int | None, count: int) -> None:
    flow = df.stage(Batched(), batch=batch) if batch else df.stage(same)
    for on_error in ("raise", "record", "skip"):
        results = flow.map(broken_after(count), executor(), on_error=on_error)
        assert [next(results) for _ in range(count)] == list(range(count))
        with pytest.raises(OSError, match="the source is broken") as caught:
            next(results)
        assert not hasattr(caught.value, "__notes__"), "no stage's doing"


def test_a_broken_source_is_raised_whatever_becomes_of_failed_items(job: Run) -> None:
    for on_error in ("raise", "record", "skip"):
        with pytest.raises(OSError, match="the source is broken"):
            job(df.stage(Batched(), batch=4), broken_after(6), on_error)


def test_what_cannot_be_iterated_says_so(executor: Kind) -> None:
    with pytest.raises(TypeError, match="map takes an iterable of items, not a int"):
        df.stage(abs).map(3, executor())  # type: ignore[arg-type]


# ================================================================== streams


@pytest.mark.parametrize("batch", [None, 4], ids=["one by one", "batched"])
def test_infinite_input_is_read_a_bounded_way_ahead(executor: Kind, batch: int | None) -> None:
    read = itertools.count()
    source = (next(read) for _ in itertools.repeat(None))
    flow = df.stage(Batched(), batch=batch) if batch else df.stage(same)
    with flow.map(source, executor(max_in_flight=8)) as results:
        for taken in range(1, 50):
            next(results)
            ahead = int(repr(read)[6:-1]) - taken  # how far the counter is, without moving it
            assert ahead <= 8


def test_a_consumer_that_leaves_early_stops_the_job(executor: Kind) -> None:
    fn = Counting()
    with df.stage(fn).map(itertools.count(), executor(max_in_flight=8)) as results:
        assert next(results) == 0
    count = len(fn.seen)
    assert count <= 9
    with pytest.raises(StopIteration):
        next(results)
    assert len(fn.seen) == count


def odd_fails(item: Any) -> Any:
    if item.number % 2:
        raise ValueError(item)
    return item


def all_odd_fail(items: list[Any]) -> list[Any]:
    return [odd_fails(item) for item in items]


class Item:
    """Something whose end can be seen."""

    def __init__(self, number: int) -> None:
        self.number = number


LEAKING: dict[str, Any] = {
    "one by one": df.stage(odd_fails),
    "fused": df.stage(same) >> odd_fails >> same,
    "batched": df.stage(all_odd_fail, batch=8),
    "region": df.stage(list, batch=8) >> df.stage(all_odd_fail, batch=8),
    "switch": df.switch(lambda item: item.number % 4, {0: same}, default=odd_fails),
    "each": df.stage(lambda item: [item]) >> df.each(df.stage(all_odd_fail, batch=8)),
    "retry": df.stage(odd_fails).retry(1),
    "retry, batched": df.stage(all_odd_fail, batch=8).retry(1),
    "fallback": df.stage(odd_fails).fallback(odd_fails),
    "quorum": (df.stage(odd_fails) | odd_fails) >> df.combine(lambda *parts: parts[0], quorum=1),
    "timeout": df.stage(odd_fails).timeout(600),
    "timeout, batched": df.stage(all_odd_fail, batch=8).timeout(600),
    "race": df.race(odd_fails, odd_fails),
    "race, batched": df.race(df.stage(all_odd_fail, batch=8), odd_fails),
}


@pytest.fixture
def collector() -> Iterator[Callable[[], int]]:
    """The garbage collector, switched off: it says how many objects it found that nothing else could free."""
    gc.collect()
    gc.freeze()
    gc.disable()
    yield gc.collect
    gc.enable()
    gc.unfreeze()


def running_stages() -> list[threading.Thread]:
    """Return the threads in which stages run: each has an item in its hands.

    Among them are those whose work has been given up, as that of the loser of a race. Nobody waits for them: that such
    a thread has not yet come to its end, where the machine is busy, is no leak.
    """
    return [thread for thread in threading.enumerate() if thread.name.startswith(("dataflow-worker", "dataflow-aside"))]


def await_given_up() -> None:
    """Wait for the threads that run on when a job is over."""
    for thread in running_stages():
        thread.join(LIMIT)


@pytest.mark.parametrize("on_error", ["record", "skip"])
def test_failures_leave_nothing_behind(executor: Kind, on_error: str, collector: Callable[[], int]) -> None:
    alive: weakref.WeakSet[Item] = weakref.WeakSet()

    def source() -> Iterator[Item]:
        for number in range(200):
            item = Item(number)
            alive.add(item)
            yield item
            del item

    for flow in LEAKING.values():  # what is made once and kept
        list(flow.map([1], executor(), on_error="skip"))
    collector()
    for name, flow in LEAKING.items():
        most = 0
        with flow.map(source(), executor(max_in_flight=16), on_error=on_error) as results:
            for outcome in results:
                del outcome
                most = max(most, len(alive) - len(running_stages()))
        assert most <= 16 + 2, f"{name}: items live no longer than they are in flight"
        await_given_up()
        assert len(alive) == 0, name
        assert collector() == 0, f"{name}: something was left to the garbage collector"


def test_failures_hold_their_own_items_and_no_others(job: Run, collector: Callable[[], int]) -> None:
    for name, flow in LEAKING.items():
        items = [Item(number) for number in range(20)]
        alive = weakref.WeakSet(items)
        kept = failures(job(flow, iter(items), "record"))
        items.clear()
        await_given_up()
        assert [item for item in alive if item.number % 2 == 0] == [], name
        assert len(alive) == len(kept), name


def test_an_error_that_is_raised_leaves_nothing_behind(run: Run, collector: Callable[[], int]) -> None:
    for name, flow in LEAKING.items():
        items = [Item(1), Item(1)]
        alive = weakref.WeakSet(items)
        while items:
            try:
                run(flow, items.pop())
            except ValueError as error:
                assert error.args[0].number == 1
        assert len(alive) == 0, name


def test_a_broken_source_leaves_nothing_behind(job: Run, collector: Callable[[], int]) -> None:
    flow = df.stage(Batched(), batch=4)
    assert job(flow, range(3)) == [0, 1, 2], "what is made once is made"
    collector()
    source = broken_after(3)
    alive = weakref.WeakSet([source])
    try:
        job(flow, source)
    except OSError:
        del source
    assert len(alive) == 0


def test_results_are_taken_once_and_say_so(executor: Kind) -> None:
    flow = df.stage(same)
    results = flow.map(range(3), executor())
    assert list(results) == [0, 1, 2]
    with pytest.raises(df.DataflowError, match="consumed already"):
        list(results)
    with flow.open(executor()) as session:
        results = session.map(range(3))
        assert [next(results), *results] == [0, 1, 2]
        with pytest.raises(df.DataflowError, match="consumed already"):
            list(results)
        results = session.map([1])
        results.close()
        with pytest.raises(df.DataflowError, match="consumed already"):
            list(results)


def test_results_taken_asynchronously_are_taken_once_and_say_so(executor: Kind) -> None:
    async def main() -> None:
        with df.stage(same).open(executor()) as session:
            results = session.amap(range(3))
            assert [x async for x in results] == [0, 1, 2]
            with pytest.raises(df.DataflowError, match="consumed already"):
                [x async for x in results]

    awaited(main())


def test_results_of_a_failed_job_are_not_taken_again(executor: Kind) -> None:
    results = df.stage(fails).map(range(3), executor())
    with pytest.raises(ValueError, match="no 0"):
        list(results)
    with pytest.raises(df.DataflowError, match="consumed already"):
        list(results)


# ================================================================== concurrency


@pytest.mark.parametrize("depth", [1, 2, 30])
def test_a_flow_runs_inside_a_stage_of_another(job: Run, executor: Kind, depth: int) -> None:
    def inside(flow: Any) -> Any:
        def one(x: int) -> int:
            return flow(x)

        def in_a_job(x: int) -> int:
            (result,) = flow.map([x], executor())
            return result

        return df.stage(one if depth > 2 else in_a_job) >> (lambda x: x + 1)

    flow = reduce(lambda inner, _: inside(inner), range(depth), df.stage(Batched(), batch=2))
    assert job(flow, range(3)) == [x + depth for x in range(3)]


def test_a_flow_runs_inside_a_stage_that_holds_an_instance_of_its_own(job: Run) -> None:
    @df.stage
    class Countdown:
        def __call__(self, x: int) -> int:
            return 0 if x == 0 else 1 + flow(x - 1)

    flow: Any = Countdown()
    assert job(flow, [3, 0, 5]) == [3, 0, 5]
    flow = Countdown().timeout(600)
    assert job(flow, [3, 0, 5]) == [3, 0, 5]


def test_a_stage_that_hangs_fails_on_time_and_is_counted(executor: Kind) -> None:
    clock = VirtualClock()
    with Gate() as gate:

        def hangs(x: int) -> Any:
            clock.advance(10)
            return gate(x)

        for flow in (df.stage(hangs).timeout(5), df.stage(lambda xs: [hangs(x) for x in xs], batch=2).timeout(5)):
            with flow.open(executor(clock=clock)) as session:
                with pytest.raises(df.DeadlineExceeded, match="not done within 5 s"):
                    session.run(1)
                assert session.stats()["abandoned_threads"] == 1
                assert session.stats()["failures"] == 1
        assert gate.arrived == 2


def test_a_stage_that_hangs_fails_only_its_own_item(executor: Kind) -> None:
    clock = VirtualClock()
    with Gate() as gate:

        def hangs(x: int) -> Any:
            if x == 2:
                clock.advance(10)
                return gate(x)
            return x

        flow = df.stage(hangs).timeout(5)
        outcomes = list(flow.map(range(5), executor(clock=clock, max_in_flight=1), on_error="record"))
        assert marks(outcomes) == [0, 1, df.DeadlineExceeded, 3, 4]


def thread_of(_: Any) -> str:
    return threading.current_thread().name


def test_threads_aside_are_used_again() -> None:
    flow = df.stage(thread_of).timeout(600)
    assert len({flow(x) for x in range(50)}) < 50


def test_a_thread_waits_for_what_it_does_aside_until_it_gives_it_up() -> None:
    """What it waits for is let into the instances that it holds; what it has given up is not."""
    here, told = threading.current_thread(), queue.SimpleQueue[bool]()
    work = Aside(SystemClock())
    with Gate() as gate:

        def tell(_: None = None) -> None:
            told.put(started_by(here))

        work.run([tell], lambda tasks: None if tasks[0].done else math.inf)
        assert told.get(timeout=LIMIT)
        work.run([lambda: tell(gate(None))], lambda _: None)
        gate.open()
        assert not told.get(timeout=LIMIT)


def test_a_deadline_is_kept_though_the_stage_hangs(executor: Kind) -> None:
    clock = VirtualClock()
    with Gate() as gate:

        def hangs(x: int) -> Any:
            clock.advance(10)
            return gate(x)

        with df.stage(hangs).open(executor(clock=clock)) as session:
            with pytest.raises(df.DeadlineExceeded):
                session.run(1, deadline=5)
            with pytest.raises(df.DeadlineExceeded):
                session.submit(1, deadline=5).result()
            with pytest.raises(df.DeadlineExceeded):
                awaited(session.arun(1, deadline=5))
            assert session.stats()["abandoned_threads"] == 3


def test_the_blocking_ways_to_run_work_inside_a_running_event_loop(executor: Kind) -> None:
    flow = df.stage(same) >> df.stage(Batched(), batch=4) >> df.stage(same).timeout(600)

    async def main() -> None:
        assert flow(1) == 1
        assert list(flow.map(range(10), executor())) == list(range(10))
        with flow.open(executor()) as session:
            assert session.run(1) == 1
            assert session.submit(1).result() == 1
            assert list(session.map(range(10))) == list(range(10))
            assert await session.arun(1) == 1
            assert [x async for x in session.amap(range(10))] == list(range(10))

    awaited(main())


WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")

SEEING: dict[str, Any] = {
    "stage": df.stage(lambda x: WHO.get()),
    "fused": df.stage(same) >> (lambda x: WHO.get()),
    "batched": df.stage(lambda xs: [WHO.get() for _ in xs], batch=4),
    "timeout": df.stage(lambda x: WHO.get()).timeout(600),
    "timeout, batched": df.stage(lambda xs: [WHO.get() for _ in xs], batch=4).timeout(600),
    "race": df.race(lambda x: WHO.get(), lambda x: WHO.get()),
    "quorum": (df.stage(lambda x: WHO.get()) | fails) >> df.combine(same, quorum=1, within=600),
    "fan-out": (df.stage(lambda x: WHO.get()) | same) >> df.combine(lambda a, b: a),
    "key": df.switch(lambda x: WHO.get(), {"me": lambda x: "me", "you": lambda x: "you"}),
}


@pytest.mark.parametrize("flow", SEEING.values(), ids=SEEING.keys())
def test_context_variables_reach_stages(run: Run, flow: Any) -> None:
    for who in ("me", "you"):
        assert contextvars.copy_context().run(lambda who=who: (WHO.set(who), run(flow, 1))[1]) == who


@pytest.mark.parametrize("flow", SEEING.values(), ids=SEEING.keys())
def test_context_variables_reach_stages_of_a_job(job: Run, flow: Any) -> None:
    for who in ("me", "you"):
        assert contextvars.copy_context().run(lambda who=who: (WHO.set(who), job(flow, range(5)))[1]) == [who] * 5


def test_two_runs_of_one_flow_do_not_see_each_other(executor: Kind) -> None:
    flow = df.stage(lambda x: (WHO.get(), x)) >> df.stage(lambda xs: list(xs), batch=2)
    with flow.open(executor()) as session:
        one, other = session.map(range(0, 100)), flow.map(range(100, 200), executor())
        mixed = [next(results) for pair in itertools.repeat((one, other), 100) for results in pair]
    assert mixed[0::2] == [("nobody", x) for x in range(100)]
    assert mixed[1::2] == [("nobody", x) for x in range(100, 200)]


def test_one_flow_runs_in_many_threads_at_once(executor: Kind) -> None:
    flow = df.stage(same) >> df.stage(Batched(), batch=4) >> df.stage(refusing(3)).fallback(lambda x: -x)
    results: dict[int, Any] = {}

    def work(number: int) -> None:
        items = range(number * 10, number * 10 + 10)
        contextvars.copy_context().run(WHO.set, str(number))
        results[number] = [flow(x) for x in items], list(flow.map(items, executor()))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(6):
        expected = [-x if x == 3 else x for x in range(number * 10, number * 10 + 10)]
        assert results[number] == (expected, expected)


def test_a_flow_that_many_threads_are_the_first_to_call_has_one_instance() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            made: list[Any] = []

            @df.stage
            class Model:
                def __init__(self, made: list[Any] = made) -> None:
                    made.append(self)

                def __call__(self, x: int) -> int:
                    return x

            flow = Model() >> same >> Model().retry(1)
            barrier = threading.Barrier(4)

            def first(flow: Any = flow, barrier: Any = barrier) -> None:
                barrier.wait(60)
                flow(1)

            threads = [threading.Thread(target=first) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(made) == 1
    finally:
        sys.setswitchinterval(interval)


def test_a_branch_that_fails_beside_a_slow_one_surfaces_at_once(executor: Kind) -> None:
    """Where branches run beside one another; one after the other, a failed branch has no slow one beside it."""
    with Gate() as gate:
        flow = (df.stage(fails) | gate) >> df.combine(max)
        with pytest.raises(ValueError, match="no 1"):
            next(flow.map([1], executor()))


# ================================================================== graphs


def test_a_key_that_no_case_has_is_a_routing_error_with_the_key_and_the_cases(run: Run) -> None:
    flow = df.switch(same, {1: same, "a": same, None: same})
    for key in (2, "b", 1.5, (1,), [1], {}, np.arange(2), float("nan"), Awkward()):
        with pytest.raises(df.RoutingError) as caught:
            run(flow, key)
        text = str(caught.value)
        assert type(key).__name__ in text
        assert "1, 'a', None" in text
        assert __file__ in text
        assert isinstance(caught.value, LookupError)


def test_keys_match_as_a_dicts_do(run: Run) -> None:
    flow = df.switch(same, {1: lambda x: "one", "a": lambda x: "text", None: lambda x: "none"})
    for key, arm in ((1, "one"), (True, "one"), (1.0, "one"), (np.int64(1), "one"), (np.str_("a"), "text")):
        assert run(flow, key) == arm
    assert run(flow, None) == "none"
    assert run(df.switch(same, {0: abs}, default=lambda x: "other"), [1]) == "other"


def test_items_without_a_branch_are_failures_and_the_others_go_on(job: Run) -> None:
    for branch in (df.stage(same), df.stage(Batched(), batch=2)):
        outcomes = job(df.switch(lambda x: None if x == 2 else x % 2, {0: branch, 1: branch}), range(5), "record")
        assert marks(outcomes) == [0, 1, df.RoutingError, 3, 4]
        assert "None" in str(outcomes[2].error)


def test_a_combine_that_cannot_fit_is_refused_when_it_is_written_with_both_places() -> None:
    def two(a: int, b: int) -> int:
        return a + b

    branches = df.stage(abs) | abs | abs
    with pytest.raises(df.CompositionError) as caught:
        branches >> df.combine(two)
    here = caught.traceback[0].lineno + 1
    assert f"{__file__}:{two.__code__.co_firstlineno}" in str(caught.value)
    assert f"{__file__}:{here}" in str(caught.value)
    assert "3 parts" in str(caught.value)


def test_two_stages_of_one_name_can_be_told_apart(executor: Kind) -> None:
    def model(x: int) -> int:
        return refusing(1)(x)

    first = df.stage(model)

    def model(x: int) -> int:  # type: ignore[no-redef]
        return refusing(2)(x)

    flow = first.timeout(600) >> df.stage(model).timeout(600)
    with flow.open(executor()) as session:
        names = [session.plan.label(op) for _, step in session.plan.walk() for op in step.stages]
        assert len(set(names)) == 2
        outcomes = list(session.map([1, 2, 3], on_error="record"))
        steps = session.stats()["steps"]
    assert [failure.stage for failure in failures(outcomes)] == names
    assert len(steps) == len(list(session.plan.walk()))
    assert all(f'"{name}"' in flow.explain(executor(), format="json") for name in names)


MANY = 10_000
DEEP = 200


@pytest.mark.parametrize("batch", [None, 4], ids=["one by one", "batched"])
@pytest.mark.parametrize("passes", [None, ()], ids=["all passes", "no passes"])
def test_long_chains_run(executor: Kind, batch: int | None, passes: Any) -> None:
    fn: Any = (lambda x: x + 1) if batch is None else (lambda xs: [x + 1 for x in xs])
    count = MANY if batch is None else MANY // 5  # inline, as many are in test_meaning
    flow: Any = reduce(lambda left, right: left >> right, [df.stage(fn, batch=batch)] * count)
    assert list(flow.map([0, 1, 2], executor(passes=passes))) == [count, count + 1, count + 2]


NESTED: dict[str, Callable[[Any], Any]] = {
    "each": lambda flow: df.stage(lambda x: [x]) >> df.each(flow) >> sum,
    "retry": lambda flow: flow.retry(1),
    "fallback": lambda flow: flow.fallback(abs),
    "handler": lambda flow: df.stage(fails).fallback(flow),
    "fan-out": lambda flow: df.fanout(flow, abs) >> df.combine(max),
    "switch": lambda flow: df.switch(lambda x: 0, {0: flow, 1: abs}),
    "key": lambda flow: df.switch(flow, {}, default=abs),
    "quorum": lambda flow: (flow | abs) >> df.combine(lambda *parts: max(parts), quorum=1),
    "timeout": lambda flow: flow.timeout(600),
    "race": lambda flow: df.race(flow),
}


@pytest.mark.parametrize("around", NESTED.values(), ids=NESTED.keys())
@pytest.mark.parametrize("leaf", [df.stage(abs), df.stage(list, batch=4)], ids=["one by one", "batched"])
def test_constructs_nested_deep_run(executor: Kind, around: Any, leaf: Any) -> None:
    flow = reduce(lambda inner, _: around(inner), range(DEEP), leaf)
    assert list(flow.map([1, 2, 3], executor())) == [1, 2, 3]


def test_whatever_a_stage_is_fused_into_it_is_blamed_itself(job: Run) -> None:
    def first(x: int) -> int:
        return refusing(1)(x)

    def second(x: int) -> int:
        return refusing(2)(x)

    def key(x: int) -> int:
        return refusing(3)(x) % 2

    def gather(a: int, b: int) -> int:
        return refusing(4)(max(a, b))

    branches = df.switch(key, {0: first, 1: df.stage(first) >> second >> same})
    flow = df.stage(same) >> (branches | df.stage(abs) >> second) >> df.combine(gather) >> df.stage(refusing(5))
    assert len(flow.optimize().steps) == 1
    named = [failure.stage.rpartition(".")[2].partition("#")[0] for failure in failures(job(flow, range(7), "record"))]
    assert named == ["first", "second", "key", "combine(gather)", "refuse"]


@pytest.mark.parametrize("batch", [None, 2], ids=["fused", "apart"])
def test_a_stage_that_runs_its_own_flow_is_to_blame_for_what_fails_in_there(job: Run, batch: int | None) -> None:
    def again(x: int) -> int:
        return flow(x - 1) if x else x

    refuse: Any = refusing(0) if batch is None else Batched(refusing(0))
    flow = df.stage(again, name="again") >> df.stage(refuse, batch=batch, name="refuse")
    first, second = job(flow, [0, 1], "record")
    assert (first.stage, second.stage) == ("refuse", "again")
    assert [note.split("'")[1] for note in second.error.__notes__] == ["refuse", "again"]


def test_stacked_diamonds_call_every_stage_once_for_each_item(job: Run) -> None:
    fns = [Counting(), *(Counting() for _ in range(60))]
    flow: Any = df.stage(fns[0])
    for left, right in zip(fns[1::2], fns[2::2], strict=True):
        flow = (flow >> left | flow >> right) >> df.combine(max)
    assert job(flow, [1, 2, 3]) == [1, 2, 3]
    assert all(sorted(fn.seen) == [1, 2, 3] for fn in fns)


def test_a_quorum_that_can_still_be_met_waits_for_its_branches() -> None:
    """One branch fails while another has not ended, and that is looked at before it does."""
    waits, failed = threading.Event(), Gate()

    class Watched(VirtualClock):
        def wait(self, event: threading.Event, seconds: float | None) -> bool:
            if waits.is_set():  # it waits again, having seen the failure
                failed.open()
            waits.set()
            return super().wait(event, seconds)

    def fail(x: int) -> int:
        waits.wait(LIMIT)
        raise ValueError(x)

    flow = df.fanout(fail, failed) >> df.combine(lambda *parts: parts, quorum=1, within=60)
    with failed, flow.open(df.Inline(clock=Watched())) as session:
        assert session.run(3) == (3,)
