"""The iterator that a batch job gives: lazy, closable, and consumed once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator
from typing import Any, Literal

from dataflow.errors import DataflowError, OptionError
from dataflow.expr.origin import caller

OnError = Literal["raise", "record", "skip"]
_MODES = ("raise", "record", "skip")


class Results(Iterator[Any]):
    """The results of a batch job.

    Parameters
    ----------
    source : generator
        What computes them.
    """

    def __init__(self, source: Generator[Any, None, None]) -> None:
        self._source = source
        self._ended = False

    def __iter__(self) -> Results:
        if self._ended:
            raise _consumed("list(...), or call map again")
        return self

    def __next__(self) -> Any:
        try:
            return next(self._source)
        except BaseException:
            self._ended = True
            raise

    def close(self) -> None:
        """Stop the job; what has not been computed will not be."""
        self._ended = True
        self._source.close()

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


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


def with_progress(results: Iterator[Any], items: Any, show: bool | None) -> Generator[Any, None, None]:
    """Yield the results with a progress bar: always, never, or (None) on a terminal where tqdm is installed."""
    bar = _bar(items, show)
    if bar is None:
        yield from results
        return
    with bar:
        for result in results:
            bar.update()
            yield result


def _bar(items: Any, show: bool | None) -> Any:
    import sys

    if show is False or (show is None and not (sys.stderr is not None and sys.stderr.isatty())):
        return None
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
