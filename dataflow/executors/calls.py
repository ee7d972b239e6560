"""Calling users' stages: one item, one batch, and what is done when a batch fails."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from typing import Any, Protocol

from dataflow.errors import BatchSizeError
from dataflow.executors.aside import go_on, started_by
from dataflow.executors.faults import add_note, outcome
from dataflow.expr.stage import Stage, short_repr

Batch = Any

_LOOK_AGAIN = 0.05  # seconds after which who waits for an instance looks whether it has been replaced


class Collating(Protocol):
    """A batched stage that can hand a whole batch to its neighbour without taking it apart.

    A stage's callable that has these methods is called through them: once ``collate``, then ``forward`` of each stage
    in turn while their ``space`` is the same, then ``split``. A space that is a context manager is entered around them.
    """

    space: Hashable

    def collate(self, items: list[Any]) -> Batch:
        """Return items as one batch, which shares no memory with them."""
        ...

    def forward(self, batch: Batch, *, keep: bool) -> Batch:
        """Return the results of a batch, as one batch.

        Parameters
        ----------
        batch : object
            What `collate` or `forward` has returned.
        keep : bool
            Whether it has to stay as it is, for it will be used again.
        """
        ...

    def size(self, batch: Batch) -> int:
        """Return how many results a batch holds."""
        ...

    def split(self, batch: Batch, size: int) -> Sequence[Any]:
        """Return a batch of results as `size` results."""
        ...


def collates(target: Any) -> bool:
    """Return whether the object that is called can hand on whole batches: its class says so, not a mock's attribute."""
    kind: Any = type(target)
    return _has_methods(kind) and hasattr(target, "space")


@functools.lru_cache
def _has_methods(kind: Hashable) -> bool:
    return all(hasattr(kind, name) for name in ("collate", "forward", "size", "split"))


class _Seat:
    """Who may call an instance: one thread at a time, and what that thread does aside while it waits for it."""

    __slots__ = ("_depth", "inner", "lock", "made", "taker")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.taker: threading.Thread | None = None
        self.inner: _Seat | None = None
        self.made: Any = None
        self._depth = 0

    def taken(self) -> None:
        """Note that this thread has the lock, once more."""
        self.taker = threading.current_thread()
        self._depth += 1

    def leave(self) -> None:
        """Release the lock."""
        self._depth -= 1
        if not self._depth:
            self.taker = None
        self.lock.release()


class _Held:
    """An instance that a thread has to itself in the block; it has been taken already."""

    __slots__ = ("_instance", "_seat")

    def __init__(self, instance: Any, seat: _Seat | None) -> None:
        self._instance = instance
        self._seat = seat

    def __enter__(self) -> Any:
        return self._instance

    def __exit__(self, *exc: object) -> None:
        if self._seat is not None:
            self._seat.leave()


class Replica:
    """One instance of a class stage: constructed when it is first needed, called by one thread at a time.

    Parameters
    ----------
    stage : Stage
        Whose class to construct.

    Notes
    -----
    An instance may run a flow that leads back to itself, as any function may call itself. Where that flow has a timeout
    or a race, it comes back in another thread, while the first one waits for it: it is let in, for it would wait for
    ever otherwise. Several that come back so take turns, in the seat inside the one that their starter has taken.
    """

    def __init__(self, stage: Stage[Any, Any]) -> None:
        self._stage = stage
        self._outer = _Seat()
        self._lock = threading.Lock()

    @property
    def constructed(self) -> bool:
        """Whether there is an instance."""
        return self._outer.made is not None

    @property
    def busy(self) -> bool:
        """Whether a thread has it."""
        return self._outer.taker is not None

    def held(self) -> _Held:
        """Have the instance to oneself."""
        return _Held(*self._take())

    def __call__(self, given: Any) -> Any:
        instance, seat = self._take()
        try:
            return instance(given)
        finally:
            seat.leave()

    def renew(self, holder: threading.Thread | None = None) -> None:
        """Forget an instance that a thread which was given up still holds; the next call constructs another.

        Parameters
        ----------
        holder : Thread, optional
            The thread; by default whichever has it.

        Notes
        -----
        One that is still being constructed is waited for: another would take as long, and there is no end to it.
        """
        seat: _Seat | None = self._outer
        if holder is not None and self._outer.taker is not holder:
            return
        while seat is not None and seat.lock.acquire(blocking=False):
            seat.lock.release()
            seat = seat.inner
        if seat is not None and self.constructed:
            self._outer = _Seat()

    def _take(self) -> tuple[Any, _Seat]:
        """Return the instance and a seat that this thread has taken."""
        while True:
            outer = seat = self._outer
            while not seat.lock.acquire(blocking=False):
                if started_by(seat.taker):
                    with self._lock:
                        seat.inner = seat.inner or _Seat()
                    seat = seat.inner
                    continue
                while not seat.lock.acquire(timeout=_LOOK_AGAIN):
                    go_on()
                    if outer is not self._outer:
                        outer = seat = self._outer
                        break
                else:
                    break
            seat.taken()
            if outer is self._outer:
                break
            seat.leave()
        try:
            if outer.made is None:
                outer.made = self._stage.fn(*self._stage.args, **self._stage.kwargs)
        except BaseException:
            seat.leave()
            raise
        return outer.made, seat


