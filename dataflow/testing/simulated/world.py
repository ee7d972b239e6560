"""A world of one thread and a time of its own, in which a seed says who goes next.

What runs in it are coroutines. One goes on until it has to wait for something to happen; then another one that can go
on is chosen, by a random number. Only when none can does time pass: at once, to the next moment that somebody waits
for.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from dataflow.executors.faults import Fault


class Failed(Exception):
    """An item's failure on its way through coroutines."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault


class Stuck(RuntimeError):
    """Nothing can go on any more, and something is still waited for."""


class Event:
    """Something that may happen, once."""

    def __init__(self) -> None:
        self.happened = False
        self.waiting: list[Task] = []

    def __await__(self) -> Generator[Event, None, None]:
        if not self.happened:
            yield self


class Task:
    """A coroutine under way.

    Parameters
    ----------
    work : coroutine
        What it does.

    Attributes
    ----------
    ended : Event
        When it has returned or failed.
    value : object
        What it returned.
    fault : Fault, optional
        What it failed with.
    """

    def __init__(self, work: Coroutine[Event, None, Any]) -> None:
        self.work = work
        self.ended = Event()
        self.value: Any = None
        self.fault: Fault | None = None

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.ended.happened

    @property
    def won(self) -> bool:
        """Whether it has returned."""
        return self.done and self.fault is None

    def result(self) -> Any:
        """Return what it returned, or raise `Failed`."""
        if self.fault is not None:
            raise Failed(self.fault)
        return self.value


class World:
    """What happens, in which order and when.

    Parameters
    ----------
    seed : int
        Decides who goes next, wherever several can.
    now : float
        The time at the beginning, in seconds.

    Attributes
    ----------
    random : random.Random
        For every decision that the seed takes.
    idle : callable
        Asked when nothing can go on at this moment, before time passes; gives whether it found something to do.
    """

    def __init__(self, seed: int, now: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.now = now
        self.idle: Callable[[], bool] = lambda: False
        self._ready: list[Task] = []
        self._under_way: dict[Task, None] = {}
        self._later: list[tuple[float, int, Event]] = []
        self._numbers = itertools.count()

    def start(self, work: Coroutine[Event, None, Any]) -> Task:
        """Start a coroutine: it goes on as soon as it is chosen."""
        task = Task(work)
        self._ready.append(task)
        self._under_way[task] = None
        return task

    def happen(self, event: Event) -> None:
        """Let an event happen, now."""
        if not event.happened:
            event.happened = True
            self._ready += [task for task in event.waiting if not task.done]
            event.waiting.clear()

    def after(self, seconds: float) -> Event:
        """Return the event that so many seconds have passed."""
        event = Event()
        if seconds <= 0:
            event.happened = True
        else:
            heapq.heappush(self._later, (self.now + seconds, next(self._numbers), event))
        return event

    def cancel(self, *tasks: Task) -> None:
        """Give tasks up: they end where they wait, and what they have started with them."""
        for task in tasks:
            if not task.done:
                task.ended.happened = True
                self._under_way.pop(task, None)
                task.work.close()

    def end(self) -> None:
        """Give up whatever is under way."""
        while self._under_way:
            self.cancel(next(iter(self._under_way)))
        self._ready.clear()
        self._later.clear()

    def run(self, until: Event) -> None:
        """Let things happen until this has."""
        while not until.happened:
            if self._ready:
                self._go_on(self._ready.pop(self.random.randrange(len(self._ready))))
            elif not self.idle():
                self._pass_time()

    def _go_on(self, task: Task) -> None:
        if task.done:
            return
        try:
            event = task.work.send(None)
        except StopIteration as end:
            task.value = end.value
        except Failed as failed:
            task.fault = failed.fault
        else:
            event.waiting.append(task)
            return
        self._under_way.pop(task, None)
        self.happen(task.ended)

    def _pass_time(self) -> None:
        while self._later and not any(not task.done for task in self._later[0][2].waiting):
            heapq.heappop(self._later)  # who waited for this has been given up
        if not self._later:
            raise Stuck("nothing can go on any more, and no moment is waited for: something waits for ever")
        self.now, _, event = heapq.heappop(self._later)
        self.happen(event)


class Room:
    """Room for so many at a time; who waits is let in at random.

    Parameters
    ----------
    world : World
        Where it is.
    size : int
        For how many.
    """

    def __init__(self, world: World, size: int) -> None:
        self._world = world
        self._free = size
        self._waiting: list[Event] = []

    async def enter(self) -> None:
        """Wait for a place, and take it."""
        while not self._free:
            event = Event()
            self._waiting.append(event)
            await event
        self._free -= 1

    def leave(self) -> None:
        """Give the place back."""
        self._free += 1
        waiting, self._waiting = self._waiting, []
        for event in waiting:  # all look again, in an order that the world chooses
            self._world.happen(event)


async def first(world: World, *events: Event) -> None:
    """Wait until any of the events has happened."""
    if any(event.happened for event in events):
        return
    either = Event()
    watchers = [world.start(_watch(world, event, either)) for event in events]
    try:
        await either
    finally:
        world.cancel(*watchers)


async def _watch(world: World, event: Event, either: Event) -> None:
    await event
    world.happen(either)
