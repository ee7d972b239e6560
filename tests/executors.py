"""The executors that the tests run on, in what each differs from the plainest reading, and the ways to run a flow.

A test that takes the fixtures `executor`, `run` or `job` runs on every executor of `EXECUTORS`, in every way. One that
holds only for some of them asks for the trait, by its name: a difference between executors is written down here or it
is a bug.
"""

import asyncio
import dataclasses
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any

import dataflow as df


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of executor, which makes one when it is called.

    Parameters
    ----------
    make : callable
        Makes an executor, given its options: ``passes``, ``max_in_flight`` and ``clock``.
    in_turn : bool
        Whether everything runs in the thread that asks for it, one thing after another: a batch is always full but for
        the last, and a future is done when it is given.
    """

    make: Callable[..., Any]
    in_turn: bool = False

    def __call__(self, **options: Any) -> Any:
        return self.make(**options)


EXECUTORS = {
    "inline": Kind(df.Inline, in_turn=True),
    "threads": Kind(df.Threads),
    "one thread": Kind(functools.partial(df.Threads, workers=1)),
}


def awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine and return its result, or raise its error, which asyncio.run itself would try to show."""

    async def main() -> tuple[Any, BaseException | None]:
        try:
            return await coroutine, None
        except BaseException as error:
            return None, error

    value, error = asyncio.run(main())
    try:
        if error is not None:
            raise error
        return value
    finally:
        del error  # no cycle through the traceback of this frame


# ------------------------------------------------------------------ one item: way(executor, flow, item)


def one_in_a_map(executor: Any, flow: Any, item: Any) -> Any:
    with flow.map([item], executor) as results:
        return next(results)


def run(executor: Any, flow: Any, item: Any) -> Any:
    with flow.open(executor) as session:
        return session.run(item)


def submit(executor: Any, flow: Any, item: Any) -> Any:
    with flow.open(executor) as session:
        return session.submit(item).result()


def arun(executor: Any, flow: Any, item: Any) -> Any:
    with flow.open(executor) as session:
        return awaited(session.arun(item))


ONE_ITEM: dict[str, Callable[[Any, Any, Any], Any]] = {
    "map": one_in_a_map,
    "run": run,
    "submit": submit,
    "arun": arun,
}


def call(executor: Any, flow: Any, item: Any) -> Any:
    """Call the flow, which no executor has a part in."""
    return flow(item)


RUNS = {"call": (EXECUTORS["inline"], call)} | {
    f"{name}, {way}": (kind, function) for name, kind in EXECUTORS.items() for way, function in ONE_ITEM.items()
}

# ------------------------------------------------------------------ many: way(executor, flow, items, on_error)


def in_a_map(executor: Any, flow: Any, items: Iterable[Any], on_error: str) -> list[Any]:
    return list(flow.map(items, executor, on_error=on_error))


def in_a_session(executor: Any, flow: Any, items: Iterable[Any], on_error: str) -> list[Any]:
    with flow.open(executor) as session:
        return list(session.map(items, on_error=on_error))


def in_an_amap(executor: Any, flow: Any, items: Any, on_error: str) -> list[Any]:
    async def main() -> list[Any]:
        with flow.open(executor) as session:
            return [outcome async for outcome in session.amap(items, on_error=on_error)]

    return awaited(main())


def in_an_amap_of_an_async_source(executor: Any, flow: Any, items: Iterable[Any], on_error: str) -> list[Any]:
    async def source() -> AsyncIterator[Any]:
        for item in items:
            await asyncio.sleep(0)
            yield item

    return in_an_amap(executor, flow, source(), on_error)


JOBS: dict[str, Callable[[Any, Any, Any, str], list[Any]]] = {
    "map": in_a_map,
    "session.map": in_a_session,
    "amap": in_an_amap,
    "amap, async source": in_an_amap_of_an_async_source,
}
