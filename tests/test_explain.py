"""What `explain`, `visualize` and notebooks show: whole, honest, and short however large the plan."""

import html
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dataflow as df
from dataflow.errors import OptionError
from dataflow.explain import Picture, explain, notebook, visualize
from dataflow.explain.layout import Box, layout
from dataflow.explain.outline import outline
from dataflow.passes import DEFAULT
from dataflow.testing import flows

FORMATS = ("text", "mermaid", "dot", "json")


def load(x: Any) -> Any:
    return x


def clean(x: Any) -> Any:
    return x


def busy(x: Any) -> Any:
    return x


def vote(*parts: Any) -> Any:
    return parts


@df.stage(batch=32, device="cuda", placement="models")
class Model:
    def __init__(self, arch: Any, **settings: Any) -> None: ...

    def __call__(self, items: list[Any]) -> list[Any]:
        return items


audit = df.stage(pure=False)(load).named("audit")
detect = df.stage(batch=8, device="cuda:1", replicas=(1, 4), gpus=0.5, max_wait=0.01)(load).named("detect")


def everything() -> Any:
    """Return a flow that has every construct."""
    routed = df.switch(busy, {"car": Model("cars"), "bike": clean >> Model("bikes")}, default=df.identity)
    return (
        df.stage(load)
        >> clean
        >> df.fanout(
            scores=Model("r18") | Model("r34"),
            found=df.each(detect >> routed).named("boxes"),
            text=df.race(df.stage(load, device="cuda"), df.stage(clean, device="cuda")).timeout(0.5),
            safe=Model("vit").retry(2, on=OSError, backoff=0.1).fallback(audit),
            most=(df.stage(load) | clean | busy) >> df.combine(vote, quorum=2, within=0.25),
        )
        >> df.combine(lambda **parts: parts)
    )


def text_of(flow: Any, passes: Any = None) -> str:
    return explain(flow.optimize(passes))


def section(text: str, name: str) -> list[str]:
    """Return the lines below a heading."""
    lines = text.splitlines()
    after = lines[lines.index(name) + 1 :]
    return after[: after.index("") if "" in after else None]


def well_set(text: str) -> None:
    """Check what holds of every text: its width, no blanks at the ends of lines, no addresses, no inner names."""
    for line in text.splitlines():
        assert len(line) <= 100, line
        assert line == line.rstrip()
    assert not re.search(r"0x[0-9a-f]{6}", text)
    assert "<locals>" not in text


# ------------------------------------------------------------------ the text


def test_the_header_says_what_and_how_large() -> None:
    flow = df.stage(load) >> clean >> Model("r18")
    head = flow.explain("inline").splitlines()[:5]
    assert head == [
        "Expression  load >> clean >> Model('r18')",
        "Executor    inline",
        f"Digest      {flow.optimize().digest}",
        f"Passes      {', '.join(each.name for each in DEFAULT)}",
        "Plan        3 stages in 2 steps",
    ]


def test_the_digest_is_that_of_the_plan_that_runs() -> None:
    flow = everything()
    with flow.open("inline") as session:
        assert f"Digest      {session.stats()['digest']}" in flow.explain("inline").splitlines()


def test_every_construct_says_what_it_does() -> None:
    text = text_of(everything())
    well_set(text)
    assert section(text, "Steps") == [
        "  1. load + clean                 one generated function",
        "  2. Model('r18') + Model('r34')  batches of up to 32, formed and split once, on cuda, placement",
        "                                  'models'",
        "  3. boxes/each                   for every element, in batches across items; from 1",
        "      4. detect                   batches of up to 8, on cuda:1, 1 to 4 replicas, gpus=0.5, waits up",
        "                                  to 10 ms for a batch",
        "      5. busy + route             one generated function",
        "      6. switch                   only the branch that was found runs; from 5, 4",
        "          case 'car'",
        "            7. Model('cars')      batches of up to 32, on cuda, placement 'models'",
        "          case 'bike'",
        "            8. clean              called per item",
        "            9. Model('bikes')#2   batches of up to 32, on cuda, placement 'models'",
        "          default: its input",
        "  10. timeout                     at most 0.5 s; from 1",
        "      11. race                    the first success counts",
        "          branch 0",
        "            12. load#2            called per item, on cuda",
        "          branch 1",
        "            13. clean#2           called per item, on cuda",
        "  14. fallback                    on Exception another takes over; from 1",
        "      try",
        "        15. retry                 up to 2 more attempts on OSError, backoff from 0.1 s",
        "            16. Model('vit')#3    batches of up to 32, on cuda, placement 'models'",
        "      else",
        "        17. audit                 called per item, not pure",
        "  18. combine(vote)               called with what succeeds within 0.25 s, at least 2 of 3; from 1",
        "      branch 0",
        "        19. load#3                called per item",
        "      branch 1",
        "        20. clean#3               called per item",
        "      branch 2",
        "        21. busy                  called per item",
        "  22. combine(<lambda>)           one generated function; from 2, 3, 10, 14, 18",
    ]


