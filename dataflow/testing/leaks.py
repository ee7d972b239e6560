"""What is left behind when something has ended: threads, open files, child processes, reference cycles."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import threading
import time
import traceback
import types
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

GRACE = 5.0
"""Seconds that what has been told to end may take to do so on a busy machine."""

_LOOK_AGAIN = 0.01
_DESCRIPTORS = Path("/proc/self/fd")
_CHILDREN = Path("/proc/self/task")


@contextlib.contextmanager
def assert_no_leaks(
    *, cycles: bool = True, files: bool = True, others: Collection[str] = (), grace: float = GRACE
) -> Iterator[None]:
    """Check that a block leaves nothing behind: no thread, open file, child process or uncollected cycle.

    Parameters
    ----------
    cycles : bool
        Whether to look for errors, with their frames and all that these hold, which only the garbage collector would
        find. A job that makes such a cycle for every failure grows. Cycles without an error are no leak: a session and
        its generated code are one.
    files : bool
        Whether to look for open files and sockets.
    others : collection of str
        Packages whose own errors are not looked at: those that have passed through nothing but their code.
    grace : float
        Real seconds that threads and processes which have been told to end may take to do so.

    Raises
    ------
    AssertionError
        With all that is left.

    Notes
    -----
    Daemons that libraries keep (tqdm's monitor, say) are no leak; those whose names begin with ``dataflow`` are. Open
    files and child processes are looked at where the system shows them under ``/proc``.

    Examples
    --------
    >>> import dataflow as df
    >>> from dataflow.testing import assert_no_leaks
    >>> with assert_no_leaks():
    ...     with df.stage(abs).open("inline") as session:
    ...         session.run(-1)
    1
    """
    gc.collect()
    threads, opened, children = set(threading.enumerate()), _files(), _children()
    collects, flags = gc.isenabled(), gc.get_debug()
    if cycles:
        gc.disable()
    try:
        yield
        left = _late(threads, children, grace)
        if cycles:
            left += _cycles(flags, others)
        if files:  # one may have been the garbage's
            left += [f"an open file, {name}" for name in sorted((_files() - opened).elements())]
    finally:
        gc.set_debug(flags)
        if collects:
            gc.enable()
    assert not left, "left behind: " + "; ".join(left)


def _late(threads: set[threading.Thread], children: set[int], grace: float) -> list[str]:
    """Return the threads and processes that are still there when the time of grace has passed."""
    until = time.monotonic() + grace
    for thread in set(threading.enumerate()) - threads:
        if _ours(thread):
            thread.join(max(0.0, until - time.monotonic()))
    while _children() - children and time.monotonic() < until:
        multiprocessing.active_children()  # joins those that have ended
        time.sleep(_LOOK_AGAIN)
    left = [
        f"the thread {thread.name!r}" for thread in threading.enumerate() if thread not in threads and _ours(thread)
    ]
    return left + [f"the process {pid}" for pid in sorted(_children() - children)]


def _ours(thread: threading.Thread) -> bool:
    return not thread.daemon or thread.name.startswith("dataflow")


def _files() -> Counter[str]:
    """Return what is open in this process, by name; empty where the system does not say."""
    found: Counter[str] = Counter()
    for entry in _entries(_DESCRIPTORS):
        try:
            target = os.readlink(_DESCRIPTORS / entry)
        except OSError:  # the one with which the folder was read
            continue
        # numbers differ: it is how many of a kind are open that counts
        found[target.partition(":")[0] if target.startswith(("socket:", "pipe:", "anon_inode:")) else target] += 1
    return found


def _children() -> set[int]:
    found: set[int] = set()
    for task in _entries(_CHILDREN):
        try:
            found |= {int(pid) for pid in (_CHILDREN / task / "children").read_text().split()}
        except OSError:
            continue
    return found


def _entries(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _cycles(flags: int, others: Collection[str]) -> list[str]:
    """Return what only the garbage collector finds, and let it find it."""
    before = len(gc.garbage)
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    found = gc.garbage[before:]
    del gc.garbage[before:]
    gc.set_debug(flags)
    kinds = Counter(_kind(thing) for thing in found if _matters(thing, others))
    del found
    gc.collect()
    return [f"{count} uncollected {kind}" for kind, count in sorted(kinds.items())]


def _matters(thing: Any, others: Collection[str]) -> bool:
    match thing:
        case types.FrameType():
            return str(thing.f_globals.get("__name__")).partition(".")[0] not in others
        case types.TracebackType():
            return _matters(thing.tb_frame, others)
        case BaseException():
            frames = [frame for frame, _ in traceback.walk_tb(thing.__traceback__)]
            # without a traceback it is not known whose it is, but somebody's frames have led to it
            return any(_matters(frame, others) for frame in frames) if frames else not others
    return False


def _kind(thing: Any) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}".removeprefix("builtins.")
