"""How a batch gets to its device and back: on a GPU, beside what other batches do there."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

import torch

_streams = threading.local()


class Lane:
    """What a thread does on one device, in a stream of its own where the device is a GPU.

    A region's batch is collated, run and split by one thread, so that a stream a thread is a stream a region: the
    transfers of one batch overlap with the kernels of another. What comes from the user's stream is waited for when the
    lane is entered, and the user's stream waits for what the lane has done when it is left. On the CPU it does nothing.

    Parameters
    ----------
    device : torch.device
        The device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._gpu = device.type == "cuda"

    def __enter__(self) -> None:
        if self._gpu:
            outer = torch.cuda.current_stream(self._device)
            lane = _stream(self._device)
            lane.wait_stream(outer)
            _stack().append((outer, torch.cuda.stream(lane)))
            _stack()[-1][1].__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._gpu:
            outer, entered = _stack().pop()
            entered.__exit__(kind, error, trace)
            outer.wait_stream(_stream(self._device))

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
            leaf.record_stream(_stack()[-1][0])
        return leaf


def _stack() -> list[tuple[Any, Any]]:
    """Return the lanes that this thread is in: a module may run a flow of modules."""
    if not hasattr(_streams, "stack"):
        _streams.stack = []
    stack: list[tuple[Any, Any]] = _streams.stack
    return stack


def _stream(device: torch.device) -> Any:
    """Return this thread's stream on a device."""
    if not hasattr(_streams, "by_device"):
        _streams.by_device = {}
    if device not in _streams.by_device:
        _streams.by_device[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return _streams.by_device[device]