def test_fused_constructs_are_read_in_one_line() -> None:
    flow = df.switch(busy, {1: clean, 2: df.each(load)}) >> df.stage(load).retry(1)
    assert section(text_of(flow), "Steps") == [
        "  1. busy + switch(clean, each(load)) + retry(load)",
        "       one generated function",
    ]


def test_what_only_some_stages_of_a_step_ask_for_is_said_of_those() -> None:
    flow = df.stage(load) >> audit >> clean
    assert section(text_of(flow), "Steps") == [
        "  1. load + audit + clean  one generated function",
        "      audit: not pure",
    ]


def test_remarks_stand_with_their_reasons_taken_and_refused() -> None:
    flow = df.stage(load) >> (Model("r18") | Model("r34")) >> df.combine(vote) >> clean
    assert section(text_of(flow), "Optimizer") == [
        "  canonicalize  did      combine(vote): takes the parts of its fan-out directly",
        "  batch         did      Model('r18') + Model('r34'): batched stages of placement 'models': batches",
        "                         of up to 32 formed and split once",
        "  fuse          did      combine(vote) + clean: CPU ops of placement 'cpu': one generated function",
    ]


def test_every_remark_is_shown() -> None:
    plan = everything().optimize()
    shown = " ".join(" ".join(section(explain(plan), "Optimizer")).split())
    for remark in plan.remarks:
        assert remark.by in shown
        assert remark.verdict in shown
        assert remark.reason in shown
        assert all(name in shown for name in remark.subject.split(" + "))


def test_remarks_of_one_kind_are_counted() -> None:
    flow = df.stage(load, device="cuda") >> df.stage(load, device="cuda").named("load") >> clean
    assert "refused  load ×2: runs on cuda" in text_of(flow)  # noqa: RUF001


def test_a_plan_without_passes_or_steps_says_so() -> None:
    assert section(text_of(df.stage(load), ()), "Optimizer") == ["  no passes ran"]
    assert "Passes      none" in text_of(df.stage(load), ())
    assert section(text_of(df.stage(load)), "Optimizer") == ["  nothing to do"]
    assert section(text_of(df.identity), "Steps") == ["  none: the result is the input"]


def test_steps_say_what_they_read_and_wait_for() -> None:
    head = df.stage(load, device="cuda")
    flow = df.switch(busy, {1: head >> clean, 2: head >> load})
    assert section(text_of(flow, "-fuse"), "Steps") == [
        "  1. busy          called per item",
        "  2. route         finds the branch: 1, 2",
        "  3. load          called per item, on cuda; from the input, after 2",
        "  4. switch        only the branch that was found runs; from 2, 3",
        "      case 1",
        "        5. clean   called per item",
        "      case 2",
        "        6. load#2  called per item",
    ]


def test_names_are_shown_without_what_surrounds_their_definition() -> None:
    def inner(x: Any) -> Any:
        return x

    text = text_of(df.stage(inner) >> (lambda x: x) >> df.stage(lambda x: x, device="cuda"))
    well_set(text)
    assert "  1. inner + <lambda>  one generated function" in text
    assert "  2. <lambda>" in text


