"""Steps, remarks and expressions in words: what people read in every format."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from dataflow.expr.flow import Flow
from dataflow.expr.nodes import Chain
from dataflow.expr.options import Options
from dataflow.expr.stage import Stage, short_repr
from dataflow.graph import Region, ops, regions
from dataflow.plan import Plan, Step

_LOCALS = re.compile(r"[\w.<>]*<locals>\.")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_NUMBER = re.compile(r"#\d+$")
_JOINTS = (" >> ", " | ", ", ")
_PARTS = 40
_INNER_PARTS = 12
_INNER_LENGTH = 300
_UNSAID = (ops.Input, ops.Output, ops.Same, ops.Pack)


def clean(text: str) -> str:
    """Return text on one line, without the addresses and the ``<locals>`` that say nothing to a reader.

    Examples
    --------
    >>> clean("main.<locals>.load + Model(<Weights object at 0x7f21>)")
    'load + Model(<Weights object>)'
    """
    return " ".join(_ADDRESS.sub("", _LOCALS.sub("", text)).split())


def times(text: str, count: int) -> str:
    """Return text with how often it stands there."""
    return f"{text} \N{MULTIPLICATION SIGN}{count}"


def folded(parts: Iterable[str], limit: int = _PARTS) -> list[str]:
    """Return parts with neighbours that are equal as one, and of many only the first and the last.

    Examples
    --------
    >>> folded(["a", "b", "b", "b"])
    ['a', 'b ×3']
    >>> folded("abcdefg", limit=4)
    ['a', 'b', '… 4 more …', 'g']
    """  # noqa: RUF002
    runs = [(part, len(list(same))) for part, same in itertools.groupby(parts)]
    shown = [part if count == 1 else times(part, count) for part, count in runs]
    if len(runs) <= limit:
        return shown
    hidden = sum(count for _, count in runs[limit - 2 : -1])
    return [*shown[: limit - 2], f"… {hidden} more …", shown[-1]]


def expression(flow: Flow[Any, Any], limit: int = 600) -> str:
    """Return a flow as it is written, with repeats folded, cut after about `limit` characters.

    Examples
    --------
    >>> import dataflow as df
    >>> expression(df.stage(abs) >> abs >> abs >> str)
    'abs ×3 >> str'
    """  # noqa: RUF002
    out: list[str] = []
    length = 0
    stack: list[str | Flow[Any, Any] | Iterator[str | Flow[Any, Any]]] = [flow]
    while stack:
        top = stack.pop()
        if isinstance(top, str):
            out.append(clean_edges(top))
            length += len(top)
            if length > limit:
                return "".join(out)[:limit].rstrip() + " …"
        elif isinstance(top, Flow):
            stack.append(_runs(top.pieces()))
        elif (piece := next(top, None)) is not None:
            stack += (top, piece)
    return "".join(out)


def clean_edges(text: str) -> str:
    """Return a piece of text cleaned, with a space kept at each end that has one."""
    return " " * text[:1].isspace() + clean(text) + " " * (len(text) > 1 and text[-1:].isspace())


def _runs(pieces: Iterator[str | Flow[Any, Any]]) -> Iterator[str | Flow[Any, Any]]:
    """Yield a node's pieces, with a flow that stands several times in a row as one and its number."""
    last: Flow[Any, Any] | None = None
    count, gap, joint = 1, "", ""
    for piece in itertools.chain(pieces, (None,)):
        if isinstance(piece, str):
            gap += piece
            continue
        if last is not None and gap in _JOINTS and joint in ("", gap) and _alike(piece, last):
            count, gap, joint = count + 1, "", gap
            continue
        if last is not None:
            wrapped = count > 1 and isinstance(last, Chain)
            yield "(" * wrapped
            yield last
            yield times(")" * wrapped, count) if count > 1 else ""
        yield gap
        last, count, gap, joint = piece, 1, "", ""


def _alike(one: Flow[Any, Any] | None, other: Flow[Any, Any]) -> bool:
    """Return whether two flows look the same: equal, or stages that are written alike."""
    if isinstance(one, Stage) and isinstance(other, Stage):
        return repr(one) == repr(other)
    return one == other


class Words(NamedTuple):
    """What there is to say about a step.

    Parameters
    ----------
    title : str
        What it consists of.
    does : str
        How it runs, and where.
    notes : tuple of str
        What some but not all of its stages ask for.
    """

    title: str
    does: str
    notes: tuple[str, ...]


