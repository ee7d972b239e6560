"""Work done aside: in a thread that has nothing else to do, which can be abandoned when its time is up.

Python cannot stop a thread. What hangs is therefore left behind: its result is dropped, its thread is a daemon, and it
is counted. Everything else has been done before the call that started it returns. A thread that is done waits a moment
for more to do, and then ends: to begin one takes as long as some of what is raced.
"""

from __future__ import annotations

import contextvars
import functools
import itertools
import math
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from dataflow.executors.clock import Clock

T = TypeVar("T")

_KEPT = 0.1  # seconds that a thread waits for more to do

_numbers = itertools.count(1)
_cancelled: contextvars.ContextVar[tuple[threading.Event, ...]] = contextvars.ContextVar("cancelled", default=())
_starters: contextvars.ContextVar[tuple[threading.Thread, ...]] = contextvars.ContextVar("starters", default=())


class Abandoned(BaseException):
    """Ends the thread of work that has been given up; nobody waits for what it leads to."""


def aside() -> bool:
    """Return whether what runs here has been started aside, so that it can be given up."""
    return bool(_cancelled.get())


def go_on() -> None:
    """Raise `Abandoned` if the work that this thread does has been given up: starting more of it is pointless."""
    if _given_up():
        raise Abandoned


def _given_up() -> bool:
    events = _cancelled.get()
    return bool(events) and any(event.is_set() for event in events)


def own_context() -> contextvars.Context:
    """Return a copy of this context for work that is not given up with the work that asks for it.

    It may share a batch, or a session, with what others have asked for.
    """
    context = contextvars.copy_context()
    context.run(_cancelled.set, ())
    return context


def watch(cancel: threading.Event) -> None:
    """Make the work that this context is for one that is given up when `cancel` is set."""
    _cancelled.set((*_cancelled.get(), cancel))


def started_by(thread: threading.Thread | None) -> bool:
    """Return whether what runs here is work that this thread does aside, and waits for: not once it has given it up."""
    return any(starter is thread for starter in _starters.get()) and not _given_up()


class _Hand(threading.Thread):
    """A thread that does work aside, and then more of it, if there is some soon.

    Parameters
    ----------
    work : callable
        What to do first; it raises nothing.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(name=f"dataflow-aside-{next(_numbers)}", daemon=True)
        self._work: Callable[[], None] | None = work
        self._called = threading.Lock()
        self._called.acquire()

    def run(self) -> None:
        while (work := self._work) is not None:
            self._work = None
            work()
            del work
            _idle.append(self)
            if not self._called.acquire(timeout=_KEPT):
                try:
                    _idle.remove(self)
                except ValueError:  # it has just been taken
                    self._called.acquire()

    def call(self, work: Callable[[], None]) -> None:
        """Let it do more; by whoever has taken it from those that are idle."""
        self._work = work
        self._called.release()


_idle: list[_Hand] = []
os.register_at_fork(after_in_child=_idle.clear)


def begin(work: Callable[[], None]) -> None:
    """Do work, which raises nothing, in another thread: one that is idle, or a new one."""
    try:
        hand = _idle.pop()
    except IndexError:
        _Hand(work).start()
    else:
        hand.call(work)


class Task(Generic[T]):
    """A call under way aside.

    Parameters
    ----------
    work : callable
        What to do.
    changed : threading.Event
        Set when the task ends.

    Attributes
    ----------
    done : bool
        Whether it has ended by now.
    left : bool
        Whether it had not ended when it was looked at last, and has been given up. Whatever becomes of it later, it
        stays so.
    """

    def __init__(self, work: Callable[[], T], changed: threading.Event) -> None:
        self._work = work
        self._changed = changed
        self._cancel = threading.Event()
        self._starter = threading.current_thread()
        self.done = False
        self.left = False
        self.value: T | None = None
        self.error: BaseException | None = None
        begin(functools.partial(contextvars.copy_context().run, self._run))

    def _run(self) -> None:
        _cancelled.set((*_cancelled.get(), self._cancel))
        _starters.set((*_starters.get(), self._starter))
        try:
            self.value = self._work()
        except BaseException as error:  # handed to whoever waits, KeyboardInterrupt and SystemExit too
            self.error = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)  # without this frame
        finally:
            changed = self._changed
            del self._work, self._starter
            self.done = True
            del self  # the error's frames lead to this one, which must not lead back to the error
            changed.set()

    def result(self) -> T:
        """Return what the call returned, or raise what it raised."""
        try:
            if self.error is not None:
                raise self.error
            return self.value  # type: ignore[return-value]
        finally:
            self.error = None  # no cycle through the traceback of this frame

    @property
    def won(self) -> bool:
        """Whether it has returned."""
        return self.done and not self.left and self.error is None

    @property
    def interrupted(self) -> bool:
        """Whether it has raised what ends everything, as KeyboardInterrupt does."""
        return self.done and not self.left and not (self.error is None or isinstance(self.error, Exception))

    def give_up(self) -> None:
        """Give the work up: what it has not started yet it need not start."""
        self.left = True
        self._cancel.set()


class Aside:
    """Starts work aside and keeps account of it.

    Parameters
    ----------
    clock : Clock
        By which to wait.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.abandoned = 0
        self._lock = threading.Lock()

    def run(self, works: Sequence[Callable[[], T]], enough: Callable[[list[Task[T]]], float | None]) -> list[Task[T]]:
        """Do works beside one another until there is enough.

        Parameters
        ----------
        works : sequence of callables
            Each is done in a thread of its own.
        enough : callable
            Called with the tasks whenever one has ended, and when the time that it last asked for has passed: gives the
            seconds to go on waiting, ``math.inf`` to wait for the next end, or None to stop.

        Returns
        -------
        list of Task
            In the order of `works`. Those not done have been given up: they are `left`.
        """
        go_on()
        changed = threading.Event()
        tasks: list[Task[T]] = []
        try:
            for work in works:
                tasks.append(Task(work, changed))
            while True:
                changed.clear()
                seconds = None if any(task.interrupted for task in tasks) else enough(tasks)
                if seconds is None:
                    break
                self.clock.wait(changed, None if seconds == math.inf else seconds)
        finally:
            self._leave(tasks)
        for task in tasks:
            if task.interrupted:
                task.result()
        return tasks

    def _leave(self, tasks: Sequence[Task[Any]]) -> None:
        for task in tasks:
            if not task.done:
                task.give_up()
                with self._lock:
                    self.abandoned += 1