def test_strange_names_keep_the_page_in_order() -> None:
    names = ["two\nlines", "tab\tand  blanks", "$x^2$", 'quo"te', "<b>&amp;</b>", "wide " * 60, "x" * 300, "模型"]
    flow = df.identity
    for name in names:
        flow = flow >> df.stage(load, device="cuda").named(name) >> df.stage(clean).named(name)
    well_set(text_of(flow))
    assert json.loads(explain(flow.optimize(), "json"))["schema"] == 1
    ElementTree.fromstring(Picture(flow.optimize()).svg)
    plan = flow.optimize()
    for line in explain(plan, "mermaid").splitlines():
        assert mermaid_line(line.strip()), line
    check_dot(explain(plan, "dot"))


def test_addresses_are_not_shown() -> None:
    flow = df.stage(Model.fn)(object(), load=object()) >> load
    for form in FORMATS:
        assert not re.search(r"0x[0-9a-f]{6}", explain(flow.optimize(), form))


# ------------------------------------------------------------------ folding, and plans of any size


def test_repeats_in_a_row_are_one_line() -> None:
    text = text_of(df.stage(load) >> load >> load >> clean, ())
    assert text.startswith("Expression  load ×3 >> clean\n")  # noqa: RUF001
    assert section(text, "Steps") == ["  1-3. load ×3  called per item", "  4. clean      called per item"]  # noqa: RUF001


def test_repeats_side_by_side_are_one_line() -> None:
    flow = df.fanout(*[df.stage(lambda x, i=i: x, device="cuda", name="m") for i in range(5)]) >> df.combine(vote)
    assert section(text_of(flow), "Steps") == [
        "  1-5. m ×5         called per item, on cuda",  # noqa: RUF001
        "  6. combine(vote)  called with the parts",
    ]


def test_a_row_and_what_is_beside_it_are_not_folded_together() -> None:
    gpu = df.stage(load, device="cuda", pure=False)
    flow = df.stage(clean) >> (gpu | gpu >> gpu | gpu) >> df.combine(vote)
    assert section(text_of(flow), "Steps") == [
        "  1. clean          called per item",
        "  2-3. load ×2      called per item, on cuda, not pure",  # noqa: RUF001
        "  4. load#3         called per item, on cuda, not pure",
        "  5. load#4         called per item, on cuda, not pure; from 1",
        "  6. combine(vote)  called with the parts; from 2-3, 4, 5",
    ]


def test_branches_alike_are_one() -> None:
    text = text_of(df.switch(busy, {i: df.stage(load, device="cuda") if i < 4 else clean for i in range(6)}))
    titles = [line.strip() for line in section(text, "Steps") if "case" in line]
    assert titles == ["case 0 to case 3 ×4", "case 4 to case 5 ×2"]  # noqa: RUF001


def large_flows() -> dict[str, Any]:
    chain: Any = df.stage(load)
    for _ in range(9_999):
        chain = chain >> load
    deep: Any = df.stage(load, device="cuda")
    retried: Any = df.stage(load, device="cuda")
    routed: Any = df.stage(load)
    for _ in range(200):
        deep = df.each(deep).timeout(1)
        retried = retried.retry(1)
        routed = df.switch(busy, {1: routed}, default=clean)
    named = [df.stage(load, device="cuda", name=f"model {i}") for i in range(1_000)]
    doubled: Any = df.stage(load)
    for _ in range(30):  # which is 2 ** 30 stages, were it written out
        doubled = df.race(doubled >> load, doubled >> clean)
    return {
        "chain": chain,
        "deep": deep,
        "retried": retried,
        "routed": routed,
        "alike": df.fanout(*[df.stage(lambda x, i=i: x, device="cuda") for i in range(1_000)]),
        "broad": df.fanout(*named) >> df.combine(vote),
        "pairs": df.fanout(*[df.stage(clean, pure=False) >> stage for stage in named]) >> df.combine(vote),
        "many cases": df.switch(busy, dict(enumerate(named))),
        "doubled": doubled,
    }


LARGE = large_flows()


@pytest.mark.parametrize("passes", [None, ()], ids=["optimized", "plain"])
@pytest.mark.parametrize("name", LARGE)
def test_large_plans_are_explained_on_two_pages(name: str, passes: Any) -> None:
    plan = LARGE[name].optimize(passes)
    text = explain(plan)
    well_set(text)
    assert len(text.splitlines()) < 130
    for form in ("mermaid", "dot"):
        assert len(explain(plan, form).splitlines()) < 300
    assert len(Picture(plan).svg) < 300_000
    check_picture(plan)
    check_record(plan)


