"""How a batch gets to its device and back: on a GPU, beside what other batches do there."""

from __future__ import annotations

import functools
import threading
from types import TracebackType
from typing import Any

import torch

_thread = threading.local()


class Lane:
    """Where a batch is while modules run it: on a device, in inference mode, and on a GPU in a stream of its own.

    A region's batch is collated, run and split by one thread, so that a stream a thread is a stream a region: the
    transfers of one batch overlap with the kernels of another. What comes from the user's stream is waited for when the
    lane is entered, and the user's stream waits for what the lane has done when it is left.

    Parameters
    ----------
    device : torch.device
        The device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._gpu = device.type == "cuda"

    def __enter__(self) -> None:
        keep_to_torchs_threads()
        mode: Any = torch.inference_mode()
        mode.__enter__()
        _stack().append((mode, *self._enter_stream()) if self._gpu else (mode,))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        mode, *streams = _stack().pop()
        if streams:
            outer, stream = streams
            stream.__exit__(kind, error, trace)
            outer.wait_stream(_stream(self._device))
        mode.__exit__(kind, error, trace)

    def _enter_stream(self) -> tuple[Any, Any]:
        """Go on in this thread's stream; return the one it was in, and what leads back there."""
        outer, own = torch.cuda.current_stream(self._device), _stream(self._device)
        own.wait_stream(outer)
        entered: Any = torch.cuda.stream(own)
        entered.__enter__()
        return outer, entered

    def bring(self, leaf: torch.Tensor | None) -> torch.Tensor | None:
        """Return a tensor on the device; from the host through pinned memory, so that nobody waits for the copy."""
        if leaf is None or leaf.device == self._device:
            return leaf
        if self._gpu and leaf.device.type == "cpu":
            return leaf.pin_memory().to(self._device, non_blocking=True)
        return leaf.to(self._device)

    def send(self, leaf: torch.Tensor | None) -> torch.Tensor | None:
        """Return a tensor for who is outside of the lane: its memory is not used again before they are done with it."""
        if leaf is not None and self._gpu:
            leaf.record_stream(_stack()[-1][1])
        return leaf


@functools.cache
def lane(device: torch.device) -> Lane:
    """Return the lane to a device: one object for all modules there."""
    return Lane(device)


def _stack() -> list[tuple[Any, ...]]:
    """Return what leads out of the lanes that this thread is in: a module may run a flow of modules."""
    if not hasattr(_thread, "stack"):
        _thread.stack = []
    stack: list[tuple[Any, ...]] = _thread.stack
    return stack


def _stream(device: torch.device) -> Any:
    """Return this thread's stream on a device."""
    if not hasattr(_thread, "by_device"):
        _thread.by_device = {}
    if device not in _thread.by_device:
        _thread.by_device[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return _thread.by_device[device]


def keep_to_torchs_threads() -> None:
    """Make ``torch.set_num_threads``, wherever it was called, hold in this thread too.

    OpenMP and MKL keep the number by thread, and a new thread has their own default, as many as there are cores.
    Workers would start a team each, and the teams would spin for the cores: a stream ran 50 times slower.
    """
    if getattr(_thread, "threads", None) != torch.get_num_threads():
        _thread.threads = torch.get_num_threads()
        torch.set_num_threads(_thread.threads)
