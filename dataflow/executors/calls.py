"""Calling users' stages: one item, one batch, and what is done when a batch fails."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from typing import Any, Protocol, runtime_checkable

from dataflow.errors import BatchSizeError
from dataflow.expr.stage import Stage, short_repr

Batch = Any


@runtime_checkable
class Collating(Protocol):
    """A batched stage that can hand a whole batch to its neighbour without taking it apart.

    A stage's callable that has these methods is called through them: once ``collate``, then ``forward`` of each stage
    in turn while their ``space`` is the same, then ``split``.
    """

    space: Hashable

    def collate(self, items: list[Any]) -> Batch:
        """Return items as one batch."""
        ...

    def forward(self, batch: Batch) -> Batch:
        """Return the results of a batch, as one batch."""
        ...

    def size(self, batch: Batch) -> int:
        """Return how many results a batch holds."""
        ...

    def split(self, batch: Batch, size: int) -> Sequence[Any]:
        """Return a batch of results as `size` results."""
        ...


class Replica:
    """One instance of a class stage: constructed when it is first needed, called by one thread at a time.

    Parameters
    ----------
    stage : Stage
        Whose class to construct.
    """

    def __init__(self, stage: Stage[Any, Any]) -> None:
        self._stage = stage
        self._made: Any = None
        self.lock = threading.RLock()

    def construct(self) -> Any:
        """Return the instance, constructing it if there is none yet."""
        with self.lock:
            if self._made is None:
                self._made = self._stage.fn(*self._stage.args, **self._stage.kwargs)
            return self._made

    def __call__(self, given: Any) -> Any:
        with self.lock:
            return self.construct()(given)

    def renew(self) -> None:
        """Forget an instance that a thread which was given up still holds; the next call constructs another."""
        if self.lock.acquire(blocking=False):
            self.lock.release()
        else:
            self.lock, self._made = threading.RLock(), None


def checked_results(stage: Stage[Any, Any], given: int, results: Any) -> Sequence[Any]:
    """Return a batch's results if there is one for each item; raise `BatchSizeError` otherwise."""
    unordered = isinstance(results, (str, bytes, Mapping, Set))
    try:
        size = None if unordered else len(results)
    except TypeError:
        size = None
    if size == given:
        return results  # type: ignore[no-any-return]
    gave = f"a {type(results).__name__}, which is no sequence" if size is None else f"{size} results"
    raise BatchSizeError(
        f"stage {stage.name!r} ({stage.origin}) was given {given} item{'s' if given != 1 else ''} and returned {gave}: "
        "a batched stage returns a sequence with one result for each item, in order"
    )


@dataclasses.dataclass
class BatchCall:
    """A batched stage ready to be called, with what was learned about the batches it can take.

    Parameters
    ----------
    stage : Stage
        The stage.
    target : callable
        Its function or replica.
    ceiling : int
        The most items a call: the stage's ``batch``, or less after it ran out of memory.
    """

    stage: Stage[Any, Any]
    target: Callable[[Any], Any]
    ceiling: int

    def instance(self) -> Any:
        """Return the object that is called: the function, or the replica's instance, constructed if need be."""
        return self.target.construct() if isinstance(self.target, Replica) else self.target

    @functools.cached_property
    def collates(self) -> bool:
        """Whether the object can hand on whole batches."""
        return isinstance(self.instance(), Collating)

    def one(self, item: Any) -> Any:
        """Return the result of a single item."""
        return checked_results(self.stage, 1, self.target([item]))[0]

    def many(self, items: list[Any]) -> Sequence[Any]:
        """Return the results of items that fit one batch."""
        return checked_results(self.stage, len(items), self.target(items))

    def isolating(self, items: list[Any], first: Exception) -> tuple[list[Any], dict[int, Exception]]:
        """Return the results of items whose batch has failed, by splitting it until only what fails by itself fails.

        Parameters
        ----------
        items : list
            The batch.
        first : Exception
            What it raised.

        Returns
        -------
        list, dict of int to Exception
            The results, None where there is none; and the error of each item that has none.

        Notes
        -----
        One bad item among n costs at most 2·log2(n) further calls: each level of halving calls its two halves. A batch
        that ran out of memory is halved likewise, and its half's size is remembered as the most to be tried.
        """
        results: list[Any] = [None] * len(items)
        errors: dict[int, Exception] = {}
        if not self.stage.options.pure or len(items) == 1:
            if len(items) > 1:
                first.add_note(
                    f"dataflow: stage {self.stage.name!r} is not pure, so its failed batch of {len(items)} was not "
                    "split to find the item to blame: all of it failed"
                )
            return results, dict.fromkeys(range(len(items)), first)
        stack = [(0, len(items), first)]
        while stack:
            start, stop, error = stack.pop()
            if stop - start == 1:
                errors[start] = error
                continue
            if out_of_memory(error):
                forget_frames(error)
                self.ceiling = max(1, min(self.ceiling, (stop - start) // 2))
            middle = (start + stop) // 2
            halves = []
            for low, high in ((start, middle), (middle, stop)):
                try:
                    results[low:high] = self.many(items[low:high])
                except Exception as failed:
                    halves.append((low, high, failed))
            stack += halves
        if len(errors) == len(items) and all(isinstance(error, BatchSizeError) for error in (first, *errors.values())):
            errors = dict.fromkeys(errors, first)  # it always miscounts: the whole batch's error says so best
        return results, errors


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory, of the host or a device, has run out."""
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or (
        isinstance(error, RuntimeError) and "out of memory" in short_repr(error, 400).lower()
    )


def forget_frames(error: BaseException) -> None:
    """Let go of the frames that an error holds, and with them of the tensors in their variables."""
    error.__traceback__ = None
    error.__context__ = None
