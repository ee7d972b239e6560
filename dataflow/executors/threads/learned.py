"""What a job has learned of a program, for the next one: how long its steps take, and how many threads do most."""

from __future__ import annotations

import weakref
from typing import NamedTuple

from dataflow.executors.link import Program
from dataflow.executors.schedule.pace import Pace
from dataflow.executors.threads.contention import Contention


class Learned(NamedTuple):
    """What a job has learned.

    Parameters
    ----------
    pace : Pace
        What calls cost.
    contention : Contention
        How many threads do most.
    """

    pace: Pace
    contention: Contention


_learned: weakref.WeakKeyDictionary[Program, Learned] = weakref.WeakKeyDictionary()


def learned_of(program: Program) -> Learned | None:
    """Return what the last job of a program has learned, if there was one."""
    return _learned.get(program)


def keep(program: Program, pace: Pace, contention: Contention) -> None:
    """Keep what a job has learned that has ended."""
    _learned[program] = Learned(pace, contention.successor(program))
