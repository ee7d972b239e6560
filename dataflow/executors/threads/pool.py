"""The threads of an executor: workers, which take work from the schedules, and one that watches the clock.

Everything that threads share is touched under one lock, the pool's. User code, futures' callbacks among it, runs
outside of it. A worker is in one of three states, and changes between them under the lock only: it waits (*idle*), it
runs a work (*busy*), or it has been *left*, because it runs a work that nobody wants any more. One that is left counts
no longer: another takes its place. When its stage returns, if ever, it takes a place that is free, or ends.
"""

from __future__ import annotations

import atexit
import itertools
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Protocol

from dataflow.errors import SessionClosed
from dataflow.executors.clock import Clock, SystemClock
from dataflow.executors.schedule import Schedule, Work
from dataflow.executors.threads.contention import Contention
from dataflow.executors.threads.worker import BLOCKED, Worker

_numbers = itertools.count(1)
_NEVER = float("inf")

GRACE = 0.05
"""Seconds that a pool which is cancelled waits for its threads; those that still run a stage then end later, by
themselves."""


_MORE_THAN_CORES = 4  # threads, for some wait for something else
_MOST_WORKERS = 32


class Sized(Protocol):
    """What says how many threads it wants."""

    @property
    def workers(self) -> int | None:
        """How many stages run at once at most; None where it does not say."""
        ...


def workers_of(executor: Sized) -> int:
    """Return how many threads an executor gets."""
    return executor.workers or min(_MOST_WORKERS, (os.cpu_count() or 1) + _MORE_THAN_CORES)


class Client(Protocol):
    """Whose work a pool does."""

    schedule: Schedule

    @property
    def more(self) -> bool:
        """Whether there is work for another thread now."""
        ...

    def look(self) -> tuple[bool, float]:
        """Return that, and the moment at which there will be more if nothing happens before."""
        ...

    def take(self) -> Work | None:
        """Return the work that is to be done next, or None where there is none now; called under the lock."""
        ...

    @property
    def hurried(self) -> bool:
        """Whether somebody waits for an item, and not just for a job to be done."""
        ...

    def interrupted(self, work: Work, error: BaseException) -> None:
        """Take what a stage has raised to end everything; called under the lock."""
        ...

    def dropped(self) -> list[Callable[[], None]]:
        """Cancel everything, for nobody does this work any more; called under the lock.

        Returns
        -------
        list of callables
            To be called outside the lock.
        """
        ...

    def tick(self) -> float:
        """Note that time has passed, and return when to be told so again; called under the lock."""
        ...

    def settled(self) -> list[Callable[[], None]]:
        """Return what is to be called, outside the lock, now that things have changed; called under the lock."""
        ...


