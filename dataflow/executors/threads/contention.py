"""How many threads get most done: whether they help one another on, or get in each other's way.

Python's interpreter lock lets one thread run Python code at a time. Where stages hold it, further threads add nothing,
and where a stage lets go of it for moments, as a model does at every operator, it has to wait for it again each time,
for up to the interpreter's switch interval of 5 ms. Where stages do compute beside one another, more threads than cores
are too many. So the work of jobs is watched, and goes on with as many threads as are measured to be best.
"""

from __future__ import annotations

import math

from dataflow.executors.link import Program
from dataflow.executors.schedule import Work

_WINDOW_SECONDS = 0.01
_WINDOW_WORKS = 4
_BUSY = 0.5  # cores in use below which threads mostly wait for something else, and more of them are better
_FULL = 0.8  # of what so many cores could do: above it more threads than that can add nothing
_FEW_WINDOWS = 4
_MOST_WINDOWS = 256
_DRIFT = 1.01  # by how much what was least may have become more, from one work to the next


class Contention:
    """Chooses how many threads may work, from how much work gets done: one, as many as cores, or all of them.

    Work is measured by what its rows take when nothing else runs: its *solo* time. In a window of time, solo time done
    per second is the speed-up that running beside one another brings. Each choice is tried for a window, the best one
    stands for several, for twice as many each time it proves the best again. One is the first, for it is never far
    from the best where threads compute; where they wait, all of them work as soon as that is seen.

    Parameters
    ----------
    cores : int or None
        How many processors there are; None for no limit, ever.

    Attributes
    ----------
    limit : int or None
        How many threads may work at a time; None for all.
    """

    def __init__(self, cores: int | None) -> None:
        self.limit: int | None = 1 if cores is not None else None
        self._limits: tuple[int | None, ...] = tuple(dict.fromkeys((1, cores, None))) if cores is not None else (None,)
        self._untried = list(self._limits[1:2])  # all of them later, if it turns out that they may be better
        self._best: int | None = None
        self._solo: dict[tuple[int, str], float] = {}  # solo seconds a row, by program and step
        self._rates: dict[int | None, float] = {}  # solo seconds a second, by limit
        self._hold = _FEW_WINDOWS  # windows for which a choice stands
        self._left = 0
        self._begin(math.inf)

    def _begin(self, now: float) -> None:
        self._since = now
        self._works = 0
        self._cpu = 0.0
        self._done = 0.0
        self._unknown = 0

    def note(self, work: Work, now: float, wall: float, cpu: float, by_itself: bool) -> bool:
        """Take note of work that has been done.

        Parameters
        ----------
        work : Work
            The work.
        now : float
            When it ended, in seconds.
        wall, cpu : float
            How long it took, and how long its thread was on a processor.
        by_itself : bool
            Whether nothing else ran meanwhile.

        Returns
        -------
        bool
            Whether the choice has changed.
        """
        key = id(work.program), work.slot.step.name
        rows = work.size
        if by_itself:
            known = self._solo.get(key, math.inf)
            # the first take longer, as all do that something else has held up: the least is nearest to what it takes
            self._solo[key] = min(wall / rows, known * _DRIFT)
        solo = self._solo.get(key)
        if self._since == math.inf:
            self._since = now - wall
        self._works += 1
        self._cpu += cpu
        self._done += 0.0 if solo is None else solo * rows
        self._unknown += solo is None
        took = now - self._since
        if self._works < _WINDOW_WORKS or took < _WINDOW_SECONDS:
            return False
        changed = self._decide(took)
        self._begin(now)
        return changed

    def successor(self, program: Program) -> Contention:
        """Return another that goes on where this one is, in the next job of a program."""
        other = Contention(None)
        other.__dict__.update(self.__dict__)
        other._solo = {key: seconds for key, seconds in self._solo.items() if key[0] == id(program)}
        other._rates, other._untried = dict(self._rates), list(self._untried)
        other._begin(math.inf)
        return other

    def unbind(self) -> None:
        """Let all work: one that waits for something else must not keep the others waiting."""
        self.limit = None
        self._untried, self._left, self._hold = list(self._limits[:-1]), 0, _FEW_WINDOWS
        self._begin(math.inf)

    def _decide(self, took: float) -> bool:
        before = self.limit
        self._rates[self.limit] = self._done / took
        if self._cpu < _BUSY * took:
            self.unbind()
        elif self._unknown:
            self.limit = 1
        elif self._worth_trying(took):
            self.limit = self._untried.pop(0)
        elif self._left:
            self._left -= 1
            if not self._left:  # look again whether another is better by now
                self._untried = [limit for limit in self._limits if limit != self.limit]
        else:
            best = max(self._limits, key=lambda limit: self._rates.get(limit, 0.0))
            self._hold = min(2 * self._hold, _MOST_WINDOWS) if best == self._best else _FEW_WINDOWS
            self.limit = self._best = best
            self._left = self._hold
        return self.limit != before

    def _worth_trying(self, took: float) -> bool:
        """Return whether the next limit could be better: all threads not where those that work keep the cores busy."""
        if self._untried and self._untried[0] is None and self.limit is not None:
            idle = self._cpu < _FULL * self.limit * took
            if not idle or self._rates[self.limit] < self._rates.get(1, 0.0):
                self._untried.pop(0)
        return bool(self._untried)
