"""Generated code: a region as one Python function, each op on a line of its own.

The function costs what hand-nested calls cost. It has no bookkeeping: when a stage raises, the line of the generated
function in the traceback says which op it was, so that the blame is free until it is needed.
"""

from __future__ import annotations

import dataclasses
import itertools
import keyword
from collections import Counter
from collections.abc import Set
from typing import Literal

from dataflow.graph import Node, Region, Value, ops

_INLINE_ARMS = 4
_INLINE_OPS = 6
_INLINE_DEPTH = 3
_QUICK_KEYS = (bool, int, str, type(None))


@dataclasses.dataclass(frozen=True)
class Binding:
    """A name in generated code and what it stands for; an executor gives it its value.

    Parameters
    ----------
    symbol : str
        The name.
    kind : {"stage", "combine", "spread", "route", "construct", "each", "arm", "key"}
        What the executor must put there: the one-item call of a stage, the combining function, one that spreads the
        parts, one that gives a branch's number for a key, one that runs a construct on an item, one that runs an
        ``each`` on an element, the functions of a switch's branches, or a switch's key itself.
    op : Op
        Of which op.
    index : int
        For a key: which.
    """

    symbol: str
    kind: Literal["stage", "combine", "spread", "route", "construct", "each", "arm", "key"]
    op: ops.Op
    index: int = 0


@dataclasses.dataclass(frozen=True)
class Code:
    """A generated function, not yet bound to what it calls.

    Parameters
    ----------
    name : str
        The function's name.
    source : str
        Its definition.
    bindings : tuple of Binding
        What its free names stand for.
    lines : dict of int to Op
        Which op each line of the source runs.
    """

    name: str
    source: str
    bindings: tuple[Binding, ...]
    lines: dict[int, ops.Op]


def generate(region: Region, name: str = "flow", *, guarded: bool = False) -> Code:
    """Return a region as the code of one function.

    Parameters
    ----------
    region : Region
        Its inputs become the function's arguments, its outputs the result (a tuple where there are several).
    name : str
        The function's name.
    guarded : bool
        Whether the function hands exceptions to ``_blame``, with its first argument, before they leave it.

    Examples
    --------
    >>> import dataflow as df
    >>> from dataflow.graph import lower
    >>> print(generate(lower(df.stage(abs) >> str)).source)
    def flow(x):
        x = stage_0(x)
        return stage_1(x)
    """
    return _Generator(name, guarded).run(region)


