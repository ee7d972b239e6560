"""The whole surface of a session, on every executor: what it runs, what it counts, and how it ends."""

import asyncio
import contextlib
import gc
import itertools
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from executors import Kind, awaited
from faulty import Batched, Counting, Poison, fails, failures, marks, refusing, same

import dataflow as df
from dataflow.testing import assert_no_leaks
from dataflow.testing.clock import Gate, VirtualClock


def flow_of(fn: Callable[[list[Any]], Any] | None = None) -> Any:
    """Return a flow that refuses a 3, as a stage of batches of 4 called model."""
    return df.stage(abs) >> df.stage(fn or Batched(refusing(3)), batch=4, name="model") >> str


async def asynchronously(items: Any) -> AsyncIterator[Any]:
    for item in items:
        await asyncio.sleep(0)
        yield item


# ------------------------------------------------------------------ what it runs


def test_every_way_to_run_gives_what_a_call_gives(executor: Kind) -> None:
    async def main(session: df.Session) -> list[Any]:
        results = [await session.arun(-4)]
        results += [x async for x in session.amap([-5, -6])]
        results += [x async for x in session.amap(asynchronously([-7, -8]))]
        return results

    with flow_of().open(executor()) as session:
        assert isinstance(session, df.Session)
        assert session.run(-1) == "1"
        future = session.submit(-2)
        assert isinstance(future, Future)
        assert future.result() == "2"
        assert list(session.map([-1, -2])) == ["1", "2"]
        assert awaited(main(session)) == ["4", "5", "6", "7", "8"]


def test_an_items_error_arrives_as_itself_by_every_way_and_harms_nobody_else(executor: Kind) -> None:
    async def main(session: df.Session) -> None:
        with pytest.raises(Poison, match="3"):
            await session.arun(3)
        for items in ([1, 3], asynchronously([1, 3])):
            results = session.amap(items)
            assert await anext(results) == "1"
            with pytest.raises(Poison, match="3"):
                await anext(results)

    with flow_of().open(executor()) as session:
        with pytest.raises(Poison, match="3") as caught:
            session.run(3)
        assert "stage 'model'" in "".join(caught.value.__notes__)
        error = session.submit(3).exception()
        assert isinstance(error, Poison)
        assert "stage 'model'" in "".join(error.__notes__)
        with pytest.raises(Poison, match="3") as caught:
            list(session.map([1, 3]))
        assert "on item 1" in "".join(caught.value.__notes__)
        awaited(main(session))
        assert session.run(4) == "4"


def test_failed_items_of_a_job_are_recorded_or_skipped(executor: Kind) -> None:
    async def listed(results: Any) -> list[Any]:
        return [outcome async for outcome in results]

    with flow_of().open(executor()) as session:
        for outcomes in (
            list(session.map(range(6), on_error="record")),
            awaited(listed(session.amap(range(6), on_error="record"))),
            awaited(listed(session.amap(asynchronously(range(6)), on_error="record"))),
        ):
            assert marks(outcomes) == ["0", "1", "2", Poison, "4", "5"]
            assert [(f.index, f.item, f.stage) for f in failures(outcomes)] == [(3, 3, "model")]
        for results in (
            list(session.map(range(6), on_error="skip")),
            awaited(listed(session.amap(range(6), on_error="skip"))),
            awaited(listed(session.amap(asynchronously(range(6)), on_error="skip"))),
        ):
            assert results == ["0", "1", "2", "4", "5"]


def test_nothing_runs_before_results_are_taken(executor: Kind) -> None:
    fn = Counting()
    read: list[int] = []

    def source() -> Iterator[int]:
        for x in range(3):
            read.append(x)
            yield x

    with df.stage(fn).open(executor()) as session:
        session.map(source())
        session.amap(source())
        assert (read, fn.seen) == ([], [])
    assert session.stats()["items"] == 0


