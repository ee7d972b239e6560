"""A plan as the source of a diagram: for Mermaid and for Graphviz. Constructs are boxes around what they hold."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from dataflow.explain.outline import Body, Entry, Outline, outline
from dataflow.plan import Plan

_LABEL = 40
_PHRASE = 24
_TIED = "\N{NO-BREAK SPACE}"


def to_mermaid(plan: Plan) -> str:
    """Return a plan as a Mermaid flowchart.

    Examples
    --------
    >>> import dataflow as df
    >>> print(to_mermaid((df.stage(abs) >> str).optimize()))
    flowchart TD
      i0(["input"])
      s1["1. abs + str<br/>one generated function"]
      o0(["output"])
      i0 --> s1
      s1 --> o0
    """
    lines = ["flowchart TD"]
    root = outline(plan)
    for depth, line in _mermaid(root, "0", ends=True):
        lines.append("  " * (depth + 1) + line)
    return "\n".join(lines)


def to_dot(plan: Plan) -> str:
    r"""Return a plan as a Graphviz digraph.

    Examples
    --------
    >>> import dataflow as df
    >>> print(to_dot((df.stage(abs) >> str).optimize()))
    digraph plan {
      graph [compound=true, fontname="Helvetica", fontsize=11, style="rounded", color="gray60"];
      node [shape=box, style="rounded", fontname="Helvetica", fontsize=11];
      i0 [label="input", shape=oval];
      s1 [label="1. abs + str\none generated function"];
      o0 [label="output", shape=oval];
      i0 -> s1;
      s1 -> o0;
    }
    """
    lines = [
        "digraph plan {",
        '  graph [compound=true, fontname="Helvetica", fontsize=11, style="rounded", color="gray60"];',
        '  node [shape=box, style="rounded", fontname="Helvetica", fontsize=11];',
    ]
    for depth, line in _dot(outline(plan), "0", ends=True):
        lines.append("  " * (depth + 1) + line)
    return "\n".join([*lines, "}"])


def labels(entry: Entry) -> tuple[list[str], int]:
    """Return what is written on an entry, in lines, and how many of those are its title."""
    number = "" if entry.kind == "more" else f"{entry.number}. "
    title = cut(number + entry.title, _LABEL, 3)
    rows = [line for row in (entry.does, *entry.notes) for line in cut(_together(row), _LABEL, 3)]
    return title + [row.replace(_TIED, " ") for row in rows], len(title)


def _together(text: str) -> str:
    """Return text in which short phrases between commas are not to be broken."""
    phrases = text.split(", ")
    return ", ".join(phrase.replace(" ", _TIED) if len(phrase) <= _PHRASE else phrase for phrase in phrases)


def cut(text: str, width: int, most: int) -> list[str]:
    """Return text in at most so many lines of a width.

    Examples
    --------
    >>> cut("one two three four", 9, 2)
    ['one two', 'three …']
    """
    return textwrap.wrap(text, width, max_lines=most, placeholder=" …", break_on_hyphens=False)


# -- Mermaid ---------------------------------------------------------------------------------------------------------


def _mermaid(block: Outline, key: str, *, ends: bool) -> Iterator[tuple[int, str]]:
    if ends:
        yield 0, f'i{key}(["input"])'
    elif not block.entries:
        yield 0, f'i{key}("{_mermaid_text(block.instead or "its input")}")'
    for entry in block.entries:
        name = f"s{entry.id}"
        text = "<br/>".join(map(_mermaid_text, labels(entry)[0]))
        if not entry.bodies:
            yield 0, f'{name}["{text}"]'
            continue
        yield 0, f'subgraph {name}["{text}"]'
        for index, body in enumerate(entry.bodies):
            yield from _shifted(_mermaid_body(body, f"{entry.id}_{index}"))
        yield 0, "end"
    if ends:
        yield 0, f'o{key}(["output"])'
    for source, target, waits in _edges(block, key, ends):
        yield 0, f"{source} {'-.->' if waits else '-->'} {target}"


def _mermaid_body(body: Body, key: str) -> Iterator[tuple[int, str]]:
    if not body.title:
        yield from _mermaid(body.outline, key, ends=False)
        return
    yield 0, f'subgraph b{key}["{_mermaid_text(body.title)}"]'
    yield from _shifted(_mermaid(body.outline, key, ends=False))
    yield 0, "end"


def _mermaid_text(text: str) -> str:
    return "".join(character if character not in '#"<>&`' else f"#{ord(character)};" for character in text)


# -- Graphviz --------------------------------------------------------------------------------------------------------


def _dot(block: Outline, key: str, *, ends: bool) -> Iterator[tuple[int, str]]:
    if ends:
        yield 0, f'i{key} [label="input", shape=oval];'
    elif not block.entries:
        yield 0, f"i{key} [label={_dot_text(block.instead or 'its input')}, shape=plaintext];"
    for entry in block.entries:
        text = _dot_text("\n".join(labels(entry)[0]))
        if not entry.bodies:
            yield 0, f"s{entry.id} [label={text}];"
            continue
        yield 0, f"subgraph cluster_s{entry.id} {{"
        yield 1, f"label={text};"
        for index, body in enumerate(entry.bodies):
            yield from _shifted(_dot_body(body, f"{entry.id}_{index}"))
        yield 0, "}"
    if ends:
        yield 0, f'o{key} [label="output", shape=oval];'
    entries = {f"s{entry.id}": entry for entry in block.entries}
    for source, target, waits in _edges(block, key, ends):
        given = ["style=dashed"] * waits
        tail, head = source, target
        if source in entries and entries[source].bodies:  # an edge of a cluster is one of a node in it, cut off
            tail, given = _inner(entries[source], last=True), [*given, f"ltail=cluster_{source}"]
        if target in entries and entries[target].bodies:
            head, given = _inner(entries[target], last=False), [*given, f"lhead=cluster_{target}"]
        yield 0, f"{tail} -> {head}{f' [{chr(44).join(given)}]' if given else ''};"


def _dot_body(body: Body, key: str) -> Iterator[tuple[int, str]]:
    if not body.title:
        yield from _dot(body.outline, key, ends=False)
        return
    yield 0, f"subgraph cluster_b{key} {{"
    yield 1, f"label={_dot_text(body.title)};"
    yield from _shifted(_dot(body.outline, key, ends=False))
    yield 0, "}"


def _inner(entry: Entry, *, last: bool) -> str:
    """Return a node inside a construct, at its beginning or at its end."""
    place = 0
    while entry.bodies:
        place = 0 if not last else len(entry.bodies) - 1
        block = entry.bodies[place].outline
        if not block.entries:
            return f"i{entry.id}_{place}"
        entry = block.entries[-1 if last else 0]
    return f"s{entry.id}"


def _dot_text(text: str) -> str:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{quoted}"'


# -- both ------------------------------------------------------------------------------------------------------------


def _edges(block: Outline, key: str, ends: bool) -> Iterator[tuple[str, str, bool]]:
    """Yield the edges of a block by the names of nodes, with whether one merely orders."""
    for entry in block.entries:
        for source in entry.sources:
            if (source or ends) and source != entry.id:
                yield (f"s{source}" if source else f"i{key}"), f"s{entry.id}", False
        for source in entry.waits:
            yield f"s{source}", f"s{entry.id}", True
    if ends:
        yield (f"s{block.result}" if block.result else f"i{key}"), f"o{key}", False


def _shifted(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    return ((depth + 1, line) for depth, line in lines)
