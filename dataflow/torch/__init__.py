"""PyTorch modules as batched stages: the only part of dataflow that knows torch."""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from dataflow.errors import BatchSizeError, CompositionError, OptionError
from dataflow.executors.calls import out_of_memory
from dataflow.expr import options as checks
from dataflow.expr.options import Options
from dataflow.expr.origin import caller
from dataflow.expr.stage import Stage, qualified_name, short_repr

try:
    import torch
except ImportError as error:
    raise ImportError(
        "dataflow.torch needs PyTorch, which cannot be imported: pip install 'dataflow[torch]'"
    ) from error

from dataflow.torch.collating import home_of, mapped, of_arrays, rows_of, stacked
from dataflow.torch.lanes import lane

__all__ = ["module"]


def module(
    net_or_factory: torch.nn.Module | Callable[[], torch.nn.Module],
    *,
    batch: int,
    device: str | torch.device | None = None,
    name: str | None = None,
    max_wait: float = 0.002,
    pure: bool = True,
    replicas: int | tuple[int, int] = 1,
    cpus: float | None = None,
    gpus: float | None = None,
    memory: int | None = None,
    placement: str | None = None,
) -> Stage[Any, Any]:
    """Make a batched stage of a PyTorch module: for an item x it gives ``net(collate([x]))[0]``, in inference mode.

    Modules that are neighbours, of one placement and batch size, share their batches: these are collated once, stay on
    the device in between and are split once.

    Parameters
    ----------
    net_or_factory : torch.nn.Module or callable
        A module; or what makes one when called without arguments, once per replica, where it runs: a module's class,
        or a ``functools.partial`` of it.
    batch : int
        The most items a call.
    device : str or torch.device, optional
        Where it runs, such as ``"cuda:1"``. None leaves the module where its parameters are (on the CPU if it has
        none); a factory whose modules are on a GPU needs to be told, for the stage to count as a GPU stage.
    name : str, optional
        In graphs, errors and metrics; the qualified name of the module's class, or of the factory, by default.
    max_wait, pure, replicas, cpus, gpus, memory, placement
        As for `dataflow.stage`. All replicas in a process share a module that was given as such.

    Returns
    -------
    Stage

    Raises
    ------
    CompositionError
        Where it is given neither a module nor a factory, or an option is out of range.

    Notes
    -----
    **The module** is used as it is, in evaluation mode: where the stage runs, it calls ``net.eval()`` and leaves it so.
    Call ``net.train()`` before you train it further, as training loops do; the stage returns it to evaluation mode when
    it next runs. Where `device` is not where the module is, a copy goes there and yours stays. Give a factory, or
    ``copy.deepcopy(net)``, to keep yours apart altogether.

    **Items** are arrays, tensors, images (as their arrays), numbers, and nested lists of numbers; a tuple of those goes
    to the module as positional arguments, a dict as keyword arguments. Their floating-point numbers are converted to
    the floating-point type of the module's parameters; integers stay what they are. All items of a batch have one
    shape and one dtype: otherwise it fails, and is split (if pure) until what is left fits or fails by itself.

    **Results** are tensors where the items hold tensors, on the device of theirs; NumPy arrays, or scalars, otherwise
    (float32 where the module gives bfloat16, which NumPy lacks). A module that returns a tuple or a dict of tensors
    gives a tuple or a dict for each item; a list counts as a tuple. Results are views of their batch.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import dataflow.torch
    >>> double = torch.nn.Linear(2, 2, bias=False).requires_grad_(False)
    >>> _ = torch.nn.init.eye_(double.weight).mul_(2)
    >>> flow = dataflow.torch.module(double, batch=64) >> dataflow.torch.module(torch.nn.ReLU, batch=64)
    >>> flow(np.array([1.0, -3.0]))
    array([2., 0.], dtype=float32)
    >>> [row.tolist() for row in flow.map([[1, 2.5], [-1, 0.5]], "inline")]
    [[2.0, 5.0], [0.0, 1.0]]
    """
    net = net_or_factory
    if not isinstance(net, torch.nn.Module):
        _check_factory(net)
    called = qualified_name(type(net) if isinstance(net, torch.nn.Module) else net)
    checks.whole_number("module", "batch", batch, 1)
    place = _named_device(device)
    where = place or (str(_location(net)) if isinstance(net, torch.nn.Module) else "cpu")
    title = called if name is None else name
    options = Options(title, batch, max_wait, where, pure, replicas, cpus, gpus, memory, placement)
    return Stage(_Module, options, constructed=True, args=(net, place, title), origin=caller())


def _check_factory(factory: Any) -> None:
    if not callable(factory):
        raise CompositionError(
            f"module was given {short_repr(factory)}, of type {type(factory).__name__} ({caller()}): it takes a "
            "torch.nn.Module, or a callable without arguments that makes one"
        )
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise CompositionError(
            f"module was given {qualified_name(factory)}, which cannot be called without arguments ({caller()}): "
            f"{error}; give a module, or bind the arguments with functools.partial"
        ) from None
    except ValueError:  # a callable without a signature
        pass


def _named_device(device: Any) -> str | None:
    if device is None:
        return None
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise OptionError(
            f"module: device must be one that torch knows, not {device!r} ({caller()}): {reason}"
        ) from None
    return "cpu" if place.type == "cpu" else str(place)


def _tensors(net: torch.nn.Module) -> Iterator[torch.Tensor]:
    return itertools.chain(net.parameters(), net.buffers())


def _location(net: torch.nn.Module) -> torch.device:
    """Return where a module's parameters are, or its buffers; the CPU if it has neither."""
    tensor = next(_tensors(net), None)
    return torch.device("cpu") if tensor is None else tensor.device