class Wording:
    """What the steps of a plan are called and what they do.

    Parameters
    ----------
    plan : Plan
        Whose steps.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._inside: dict[int, str] = {}
        self._words: dict[int, Words] = {}
        for step in _distinct(plan):
            if isinstance(step.op, (ops.Fused, ops.Batched)):
                self._read(step.op.body)

    def words(self, step: Step) -> Words:
        """Return what there is to say about a step."""
        if id(step) not in self._words:
            common, own = _options(step)
            notes = (f"{clean(call.label())}: {', '.join(asked)}" for call, asked in own if asked)
            self._words[id(step)] = Words(self._title(step), ", ".join((_how(step), *common)), tuple(folded(notes)))
        return self._words[id(step)]

    def numbered(self, step: Step) -> str:
        """Return a step's title, with the number that tells stages of one name apart."""
        title = self.words(step).title
        number = _NUMBER.search(self._plan.label(step.op)) if isinstance(step.op, ops.Call) else None
        return title if number is None or title.endswith(number[0]) else title + number[0]

    def _title(self, step: Step) -> str:
        if isinstance(step.op, (ops.Fused, ops.Batched)):
            return self._parts(step.op.body, _PARTS) or step.op.name
        return _name(step.op)

    def _read(self, root: Region) -> None:
        for region in regions(root):
            if id(region) not in self._inside:
                text = self._parts(region, _INNER_PARTS) or "identity"
                self._inside[id(region)] = text if len(text) <= _INNER_LENGTH else text[:_INNER_LENGTH] + "…"

    def _parts(self, region: Region, limit: int) -> str:
        routed = any(isinstance(node.op, ops.Switch) for node in region.nodes)  # which says it already
        unsaid = (*_UNSAID, ops.Route) if routed else _UNSAID
        return " + ".join(
            folded((self._whole(node.op) for node in region.ops() if not isinstance(node.op, unsaid)), limit)
        )

    def _whole(self, op: ops.Op) -> str:
        """Return an op's name with all that it holds, as what is fused is read."""
        text = _name(op)
        if not op.bodies:
            return text
        return f"{text}({', '.join(folded((self._inside[id(body)] for body in op.bodies), _INNER_PARTS))})"


def _name(op: ops.Op) -> str:
    return clean(op.label() if isinstance(op, ops.Call) else "/".join((*op.scope, op.label())))


def _distinct(plan: Plan) -> Iterator[Step]:
    """Yield every step once, each before those that it holds."""
    seen: set[int] = set()
    stack = [plan.block]
    while stack:
        block = stack.pop()
        if id(block) not in seen:
            seen.add(id(block))
            yield from block.steps
            stack += [body for step in reversed(block.steps) for body in reversed(step.bodies)]


def _how(step: Step) -> str:
    match step.op:
        case ops.Call(stage=stage) if stage.options.batch is not None:
            return f"batches of up to {stage.options.batch}"
        case ops.Call():
            return "called per item"
        case ops.Fused():
            return "one generated function"
        case ops.Batched(batch=batch):
            return f"batches of up to {batch}, formed and split once"
        case ops.Pack(names=None):
            return "the parts as a tuple"
        case ops.Pack():
            return "the parts as a dict"
        case ops.Apply() | ops.Spread():
            return "called with the parts"
        case ops.Same():
            return "its input"
        case ops.Route(keys=keys, default=default):
            known = folded([*(clean(short_repr(key)) for key in keys), *["default"] * default], 8)
            return f"finds the branch: {', '.join(known)}"
        case ops.Switch():
            return "only the branch that was found runs"
        case ops.Each():
            return f"for every element{', in batches across items' if step.batches else ''}"
        case ops.Race():
            return "the first success counts"
        case ops.Retry(times=times, on=on, backoff=backoff):
            wait = f", backoff from {backoff:g} s" if backoff else ""
            return f"up to {times} more attempt{'s' * (times > 1)} on {_types(on)}{wait}"
        case ops.Timeout(seconds=seconds):
            return f"at most {seconds:g} s"
        case ops.Fallback(on=on):
            return f"on {_types(on)} another takes over"
        case ops.Quorum(quorum=quorum, within=within, branches=branches):
            wait = "" if within is None else f" within {within:g} s"
            return f"called with what succeeds{wait}, at least {quorum} of {len(branches)}"
    return step.op.name


def _types(types: Sequence[type[Exception]]) -> str:
    return " or ".join(cls.__name__ for cls in types)


def _options(step: Step) -> tuple[list[str], list[tuple[ops.Call, list[str]]]]:
    """Return what all stages of a step ask for, and what each one asks for besides."""
    asked = [(call, _asks(call.stage.options)) for call in step.stages]
    common = [ask for ask in asked[0][1] if all(ask in asks for _, asks in asked)] if asked else []
    return common, [(call, [ask for ask in asks if ask not in common]) for call, asks in asked]


def _asks(options: Options) -> list[str]:
    """Return what a stage asks for besides its batch, in words."""
    asks = [f"on {options.device}"] if options.gpu else []
    asks += [f"placement {options.placement!r}"] if options.placement is not None else []
    if options.replicas != 1:
        low_high = options.replicas if isinstance(options.replicas, tuple) else (options.replicas,)
        asks.append(f"{' to '.join(map(str, low_high))} replicas")
    asks += [f"{name}={value}" for name, value in options.given().items() if name in ("cpus", "gpus", "memory")]
    if "max_wait" in options.given():
        asks.append(f"waits up to {options.max_wait * 1000:g} ms for a batch")
    return asks + ["not pure"] * (not options.pure)
