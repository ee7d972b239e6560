"""Tensors of the Open Inference Protocol to NumPy's arrays, and back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dataflow.http.encoding import Unencodable
from dataflow.http.problems import Problem

_DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items() if name != "BYTES"}
_KINDS: dict[str, frozenset[type]] = {
    "b": frozenset([bool]),
    "u": frozenset([int]),
    "i": frozenset([int]),
    "f": frozenset([int, float]),
    "O": frozenset([str]),
}
_MOST_DIMENSIONS = 32  # as far as NumPy 1 goes


def array_of(tensor: Any, place: str) -> np.ndarray[Any, Any]:
    """Return a tensor of a request as an array; ``BYTES`` as an array of text.

    Parameters
    ----------
    tensor : object
        The tensor, as JSON gave it: with ``shape``, ``datatype`` and ``data``, flat or nested.
    place : str
        Where it stands, for the messages.

    Raises
    ------
    Problem
        Where it is not one.
    """
    if not isinstance(tensor, dict):
        raise _invalid(f"{place} must be an object with name, shape, datatype and data")
    shape, datatype, data = (tensor.get(field) for field in ("shape", "datatype", "data"))
    if not isinstance(datatype, str) or datatype not in _DTYPES:
        raise _invalid(f"{place}: the datatype {str(datatype)[:40]!r} is none of {', '.join(_DTYPES)}")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise _invalid(f"{place}: the shape must be a list of whole numbers from 0")
    if not 1 <= len(shape) <= _MOST_DIMENSIONS:
        raise _invalid(f"{place}: a shape has 1 to {_MOST_DIMENSIONS} numbers, the first of which counts the items")
    if not isinstance(data, list):
        raise _invalid(f"{place}: data must be a list" + (" (binary data is not supported)" if data is None else ""))
    flat = _flat(data, shape, place)
    dtype = np.dtype(_DTYPES[datatype])
    if strange := sorted(kind.__name__ for kind in set(map(type, flat)) - _KINDS[dtype.kind]):
        raise _invalid(f"{place}: {datatype} takes no {' nor '.join(strange)}")
    try:
        with np.errstate(over="ignore"):  # what is too large for FP32 is infinite
            return np.array(flat, dtype=dtype).reshape(shape)
    except (ValueError, OverflowError) as error:
        raise _invalid(f"{place}: {error}") from None


def _flat(data: list[Any], shape: list[int], place: str) -> list[Any]:
    """Return a tensor's elements in row-major order, if they are as many as its shape says, in each dimension."""
    flat = data
    if any(type(element) is list for element in data):
        for depth, size in enumerate(shape):
            last = depth == len(shape) - 1
            if (depth == 0 and len(flat) != size) or any((type(element) is list) is last for element in flat):
                raise _misshapen(shape, place)
            if not last:
                if any(len(element) != shape[depth + 1] for element in flat):
                    raise _misshapen(shape, place)
                flat = list(itertools.chain.from_iterable(flat))
    if len(flat) != math.prod(shape):
        raise _misshapen(shape, place)
    return flat


def tensor_of(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """Return one value of each item as a tensor of a response.

    Raises
    ------
    Unencodable
        Where they are no numbers, truths or texts, or not all of one shape.
    """
    array = _array(name, values)
    flat = array.ravel().tolist()
    if array.dtype.kind in "USO":
        datatype, flat = "BYTES", [_text(name, value) for value in flat]
    elif array.dtype in _NAMES:
        datatype = _NAMES[array.dtype]
    else:
        raise Unencodable(f"output {name!r} is of {array.dtype}, for which the Open Inference Protocol has no datatype")
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": flat}


def _array(name: str, values: Sequence[Any]) -> np.ndarray[Any, Any]:
    try:
        arrays = [np.asarray(value.detach().cpu() if hasattr(value, "detach") else value) for value in values]
    except (TypeError, ValueError) as error:
        raise Unencodable(f"output {name!r} is not a tensor: {error}") from error
    if len(shapes := {array.shape for array in arrays}) > 1:
        shown = " and ".join(map(str, sorted(shapes)[:2]))
        raise Unencodable(f"output {name!r} has items of different shapes, as {shown}: a tensor needs them alike")
    return np.stack(arrays)


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise Unencodable(f"output {name!r} has bytes that are not UTF-8") from None
    raise Unencodable(f"output {name!r} is not a tensor: it has a {type(value).__name__}")


def _invalid(message: str) -> Problem:
    return Problem(400, "InvalidRequest", message)


def _misshapen(shape: list[int], place: str) -> Problem:
    return _invalid(f"{place}: the data does not have the shape {shape}")