class _Batch(NamedTuple):
    """The items or results of a batch, and where results go: to a tensor's device, or to NumPy if there is none."""

    value: Any  # a tensor whose first dimension is the batch, or a tuple or dict of such
    items: int
    home: torch.device | None


class _Module:
    """One replica of a module, which collates items, runs on whole batches and splits results.

    Parameters
    ----------
    net_or_factory : torch.nn.Module or callable
        The module, or what makes it.
    device : str, optional
        Where it runs; None for where its parameters are.
    name : str
        The stage's, for errors.
    """

    def __init__(
        self, net_or_factory: torch.nn.Module | Callable[[], torch.nn.Module], device: str | None, name: str
    ) -> None:
        made = not isinstance(net_or_factory, torch.nn.Module)
        net: Any = net_or_factory() if made else net_or_factory
        if not isinstance(net, torch.nn.Module):
            raise TypeError(
                f"stage {name!r}: the factory {qualified_name(net_or_factory)} returned {short_repr(net)}, of type "
                f"{type(net).__name__}, and not a torch.nn.Module"
            )
        self._device = _location(net) if device is None else _present(device, name)
        if device is not None and any(tensor.device != self._device for tensor in _tensors(net)):
            net = (net if made else copy.deepcopy(net)).to(self._device)
        floating = (parameter.dtype for parameter in net.parameters() if parameter.is_floating_point())
        self._dtype = next(floating, None)
        self._net = net.eval()
        self._name = name
        self._starved = False
        self.space = lane(self._device)

    def __call__(self, items: Any) -> Any:
        with self.space:
            return self.split(self.forward(self.collate(items), keep=False), len(items))

    def collate(self, items: list[Any]) -> _Batch:
        """Return items as tensors on the device."""
        array = of_arrays(items)
        if array is not None:
            return _Batch(self.space.bring(torch.from_numpy(array)), len(items), None)
        return _Batch(mapped(self.space.bring, stacked(items)), len(items), home_of(items[0]))

    def forward(self, batch: _Batch, *, keep: bool) -> _Batch:
        """Return what the module makes of a batch; unless it is to be kept, the module may work in it."""
        if self._starved:  # by now the frames that held its memory are gone
            self._starved = False
            torch.cuda.empty_cache()
        net = self._net
        if net.training:
            net.eval()
        try:
            own = self._copied if keep else self._converted
            value = batch.value
            given = own(value) if isinstance(value, torch.Tensor) else mapped(own, value)
            if isinstance(given, tuple):
                made = net(*given)
            elif isinstance(given, dict):
                made = net(**given)
            else:
                made = net(given)
            if isinstance(made, torch.Tensor):
                made = self._checked(batch, made)
            elif made is None:
                raise self._unsplittable(made)
            else:
                made = mapped(functools.partial(self._checked, batch), made)
        except Exception as error:
            self._starved = out_of_memory(error)
            raise
        return _Batch(made, batch.items, batch.home)

    def size(self, batch: _Batch) -> int:
        """Return how many results a batch holds; `forward` has seen to it that it is one for each item."""
        return batch.items

    def split(self, batch: _Batch, size: int) -> list[Any]:
        """Return the results one by one, on their items' side."""
        value = batch.value if batch.home is None else mapped(self.space.send, batch.value)
        return rows_of(value, size, batch.home)

    def _converted(self, leaf: torch.Tensor | None) -> torch.Tensor | None:
        """Return a tensor as the module takes it."""
        if leaf is None or leaf.dtype is self._dtype or self._dtype is None or not leaf.is_floating_point():
            return leaf
        return leaf.to(self._dtype)

    def _copied(self, leaf: torch.Tensor | None) -> torch.Tensor | None:
        """Return a tensor as the module takes it, in memory of its own."""
        converted = self._converted(leaf)
        return (
            leaf.clone(memory_format=torch.contiguous_format) if leaf is not None and converted is leaf else converted
        )

    def _checked(self, batch: _Batch, leaf: Any) -> torch.Tensor | None:
        """Return a part of the module's result if it has a row for each item."""
        if leaf is None:
            return None
        if not isinstance(leaf, torch.Tensor):
            raise self._unsplittable(leaf)
        if leaf.ndim == 0 or leaf.size(0) != batch.items:
            rows = leaf.size(0) if leaf.ndim else None
            returned = "one result for all" if rows is None else f"{rows} result{'s' if rows != 1 else ''}"
            raise BatchSizeError(
                f"stage {self._name!r} was given {batch.items} item{'s' if batch.items != 1 else ''} and returned "
                f"{returned}, in a tensor of shape {tuple(leaf.shape)}: the first dimension is the batch"
            )
        if leaf.dtype is torch.bfloat16 and batch.home is None:
            return leaf.float()  # here, so that a module after this one gets the same whether or not they are split
        return leaf

    def _unsplittable(self, value: object) -> TypeError:
        return TypeError(
            f"stage {self._name!r}: the module returned {short_repr(value)}, of type {type(value).__name__}: what can "
            "be split is a tensor, or a tuple or dict of tensors"
        )


def _present(device: str, name: str) -> torch.device:
    """Return a device with its number, if this process has it."""
    try:
        return torch.empty(0, device=device).device
    except Exception as error:  # each backend has its own
        there = ["cpu"]
        if torch.accelerator.is_available():
            kind = torch.accelerator.current_accelerator()
            there += [f"{kind}:{index}" for index in range(torch.accelerator.device_count())]
        reason = str(error).partition("\n")[0]
        raise RuntimeError(
            f"stage {name!r} is to run on the device {device!r}, which is not there: this process has "
            f"{', '.join(there)} ({reason})"
        ) from error
