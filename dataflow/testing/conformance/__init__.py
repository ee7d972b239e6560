"""The contract of executors, as a pytest class: whoever writes an executor subclasses it and has it tested."""

from __future__ import annotations

from dataflow.testing.conformance.capabilities import CAPABILITIES
from dataflow.testing.conformance.jobs import Jobs
from dataflow.testing.conformance.sessions import Sessions

__all__ = ["CAPABILITIES", "ExecutorConformance"]


class ExecutorConformance(Jobs, Sessions):
    """What every executor must do. Subclass it in a test module, with a fixture ``executor`` that returns yours.

    Attributes
    ----------
    differs : mapping of str to str
        What your executor does not do, of `CAPABILITIES`, each with its reason. What is declared is tested to be so: an
        executor that has learned what it said it could not do fails until it no longer says so.

    Notes
    -----
    Fixtures to override where the defaults, which set fields of a dataclass, do not fit your executor: ``timed``
    returns it with the ``clock`` of that fixture, ``strict`` with one worker and room for one item that waits.

    Examples
    --------
    >>> import dataflow as df
    >>> import pytest
    >>> class TestInline(ExecutorConformance):
    ...     differs = {"beside": "it runs everything in the calling thread"}  # and so on
    ...     @pytest.fixture
    ...     def executor(self):
    ...         return df.Inline()
    """