class Pool:
    """Threads that do the work of sessions.

    Parameters
    ----------
    workers : int
        The most threads that run stages at once.
    clock : Clock
        By which to wait.
    executor : Threads
        Whose pool it is.

    Attributes
    ----------
    lock : threading.RLock
        What everything shared is touched under.
    abandoned : int
        How many threads have been left behind, running what nobody wants any more.
    """

    def __init__(self, workers: int, clock: Clock, executor: object) -> None:
        self.executor = executor
        self.workers = workers
        self.clock = clock
        self.lock = threading.RLock()  # to be known who has it: see `entered`
        self.abandoned = 0
        self._changed = threading.Condition(self.lock)
        self._alarm = threading.Event()
        self._clients: list[Client] = []
        self._threads: set[Worker] = set()
        self._watch: threading.Thread | None = None
        self._watched = _NEVER
        self._idle = 0
        self._busy = 0
        self._lent = 0  # how many of the busy wait for what others do
        self._stopping = False
        # blocked threads are told by the computer's clock: where a test moves the time, none is held back
        self.contention = Contention((os.cpu_count() or 1) if isinstance(clock, SystemClock) else None)
        self._begun = 0  # how many works have begun
        self._process = os.getpid()
        _pools.add(self)

    @property
    def foreign(self) -> bool:
        """Whether the threads are not there: in another process, or frozen at the interpreter's end, maybe locking."""
        return os.getpid() != self._process or sys.is_finalizing()

    def entered(self, end: Callable[[], object]) -> bool:
        """Return whether this thread is in the middle of a change; then `end` is called in another thread, later.

        Only the garbage collector gets there, which may run anywhere: it ends a job whose iterator was left in a cycle.
        """
        if not self.lock._is_owned():  # type: ignore[attr-defined]  # Condition itself asks its lock so
            return False
        threading.Thread(target=end, name=f"dataflow-end-{next(_numbers)}", daemon=True).start()
        return True

    # -- clients -------------------------------------------------------------------------------------------------------

    def attach(self, client: Client) -> None:
        """Do the work of this client from now on."""
        with self.lock:
            if self._stopping:
                raise SessionClosed("the session whose stage opens this one has been closed meanwhile")
            self._clients.append(client)

    def detach(self, client: Client) -> None:
        """Do no more of this client's work."""
        with self.lock:
            self._clients.remove(client)

    def changed(self, client: Client, *, by_worker: bool = False) -> list[Callable[[], None]]:
        """Set threads to what there is to do now; called under the lock, by whoever has changed a schedule.

        Parameters
        ----------
        client : Client
            Whose schedule.
        by_worker : bool
            Whether it is one of the threads, which looks for work itself next: no other need be woken for that.

        Returns
        -------
        list of callables
            To be called outside the lock.
        """
        self._abandon(client)
        calls = client.settled()
        more, moment = client.look()
        if more and (calls or not by_worker):
            self._wake()
        self.watch_until(moment)
        return calls

    def stop(self, *, wait: bool = True) -> None:
        """End all threads.

        Parameters
        ----------
        wait : bool
            Whether to wait for threads that run a stage; otherwise they end when it returns.
        """
        _pools.discard(self)
        if self.foreign:
            return
        calls: list[Callable[[], None]] = []
        with self.lock:
            self._stopping = True
            for client in list(self._clients):  # opened by stages, which would wait for ever
                calls += client.dropped()
            self._changed.notify_all()
            self._alarm.set()
            threads = [*self._threads, *([self._watch] if self._watch else [])]
        _call_all(calls)
        until = None if wait else self.clock.now() + GRACE
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(None if until is None else max(0.0, until - self.clock.now()))

    @property
    def resting(self) -> bool:
        """Whether no thread runs a stage."""
        return self._busy == self._lent

    @property
    def free(self) -> int:
        """How many more stages could be run at once."""
        return max(0, self.workers - self._busy + self._lent)

    def lend(self) -> None:
        """Let another worker take the place of this thread, which is one of them, while it waits."""
        with self.lock:
            self._lent += 1
            self._wake_one()

    def take_back(self) -> None:
        """Take one's place again."""
        with self.lock:
            self._lent -= 1

    def enter(self) -> bool:
        """Take the place of a worker, for a thread that is none, if all of them are free; called under the lock."""
        if self._busy or self._stopping:
            return False
        self._busy += 1
        return True

    def leave(self) -> None:
        """Leave the place that was taken; called under the lock."""
        self._busy -= 1

    # -- workers -------------------------------------------------------------------------------------------------------

    def _wake_one(self) -> None:
        if any(client.more for client in self._clients):
            self._wake()

    def _wake(self) -> None:
        if self._stopping:
            return
        if self._full:
            if self.free:  # it is held back: look soon whether those that run are blocked
                self.watch_until(self.clock.now() + BLOCKED)
            return
        if self._idle:
            self._changed.notify()
        elif len(self._threads) - self._lent < self.workers:
            worker = Worker(self._serve, self)
            self._threads.add(worker)
            worker.start()

    @property
    def _full(self) -> bool:
        """Whether as many works run as may."""
        free, limit = self.free, self.contention.limit
        if free and limit is not None and not any(client.hurried for client in self._clients):
            return self.workers - free >= limit
        return not free

    def _take(self) -> tuple[Client, Work] | None:
        if self._full:
            return None
        for client in self._clients:
            work = client.take()
            if work is not None:
                self._clients.append(self._clients.pop(self._clients.index(client)))  # the others first, next time
                return client, work
        return None

    def _serve(self, worker: Worker) -> None:
        self.lock.acquire()
        try:
            while not self._stopping:
                taken = self._take()
                if taken is None:
                    for client in self._clients:  # to look for work has given up what was late
                        self._abandon(client)
                    if calls := [call for client in self._clients for call in client.settled()]:
                        self._outside(calls)  # some have come to their end though there was nothing to run
                        continue
                    if not self._full:  # to ask for work has let items in: one may wait for its batch
                        for client in self._clients:
                            more, moment = client.look()
                            self.watch_until(self.clock.now() if more else moment)
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1
                    continue
                client, work = taken
                self._busy += 1
                self._begun += 1
                nth, others = self._begun, self._busy - self._lent - 1
                more, moment = client.look()
                if more:
                    self._wake()
                self.watch_until(moment)
                worker.work = work
                work.thread = worker  # now: it may be given up before it has begun
                worker.began, worker.used = time.perf_counter(), time.thread_time()
                self.lock.release()
                interrupt: BaseException | None = None
                try:
                    work.run()
                except BaseException as error:  # KeyboardInterrupt and SystemExit end everything
                    interrupt = error
                ended = time.perf_counter()
                took, used = ended - worker.began, time.thread_time() - worker.used
                self.lock.acquire()
                worker.work = None
                if work.left:
                    del taken, client, work, interrupt
                    if len(self._threads) - self._lent >= self.workers:
                        return
                    self._threads.add(worker)
                    continue
                self._busy -= 1
                by_itself = not others and self._begun == nth
                if self.contention.note(work, ended, took, used, by_itself):
                    self._wake_one()
                calls = self.bring_back(client, work, interrupt, by_worker=True)
                interrupt = None
                del taken, client, work
                if calls:
                    self._outside(calls)
        finally:
            self._threads.discard(worker)
            self.lock.release()

    def _outside(self, calls: list[Callable[[], None]]) -> None:
        """Call these outside of the lock, which this thread holds."""
        self.lock.release()
        _call_all(calls)
        calls.clear()
        self.lock.acquire()

    def _blocked(self, worker: Worker) -> bool:
        """Return whether a thread runs a stage that waits for something else than another thread's stage."""
        return worker.blocked and not any(client.schedule.whole.waits(worker.ident) for client in self._clients)

    def bring_back(
        self, client: Client, work: Work, interrupt: BaseException | None, *, by_worker: bool = False
    ) -> list[Callable[[], None]]:
        """Take work back that has been run, or was interrupted; called under the lock, and returns as `changed`."""
        if interrupt is None:
            try:
                client.schedule.finish(work)
            except Exception as error:  # a defect of ours must not leave anybody waiting
                interrupt = error
        if interrupt is not None:
            client.schedule.forget(work)
            client.interrupted(work, interrupt)
        return self.changed(client, by_worker=by_worker)

    def _abandon(self, client: Client) -> None:
        """Give up the threads of work that has been left, so that others take their places."""
        for work in client.schedule.left:
            if isinstance(work.thread, Worker):
                self._threads.discard(work.thread)
                self._busy -= 1
                self.abandoned += 1
                self._wake_one()
            elif work.stop is not None:
                work.stop()
        client.schedule.left.clear()

    # -- time ----------------------------------------------------------------------------------------------------------

    def watch_until(self, moment: float) -> None:
        """Look at the clients at this moment at the latest; called under the lock."""
        if moment >= self._watched or self._stopping:
            return
        self._watched = moment
        if self._watch is None:
            self._watch = threading.Thread(target=self._keep_time, name=f"dataflow-clock-{next(_numbers)}", daemon=True)
            self._watch.start()
        self._alarm.set()

    def _keep_time(self) -> None:
        while True:
            with self.lock:
                if self._stopping:
                    return
                calls: list[Callable[[], None]] = []
                again = _NEVER
                if self.contention.limit is not None and any(map(self._blocked, self._threads)):
                    self.contention.unbind()
                for client in self._clients:
                    client.schedule.expire()
                    again = min(again, client.tick())
                    self._abandon(client)
                    calls += client.settled()
                # once, for what is not due at one look and is at the next would be woken by neither
                looks = [client.look() for client in self._clients]
                if any(more for more, _ in looks):
                    self._wake()
                    if self._full and self.free:
                        again = min(again, self.clock.now() + BLOCKED)  # held back still
                self._watched = min([again, *(moment for _, moment in looks)])
                self._alarm.clear()
                seconds = self._watched - self.clock.now()
            _call_all(calls)
            del calls
            if seconds > 0:
                self.clock.wait(self._alarm, None if seconds == _NEVER else seconds)


def _call_all(calls: list[Callable[[], None]]) -> None:
    """Call these, each whatever the others raise: a future's callback may raise what ends a thread."""
    for call in calls:
        try:
            call()
        except BaseException as error:
            given = (type(error), error, error.__traceback__, threading.current_thread())
            threading.excepthook(threading.ExceptHookArgs(given))


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """End the threads of sessions that are open when the interpreter shuts down, before it freezes them anywhere."""
    for pool in list(_pools):
        pool.stop(wait=False)
