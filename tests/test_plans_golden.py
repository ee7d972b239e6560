"""What `explain` says of telling flows, as text: each golden file holds the whole page but for its digest.

A change of the passes or of the page's text changes these files. Write them anew with::

    UPDATE_GOLDEN=1 python -m pytest tests/test_plans_golden.py

and then read the difference.
"""

import os
import re
from pathlib import Path
from typing import Any

import pytest

import dataflow as df

GOLDEN = Path(__file__).parent / "golden" / "plans"
UPDATE = "UPDATE_GOLDEN" in os.environ


@df.stage
def preprocess(image: Any) -> Any:
    return image


@df.stage
def label(scores: Any) -> int:
    return int(scores)


@df.stage
def first_opinion(seen: Any) -> Any:
    return seen[1]


@df.stage
def image_again(seen: Any) -> Any:
    return seen[0]


@df.stage
def crops(frame: Any) -> list[Any]:
    return [frame]


def confident(seen: Any) -> bool:
    return bool(seen)


def kind(box: Any) -> str:
    return str(box)


def vote(*opinions: Any) -> Any:
    return opinions


def model(name: str, **options: Any) -> Any:
    """Return a batched stage, as a torch module is one."""
    return df.stage(batch=64, name=name, **options)(lambda items: items)


def on_gpu(name: str) -> Any:
    return model(name, device="cuda", placement="models")


PLANS: dict[str, Any] = {
    # the two flows of examples/digits.py, on the CPU
    "ensemble": preprocess >> (model("linear") | model("mlp") | model("cnn")) >> df.combine(vote),
    "cascade": preprocess
    >> (df.identity | model("linear"))
    >> df.switch(confident, {True: first_opinion >> label, False: image_again >> model("cnn") >> label}),
    # frames, boxes in them, a model for each kind of box
    "video": preprocess
    >> crops
    >> df.each(
        on_gpu("detector") >> df.switch(kind, {"person": on_gpu("faces"), "car": on_gpu("plates")}, default=df.identity)
    ),
    "recommender": df.fanout(
        user=df.stage(str.strip) >> on_gpu("users"), item=df.stage(str.strip) >> str.lower >> on_gpu("items")
    )
    >> df.combine(lambda user, item: user * item),
    "reliable": preprocess
    >> df.race(on_gpu("first copy"), model("second copy", device="cuda:1", placement="spare")).timeout(0.2)
    >> (model("remote", pure=False).retry(3, on=OSError, backoff=0.1).fallback(label) | label | model("local"))
    >> df.combine(vote, quorum=2, within=0.5),
    "chain": preprocess >> label >> str >> str.strip >> str.strip >> str.strip >> len,
}


@pytest.mark.parametrize("name", PLANS)
def test_the_page_is_what_the_golden_file_says(name: str) -> None:
    path = GOLDEN / f"{name}.txt"
    text = re.sub(r"(?m)^(Digest +)[0-9a-f]{16}$", r"\1...", PLANS[name].explain("inline")) + "\n"
    if UPDATE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(PLANS)
