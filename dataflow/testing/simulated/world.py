"""A schedule without threads: whatever threads and time could do to it next, chosen by a seed.

The schedule is the one that the thread executor runs. A move is what a thread would do under the pool's lock: take a
work, bring one back. Which of the moves that are possible comes first is drawn. Only when none is possible does time
pass: at once, to the next moment at which something is due.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable, Iterable
from typing import Any

from dataflow.executors.aside import Abandoned
from dataflow.executors.schedule import Schedule, Work
from dataflow.testing.clock import VirtualClock


class Stuck(RuntimeError):
    """Nothing can go on any more, and something is still waited for."""


class Running:
    """A work that has been run, and the moment at which it counts as done."""

    __slots__ = ("until", "work")

    def __init__(self, work: Work, until: float) -> None:
        self.work = work
        self.until = until


class World:
    """What happens to a schedule, in which order and when.

    Parameters
    ----------
    schedule : Schedule
        Of a program with this clock.
    clock : VirtualClock
        The time. What a work adds to it is the time that the work takes.
    chance : random.Random
        For every decision.
    workers : int
        How many works are under way at once.

    Attributes
    ----------
    trace : list of str
        What has happened so far, each line with its moment.
    abandoned : int
        How many works have been given up while they were under way.
    running : list of Running
        The works under way.
    """

    def __init__(self, schedule: Schedule, clock: VirtualClock, chance: random.Random, workers: int) -> None:
        self.trace: list[str] = []
        self.abandoned = 0
        self.running: list[Running] = []
        self._schedule = schedule
        self._clock = clock
        self._random = chance
        self._workers = workers
        self._passed = 0  # how often time has passed

    def note(self, text: str) -> None:
        """Write down what happens."""
        self.trace.append(f"{self._clock.now():g} s: {text}")

    def go_on(self, others: Iterable[Callable[[], Any]] = (), moment: float = math.inf) -> None:
        """Make one move, or let time pass where there is none.

        Parameters
        ----------
        others : iterable of callables
            Moves that are possible besides those of threads.
        moment : float
            The next moment at which there is one of those.
        """
        moves = [*others, *self._moves()]
        if moves:
            self._random.choice(moves)()
        else:
            self._pass_time(moment)

    def _moves(self) -> list[Callable[[], Any]]:
        now = self._clock.now()
        moves: list[Callable[[], Any]] = [
            functools.partial(self.finish, running) for running in self.running if running.until <= now
        ]
        if len(self.running) < self._workers and self._schedule.more:
            moves.append(self.begin)
        when = self._schedule.timers.next
        if when is not None and when <= now:
            moves.append(self.expire)
        return moves

    def begin(self) -> bool:
        """Take a work and run it, if there is one; its outcome counts when its time has passed."""
        work = self._schedule.take()
        self.forget_left()
        if work is None:
            return False
        reason = "" if work.reason is None else f": {work.reason}"
        self.note(f"{work.slot.step.name} begins, {work.size} item{'s' if work.size > 1 else ''}{reason}")
        began, passed = self._clock.now(), self._passed
        try:
            work.run()
        except Abandoned:  # a stage has let things go on, and it was itself given up
            if not work.left:
                raise
        except BaseException:
            self._schedule.forget(work)
            raise
        if not work.left:
            self.running.append(Running(work, self._clock.now()))
        if passed == self._passed:  # no time has passed but what this work takes
            self._clock.set(began)
        self.forget_left()
        return True

    def finish(self, running: Running) -> None:
        """Bring a work back."""
        self.running.remove(running)
        self.note(f"{running.work.slot.step.name} ends")
        self._schedule.finish(running.work)
        self.forget_left()

    def expire(self) -> None:
        """Do what is due."""
        self._schedule.expire()
        self.forget_left()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._passed += 1
        self._clock.advance(seconds)

    def forget_left(self) -> None:
        """Forget the works that have been given up, as a pool forgets their threads."""
        for running in [running for running in self.running if running.work.left]:
            self.running.remove(running)
            self.abandoned += 1
            self.note(f"{running.work.slot.step.name} is given up")
        self._schedule.left.clear()

    def _pass_time(self, moment: float) -> None:
        moment = min([moment, self._schedule.look()[1], *(running.until for running in self.running)])
        if moment == math.inf:
            raise Stuck("nothing can go on any more, and no moment is waited for: something waits for ever")
        self._passed += 1
        self._clock.set(moment)