def test_results_without_order_are_the_same_ones(executor: Kind) -> None:
    async def main(session: df.Session) -> list[Any]:
        return [x async for x in session.amap(range(20), ordered=False)]

    with flow_of(list).open(executor()) as session:
        assert sorted(session.map(range(20), ordered=False), key=int) == list(map(str, range(20)))
        assert sorted(awaited(main(session)), key=int) == list(map(str, range(20)))


def test_read_ahead_is_bounded_by_what_the_call_says(executor: Kind) -> None:
    async def main(session: df.Session) -> None:
        for source in (counting(), asynchronously(counting())):
            read.clear()
            results = session.amap(source, max_in_flight=4)
            for taken in range(1, 10):
                await anext(results)
                assert len(read) - taken <= 4
            await results.aclose()

    read: list[int] = []

    def counting() -> Iterator[int]:
        for x in itertools.count():
            read.append(x)
            yield x

    with flow_of(list).open(executor()) as session:
        with session.map(counting(), max_in_flight=4) as results:
            for taken in range(1, 10):
                next(results)
                assert len(read) - taken <= 4
        awaited(main(session))


def test_what_a_call_cannot_mean_is_refused_at_once(executor: Kind) -> None:
    with df.stage(same).open(executor()) as session:
        for run in (session.map, session.amap):
            with pytest.raises(df.OptionError, match="on_error must be one of 'raise', 'record', 'skip', not 'ignore'"):
                run([1], on_error="ignore")  # type: ignore[arg-type]
            with pytest.raises(df.OptionError, match="max_in_flight must be a whole number of at least 1, not 0"):
                run([1], max_in_flight=0)
            with pytest.raises(TypeError, match="takes an iterable of items, not a int"):
                run(3)  # type: ignore[arg-type]
        for deadline in (-1, float("nan"), "soon"):
            for one in (session.run, session.submit):
                with pytest.raises(df.OptionError, match="deadline must be seconds, at least 0"):
                    one(1, deadline=deadline)  # type: ignore[arg-type]
        assert session.stats()["items"] == 0


def test_a_progress_bar_is_shown_where_it_is_asked_for(executor: Kind, capsys: pytest.CaptureFixture[str]) -> None:
    with df.stage(same).open(executor()) as session:
        assert list(session.map(range(7), progress=True)) == list(range(7))
        assert "7/7" in capsys.readouterr().err
        assert list(session.map(range(7))) == list(range(7))
        assert capsys.readouterr().err == "", "none where there is no terminal"


# ------------------------------------------------------------------ asynchronous code


def test_many_items_are_awaited_beside_one_another(executor: Kind) -> None:
    async def main() -> list[Any]:
        with flow_of(list).open(executor()) as session:
            return await asyncio.gather(*(session.arun(x) for x in range(20)))

    assert awaited(main()) == list(map(str, range(20)))


def test_futures_can_be_awaited_in_an_event_loop(executor: Kind) -> None:
    async def main() -> list[Any]:
        with flow_of(list).open(executor()) as session:
            return [await asyncio.wrap_future(session.submit(x)) for x in range(5)]

    assert awaited(main()) == list(map(str, range(5)))


def test_an_asynchronous_source_that_fails_delivers_what_came_before(executor: Kind) -> None:
    async def source() -> AsyncIterator[int]:
        for x in range(6):
            yield x
        raise OSError("the source is broken")

    async def main(on_error: Any) -> None:
        with flow_of().open(executor()) as session:
            results = session.amap(source(), on_error=on_error)
            outcomes = [await anext(results) for _ in range(5 + (on_error == "record"))]
            with pytest.raises(OSError, match="the source is broken"):
                await anext(results)
            assert "5" in outcomes

    awaited(main("record"))
    awaited(main("skip"))


def test_a_task_that_is_cancelled_leaves_a_session_that_works(executor: Kind) -> None:
    async def main() -> None:
        waiting = asyncio.Event()

        async def source() -> AsyncIterator[int]:
            yield 1
            waiting.set()
            await asyncio.Event().wait()

        with df.stage(same).open(executor()) as session:

            async def consume() -> None:
                async for _ in session.amap(source()):
                    pass

            task = asyncio.create_task(consume())
            await waiting.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await session.arun(2) == 2

    awaited(main())


