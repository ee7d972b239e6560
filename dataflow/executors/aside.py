"""Work done aside: in a thread of its own, which can be abandoned when its time is up.

Python cannot stop a thread. What hangs is therefore left behind: its result is dropped, its thread is a daemon, and it
is counted. Everything else is joined before the call that started it returns.
"""

from __future__ import annotations

import contextvars
import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from dataflow.executors.clock import Clock

T = TypeVar("T")

_numbers = itertools.count(1)
_cancelled: contextvars.ContextVar[tuple[threading.Event, ...]] = contextvars.ContextVar("cancelled", default=())


def cancelled() -> bool:
    """Return whether the work that this thread does has been given up, so that starting more of it is pointless."""
    return any(event.is_set() for event in _cancelled.get())


class Task(Generic[T]):
    """A call under way aside.

    Parameters
    ----------
    work : callable
        What to do.
    changed : threading.Event
        Set when the task ends.
    """

    def __init__(self, work: Callable[[], T], changed: threading.Event) -> None:
        self._work = work
        self._changed = changed
        self._cancel = threading.Event()
        self.done = False
        self.value: T | None = None
        self.error: BaseException | None = None
        context = contextvars.copy_context()
        self.thread = threading.Thread(
            target=context.run, args=(self._run,), name=f"dataflow-aside-{next(_numbers)}", daemon=True
        )
        self.thread.start()

    def _run(self) -> None:
        _cancelled.set((*_cancelled.get(), self._cancel))
        try:
            self.value = self._work()
        except BaseException as error:  # handed to whoever waits, KeyboardInterrupt and SystemExit too
            trace = error.__traceback__
            self.error = error.with_traceback(trace and trace.tb_next)  # without this frame, which holds the task
        finally:
            del self._work
            self.done = True
            self._changed.set()

    def result(self) -> T:
        """Return what the call returned, or raise what it raised."""
        try:
            if self.error is not None:
                raise self.error
            return self.value  # type: ignore[return-value]
        finally:
            self.error = None  # no cycle through the traceback of this frame

    def cancel(self) -> None:
        """Give the work up: what it has not started yet it need not start."""
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
            Each is started in a thread of its own.
        enough : callable
            Called with the tasks whenever one has ended, and when the time that it last asked for has passed: gives the
            seconds to go on waiting, ``math.inf`` to wait for the next end, or None to stop.

        Returns
        -------
        list of Task
            In the order of `works`. Those not done have been cancelled and abandoned.
        """
        changed = threading.Event()
        tasks = [Task(work, changed) for work in works]
        try:
            while True:
                changed.clear()
                for task in tasks:
                    if task.done and task.error is not None and not isinstance(task.error, Exception):
                        task.result()  # an interrupt ends everything
                seconds = enough(tasks)
                if seconds is None:
                    break
                self.clock.wait(changed, None if seconds == float("inf") else seconds)
        finally:
            self._leave(tasks)
        return tasks

    def _leave(self, tasks: Sequence[Task[Any]]) -> None:
        for task in tasks:
            if task.done:
                task.thread.join()
            else:
                task.cancel()
                with self._lock:
                    self.abandoned += 1
