"""A plan as text for people, read from the top down, never wider than a page."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

from dataflow.explain.outline import Entry, Outline, outline
from dataflow.explain.places import Place
from dataflow.explain.wording import clean, expression, folded
from dataflow.graph import ops, regions
from dataflow.passes import Remark
from dataflow.plan import Plan

WIDTH = 100
_COLUMN = 50
_INDENT = "  "
_SUBJECT = 240
_REASONS = 30
_BREAKS = re.compile(r"(?<=, )|(?= >> )|(?= \| )|(?=\.[a-z]+\()|(?<=\()(?=[a-z])")


def to_text(plan: Plan, executor: str = "", places: Sequence[Place] = ()) -> str:
    """Return what will run, and why, as text.

    Parameters
    ----------
    plan : Plan
        What to explain.
    executor : str
        The name of what would run it.
    places : sequence of Place
        In which processes, where they are several.

    Examples
    --------
    >>> import dataflow as df
    >>> print(to_text((df.stage(abs) >> str >> df.stage(len, device="cuda")).optimize(), "inline"))
    Expression  abs >> str >> len
    Executor    inline
    Digest      ...
    Passes      canonicalize, merge, drop, hoist, batch, fuse
    Plan        3 stages in 2 steps
    <BLANKLINE>
    Steps
      1. abs + str  one generated function
      2. len        called per item, on cuda
    <BLANKLINE>
    Optimizer
      fuse  did      abs + str: CPU ops of placement 'cpu': one generated function
            refused  len: runs on cuda
    """
    lines = [*_header(plan, executor), "", "Steps", *_steps(outline(plan))]
    if places:
        lines += ["", "Places", *_places(places)]
    lines += ["", "Optimizer", *_remarks(plan)]
    return "\n".join(line.rstrip() for line in lines)


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    """Return text in lines of at most the page's width, the first after `first`, the others after `rest`."""
    lines = textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False, drop_whitespace=True
    )
    return lines or [first.rstrip()]


def _pieces(text: str, width: int) -> Iterator[str]:
    """Yield an expression in pieces of at most `width`, broken between its parts."""
    line = ""
    for piece in _BREAKS.split(text):
        if len(line) + len(piece) > width:
            yield line
            line = ""
        line += piece.lstrip() if not line else piece
        while len(line) > width:
            yield line[:width]
            line = line[width:]
    yield line


def _header(plan: Plan, executor: str) -> Iterator[str]:
    held = list(regions(plan.region))
    stages = sum(isinstance(node.op, ops.Call) for region in held for node in region.nodes)
    rows = {
        "Executor": executor,
        "Digest": plan.digest,
        "Passes": ", ".join(plan.passes) or "none",
        "Plan": f"{_count(stages, 'stage')} in {_count(count_steps(plan), 'step')}",
    }
    for index, line in enumerate(_pieces(expression(plan.flow), WIDTH - 12)):
        yield f"{'' if index else 'Expression':12}{line}"
    for name, text in rows.items():
        if text:
            yield from _wrapped(text, f"{name:12}", " " * 12)


def count_steps(plan: Plan) -> int:
    """Return how many steps a plan has, those inside others included, each once."""
    blocks = {id(plan.block): plan.block}
    waiting = [plan.block]
    while waiting:
        for step in waiting.pop().steps:
            new = {id(body): body for body in step.bodies if id(body) not in blocks}
            blocks.update(new)
            waiting += new.values()
    return sum(len(block.steps) for block in blocks.values())


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


# -- places ----------------------------------------------------------------------------------------------------------


def _places(places: Sequence[Place]) -> Iterator[str]:
    widest = min(20, max(len(place.name) for place in places))
    for place in places:
        rest = " " * (widest + 4)
        first = f"{_INDENT}{place.name:{widest}}  "
        yield from _wrapped(clean(", ".join(place.steps)) or "no step of its own", first, rest)
        rows = {"asks for": place.asks, "reached": place.reached, "why": place.why}
        for name, text in rows.items():
            if text:
                yield from _wrapped(text, f"{rest}{name}: ", f"{rest}  ")


