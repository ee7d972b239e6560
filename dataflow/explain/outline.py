"""The outline of a plan: its steps as they are shown, with repeats folded and what is too deep or too many left out.

Text and pictures are made of the same outline, so that they number and fold the same. It has few levels, and few
entries a level, whatever the plan; only the JSON form has everything.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable, Sequence
from typing import Literal, TypeVar

from dataflow.explain.wording import Wording, times
from dataflow.graph import Value, ops
from dataflow.graph.text import titles
from dataflow.plan import Block, Plan, Step

_DEEPEST = 5
_MOST = 24
_BROADEST = 8
_MOST_BODIES = 12

_T = TypeVar("_T")

Kind = Literal["step", "batch", "construct", "glue", "more"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A step as it is shown, or several alike, or those left out.

    Parameters
    ----------
    id : int
        Unique in the outline, in reading order, from 1; 0 stands for a block's input.
    number : str
        The step's number, or the range of numbers.
    title, does : str
        What it consists of, and how it runs.
    notes : tuple of str
        What some of its stages ask for.
    kind : {"step", "batch", "construct", "glue", "more"}
        For colours: called per item, in batches, a holder of bodies, what joins values, what was left out.
    sources : tuple of int
        The ids of the entries of its block that it takes values from.
    waits : tuple of int
        The ids of those that it merely waits for.
    plain : bool
        Whether it takes nothing but the result of the entry before it.
    bodies : tuple of Body
        What it holds.
    """

    id: int
    number: str
    title: str
    does: str
    notes: tuple[str, ...]
    kind: Kind
    sources: tuple[int, ...]
    waits: tuple[int, ...]
    plain: bool
    bodies: tuple[Body, ...]


@dataclasses.dataclass(frozen=True)
class Body:
    """What a construct holds, as it is shown.

    Parameters
    ----------
    title : str
        What leads there; empty where nothing needs to be said.
    outline : Outline
        Its steps.
    """

    title: str
    outline: Outline


@dataclasses.dataclass(frozen=True)
class Outline:
    """A block as it is shown.

    Parameters
    ----------
    entries : tuple of Entry
        In order.
    result : int
        The id of the entry that gives the block's result; 0 where that is its input.
    instead : str
        What stands in the place of entries: where the same steps are shown, or how many are not.
    """

    entries: tuple[Entry, ...]
    result: int
    instead: str = ""


def outline(plan: Plan) -> Outline:
    """Return the outline of a plan.

    Examples
    --------
    >>> import dataflow as df
    >>> plan = (df.stage(abs) >> str >> df.stage(len, device="cuda")).optimize()
    >>> [(entry.number, entry.title, entry.does) for entry in outline(plan).entries]
    [('1', 'abs + str', 'one generated function'), ('2', 'len', 'called per item, on cuda')]
    """
    return _Outliner(plan).block(plan.block, depth=0)


