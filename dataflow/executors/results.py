"""The iterator that a batch job gives: lazy, closable, and consumed once."""

from __future__ import annotations

import collections
import inspect
import itertools
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator
from typing import Any, Literal, cast

from dataflow.errors import DataflowError, OptionError
from dataflow.expr.origin import caller

OnError = Literal["raise", "record", "skip"]
_MODES = ("raise", "record", "skip")


Bursts = Generator[Iterable[Any], None, None]
"""Outcomes as they come: several at once, again and again. It is bursts that raise, and none of what they give."""


class Results(itertools.chain[Any]):
    """The results of a batch job.

    To take one costs no Python call: `itertools.chain` takes it from a burst. With a ``__next__`` of our own, and a
    generator or two below it, it would cost a third of a microsecond, which is more than many an item takes.
    """

    _bursts: Bursts
    _burst: list[Iterator[Any]]

    @classmethod
    def of(cls, bursts: Bursts) -> Results:
        """Return the results that come in these bursts."""
        burst: list[Iterator[Any]] = []  # no more than one: what results are being taken from
        shown = _shown(bursts, burst)
        results = cast("Results", cls.from_iterable(shown))
        results._bursts, results._burst = shown, burst
        return results

    def __iter__(self) -> Results:
        if inspect.getgeneratorstate(self._bursts) == inspect.GEN_CLOSED:
            raise _consumed("list(...), or call map again")
        return self

    def close(self) -> None:
        """Stop the job; what has not been computed will not be."""
        self._bursts.close()
        for burst in self._burst:
            collections.deque(burst, maxlen=0)  # what has been is not given any more

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _shown(bursts: Bursts, burst: list[Iterator[Any]]) -> Bursts:
    """Give bursts on, and keep at hand the one that is being taken."""
    try:
        for outcomes in bursts:
            burst[:] = [iter(outcomes)]
            yield burst[0]
    finally:
        bursts.close()


def one_by_one(outcomes: Iterator[Any]) -> Bursts:
    """Give outcomes that come one by one as a single burst, and raise what they end with."""
    ends: list[BaseException] = []
    burst = _until(outcomes, ends)
    del outcomes
    try:
        yield burst
    finally:
        burst.close()
        del burst
    if ends:
        try:
            raise ends.pop()
        finally:
            del ends  # no cycle through the traceback of this frame


def _until(outcomes: Iterator[Any], ends: list[BaseException]) -> Generator[Any, None, None]:
    try:
        yield from outcomes
    except GeneratorExit:
        raise
    except BaseException as error:
        ends.append(error)
    finally:
        del outcomes, ends


class AsyncResults(AsyncIterator[Any]):
    """The results of a batch job, for asynchronous code.

    Parameters
    ----------
    source : asynchronous generator
        What computes them.
    """

    def __init__(self, source: AsyncGenerator[Any, None]) -> None:
        self._source = source
        self._ended = False

    def __aiter__(self) -> AsyncResults:
        if self._ended:
            raise _consumed("a list, or call amap again")
        return self

    async def __anext__(self) -> Any:
        try:
            return await anext(self._source)
        except BaseException:
            self._ended = True
            raise

    async def aclose(self) -> None:
        """Stop the job; what has not been computed will not be."""
        self._ended = True
        await self._source.aclose()

    async def __aenter__(self) -> AsyncResults:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


def _consumed(instead: str) -> DataflowError:
    return DataflowError(
        f"these results have been consumed already: they are computed as they are taken and not kept; keep them with "
        f"{instead}"
    )


def checked_mode(on_error: str) -> OnError:
    """Return `on_error` if it is one of the modes."""
    if on_error not in _MODES:
        raise OptionError(f"map: on_error must be one of {', '.join(map(repr, _MODES))}, not {on_error!r} ({caller()})")
    return on_error  # type: ignore[return-value]


def checked_items(items: Any) -> Iterable[Any]:
    """Return `items` if they can be iterated."""
    if not hasattr(type(items), "__iter__") and not hasattr(type(items), "__getitem__"):
        raise TypeError(f"map takes an iterable of items, not a {type(items).__name__} ({caller()})")
    return items  # type: ignore[no-any-return]


def with_progress(bursts: Bursts, items: Any, show: bool | None) -> Bursts:
    """Return bursts that move a progress bar: always, never, or (None) on a terminal where tqdm is installed."""
    return bursts if show is False or (show is None and not _on_terminal()) else _moving(bursts, items, show)


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _moving(bursts: Bursts, items: Any, show: bool | None) -> Bursts:
    bar = _bar(items, show)
    del items
    if bar is None:
        yield from bursts
        return
    with bar:
        for burst in bursts:
            yield _counted(burst, bar)


def _counted(burst: Iterable[Any], bar: Any) -> Iterator[Any]:
    for outcome in burst:
        bar.update()
        yield outcome


def _bar(items: Any, show: bool | None) -> Any:
    try:
        from tqdm import tqdm
    except ImportError as error:
        if show is None:
            return None
        raise ImportError("progress=True needs tqdm: pip install 'dataflow[progress]'") from error
    try:
        total = len(items)
    except Exception:  # a generator has no length; an object may have one and not know it
        total = None
    return tqdm(total=total)
