"""Inference requests of the Open Inference Protocol, version 2: tensors to items, and results to tensors.

The first dimension of each tensor counts the items.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from dataflow.http.encoding import Unencodable
from dataflow.http.limits import Limits
from dataflow.http.problems import Problem
from dataflow.http.requests import checked_count
from dataflow.http.tensors import array_of, tensor_of


@dataclasses.dataclass(frozen=True, eq=False)  # items are users' data, never compared
class Inference:
    """What a request asks for.

    Parameters
    ----------
    items : list
        One for each place of the first dimension: a row of the only input, or a dict with a row of each by its name.
    outputs : tuple of str
        The names of the outputs that are wanted; all, if there is none.
    number : str, optional
        The request's ``id``.
    """

    items: list[Any]
    outputs: tuple[str, ...]
    number: str | None


def inference(body: Any, limits: Limits) -> Inference:
    """Return what the body of a request asks for.

    Raises
    ------
    Problem
        Where it is not as the protocol says.
    """
    if not isinstance(body, dict):
        raise _invalid('the body must be an object, with "inputs"')
    number = body.get("id")
    if number is not None and not isinstance(number, str):
        raise _invalid("id must be text")
    outputs = [] if body.get("outputs") is None else body["outputs"]
    return Inference(_items(body.get("inputs"), limits), _names(outputs, "outputs"), number)


def _items(inputs: Any, limits: Limits) -> list[Any]:
    names = _names(inputs, "inputs")
    if not names:
        raise _invalid("inputs must be a list of at least one tensor")
    columns = [array_of(tensor, f"input {name!r}") for tensor, name in zip(inputs, names, strict=True)]
    counts = {len(column) for column in columns}
    if len(counts) > 1:
        raise _invalid(f"the first dimension counts the items: inputs of {' and '.join(map(str, sorted(counts)))}")
    if counts == {0}:
        raise _invalid("there are no items: the first dimension is 0")
    checked_count(len(columns[0]), limits)
    if len(columns) == 1:
        return list(columns[0])
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _names(tensors: Any, what: str) -> tuple[str, ...]:
    """Return the names of tensors, if they are such that each names one."""
    if not isinstance(tensors, list) or not all(isinstance(tensor, dict) for tensor in tensors):
        raise _invalid(f"{what} must be a list of tensors")
    names = tuple(tensor.get("name") for tensor in tensors)
    if not all(isinstance(name, str) for name in names):
        raise _invalid(f"each of {what} must have a name")
    if len(set(names)) < len(names):
        raise _invalid(f"{what} must have names of their own")
    return names


def response(model: str, version: str | None, asked: Inference, results: Sequence[Any]) -> dict[str, Any]:
    """Return the answer to a request.

    Dicts with the same keys give an output for each key, and tuples, as a fan-out gives them, one for each place;
    everything else is the only output, ``output0``.

    Raises
    ------
    Problem
        Where an output is asked for that there is not.
    Unencodable
        Where results cannot be tensors.
    """
    columns = _columns(results)
    if unknown := [name for name in asked.outputs if name not in columns]:
        raise _invalid(f"there is no output {unknown[0]!r}: there are {', '.join(map(repr, columns))}")
    head: dict[str, Any] = {"model_name": model}
    if version is not None:
        head["model_version"] = version
    if asked.number is not None:
        head["id"] = asked.number
    return head | {"outputs": [tensor_of(name, columns[name]) for name in asked.outputs or columns]}


def _columns(results: Sequence[Any]) -> dict[str, list[Any]]:
    first = results[0]
    if isinstance(first, dict) and first:
        if not all(isinstance(result, dict) and result.keys() == first.keys() for result in results):
            raise Unencodable("the items' results are not all dicts with the same keys, as tensors need them")
        if not all(isinstance(key, str) for key in first):
            raise Unencodable("the results' keys must be text, for they name the outputs")
        return {key: [result[key] for result in results] for key in first}
    if isinstance(first, tuple) and first:
        if not all(isinstance(result, tuple) and len(result) == len(first) for result in results):
            raise Unencodable("the items' results are not all tuples of one length, as tensors need them")
        return {f"output{place}": list(column) for place, column in enumerate(zip(*results, strict=True))}
    return {"output0": list(results)}


def _invalid(message: str) -> Problem:
    return Problem(400, "InvalidRequest", message)