class _Outliner:
    def __init__(self, plan: Plan) -> None:
        self._wording = Wording(plan)
        self._step_shapes: dict[int, int] = {}
        self._shapes: dict[int, int] = {}
        self._shown: dict[int, str] = {}
        self._ids = itertools.count(1)
        self._number = 1
        self._compare(plan.block)

    # -- what looks alike ----------------------------------------------------------------------------------------

    def _compare(self, root: Block) -> None:
        """Give every step and block a number, equal for those that would be shown alike."""
        known: dict[Hashable, int] = {}
        stack: list[tuple[Block, bool]] = [(root, False)]
        while stack:
            block, expanded = stack.pop()
            if id(block) in self._shapes:
                continue
            if not expanded:
                stack.append((block, True))
                stack += [(body, False) for step in block.steps for body in step.bodies]
                continue
            for step in block.steps:
                held = tuple(self._shapes[id(body)] for body in step.bodies)
                shape = (self._wording.words(step), tuple(titles(step.op)), held)
                self._step_shapes[id(step)] = known.setdefault(shape, len(known))
            whole = (tuple((self._step_shapes[id(step)], step.inputs) for step in block.steps), block.result)
            self._shapes[id(block)] = known.setdefault(whole, len(known))

    def _runs(self, block: Block) -> list[list[Step]]:
        """Return the steps with neighbours that look alike together, where they are side by side or in a row."""
        runs: list[list[Step]] = []
        row: bool | None = None  # whether the current run is a row
        for step in block.steps:
            if runs and self._step_shapes[id(runs[-1][-1])] == self._step_shapes[id(step)] and not step.after:
                before = runs[-1][-1]
                follows = bool(step.inputs) and set(step.inputs) <= set(before.outputs)
                beside = step.inputs == before.inputs
                if (follows and row is not False) or (beside and row is not True):
                    runs[-1].append(step)
                    row = follows
                    continue
            runs.append([step])
            row = None
        return runs

    # -- what is shown -------------------------------------------------------------------------------------------

    def block(self, block: Block, depth: int) -> Outline:
        """Return a block as it is shown at this depth."""
        if not block.steps:
            return Outline((), 0)
        if id(block) in self._shown:
            return Outline((), 0, f"the same as in {self._shown[id(block)]}")
        if depth > _DEEPEST:
            count = sum(1 for _ in _inside(block))
            return Outline((), 0, f"{count} more step{'s' * (count > 1)}")
        makers = {Value(index): 0 for index in range(block.region.size)}
        made: dict[int, int] = {}
        nodes = {id(step): node.id for step, node in zip(block.steps, block.region.ops(), strict=True)}
        entries: list[Entry] = []
        for run, hidden in _shortened(self._runs(block)):
            entry = self._entry(run, depth, makers, made, entries[-1].id if entries else 0, more=hidden)
            entries.append(entry)
            for step in run:
                made[nodes[id(step)]] = entry.id
                makers.update(dict.fromkeys(step.outputs, entry.id))
        return Outline(tuple(entries), makers[block.result])

    def _entry(
        self, run: Sequence[Step], depth: int, makers: dict[Value, int], made: dict[int, int], before: int, more: bool
    ) -> Entry:
        id_, number = next(self._ids), self._count(len(run))
        step, count = run[0], len(run)
        sources = tuple(dict.fromkeys(makers[value] for each in run for value in each.inputs if value in makers))
        waits = tuple(dict.fromkeys(made[node] for each in run for node in each.after if node in made))
        waits = tuple(source for source in waits if source not in sources)
        plain = sources == (before,) and not waits
        if more:
            return Entry(id_, number, f"… {count} more steps …", "", (), "more", sources, waits, plain, ())
        words = self._wording.words(step)
        title = self._wording.numbered(step) if count == 1 else times(words.title, count)
        bodies = self._bodies(step, number, depth)
        return Entry(id_, number, title, words.does, words.notes, _kind(step), sources, waits, plain, bodies)

    def _count(self, steps: int) -> str:
        first, self._number = self._number, self._number + steps
        return str(first) if steps == 1 else f"{first}-{self._number - 1}"

    def _bodies(self, step: Step, number: str, depth: int) -> tuple[Body, ...]:
        """Return what a step holds, bodies alike in a row together."""
        rows = list(zip(titles(step.op), step.bodies, strict=False))
        alike = [list(run) for _, run in itertools.groupby(rows, lambda row: self._shapes[id(row[1])])]
        bodies: list[Body] = []
        for run, hidden in _middle_out([(run, False) for run in alike], _MOST_BODIES):
            title, block = run[0]
            if hidden:
                bodies.append(Body("", Outline((), 0, f"… {len(run)} more branches …")))
                continue
            place = f"step {number}" + f", {title}" * bool(title)
            if len(run) > 1:
                title = times(f"{title} to {run[-1][0]}", len(run))
            bodies.append(Body(title, self.block(block, depth + 1)))
            if bodies[-1].outline.entries:
                for _, each in run:
                    self._shown.setdefault(id(each), place)
        return tuple(bodies)


def _shortened(runs: list[list[Step]]) -> list[tuple[list[Step], bool]]:
    """Return a block's runs without the middle of what is too broad or too long, as `_middle_out` does."""
    beside = itertools.groupby(((run, False) for run in runs), key=lambda row: row[0][0].inputs)
    return _middle_out([row for _, rows in beside for row in _middle_out(list(rows), _BROADEST)], _MOST)


def _middle_out(runs: list[tuple[list[_T], bool]], most: int) -> list[tuple[list[_T], bool]]:
    """Return runs with those in the middle as one where there are too many, and whether each is such a one."""
    if len(runs) <= most:
        return runs
    hidden = [each for run, _ in runs[most - 2 : -1] for each in run]
    return [*runs[: most - 2], (hidden, True), runs[-1]]


def _inside(root: Block) -> list[Step]:
    """Return the steps of a block and of all that it holds, each once."""
    seen: set[int] = set()
    found: list[Step] = []
    stack = [root]
    while stack:
        block = stack.pop()
        if id(block) not in seen:
            seen.add(id(block))
            found += block.steps
            stack += [body for step in block.steps for body in step.bodies]
    return found


def _kind(step: Step) -> Kind:
    if isinstance(step.op, (ops.Fused, ops.Batched, ops.Call)):
        return "batch" if step.batches else "step"
    return "construct" if step.bodies else "glue"