def check_record(plan: Any) -> None:
    """Check that JSON leaves out no step."""
    record = json.loads(explain(plan, "json"))
    steps = [*record["steps"], *(step for body in record["bodies"] for step in body["steps"])]
    assert Counter(step["name"] for step in steps) == Counter(step.name for _, step in plan.walk())


def test_what_is_left_out_is_counted() -> None:
    steps = section(text_of(LARGE["broad"]), "Steps")
    assert steps[6:8] == [
        "  7-999. … 993 more steps …  from the input",
        "  1000. model 999            called per item, on cuda; from the input",
    ]
    assert any("(195 more steps)" in line for line in section(text_of(LARGE["retried"], ()), "Steps"))


def test_a_body_that_is_shared_is_shown_once() -> None:
    again: Any = df.stage(load, device="cuda") >> clean
    flow = df.race(again >> load, df.stage(clean)).fallback(df.race(again, clean)) >> df.each(again).fallback(
        df.each(again)
    )
    text = text_of(flow, ())
    assert "(the same as in step " in text
    counts = Counter(re.findall(r"\d+\. \S+", text))
    assert max(counts.values()) == 1


# ------------------------------------------------------------------ JSON


def test_json_names_everything() -> None:
    flow = everything()
    plan = flow.optimize()
    record = json.loads(flow.explain("inline", format="json"))
    assert list(record) == [
        *("schema", "executor", "digest", "expression", "passes", "steps", "result", "bodies", "remarks")
    ]
    assert (record["schema"], record["executor"], record["digest"]) == (1, "inline", plan.digest)
    assert record["expression"] == repr(flow)
    assert record["passes"] == [each.name for each in DEFAULT]
    assert [step["name"] for step in record["steps"]] == [step.name for step in plan.steps]
    assert record["remarks"] == [
        {"by": row.by, "verdict": row.verdict, "subject": row.subject, "reason": row.reason} for row in plan.remarks
    ]


def test_json_steps_can_be_followed() -> None:
    """Every slot that is read was filled before, and every body that is held is there."""
    record = json.loads(explain(everything().optimize(), "json"))
    bodies = {body["id"]: body for body in record["bodies"]}
    held = []
    for block in ({"steps": record["steps"], "result": record["result"]}, *record["bodies"]):
        filled = {"%0"}
        for step in block["steps"]:
            assert set(step["inputs"]) <= filled
            filled |= set(step["outputs"])
            held += [body["id"] for body in step["bodies"]]
        assert block["result"] in filled
    assert sorted(held) == sorted(bodies)


def test_json_stages_carry_their_options_and_origins() -> None:
    record = json.loads(explain((df.stage(load) >> detect).optimize(), "json"))
    first, second = record["steps"]
    assert (first["kind"], second["kind"]) == ("call", "call")
    assert second["stages"] == [
        {
            "name": "detect",
            "pure": True,
            "options": {
                "name": "detect",
                "batch": 8,
                "max_wait": 0.01,
                "device": "cuda:1",
                "replicas": [1, 4],
                "gpus": 0.5,
            },
            "origin": {"file": __file__, "line": load.__code__.co_firstlineno},
        }
    ]
    assert (first["batches"], second["batches"]) == (False, True)


def test_json_titles_say_when_a_body_runs() -> None:
    flow = df.switch(busy, {"a": Model("a")}, default=Model("b")).fallback(Model("c"))
    record = json.loads(explain(flow.optimize(), "json"))
    assert [body["title"] for body in record["steps"][0]["bodies"]] == ["try", "else"]
    inner = record["bodies"][0]["steps"][-1]
    assert (inner["kind"], [body["title"] for body in inner["bodies"]]) == ("switch", ["case 'a'", "default"])


# ------------------------------------------------------------------ diagrams

NODE = r'\w+(?:\(\["[^"]*"\]\)|\["[^"]*"\]|\("[^"]*"\))'
MERMAID = re.compile(rf'flowchart TD|{NODE}|subgraph \w+\["[^"]*"\]|end|\w+ (?:-->|-\.->) \w+')


