"""The errors that dataflow raises itself.

A user stage's own exception is never wrapped: it arrives as itself, with a note (PEP 678) that names the stage, the
user's file and line, and the item. The classes here are for what goes wrong around the stages. Each also derives from
the built-in exception that a caller would expect, so that ``except TypeError`` or ``except TimeoutError`` works.
"""

from __future__ import annotations

__all__ = [
    "BatchSizeError",
    "CompositionError",
    "DataflowError",
    "DeadlineExceeded",
    "LoweringError",
    "OptionError",
    "QueueFull",
    "RemoteError",
    "ReplicaLost",
    "RoutingError",
    "SessionClosed",
]


class DataflowError(Exception):
    """Base class of every error that dataflow raises itself."""


class CompositionError(DataflowError, TypeError):
    """An expression that cannot mean anything: found when it is written, before it runs."""


class OptionError(CompositionError, ValueError):
    """An option of a stage or construct whose value is out of range."""


class RoutingError(DataflowError, LookupError):
    """A ``switch`` whose key matched none of its cases, and which has no default."""


class BatchSizeError(DataflowError, ValueError):
    """A batched stage that did not return one result for each item it was given."""


class DeadlineExceeded(DataflowError, TimeoutError):
    """Work that was not done when its time was up; waiting in queues counts."""


class QueueFull(DataflowError):
    """A session that has as many accepted items waiting as it may hold."""


class SessionClosed(DataflowError, RuntimeError):
    """A session that was used after it was closed."""


class LoweringError(DataflowError):
    """A plan that an executor cannot run, with the reason."""


class RemoteError(DataflowError):
    """The stand-in for another process's error that cannot be pickled: its type's name, its text, its traceback."""


class ReplicaLost(DataflowError, ConnectionError):
    """Work whose process has died, or cannot be reached, and which is not or no more to be tried again."""