def test_a_consumer_that_leaves_an_amap_stops_it(executor: Kind) -> None:
    fn = Counting()

    async def main() -> None:
        with df.stage(fn).open(executor()) as session:
            async with session.amap(itertools.count(), max_in_flight=4) as results:
                async for _ in results:
                    break
            count = len(fn.seen)
            assert count <= 5
            with pytest.raises(StopAsyncIteration):
                await anext(results)
            assert len(fn.seen) == count

    awaited(main())


# ------------------------------------------------------------------ deadlines


def test_what_is_done_within_its_deadline_arrives(executor: Kind) -> None:
    with flow_of().open(executor()) as session:
        assert session.run(1, deadline=600) == "1"
        assert session.submit(1, deadline=600).result() == "1"
        assert awaited(session.arun(1, deadline=600)) == "1"
        with pytest.raises(Poison):
            session.run(3, deadline=600)
        assert isinstance(session.submit(3, deadline=600).exception(), Poison)
        assert session.stats()["abandoned_threads"] == 0


def test_a_deadline_that_passes_is_an_error_that_says_so(executor: Kind) -> None:
    clock = VirtualClock()
    with Gate() as gate:

        def slow(x: int) -> Any:
            clock.advance(5)
            return gate(x)

        with df.stage(slow).open(executor(clock=clock)) as session:
            for run in (session.run, lambda x, deadline: session.submit(x, deadline).result()):
                with pytest.raises(df.DeadlineExceeded, match="the deadline of 2 s") as caught:
                    run(1, deadline=2)
                assert isinstance(caught.value, TimeoutError)
            stats = session.stats()
            assert (stats["items"], stats["failures"]) == (2, 2)


def test_an_instance_that_a_late_item_holds_is_replaced(executor: Kind) -> None:
    clock = VirtualClock()
    made: list[object] = []

    with Gate() as gate:

        @df.stage
        class Sometimes:
            def __init__(self) -> None:
                made.append(self)

            def __call__(self, x: int) -> Any:
                if x:
                    clock.advance(5)
                    gate(x)
                return x

        with Sometimes().open(executor(clock=clock)) as session:
            assert len(made) == 1
            with pytest.raises(df.DeadlineExceeded):
                session.run(1, deadline=2)
            assert session.run(0) == 0
            assert len(made) == 2


# ------------------------------------------------------------------ what it counts


def test_stats_count_items_failures_and_batches(executor: Kind) -> None:
    flow = flow_of()
    with flow.open(executor()) as session:
        assert list(session.map(range(10), on_error="skip")) == ["0", "1", "2", *"456789"]
        session.run(1)
        session.submit(3).exception()
        stats = session.stats()
        assert set(stats) == {"executor", "digest", "items", "failures", "abandoned_threads", "steps"}
        assert (stats["items"], stats["failures"], stats["abandoned_threads"]) == (12, 2, 0)
        assert stats["digest"] == session.plan.digest == executor().plan(flow).digest
        assert list(stats["steps"]) == [step.name for _, step in session.plan.walk()]
        first, model, last = stats["steps"].values()
        assert set(model) == {"items", "failures", "batches", "dispatched", "queue_seconds", "seconds"}
        assert (first["items"], first["failures"], first["batches"]) == (12, 0, {})
        assert (model["items"], model["failures"]) == (12, 2)
        assert (last["items"], last["failures"], last["batches"]) == (10, 0, {})
        assert sum(size * count for size, count in model["batches"].items()) == 12
        if executor.in_turn:
            assert model["batches"] == {1: 2, 2: 1, 4: 2}
    assert session.stats() == stats, "a closed session still says what it did"


def test_a_session_says_which_executor_runs_it(executor: Kind) -> None:
    with df.stage(same).open(executor()) as session:
        assert session.stats()["executor"] == executor().name