def mermaid_line(line: str) -> bool:
    """Return whether a line is one that we know Mermaid to read."""
    return MERMAID.fullmatch(line) is not None


DOT = re.compile(
    r'digraph plan \{|(?:graph|node) \[.*\];|\w+ \[label="(?:[^"\\\n]|\\.)*"(?:, shape=\w+)?\];'
    r'|subgraph cluster_\w+ \{|label="(?:[^"\\\n]|\\.)*";|\}|\w+ -> \w+(?: \[[\w=,]+\])?;'
)


def check_dot(text: str) -> None:
    depth = 0
    for line in text.splitlines():
        assert DOT.fullmatch(line.strip()), line
        depth += line.endswith("{") - (line.strip() == "}")
    assert depth == 0


def check_diagrams(plan: Any) -> None:
    """Check that every line is well-formed, and that every edge joins what was declared, once."""
    mermaid = [line.strip() for line in explain(plan, "mermaid").splitlines()]
    assert all(mermaid_line(line) for line in mermaid)
    assert sum(line.startswith("subgraph") for line in mermaid) == mermaid.count("end")
    nodes = [re.split(r"\W", line.removeprefix("subgraph "), maxsplit=1)[0] for line in mermaid if '"' in line]
    assert len(nodes) == len(set(nodes))
    edges = [tuple(re.split(r" \S+ ", line)) for line in mermaid if re.search(r" (-->|-\.->) ", line)]
    assert {name for edge in edges for name in edge} <= set(nodes)
    assert len(edges) == len(set(edges))
    dot = explain(plan, "dot")
    check_dot(dot)
    lines = [line.strip() for line in dot.splitlines()]
    declared = {line.split(" ")[0] for line in lines if re.match(r"\w+ \[label", line)}
    clusters = {line.split(" ")[1] for line in lines if line.startswith("subgraph")}
    for line in lines:
        if " -> " in line:
            source, _, target = line.removesuffix(";").split(" ")[:3]
            assert {source, target} <= declared
            assert set(re.findall(r"l(?:tail|head)=(\w+)", line)) <= clusters


@pytest.mark.parametrize("passes", [None, ()], ids=["optimized", "plain"])
def test_diagrams_of_every_construct_are_well_formed(passes: Any) -> None:
    check_diagrams(everything().optimize(passes))


def test_a_diagram_joins_steps_as_the_plan_does() -> None:
    flow = df.stage(load) >> (Model("a") | df.stage(clean, device="cuda")) >> df.combine(vote)
    lines = [line.strip() for line in flow.explain(format="mermaid").splitlines()]
    assert [line for line in lines if "-->" in line] == [
        "i0 --> s1",
        "s1 --> s2",
        "s1 --> s3",
        "s2 --> s4",
        "s3 --> s4",
        "s4 --> o0",
    ]


def test_a_construct_is_a_box_around_what_it_holds() -> None:
    flow = df.stage(load) >> df.each(Model("a"))
    assert flow.explain(format="mermaid").splitlines()[3:6] == [
        '  subgraph s2["2. each<br/>for every element,<br/>in batches across items"]',
        "    s3[\"3. Model('a')<br/>batches of up to 32, on cuda,<br/>placement 'models'\"]",
        "  end",
    ]
    assert "s1 -> s3 [lhead=cluster_s2];" in flow.explain(format="dot")
    assert "s3 -> o0 [ltail=cluster_s2];" in flow.explain(format="dot")


# ------------------------------------------------------------------ pictures


def boxes_of(flow: Any, passes: Any = None) -> tuple[Box, ...]:
    return layout(outline(flow.optimize(passes))).boxes


def check_picture(plan: Any) -> None:
    """Check that everything is inside the picture, and that boxes lie inside one another or apart."""
    drawing = layout(outline(plan))
    for box in drawing.boxes:
        assert box.x >= 0 and box.y >= 0
        assert box.x + box.width <= drawing.width and box.y + box.height <= drawing.height
    for curve in drawing.curves:
        assert all(0 <= x <= drawing.width and 0 <= y <= drawing.height for x, y in curve.points)
        assert all(upper[1] <= lower[1] for upper, lower in zip(curve.points, curve.points[1:], strict=False))
    for index, one in enumerate(drawing.boxes):
        for other in drawing.boxes[index + 1 :]:
            assert apart(one, other) or inside(other, one)
    ElementTree.fromstring(Picture(plan).svg)


