"""What executors may differ in, and how one says so."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar

import pytest

from dataflow.testing.clock import VirtualClock
from dataflow.testing.leaks import assert_no_leaks

_LOOK_AGAIN = 0.01  # real seconds after which it is looked whether the clock is still to be moved
_STEP = 10.0  # seconds by which it is moved

CAPABILITIES: Mapping[str, str] = {
    "in process": "stages run in the process that asks for it, and see its objects",
    "clock": "time is injected: it has a parameter `clock`",
    "beside": "several items are under way beside one another",
    "unordered": "ordered=False gives results as they are done",
    "blocks": "a stage that blocks can be given up when its time has passed",
    "by itself": "what was accepted goes on while nobody waits for it",
    "accepts": "submit returns before the item is done",
    "refuses": "a session that has as many items waiting as it may hold says QueueFull; it has a parameter `max_queue`",
    "connections": "nothing is left open after a session, no file and no socket",
    "reads aside": "the source of a job is not read by who takes its results, so that one that blocks can be left",
}
"""What an executor is expected to do, beyond the meaning of flows, unless it says that it differs."""


@contextlib.contextmanager
def kept_going(clock: VirtualClock) -> Iterator[None]:
    """Move the clock whenever somebody waits for it: an executor's threads do not move it themselves."""
    over = threading.Event()

    def push() -> None:
        while not over.is_set():
            try:
                clock.await_waiters(limit=_LOOK_AGAIN)
            except TimeoutError:
                continue
            clock.advance(_STEP)

    pusher = threading.Thread(target=push)
    pusher.start()
    try:
        yield
    finally:
        over.set()
        pusher.join()


class Declared:
    """An executor under test, and in what it differs.

    Attributes
    ----------
    differs : mapping of str to str
        Names of capabilities that the executor does not have, each with the reason.
    rounds : int
        How often the items are repeated in a long job.
    examples : int, optional
        How many random flows are tried; as many as the Hypothesis profile says by default.
    others : collection of str
        Packages that the executor is built on, which may leave reference cycles through errors of their own.
    """

    differs: ClassVar[Mapping[str, str]] = {}
    rounds: ClassVar[int] = 40
    examples: ClassVar[int | None] = None
    others: ClassVar[Collection[str]] = ()

    @pytest.fixture
    def executor(self) -> Any:
        """Return the executor under test: to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `executor` that returns what is to be tested")

    @pytest.fixture
    def clock(self) -> VirtualClock:
        """Return the clock of the executor that `timed` returns."""
        return VirtualClock()

    @pytest.fixture
    def timed(self, executor: Any, clock: VirtualClock) -> Any:
        """Return the executor with a virtual clock."""
        if self.lacks("clock"):
            pytest.xfail(f"clock: {self.differs['clock']}")
        return dataclasses.replace(executor, clock=clock)

    @pytest.fixture
    def strict(self, executor: Any) -> Any:
        """Return the executor with one worker and room for one item that waits."""
        if self.lacks("refuses"):
            return executor
        return dataclasses.replace(executor, workers=1, max_queue=1)

    def lacks(self, capability: str) -> bool:
        """Return whether the executor has said that it differs in this."""
        if capability not in CAPABILITIES:
            raise LookupError(f"there is no capability {capability!r}: there are {', '.join(CAPABILITIES)}")
        return capability in self.differs

    def no_leaks(self, *, cycles: bool = True) -> contextlib.AbstractContextManager[None]:
        """Check that a block leaves nothing behind that the executor has not said it does."""
        return assert_no_leaks(cycles=cycles, files=not self.lacks("connections"), others=self.others)

    def must_share(self) -> None:
        """End the test as an expected failure where stages do not see the objects of this process."""
        if self.lacks("in process"):
            pytest.xfail(f"in process: {self.differs['in process']}")

    def test_differences_are_declared_with_a_reason(self) -> None:
        for capability, reason in self.differs.items():
            assert capability in CAPABILITIES, f"{capability!r} is none of {', '.join(CAPABILITIES)}"
            assert len(reason.split()) > 2, f"{capability!r} wants its reason"

    def test_parameters_that_are_lacking(self, executor: Any) -> None:
        """What is declared not to be there is not there."""
        fields = {field.name for field in dataclasses.fields(executor)} if dataclasses.is_dataclass(executor) else set()
        assert ("clock" in fields) is not self.lacks("clock")
        assert ("max_queue" in fields) is not self.lacks("refuses")
