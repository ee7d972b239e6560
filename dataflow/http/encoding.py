"""JSON to Python, and Python with NumPy's arrays to JSON. Nothing is ever unpickled."""

from __future__ import annotations

import json
from typing import Any

from dataflow.http.problems import Problem


class Unencodable(TypeError):
    """A result that cannot be written as what was asked for."""


def decoded(body: bytes, max_depth: int) -> Any:
    """Return what a request's body says.

    Parameters
    ----------
    body : bytes
        The body.
    max_depth : int
        The deepest that lists and objects may be nested in it.

    Raises
    ------
    Problem
        Where it is no JSON, or nested deeper.
    """
    try:
        value = json.loads(body)
    except RecursionError:
        raise _deep(max_depth) from None
    except ValueError as error:  # not UTF-8, no JSON, or a number of thousands of digits
        raise Problem(400, "InvalidJSON", f"the body is not JSON: {error}") from None
    level = [value] if isinstance(value, list | dict) else []
    for _ in range(max_depth):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is list or type(inner) is dict
        ]
        if not level:
            return value
    raise _deep(max_depth)


def encoded(value: Any) -> bytes:
    """Return a result as JSON; NumPy's arrays and torch's tensors as nested lists.

    NaN and the infinities are written as Python's json does, and reads them.

    Raises
    ------
    Unencodable
        Where JSON has nothing for it.
    """
    try:
        return json.dumps(value, default=_listed, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Unencodable(f"the result cannot be written as JSON: {error}") from error


def _listed(value: Any) -> Any:
    as_list = getattr(value, "tolist", None)
    if callable(as_list):
        return as_list()
    raise TypeError(f"JSON has nothing for a {type(value).__name__}: let the flow end in lists, dicts, numbers or text")


def _deep(max_depth: int) -> Problem:
    return Problem(422, "TooDeep", f"the body is nested deeper than the {max_depth} levels that are allowed")
