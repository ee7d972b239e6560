"""What the passes make of telling flows, as text: each golden file holds a graph before and after every pass.

A change of the passes or of the graph's text changes these files. Write them anew with::

    UPDATE_GOLDEN=1 python -m pytest tests/test_passes_golden.py

and then read the difference: it says what the change does, and a file that nobody has read tests nothing.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import dataflow as df
from dataflow.graph import Region, lower, to_text, verify
from dataflow.passes import DEFAULT, Remark, Remarks, optimize

GOLDEN = Path(__file__).parent / "golden"
UPDATE = "UPDATE_GOLDEN" in os.environ


def load(x: Any) -> Any:
    return x


def clean(x: Any) -> Any:
    return x


def double(x: Any) -> Any:
    return x


def kind(x: Any) -> Any:
    return x


def vote(*parts: Any) -> Any:
    return parts


def join(left: Any, right: Any) -> Any:
    return left, right


@df.stage
class Parser:
    def __init__(self, language: str) -> None: ...

    def __call__(self, x: Any) -> Any:
        return x


@df.stage(batch=8, device="cuda", placement="models")
class Model:
    def __init__(self, name: str) -> None: ...

    def __call__(self, items: list[Any]) -> list[Any]:
        return items


log = df.stage(pure=False)(load).named("log")
"""What may run but once for each place where it is written."""


def model(name: str, **options: Any) -> Any:
    """Return a batched stage."""
    return df.stage(**{"batch": 8, "device": "cuda", "placement": "models", **options})(load).named(name)


def plain(name: str, **options: Any) -> Any:
    """Return a stage that is called per item."""
    return df.stage(**options)(load).named(name)


FLOWS: dict[str, Any] = {
    # canonicalize
    "identity": df.identity >> load >> (df.identity >> clean | df.identity) >> df.combine() >> df.combine(vote),
    "identity_alone": df.fanout(df.identity, df.identity),
    "combine_named": df.fanout(left=load, right=clean) >> df.combine(join),
    "combine_at_a_distance": df.fanout(load, clean).retry(1) >> df.combine(vote),
    # merge, drop
    "merge_common_head": (df.stage(load) >> clean | df.stage(load) >> double) >> df.combine(join),
    "merge_whole_branches": (df.stage(load) >> clean | df.stage(load) >> clean) >> df.combine(join),
    "merge_bodies": df.fanout(df.each(load), df.each(load), df.stage(load).retry(1), df.stage(load).retry(2)),
    "merge_class_stages": Parser("en") | Parser("en") | Parser("de"),
    "merge_not_impure": (log >> clean | log >> double) >> df.combine(join),
    "merge_behind_impure": df.stage(load) >> (log >> clean | log >> clean),
    # hoist
    "hoist_head": df.switch(kind, {"a": Model("m") >> clean, "b": Model("m") >> double, "c": Model("m")}),
    "hoist_tail": df.switch(kind, {"a": df.stage(clean) >> Model("m")}, default=Model("m")) >> double,
    "hoist_all": df.switch(kind, {1: df.stage(load) >> clean >> double, 2: df.stage(load) >> clean >> double}),
    "hoist_all_to_a_batch": df.switch(kind, {1: Model("m"), 2: Model("m")}),
    "hoist_not_all": df.switch(kind, {1: Model("m") >> clean, 2: Model("m") >> double}, default=load),
    "hoist_not_impure": df.switch(kind, {1: log >> clean, 2: log >> double}),
    "hoist_not_shared_input": df.switch(kind, {1: df.stage(load) | clean, 2: df.stage(load) | double}),
    "hoist_nested": df.switch(
        kind,
        {1: df.switch(load, {1: clean >> Model("m"), 2: double >> Model("m")}), 2: Parser("en") >> Model("m")},
    ),
    # fuse
    "fuse_diamond": df.stage(load) >> (df.stage(clean) | double) >> df.combine(join) >> Parser("en"),
    "fuse_constructs": df.stage(load)
    >> df.switch(kind, {1: df.each(clean).retry(1)}, default=df.stage(double).fallback(clean))
    >> double,
    "fuse_around_a_gpu": df.stage(load) >> (df.identity | plain("gpu", device="cuda")) >> df.combine(join) >> clean,
    "fuse_placements": df.stage(load)
    >> plain("a1", placement="a")
    >> plain("a2", placement="a")
    >> plain("b1", placement="b")
    >> clean,
    "fuse_refusals": df.stage(load)
    >> plain("gpu", device="cuda")
    >> plain("batched", batch=4)
    >> plain("several", replicas=3)
    >> plain("ranged", replicas=(1, 8))
    >> plain("cores", cpus=2)
    >> plain("share", gpus=0.5)
    >> plain("big", memory=1024)
    >> df.stage(clean).timeout(1)
    >> df.stage(clean).retry(1, backoff=0.5)
    >> df.race(clean, double)
    >> df.each(plain("gpu", device="cuda"))
    >> df.switch(kind, {1: plain("there", placement="there"), 2: clean}),
    "fuse_impure": df.stage(load) >> log >> (df.stage(clean) | log) >> df.combine(join),
    # batch
    "batch_chain": df.stage(load) >> Model("a") >> Model("b") >> Model("c") >> clean,
    "batch_siblings": df.stage(load) >> (Model("a") | Model("b") >> Model("c") | clean) >> df.combine(vote),
    "batch_on_cpu": df.stage(batch=4)(load) >> df.stage(batch=4)(clean) >> df.stage(batch=4, placement="x")(double),
    "batch_in_bodies": df.each(df.switch(kind, {1: Model("a") >> Model("b"), 2: (Model("c") >> Model("d")).retry(1)})),
    "batch_refusals": df.stage(load)
    >> model("a")
    >> model("own placement", placement=None)
    >> model("placed", placement="elsewhere")
    >> model("smaller", placement="elsewhere", batch=4)
    >> model("device", placement="elsewhere", batch=4, device="cuda:1")
    >> model("impure", placement="elsewhere", batch=4, device="cuda:1", pure=False),
    "batch_not_around": Model("a") >> (df.stage(clean) >> Model("b") | Model("c")) >> df.combine(join),
    # all of them
    "quorum": df.stage(load) >> (Model("a") | Model("b") | clean) >> df.combine(vote, quorum=2, within=0.5) >> double,
    "named": (df.stage(load) >> (df.stage(clean) >> Model("m")).named("inner") >> df.identity).named("outer"),
    "cascade": df.stage(load)
    >> (df.identity | Model("fast"))
    >> df.switch(kind, {True: df.stage(clean) >> double, False: plain("again") >> Model("slow") >> double}),
}


def rounds(region: Region) -> Iterable[tuple[str, Region, list[Remark]]]:
    """Yield what each pass makes of the graph, in the order in which `optimize` runs them."""
    while True:
        before = region
        for each in DEFAULT:
            if each.repeats:
                remarks = Remarks(each.name)
                region = each.run(region, remarks)
                yield each.name, region, remarks.rows
        if region is before:
            break
    for each in DEFAULT:
        if not each.repeats:
            remarks = Remarks(each.name)
            region = each.run(region, remarks)
            yield each.name, region, remarks.rows


def story(flow: Any) -> str:
    """Return a flow, its graph, and what each pass made of it and said, as text."""
    region = lower(flow)
    verify(region)
    lines = [repr(flow), "", "lowered", *_indented(to_text(region))]
    said: set[tuple[str, Remark]] = set()
    for name, after, remarks in rounds(region):
        verify(after)
        new = [row for row in remarks if row.verdict == "did" or (name, row) not in said]
        said |= {(name, row) for row in remarks}
        if after is not region or new:
            lines += ["", name]
            lines += [f"  - {row.verdict} {row.subject}: {row.reason}" for row in new]
            lines += _indented(to_text(after)) if after is not region else ["  unchanged"]
        region = after
    return "\n".join(lines) + "\n"


def _indented(text: str) -> list[str]:
    return ["  " + line for line in text.splitlines()]


@pytest.mark.parametrize("name", FLOWS)
def test_the_passes_make_of_it_what_the_golden_file_says(name: str) -> None:
    path = GOLDEN / f"{name}.txt"
    text = story(FLOWS[name])
    if UPDATE:
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(FLOWS)


@pytest.mark.parametrize("name", FLOWS)
def test_the_story_is_that_of_optimize(name: str) -> None:
    """The golden files run the passes one by one; this ties them to what `optimize` does and says."""
    region = lower(FLOWS[name])
    *_, (_, last, _) = rounds(region)
    result, remarks = optimize(region, check=True)
    assert result.key() == last.key()
    told = story(FLOWS[name])
    for row in remarks:
        assert f"  - {row.verdict} {row.subject}: {row.reason}" in told


def test_every_pass_takes_and_refuses_decisions_in_the_golden_files() -> None:
    """What is said for each pass, so that a new decision gets a flow here.

    What drop removes is what others have left, and they have said why.
    """
    told = [remark for flow in FLOWS.values() for remark in optimize(lower(flow))[1]]
    assert {(row.by, row.verdict) for row in told} == {
        ("canonicalize", "did"),
        ("merge", "did"),
        ("merge", "refused"),
        ("hoist", "did"),
        ("hoist", "refused"),
        ("fuse", "did"),
        ("fuse", "refused"),
        ("batch", "did"),
        ("batch", "refused"),
    }