def test_the_digest_is_that_of_the_passes_it_was_opened_with(executor: Kind) -> None:
    flow = df.stage(abs) >> str
    with flow.open(executor()) as all_passes, flow.open(executor(passes=())) as none:
        assert all_passes.stats()["digest"] != none.stats()["digest"]
        assert all_passes.run(-1) == none.run(-1) == "1"


# ------------------------------------------------------------------ how it opens


def test_opening_constructs_class_stages_and_they_are_kept(executor: Kind) -> None:
    made: list[int] = []

    @df.stage
    class Add:
        def __init__(self, amount: int) -> None:
            made.append(amount)
            self.amount = amount

        def __call__(self, x: int) -> int:
            return x + self.amount

    flow = Add(1) >> df.switch(lambda x: x % 2, {0: Add(2)}, default=Add(1)) >> Add(3).retry(1)
    assert made == []
    with flow.open(executor()) as session:
        assert sorted(made) == [1, 2, 3], "everything is ready, and equal stages are one"
        assert [session.run(1), *session.map([1, 2])] == [7, 7, 7]
    assert sorted(made) == [1, 2, 3]


def test_a_constructor_that_fails_fails_the_opening_with_its_own_error(executor: Kind) -> None:
    @df.stage(name="loader")
    class Loads:
        def __init__(self) -> None:
            raise FileNotFoundError("weights.pt")

        def __call__(self, x: int) -> int:
            return x

    with pytest.raises(FileNotFoundError, match=r"weights\.pt") as caught:
        (df.stage(abs) >> Loads()).open(executor())
    assert "stage 'loader'" in "".join(caught.value.__notes__)


