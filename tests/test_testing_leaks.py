"""`assert_no_leaks`: it finds threads, files, processes and cycles, and lets pass what is none of them."""

import gc
import multiprocessing
import os
import tempfile
import threading
import time
from typing import Any

import pytest

from dataflow.testing import Gate, assert_no_leaks


def test_what_is_clean_passes() -> None:
    with assert_no_leaks():
        thread = threading.Thread(target=time.monotonic)
        thread.start()
        with tempfile.TemporaryFile():
            pass
        try:
            raise ValueError
        except ValueError:
            pass


def test_a_thread_that_is_about_to_end_is_waited_for() -> None:
    with Gate() as gate, assert_no_leaks():
        threading.Thread(target=gate, args=(1,)).start()
        gate.open()


def test_a_thread() -> None:
    with (
        Gate() as gate,
        pytest.raises(AssertionError, match="left behind: the thread 'forgotten'"),
        assert_no_leaks(grace=0.01),
    ):
        threading.Thread(target=gate, args=(1,), name="forgotten").start()


def test_a_daemon_of_ours_and_one_of_others() -> None:
    with Gate() as gate:
        with assert_no_leaks(grace=0.01):
            threading.Thread(target=gate, args=(1,), name="monitor", daemon=True).start()
        with pytest.raises(AssertionError, match="dataflow-aside-1"), assert_no_leaks(grace=0.01):
            threading.Thread(target=gate, args=(1,), name="dataflow-aside-1", daemon=True).start()


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="the system does not show open files")
def test_an_open_file(tmp_path: Any) -> None:
    kept = []
    try:
        with pytest.raises(AssertionError, match=r"left behind: an open file, .*kept\.txt"), assert_no_leaks():
            kept.append(open(tmp_path / "kept.txt", "w"))  # noqa: SIM115
        with pytest.raises(AssertionError, match="an open file, pipe"), assert_no_leaks():
            kept += [open(end, "rb") for end in os.pipe()]  # noqa: SIM115
    finally:
        for file in kept:
            file.close()


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="the system does not show child processes")
def test_a_process() -> None:
    context = multiprocessing.get_context("spawn")
    release = context.Event()
    child = context.Process(target=release.wait)
    try:
        with pytest.raises(AssertionError, match=r"the process \d+"), assert_no_leaks(grace=0.01):
            child.start()
    finally:
        release.set()
        child.join()


def test_a_cycle_through_an_error() -> None:
    def fail() -> None:
        kept = None
        try:
            raise ValueError
        except ValueError as error:
            kept = error
        assert kept

    with (
        pytest.raises(
            AssertionError, match="left behind: 1 uncollected ValueError; 1 uncollected frame; 1 uncollected"
        ),
        assert_no_leaks(),
    ):
        fail()
    with assert_no_leaks(cycles=False):
        fail()
    assert gc.isenabled()
    assert not gc.get_debug()


def test_a_cycle_without_an_error_is_no_leak() -> None:
    with assert_no_leaks():
        ring: list[Any] = []
        ring.append(ring)
        del ring


def test_an_error_in_the_block_goes_through() -> None:
    with pytest.raises(ZeroDivisionError), assert_no_leaks():
        1 / 0  # noqa: B018
    assert gc.isenabled()


def test_an_error_that_was_never_raised() -> None:
    def leave() -> None:
        error = ValueError("holds itself")
        error.held = error  # type: ignore[attr-defined]

    with pytest.raises(AssertionError, match="1 uncollected ValueError"), assert_no_leaks():
        leave()


def test_what_others_leave_is_not_counted_and_what_has_passed_through_us_is() -> None:
    def leave() -> None:
        try:
            raise ValueError("holds its frame")
        except ValueError as error:
            held = error  # noqa: F841

    with assert_no_leaks(others=[__name__]):
        leave()
    with pytest.raises(AssertionError, match="uncollected"), assert_no_leaks(others=["ray"]):
        leave()
