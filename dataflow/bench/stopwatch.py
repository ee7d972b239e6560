"""A stop-watch around each stage of a flow, in whichever process of this machine the stages run.

Each thread that runs a stage has a file of its own, mapped into memory, in which it adds up its calls and their
seconds: so nobody waits for anybody, and whoever looks on needs nothing of a process but that it can write to the same
folder.
"""

from __future__ import annotations

import dataclasses
import mmap
import os
import struct
import tempfile
import threading
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, NamedTuple

from dataflow.bench.variants import AnyFlow, rebuilt
from dataflow.executors.calls import collates
from dataflow.expr.nodes import Combine
from dataflow.expr.stage import Stage, qualified_name, short_name

_LINES = 256  # on a page: as many as fill one of memory's
_LINE = struct.calcsize("dd")
_mine = threading.local()


class Taken(NamedTuple):
    """How often something was called, and the seconds that the calls took together."""

    calls: int = 0
    seconds: float = 0.0

    def since(self, earlier: Taken) -> Taken:
        """Return what has come to it since an earlier look."""
        return Taken(self.calls - earlier.calls, self.seconds - earlier.seconds)


class StopWatch:
    """Counts the seconds inside the user's functions, until it is closed.

    Examples
    --------
    >>> with StopWatch() as watch:
    ...     result = watch.around(df.stage(abs) >> str)(-3)
    ...     result, {name: taken.calls for name, taken in watch.taken().items()}
    ('3', {'abs': 1, 'str': 1})
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="dataflow-stopwatch-")
        self._names: list[str] = []

    def __enter__(self) -> StopWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def around(self, flow: AnyFlow) -> AnyFlow:
        """Return a flow that does the same, the calls of its stages and combining functions timed."""
        return rebuilt(flow, self._timed)

    def taken(self) -> dict[str, Taken]:
        """Return what has been counted so far by the stage's name, in the order in which the flow has the stages."""
        sums = [Taken()] * len(self._names)
        for path in self._paths():
            first = int(path.name.split("-")[0]) * _LINES
            for line, (calls, seconds) in enumerate(struct.iter_unpack("dd", path.read_bytes()), first):
                if calls:
                    sums[line] = Taken(sums[line].calls + int(calls), sums[line].seconds + seconds)
        return dict(zip(self._names, sums, strict=True))

    def processes(self) -> set[int]:
        """Return the numbers of the processes in which stages have run."""
        return {int(path.name.split("-")[1]) for path in self._paths()}

    def _paths(self) -> list[Path]:
        return list(Path(self._folder.name).iterdir())

    def _timed(self, node: AnyFlow) -> AnyFlow:
        if isinstance(node, Stage):
            line = self._line(short_name(node.name))
            fn: Any = _Maker(node.fn, line) if node.constructed else _timed(node.fn, line)
            options = dataclasses.replace(node.options, name=node.name)
            _, _, constructed, args, kwargs, origin = node.spec()
            return Stage(fn, options, constructed=constructed, args=args, kwargs=kwargs, origin=origin)
        if isinstance(node, Combine) and node.fn is not None:
            line = self._line(f"combine({short_name(qualified_name(node.fn))})")
            return Combine(_timed(node.fn, line), node.quorum, node.within, node.origin)
        return node

    def _line(self, name: str) -> Line:
        if name not in self._names:
            self._names.append(name)
        return Line(self._folder.name, self._names.index(name))


class Line:
    """Where the calls of one stage are added up.

    Parameters
    ----------
    folder : str
        Where the pages are.
    number : int
        Which line it is, of those of all pages.
    """

    def __init__(self, folder: str, number: int) -> None:
        page, line = divmod(number, _LINES)
        self._page = (folder, page)
        self._at = 2 * line

    def add(self, seconds: float) -> None:
        """Add a call."""
        try:
            page = _mine.pages[self._page]
        except (AttributeError, KeyError):
            page = self._opened()
        page[self._at] += 1.0
        page[self._at + 1] += seconds

    def _opened(self) -> memoryview[Any]:
        """Return this thread's page; one that nobody reads where there is no folder, as on another machine."""
        folder, number = self._page
        try:
            path = Path(folder, f"{number}-{os.getpid()}-{threading.get_native_id()}")
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            memory: Any = bytearray(_LINES * _LINE)
        else:
            try:
                os.ftruncate(file, _LINES * _LINE)
                memory = mmap.mmap(file, _LINES * _LINE)
            finally:
                os.close(file)
        if not hasattr(_mine, "pages"):
            _mine.pages = {}
        page = _mine.pages[self._page] = memoryview(memory).cast("d")
        return page


class _Timed:
    """A callable with a stop-watch."""

    def __init__(self, inner: Any, line: Line) -> None:
        self._inner = inner
        self._line = line
        self.__qualname__ = qualified_name(inner)  # in explanations and errors it goes by the name of what it times

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._in_time(self._inner, *args, **kwargs)

    def _in_time(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        start = perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            self._line.add(perf_counter() - start)


class _TimedCollating(_Timed):
    """One that hands on whole batches, as what it times does."""

    @property
    def space(self) -> Hashable:
        space: Hashable = self._inner.space
        return space

    def collate(self, items: list[Any]) -> Any:
        return self._in_time(self._inner.collate, items)

    def forward(self, batch: Any, *, keep: bool) -> Any:
        return self._in_time(self._inner.forward, batch, keep=keep)

    def size(self, batch: Any) -> int:
        size: int = self._inner.size(batch)
        return size

    def split(self, batch: Any, size: int) -> Sequence[Any]:
        parts: Sequence[Any] = self._in_time(self._inner.split, batch, size)
        return parts


def _timed(target: Any, line: Line) -> _Timed:
    return _TimedCollating(target, line) if collates(target) else _Timed(target, line)


class _Maker:
    """Stands for a class whose instances are to be timed."""

    def __init__(self, cls: Callable[..., Any], line: Line) -> None:
        self._cls = cls
        self._line = line

    def __call__(self, *args: Any, **kwargs: Any) -> _Timed:
        return _timed(self._cls(*args, **kwargs), self._line)


def cost_of_timing(calls: int = 20_000) -> float:
    """Return the seconds by which a stop-watch makes a call longer."""

    def nothing(x: Any) -> Any:
        return x

    def seconds(function: Callable[[Any], Any]) -> float:
        start = perf_counter()
        for _ in range(calls):
            function(None)
        return (perf_counter() - start) / calls

    with tempfile.TemporaryDirectory(prefix="dataflow-stopwatch-") as folder:
        timed = _Timed(nothing, Line(folder, 0))
        return max(0.0, min(seconds(timed) - seconds(nothing) for _ in range(3)))