def test_an_instance_is_never_called_by_two_threads_at_once(executor: Kind) -> None:
    @df.stage
    class Alone:
        def __init__(self) -> None:
            self.inside = threading.Lock()
            self.calls = 0

        def __call__(self, x: int) -> int:
            assert self.inside.acquire(blocking=False), "another thread is in here"
            self.calls += 1
            self.inside.release()
            return x

    with (Alone() | Alone().timeout(600)).open(executor()) as session:
        threads = [threading.Thread(target=lambda: list(session.map(range(50)))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert session.stats()["failures"] == 0
        assert session.stats()["items"] == 200


def test_two_sessions_of_one_flow_are_independent(executor: Kind) -> None:
    @df.stage
    class Tally:
        def __init__(self) -> None:
            self.calls = 0

        def __call__(self, x: Any) -> int:
            self.calls += 1
            return self.calls

    flow = Tally()
    with flow.open(executor()) as one, flow.open(executor()) as other:
        assert [one.run(0) for _ in range(3)] == [1, 2, 3]
        assert other.run(0) == 1
        assert list(other.map([0, 0])) == [2, 3]
        one.close()
        assert other.run(0) == 4
        assert (one.stats()["items"], other.stats()["items"]) == (3, 4)
    assert flow(0) == 1, "a flow that is called has an instance of its own"


# ------------------------------------------------------------------ how it ends


def uses(session: df.Session) -> dict[str, Callable[[], object]]:
    """Return everything that a closed session refuses."""

    async def amap() -> None:
        async for _ in session.amap([1]):
            pass

    return {
        "run": lambda: session.run(1),
        "run with a deadline": lambda: session.run(1, deadline=5),
        "submit": lambda: session.submit(1),
        "map": lambda: session.map([1]),
        "amap": lambda: session.amap([1]),
        "amap, async source": lambda: session.amap(asynchronously([1])),
        "arun": lambda: awaited(session.arun(1)),
        "with": lambda: session.__enter__(),
    }


@pytest.mark.parametrize("how", ["close", "cancel", "leave", "leave by an exception"])
def test_a_session_that_has_ended_says_so_whatever_is_asked_of_it(executor: Kind, how: str) -> None:
    session = df.stage(same).open(executor())
    if how == "close":
        session.close()
    elif how == "cancel":
        session.cancel()
    elif how == "leave":
        with session:
            assert session.run(1) == 1
    else:
        with contextlib.suppress(KeyError), session:
            raise KeyError
    for name, use in uses(session).items():
        with pytest.raises(df.SessionClosed, match=r"closed: open another with flow\.open") as caught:
            use()
        assert isinstance(caught.value, RuntimeError), name
    session.close()
    session.cancel()


@pytest.mark.parametrize("error", [KeyError("k"), KeyboardInterrupt(), SystemExit(3)], ids=lambda e: type(e).__name__)
def test_leaving_by_an_exception_lets_it_through_unchanged(executor: Kind, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, df.stage(same).open(executor()) as session:
        assert session.run(1) == 1
        raise error
    assert caught.value is error
    assert not hasattr(error, "__notes__")


def test_what_was_accepted_is_finished_when_the_block_is_left(executor: Kind) -> None:
    with flow_of(list).open(executor()) as session:
        futures = [session.submit(x) for x in range(20)]
    assert all(future.done() for future in futures)
    assert [future.result() for future in futures] == list(map(str, range(20)))


def test_a_job_that_outlives_its_session_says_so(executor: Kind) -> None:
    async def main() -> None:
        session = df.stage(same).open(executor())
        results = session.amap(range(3))
        assert await anext(results) == 0
        session.close()
        with pytest.raises(df.SessionClosed):
            while True:
                await anext(results)

    session = df.stage(same).open(executor())
    results = session.map(itertools.count())
    assert next(results) == 0
    session.close()
    with pytest.raises(df.SessionClosed):
        for _ in range(2000):
            next(results)
    awaited(main())


def test_what_ends_the_program_passes_through_a_session(executor: Kind) -> None:
    def ends(x: BaseException) -> Any:
        raise x

    for error in (KeyboardInterrupt(), SystemExit(3)):
        for run in (
            lambda session, x: session.run(x),
            lambda session, x: session.run(x, deadline=600),
            lambda session, x: session.submit(x).result(),
            lambda session, x: list(session.map([x], on_error="record")),
            lambda session, x: awaited(session.arun(x)),
        ):
            with df.stage(ends).open(executor()) as session, pytest.raises(type(error)) as caught:
                run(session, error)
            assert caught.value is error


# ------------------------------------------------------------------ memory


class Item:
    """Something whose end can be seen."""

    __slots__ = ("__weakref__", "number")

    def __init__(self, number: int) -> None:
        self.number = number


def third_fails(item: Item) -> Item:
    if item.number % 3 == 0:
        raise ValueError("every third")
    return item


MANY = 100_000


@pytest.mark.parametrize(
    "flow",
    [df.stage(same) >> third_fails, df.stage(lambda items: [third_fails(item) for item in items], batch=64)],
    ids=["one by one", "batched"],
)
def test_memory_stays_flat_over_many_items_that_fail(executor: Kind, flow: Any) -> None:
    alive: weakref.WeakSet[Item] = weakref.WeakSet()

    def source() -> Iterator[Item]:
        for number in range(MANY):
            item = Item(number)
            if number % 100 < 3:
                alive.add(item)
            yield item
            del item

    most = failed = 0
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        with flow.open(executor(max_in_flight=256)) as session:
            for outcome in session.map(source(), on_error="record"):
                failed += isinstance(outcome, df.Failure)
                del outcome
                most = max(most, len(alive))
            assert failed == session.stats()["failures"] == -(-MANY // 3)
        assert most <= 3 * (256 // 100 + 2)
        assert len(alive) == 0
        assert gc.collect() == 0, "nothing was left to the garbage collector"
    finally:
        gc.enable()
        gc.unfreeze()


def test_failed_futures_hold_no_cycles(executor: Kind) -> None:
    with assert_no_leaks(), df.stage(fails).open(executor()) as session:
        for x in range(10):
            assert session.submit(x).exception() is not None