# -- steps -----------------------------------------------------------------------------------------------------------


def _steps(root: Outline) -> list[str]:
    rows = list(_rows(root))
    heads = [len(head) for head, _ in rows if len(head) <= _COLUMN]
    column = max(heads, default=0) + 2
    lines: list[str] = []
    for head, does in rows:
        indent = len(head) - len(head.lstrip())
        hanging = " " * (indent + len(head.lstrip().partition(" ")[0]) + 1)
        if not does:
            lines += _wrapped(head.lstrip(), " " * indent, hanging)
        elif len(head) <= _COLUMN:
            lines += _wrapped(does, head.ljust(column), " " * column)
        else:
            lines += _wrapped(head.lstrip(), " " * indent, hanging)
            lines += _wrapped(does, hanging + _INDENT, hanging + _INDENT)
    return lines or [_INDENT + "none: the result is the input"]


def _rows(root: Outline) -> Iterator[tuple[str, str]]:
    """Yield each line's beginning, and what is said behind it."""
    ids: dict[int, Entry] = {}
    stack: list[tuple[str, Entry | Outline | str]] = [(_INDENT, root)]
    while stack:
        indent, thing = stack.pop()
        if isinstance(thing, str):
            yield indent + thing, ""
        elif isinstance(thing, Outline):
            stack += [(indent, entry) for entry in reversed(thing.entries)]
            if thing.instead:
                stack.append((indent, f"({thing.instead})"))
        else:
            ids[thing.id] = thing
            yield f"{indent}{thing.number}. {thing.title}", "; ".join(filter(None, (thing.does, _reads(thing, ids))))
            for note in thing.notes:
                yield f"{indent}{_INDENT * 2}{note}", ""
            for body in reversed(thing.bodies):
                deeper = indent + _INDENT * 2
                empty = not body.outline.entries and not body.outline.instead
                title = body.title + ": its input" * empty
                if title:
                    stack += [(deeper + _INDENT, body.outline), (deeper, title)]
                else:
                    stack.append((deeper, body.outline))


def _reads(entry: Entry, ids: dict[int, Entry]) -> str:
    """Return from which steps an entry takes values, unless it just goes on from the one before it."""
    if entry.plain:
        return ""
    names = [ids[id_].number if id_ else "the input" for id_ in entry.sources]
    text = f"from {', '.join(folded(names, 8))}"
    return text + "".join(f", after {ids[id_].number}" for id_ in entry.waits)


# -- remarks ---------------------------------------------------------------------------------------------------------


def _remarks(plan: Plan) -> list[str]:
    if not plan.passes:
        return [_INDENT + "no passes ran"]
    lines: list[str] = []
    width = max((len(row.by) for row in plan.remarks), default=0)
    for name in dict.fromkeys((*plan.passes, *(remark.by for remark in plan.remarks))):
        title = name
        for verdict in ("did", "refused"):
            label = verdict
            for text in _reasons([row for row in plan.remarks if (row.by, row.verdict) == (name, verdict)]):
                first = f"{_INDENT}{title:{width}}  {label:7}  "
                lines += _wrapped(text, first, " " * len(first))
                title = label = ""
    return lines or [_INDENT + "nothing to do"]


def _reasons(rows: list[Remark]) -> list[str]:
    """Return remarks with those of one reason together."""
    subjects: dict[str, list[str]] = {}
    for row in rows:
        subjects.setdefault(clean(row.reason), []).append(_subject(row.subject))
    texts = [f"{_cut(', '.join(folded(names, 8)))}: {reason}" for reason, names in subjects.items()]
    return texts if len(texts) <= _REASONS else [*texts[:_REASONS], f"… {len(texts) - _REASONS} more …"]


def _subject(text: str) -> str:
    return _cut(" + ".join(folded(clean(text).split(" + "), 12)))


def _cut(text: str) -> str:
    return text if len(text) <= _SUBJECT else text[: _SUBJECT - 1] + "…"
