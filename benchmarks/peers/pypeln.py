"""pypeln: a thread a step. It has no step that forms batches."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

if "pkg_resources" not in sys.modules:  # pypeln asks it for a version number, and setuptools has done away with it
    stand_in: Any = ModuleType("pkg_resources")
    stand_in.get_distribution = lambda name: SimpleNamespace(version=importlib.metadata.version(name))
    sys.modules["pkg_resources"] = stand_in

import pypeln as pl


def stream_one_by_one(
    preprocess: Callable[[Any], Any], model: Callable[[list[Any]], list[Any]]
) -> Callable[[list[Any]], list[Any]]:
    """Run a model over a stream, an item at a time; with one worker a step, its results are in order."""

    def one(item: Any) -> Any:
        return model([item])[0]

    def run(items: list[Any]) -> list[Any]:
        preprocessed = pl.thread.map(preprocess, items, workers=1, maxsize=64)
        return list(pl.thread.map(one, preprocessed, workers=1, maxsize=64))

    return run
