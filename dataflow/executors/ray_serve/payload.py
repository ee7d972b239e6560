"""How values travel between processes: as pickle, arrays that are alike as one, large ones beside it.

A message is a head of pickle and the large buffers that it refers to. Small messages go by value, in the call itself.
Large ones go by reference: they are put into memory that both sides share, the caller's own (see `segments`) or Ray's,
and not through sockets. What arrives belongs to the receiver, who may change it, as items that have not travelled may
be; so buffers are copied out of the shared memory.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

_BESIDE = 64 * 1024  # bytes from which a buffer is sent beside the head, where a message is large
_STACKED = 16 * 1024  # bytes up to which arrays that are alike are sent as one

Message = tuple[Any, ...]
"""The head, and the buffers."""


def pickled(thing: Any, **options: Any) -> bytes:
    """Return something pickled, what cannot be imported elsewhere by value."""
    from ray import cloudpickle

    dumps: Any = cloudpickle.dumps
    head: bytes = dumps(thing, protocol=5, **options)
    return head


def dump(thing: Any, *, known: bool = False) -> Message:
    """Return a message of something that can be pickled.

    Parameters
    ----------
    thing : object
        What is sent.
    known : bool
        Whether any process knows all that it is made of: see `plain`.
    """
    buffers: list[pickle.PickleBuffer] = []

    def beside(buffer: pickle.PickleBuffer) -> bool:
        """Keep a large buffer out of the head; what is not contiguous cannot be."""
        try:
            if buffer.raw().nbytes < _BESIDE:
                return True
        except BufferError:
            return True
        buffers.append(buffer)
        return False

    made = pickle.dumps(thing, protocol=5, buffer_callback=beside) if known else pickled(thing, buffer_callback=beside)
    return (made, *(np.frombuffer(buffer.raw(), dtype=np.uint8) for buffer in buffers))


def load(message: Message, *, copied: bool = True) -> Any:
    """Return what a message holds: a copy of it, or what refers to the message's own buffers."""
    head, *buffers = message
    return pickle.loads(head, buffers=map(bytearray, buffers) if copied else buffers)


def size_of(message: Message) -> int:
    """Return how many bytes a message has."""
    return sum(len(part) for part in message)


def plain(columns: list[Any]) -> bool:
    """Return whether packed columns are few values that any process knows, so that nothing of them need be looked for.

    What pickles by value all that cannot be imported elsewhere asks a Python function of every value: to pickle a small
    message takes it several times as long.

    Examples
    --------
    >>> plain([pack([1, "2"]), pack([np.zeros(3), {"a": (None, 1.5)}])]), plain([[1, len]]), plain([[np.array([len])]])
    (True, False, False)
    """
    return all(type(column) is Alike or (len(column) <= _FEW and _known(column, _DEEP)) for column in columns)


def _known(values: Iterable[Any], deep: int) -> bool:
    for value in values:
        kind = type(value)
        if kind is np.ndarray:
            if value.dtype.hasobject:
                return False
        elif kind not in _KNOWN:
            if not deep or kind not in _HOLDERS or len(value) > _FEW or not _known(value, deep - 1):
                return False
            if kind is dict and not _known(value.values(), deep - 1):
                return False
    return True


class Alike:
    """Arrays of one type and shape, or NumPy scalars of one type, as one array."""

    __slots__ = ("stacked",)

    def __init__(self, stacked: Any) -> None:
        self.stacked = stacked

    def __reduce__(self) -> tuple[Any, ...]:
        return Alike, (self.stacked,)


_KNOWN = frozenset({type(None), bool, int, float, complex, str, bytes})
_HOLDERS = frozenset({list, tuple, dict})
_FEW = 64  # values
_DEEP = 3  # how far they may be nested


def pack(column: Sequence[Any]) -> Any:
    """Return a column as it is sent.

    Examples
    --------
    >>> isinstance(pack([np.zeros(3), np.ones(3)]), Alike), pack([1, 2])
    (True, [1, 2])
    """
    if len(column) > 1 and isinstance(column[0], (np.ndarray, np.generic)):
        first = column[0]
        kind, dtype = type(first), first.dtype
        fits = dtype.kind in "biufc" and first.nbytes <= _STACKED
        if fits and all(type(each) is kind and each.dtype == dtype and each.shape == first.shape for each in column):
            if kind is np.ndarray and first.ndim:
                return Alike(np.stack(column))
            if isinstance(first, np.generic):
                return Alike(np.array(column, dtype=dtype))
    return list(column)


def unpack(packed: Any) -> list[Any]:
    """Return the column that was packed."""
    return list(packed.stacked) if isinstance(packed, Alike) else packed