class _Generator:
    def __init__(self, name: str, guarded: bool) -> None:
        self._name = name
        self._guarded = guarded
        self._lines: list[str] = []
        self._blame: dict[int, ops.Op] = {}
        self._bindings: list[Binding] = []
        self._variables = 0
        self._free: list[str] = []

    def run(self, region: Region) -> Code:
        count = region.size
        arguments = ["x"] if count == 1 else [f"x{index}" for index in range(count)]
        self._line(0, f"def {self._name}({', '.join(arguments)}):")
        indent = 1
        if self._guarded:
            self._line(1, "try:")
            indent = 2
        # what is handed to `_blame` keeps its name to the end
        owned = set() if self._guarded else set(arguments)
        results = self._region(region, arguments, _Place(indent, "return "), owned)
        if len(results) > 1:
            self._line(indent, f"return ({', '.join(results)})")
        if self._guarded:
            self._line(1, "except Exception as error:")
            self._line(2, f"_blame(error, {arguments[0]})")
            self._line(2, "raise")
        return Code(self._name, "\n".join(self._lines), tuple(self._bindings), self._blame)

    def _line(self, indent: int, text: str, op: ops.Op | None = None) -> None:
        self._lines.append("    " * indent + text)
        if op is not None:
            self._blame[len(self._lines)] = op

    def _bind(self, kind: str, op: ops.Op, index: int = 0) -> str:
        symbol = f"{kind}_{len(self._bindings)}"
        self._bindings.append(Binding(symbol, kind, op, index))  # type: ignore[arg-type]
        return symbol

    def _fresh(self) -> str:
        if self._free:
            return self._free.pop()
        self._variables += 1
        return f"v{self._variables}"

    def _region(self, region: Region, given: list[str], place: _Place, owned: Set[str] = frozenset()) -> list[str]:
        """Write a region's ops; deliver its output to the place if it has but one, else return the outputs' names.

        The result of an op takes the name of an input whose last use this is, so that in a chain a value lives no
        longer than it would in nested calls. Names that the region was given are those of what surrounds it, which may
        use them later, unless they are `owned`.
        """
        uses = Counter(value for node in region.nodes for value in node.inputs)
        names: dict[Value, str] = {}
        mine = set(owned)
        others = set(given) - owned
        pending: Counter[str] = Counter()

        def define(value: Value, name: str) -> None:
            names[value] = name
            pending[name] += uses[value]

        def ended(inputs: list[str]) -> set[str]:
            """Return the names whose last use this is; they are the region's no more."""
            pending.subtract(inputs)
            done = {name for name in inputs if name in mine and not pending[name]}
            mine.difference_update(done)
            return done

        for index, name in enumerate(given):
            define(Value(index), name)
        last = (
            region.nodes[-2] if len(region.outputs) == 1 and region.outputs[0].node == len(region.nodes) - 2 else None
        )
        decision: ops.Route | None = None
        for node, following in itertools.pairwise(region.nodes):
            if isinstance(node.op, ops.Input):
                continue
            inputs = [names[value] for value in node.inputs]
            if isinstance(node.op, ops.Route) and _decides(node, following, uses):
                decision = node.op  # the switch that comes next looks at the key itself
                define(Value(node.id), inputs[0])
                self._free += sorted(ended(inputs))
                continue
            late = isinstance(node.op, (ops.Same, ops.Switch))  # the input is used after the result is begun
            handed: set[str] = set()
            if isinstance(node.op, (ops.Fused, ops.Batched)):
                handed = ended(inputs)
            elif not late:
                self._free += sorted(ended(inputs))
            if node is last and place.target:
                self._op(node.op, inputs, place, decision, handed)
                return []
            for output, name in enumerate(self._op(node.op, inputs, place.within(), decision, handed)):
                define(Value(node.id, output), name)
                if name not in others:
                    mine.add(name)
            decision = None
            if late:
                self._free += sorted(ended(inputs))
        outputs = [names[value] for value in region.outputs]
        if place.target and len(outputs) == 1:
            self._line(place.indent, place.target + outputs[0])
            return []
        return outputs

    def _op(
        self, op: ops.Op, inputs: list[str], place: _Place, decision: ops.Route | None, owned: Set[str]
    ) -> list[str]:
        """Write one op, to the place if that has a target, else to names that are returned."""
        if isinstance(op, (ops.Fused, ops.Batched)):
            return self._region(op.body, inputs, place, owned)
        if isinstance(op, ops.Same) and not place.target:
            return inputs
        names = []
        if not place.target:
            names = [self._fresh()]
            place = place.to(f"{names[0]} = ")
        if isinstance(op, ops.Switch):
            self._switch(op, inputs, place, decision)
        else:
            self._line(place.indent, place.target + self._expression(op, inputs), op)
        return names

    def _expression(self, op: ops.Op, inputs: list[str]) -> str:
        match op:
            case ops.Call():
                return f"{self._bind('stage', op)}({inputs[0]})"
            case ops.Pack(names=None):
                return f"({', '.join(inputs)}{',' if len(inputs) == 1 else ''})"
            case ops.Pack():
                pairs = zip(op.names or (), inputs, strict=True)
                return f"{{{', '.join(f'{name!r}: {value}' for name, value in pairs)}}}"
            case ops.Apply():
                return f"{self._bind('combine', op)}({_arguments(op.names, inputs)})"
            case ops.Spread():
                return f"{self._bind('spread', op)}({inputs[0]})"
            case ops.Route():
                return f"{self._bind('route', op)}({inputs[0]})"
            case ops.Same():
                return inputs[0]
            case ops.Each():
                return f"[{self._bind('each', op)}(e) for e in {inputs[0]}]"
        return f"{self._bind('construct', op)}({inputs[0]})"

    def _switch(self, op: ops.Switch, inputs: list[str], place: _Place, decision: ops.Route | None) -> None:
        """Write a switch: the first branches in place, chosen by the key's identity, the others through a table.

        Identity is what a dict looks at first as well, so that the table, which is asked where no identity holds,
        agrees.
        """
        chosen, value = inputs
        if decision is not None:
            word = "if"
            for index, arm in enumerate(op.arms[: len(op.keys)][:_INLINE_ARMS]):
                small = sum(1 for _ in arm.ops()) <= _INLINE_OPS and place.depth < _INLINE_DEPTH
                if small and type(op.keys[index]) in _QUICK_KEYS:
                    self._line(place.indent, f"{word} {chosen} is {self._key(op, index)}:")
                    self._region(arm, [value], place.inside())
                    word = "elif"
            chosen = f"{self._bind('route', decision)}({chosen})"
            if word == "elif":
                self._line(place.indent, "else:")
                place = place.inside()
        self._line(place.indent, f"{place.target}{self._bind('arm', op)}[{chosen}]({value})", op)

    def _key(self, op: ops.Switch, index: int) -> str:
        """Return a switch's key as an expression: itself where Python has a word for it, else a name."""
        key = op.keys[index]
        return repr(key) if key is None or isinstance(key, bool) else self._bind("key", op, index)


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where code is written and what becomes of its value: ``return``, an assignment, or a name to be chosen."""

    indent: int
    target: str = ""
    depth: int = 0

    def within(self) -> _Place:
        return dataclasses.replace(self, target="")

    def to(self, target: str) -> _Place:
        return dataclasses.replace(self, target=target)

    def inside(self) -> _Place:
        return dataclasses.replace(self, indent=self.indent + 1, depth=self.depth + 1)


def _decides(node: Node, following: Node, uses: Counter[Value]) -> bool:
    """Return whether a route is there for nothing but the switch that comes right behind it."""
    alone = uses[Value(node.id)] == 1 and isinstance(following.op, ops.Switch)
    return alone and following.inputs[0] == Value(node.id)


def _arguments(names: tuple[str, ...] | None, inputs: list[str]) -> str:
    if names is None:
        return ", ".join(inputs)
    pairs = list(zip(names, inputs, strict=True))
    if all(name.isidentifier() and not keyword.iskeyword(name) for name in names):
        return ", ".join(f"{name}={value}" for name, value in pairs)
    return f"**{{{', '.join(f'{name!r}: {value}' for name, value in pairs)}}}"