class Replicas:
    """All instances of a class stage: a call takes one that is free.

    Parameters
    ----------
    stage : Stage
        Whose class to construct.
    count : int or (int, int), optional
        How often; by default as often as the stage's ``replicas`` say. Where it is a range, up to its higher end.
    """

    def __init__(self, stage: Stage[Any, Any], count: int | tuple[int, int] | None = None) -> None:
        count = stage.options.replicas if count is None else count
        self.least, self.most = count if isinstance(count, tuple) else (count, count)
        self._all = [Replica(stage) for _ in range(self.most)]
        self._turns = itertools.count()

    @property
    def constructed(self) -> bool:
        """Whether there is an instance."""
        return any(replica.constructed for replica in self._all)

    def construct(self, *, all_replicas: bool = False) -> None:
        """Construct the first instance, or the least that there are to be."""
        for replica in self._all[: self.least if all_replicas else 1]:
            with replica.held():
                pass

    def held(self) -> _Held:
        """Have an instance to oneself."""
        return self._next().held()

    def __call__(self, given: Any) -> Any:
        return self._next()(given)

    def renew(self, holder: threading.Thread | None = None) -> None:
        """Forget the instances that a thread which was given up still holds (any thread by default)."""
        for replica in self._all:
            replica.renew(holder)

    def _next(self) -> Replica:
        """Return the first replica that is free, so that no more are constructed than are needed at once."""
        if self.most == 1:
            return self._all[0]
        free = next((replica for replica in self._all if not replica.busy), None)
        return free or self._all[next(self._turns) % self.most]


def checked_results(stage: Stage[Any, Any], given: int, results: Any) -> list[Any]:
    """Return a batch's results if there is one for each item; raise `BatchSizeError` otherwise."""
    unordered = isinstance(results, (str, bytes, Mapping, Set))
    try:
        size = None if unordered else len(results)
    except TypeError:
        size = None
    if size == given:
        made = list(results)
        if len(made) == given:
            return made
        size = len(made)  # what it says of its length is not what it gives
    gave = f"{size} result{'s' if size != 1 else ''}"
    if size is None:
        gave = f"a {type(results).__name__}, which is no sequence"
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
        Its function or replicas.
    ceiling : int
        The most items a call: the stage's ``batch``, or less after it ran out of memory.
    """

    stage: Stage[Any, Any]
    target: Callable[[Any], Any]
    ceiling: int

    def held(self) -> _Held:
        """Have to oneself the object that is called: the function, or an instance of the class."""
        return self.target.held() if isinstance(self.target, Replicas) else _Held(self.target, None)

    def one(self, item: Any) -> Any:
        """Return the result of a single item."""
        return checked_results(self.stage, 1, self.target([item]))[0]

    def many(self, items: list[Any]) -> list[Any]:
        """Return the results of items that fit one batch. The stage gets a list of its own, which it may change."""
        return checked_results(self.stage, len(items), self.target(list(items)))

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
        One bad item among n costs at most 2·log2(n) further calls: each level of halving calls its two halves, and not
        the second one where the first was fine, which must then hold what is bad. A batch that ran out of memory is
        halved likewise, its half's size is remembered as the most to be tried, and what is larger is not called. A
        batch that was miscounted though none of its items is when it is alone fails whole: a stage that makes one
        result of a batch would otherwise pass for one that makes one of each item.
        """
        whole = dict.fromkeys(range(len(items)), first)
        results: list[Any] = [None] * len(items)
        errors: dict[int, Exception] = {}
        self.learn(first, len(items))
        if len(items) == 1 or (isinstance(self.target, Replicas) and not self.target.constructed):
            return results, whole
        if not self.stage.options.pure:
            add_note(
                first,
                f"dataflow: stage {self.stage.name!r} is not pure, so its failed batch of {len(items)} was not split "
                "to find the item to blame: all of it failed",
            )
            return results, whole
        miscounted: list[tuple[int, int, Exception]] = []
        stack = [(0, len(items), first)]
        while stack:
            start, stop, error = stack.pop()
            if stop - start == 1:
                errors[start] = error
                continue
            if isinstance(error, BatchSizeError):
                miscounted.append((start, stop, error))
            middle = (start + stop) // 2
            held = not out_of_memory(error)  # that is the size's doing, and no item's
            for low, high in ((start, middle), (middle, stop)):
                known = high - low > self.ceiling or (low == middle and held)
                if known and high - low > 1:
                    stack.append((low, high, error))
                    continue
                go_on()
                made, failed = outcome(self.many, items[low:high])
                if made is not None:
                    results[low:high] = made
                elif failed is not None:
                    held = False
                    self.learn(failed, high - low)
                    stack.append((low, high, failed))
        if len(errors) == len(items) and all(isinstance(error, BatchSizeError) for error in (first, *errors.values())):
            return results, whole  # it always miscounts: the whole batch's error says so best
        for start, stop, error in miscounted:
            if not any(start <= position < stop for position in errors):
                errors.update(dict.fromkeys(range(start, stop), error))
        return results, errors

    def learn(self, error: Exception, size: int) -> None:
        """Remember half the size of a batch that ran out of memory as the most to try, and let go of its frames."""
        if size > 1 and out_of_memory(error):
            forget_frames(error)
            self.ceiling = max(1, min(self.ceiling, size // 2))


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