def apart(one: Box, other: Box) -> bool:
    return (
        one.x + one.width <= other.x
        or other.x + other.width <= one.x
        or one.y + one.height <= other.y
        or other.y + other.height <= one.y
    )


def inside(inner: Box, outer: Box) -> bool:
    return (
        outer.x <= inner.x
        and outer.y <= inner.y
        and inner.x + inner.width <= outer.x + outer.width
        and inner.y + inner.height <= outer.y + outer.height
    )


@pytest.mark.parametrize("passes", [None, ()], ids=["optimized", "plain"])
def test_the_picture_of_every_construct_is_in_order(passes: Any) -> None:
    check_picture(everything().optimize(passes))


def test_steps_lie_below_what_they_read() -> None:
    flow = df.stage(load) >> (Model("a") | df.stage(clean, device="cuda")) >> df.combine(vote)
    rows = {box.lines[0]: box.y for box in boxes_of(flow)}
    assert rows["input"] < rows["1. load"] < rows["4. combine(vote)"] < rows["output"]
    beside = [box for box in boxes_of(flow) if box.lines[0][0] in "23"]
    assert len(beside) == 2 and apart(*beside)


def test_an_svg_file_is_written_without_any_library(tmp_path: Path) -> None:
    path = tmp_path / "plan.svg"
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import dataflow as df\n"
        f"print((df.stage(abs) >> str).visualize({str(path)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(path), done.stderr
    root = ElementTree.parse(path).getroot()
    assert root.tag.endswith("svg")
    assert "1. abs + str" in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]


def test_a_png_file_is_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "plan.png"
    (everything() >> df.stage(load).named("$x$")).visualize(path)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n")
    width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    drawing = layout(outline((everything() >> df.stage(load).named("$x$")).optimize()))
    assert (width, height) == (int(drawing.width * 2), int(drawing.height * 2))


def test_a_png_file_without_matplotlib_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"dataflow\[viz\]"):
        df.stage(load).visualize(str(tmp_path / "plan.png"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["plan.pdf", "plan", "plan.svgz", ".png.txt"])
def test_other_endings_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"\.svg and \.png") as caught:
        visualize(df.stage(load).optimize(), tmp_path / name)
    assert Path(__file__).name in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_without_a_path_there_is_a_picture_that_notebooks_show() -> None:
    flow = df.stage(load) >> Model("a")
    picture = flow.visualize()
    assert picture._repr_svg_().startswith("<svg")
    assert repr(picture) == f"<picture of plan {flow.optimize().digest}>"


def test_a_notebook_shows_the_picture_and_the_text() -> None:
    flow = everything()
    bundle = flow._repr_mimebundle_()
    assert bundle["text/plain"] == repr(flow)
    page = bundle["text/html"]
    assert "<svg" in page
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    text = html.unescape(page.partition("<pre")[2].partition(">")[2].partition("</pre>")[0])
    assert text == explain(flow.optimize())
    assert notebook(flow.optimize()) == bundle


# ------------------------------------------------------------------ of every flow


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(OptionError, match="'text', 'mermaid', 'dot', 'json'") as caught:
        df.stage(load).explain(format="yaml")  # type: ignore[arg-type]
    assert Path(__file__).name in str(caught.value)


def test_explaining_runs_and_constructs_nothing() -> None:
    class Never:
        def __init__(self) -> None:
            raise AssertionError("constructed")

        def __call__(self, x: Any) -> Any:
            raise AssertionError("called")

    flow = df.stage(Never)() >> df.switch(df.stage(Never)(), {1: df.stage(Never)()})
    for form in FORMATS:
        assert flow.explain(format=form)  # type: ignore[arg-type]
    flow.visualize().svg  # noqa: B018


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(flows(max_depth=2), st.sampled_from([None, (), ("fuse",), "-fuse", ("canonicalize", "merge", "drop")]))
def test_any_flow_can_be_explained(flow: Any, passes: Any) -> None:
    plan = flow.optimize(passes)
    well_set(explain(plan))
    check_diagrams(plan)
    check_picture(plan)
    check_record(plan)
