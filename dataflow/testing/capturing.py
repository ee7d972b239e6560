"""A failed item as a test file: the flow, the item and the stage that is to blame, to be run and mended."""

from __future__ import annotations

import base64
import importlib.util
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dataflow.executors import Failure
from dataflow.executors.faults import UNKNOWN, trail_of
from dataflow.expr.flow import Flow
from dataflow.expr.nodes import Combine
from dataflow.expr.stage import Stage, short_repr
from dataflow.expr.walk import postorder
from dataflow.testing.rebuild import stages_of
from dataflow.testing.reference import Reading
from dataflow.testing.source import NotWritable, Writer


def capture(
    error: Failure | Exception,
    flow: Flow[Any, Any] | None = None,
    item: Any = UNKNOWN,
    *,
    path: str | Path | None = None,
) -> str:
    """Return a failed item as a small pytest file that fails until the failure has been mended.

    Parameters
    ----------
    error : Failure or Exception
        What came of the item: a `Failure` of ``map(..., on_error="record")``, or what was raised. Either leads to the
        flow that was run and to the item, in the process that ran it.
    flow : Flow, optional
        What was run, where the error cannot say or it is to be another. Its functions are imported where they can be,
        and written out where their module cannot, as what is in a script or a notebook.
    item : object, optional
        The item, likewise.
    path : str or Path, optional
        Where to write the file as well.

    Returns
    -------
    str
        The file: the flow on the item, and where the failure comes again, the stage to blame on what reached it.

    Raises
    ------
    TypeError
        Where the error does not say what was run, as one that has come from another process.
    ValueError
        Where the flow holds a lambda, a local function, or an object that cannot be written down or pickled.

    Examples
    --------
    >>> import dataflow as df
    >>> from dataflow.testing import capture
    >>> flow = df.stage(str.strip) >> df.stage(int)
    >>> (failure,) = flow.map([" x "], on_error="record")
    >>> print(capture(failure))
    # In the stage 'int', on its item of that moment:
    #     ValueError("invalid literal for int() with base 10: 'x'")
    # Each test fails until that has been mended.
    <BLANKLINE>
    import dataflow as df
    <BLANKLINE>
    FLOW = df.stage(str.strip) >> df.stage(int)
    ITEM = ' x '
    STAGE = df.stage(int)
    INPUT = 'x'
    <BLANKLINE>
    <BLANKLINE>
    def test_the_item():
        FLOW(ITEM)
    <BLANKLINE>
    <BLANKLINE>
    def test_the_stage_alone():
        STAGE(INPUT)
    <BLANKLINE>
    """
    cause, stage = (error.error, error.stage) if isinstance(error, Failure) else (error, None)
    flow, item = _what_failed(error, cause, flow, item)
    found = _found_again(flow, item)
    text = _file(flow, item, cause, stage, found)
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


def _what_failed(
    error: Failure | Exception, cause: Exception, flow: Flow[Any, Any] | None, item: Any
) -> tuple[Flow[Any, Any], Any]:
    """Return the flow and the item: those that are given, else those that the error leads to."""
    trail = trail_of(cause)
    if flow is None and trail is not None:
        flow = trail.flow
    if item is UNKNOWN and isinstance(error, Failure):
        item = error.item
    elif item is UNKNOWN and trail is not None:
        item = trail.item
    if flow is None or item is UNKNOWN:
        missing = "the flow that was run" if flow is None else "the item that failed"
        raise TypeError(
            f"this {type(cause).__name__} does not lead to {missing}, as one does that a flow raises in this process: "
            "capture(error, flow, item)"
        )
    return flow, item


class _Watched(Reading):
    """A reading that remembers which stage failed last, and on what."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: dict[int, tuple[Stage[Any, Any], Any]] = {}

    def stage(self, stage: Stage[Any, Any], x: Any, fn: Callable[[Any], Any] | None = None) -> Any:
        try:
            return super().stage(stage, x, fn)
        except Exception as error:
            self.failed[id(error)] = stage, x
            raise


def _found_again(flow: Flow[Any, Any], item: Any) -> tuple[Stage[Any, Any], Any] | None:
    """Return the stage that fails where the flow is read on this item, and what it fails on; None if none does."""
    reading = _Watched()
    try:
        reading.run(flow, item)
    except Exception as error:
        return reading.failed.get(id(error))
    return None


def _file(
    flow: Flow[Any, Any], item: Any, cause: Exception, stage: str | None, found: tuple[Stage[Any, Any], Any] | None
) -> str:
    writer = Writer(homeless=_homeless(flow))
    values = {"FLOW": writer.flow(flow), "ITEM": _value(writer, item)}
    alone = found is not None and found[0] is not flow
    if alone and found is not None:
        values |= {"STAGE": writer.flow(found[0]), "INPUT": _value(writer, found[1])}
    blamed = stage or (found[0].name if found else "?")
    lines = [
        f"# In the stage {blamed!r}, on its item of that moment:",
        f"#     {short_repr(cause, 100)}",
        "# Each test fails until that has been mended.",
        "",
        *writer.imports,
        "",
        *(f"\n{source}" for source in writer.definitions.values()),
        *(f"{name} = {text}" for name, text in values.items()),
        "",
        "",
        "def test_the_item():",
        "    FLOW(ITEM)",
    ]
    if alone:
        lines += ["", "", "def test_the_stage_alone():", "    STAGE(INPUT)"]
    return "\n".join(lines) + "\n"


def _value(writer: Writer, value: Any) -> str:
    """Return a value as Python, or else as what pickle makes of it."""
    try:
        return writer.value(value)
    except NotWritable:
        pass
    try:
        data = base64.b64encode(pickle.dumps(value)).decode()
    except Exception as error:
        raise NotWritable(f"{short_repr(value)} can neither be written as Python nor pickled: {error}") from error
    writer.imports |= {"import base64": None, "import pickle": None}
    return f"pickle.loads(base64.b64decode({data!r}))"


def _homeless(flow: Flow[Any, Any]) -> set[str]:
    """Return the modules of a flow's functions that cannot be imported by another program."""
    return {module for module in _modules(flow) if module == "__main__" or not _importable(module)}


def _modules(flow: Flow[Any, Any]) -> Iterator[str]:
    functions = [stage.fn for stage in stages_of(flow)]
    functions += [node.fn for node in postorder(flow) if isinstance(node, Combine) and node.fn is not None]
    for fn in functions:
        module = getattr(fn, "__module__", None) or type(fn).__module__
        if isinstance(module, str):
            yield module


def _importable(module: str) -> bool:
    if getattr(sys.modules.get(module), "__spec__", None) is None:
        return False
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
