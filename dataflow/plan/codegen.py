"""Generated code: a region as one Python function, each op on a line of its own.

The function costs what hand-nested calls cost. It has no bookkeeping: when a stage raises, the line of the generated
function in the traceback says which op it was, so that the blame is free until it is needed.
"""

from __future__ import annotations

import dataclasses
import keyword
from collections import Counter
from typing import Literal

from dataflow.graph import Region, Value, ops

_ARM_OPS = 6
_ARM_DEPTH = 3
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
        Whether the function hands exceptions to ``_blame`` before they leave it.

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


def inlined(op: ops.Op, depth: int = 0) -> bool:
    """Return whether a switch's branches are written into the function that holds it, being few and small."""
    if not isinstance(op, ops.Switch):
        return isinstance(op, (ops.Fused, ops.Batched))
    if len(op.arms) > _ARM_OPS or depth >= _ARM_DEPTH:
        return False
    return all(sum(1 for _ in arm.ops()) <= _ARM_OPS for arm in op.arms)


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
        results = self._region(region, arguments, indent, depth=0, owned=set(arguments))
        given = f"({', '.join(results)})" if len(results) > 1 else results[0]
        prefix = "    " * indent + f"{given} = "
        if self._lines[-1].startswith(prefix):  # the last op's value is the result
            op = self._blame.pop(len(self._lines), None)
            self._line(indent, "return " + self._lines.pop().removeprefix(prefix), op)
        else:
            self._line(indent, f"return {given}")
        if self._guarded:
            self._line(1, "except Exception as error:")
            self._line(2, "_blame(error)")
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

    def _region(
        self, region: Region, given: list[str], indent: int, depth: int, owned: set[str] | None = None
    ) -> list[str]:
        """Write a region's ops, and return the names that hold its outputs.

        A name is used again as soon as its value is not needed any more, so that a value lives no longer than it would
        in nested calls. Names that the region was given belong to what surrounds it, unless they are `owned`.
        """
        uses = Counter(value for node in region.nodes for value in node.inputs)
        names: dict[Value, str] = {}
        mine = set(owned or ())
        pending: Counter[str] = Counter()

        def define(value: Value, name: str) -> None:
            names[value] = name
            pending[name] += uses[value]

        def release(inputs: list[str]) -> None:
            pending.subtract(inputs)
            done = {name for name in inputs if name in mine and not pending[name]}
            self._free += sorted(done)
            mine.difference_update(done)

        for index, name in enumerate(given):
            define(Value(index), name)
        for node in region.ops():
            inputs = [names[value] for value in node.inputs]
            early = not isinstance(node.op, (ops.Same, ops.Switch, ops.Fused, ops.Batched))
            if early:  # the result may take the place of an input that ends here
                release(inputs)
            for output, name in enumerate(self._op(node.op, inputs, indent, depth)):
                define(Value(node.id, output), name)
                if name not in given:
                    mine.add(name)
            if not early:
                release(inputs)
        return [names[value] for value in region.outputs]

    def _op(self, op: ops.Op, inputs: list[str], indent: int, depth: int) -> list[str]:
        if isinstance(op, ops.Same):
            return inputs
        if isinstance(op, (ops.Fused, ops.Batched)):
            return self._region(op.body, inputs, indent, depth)
        result = self._fresh()
        if isinstance(op, ops.Switch):
            self._switch(op, inputs, result, indent, depth)
            return [result]
        self._line(indent, f"{result} = {self._expression(op, inputs)}", op)
        return [result]

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
                return self._route(op, inputs[0])
            case ops.Each():
                return f"[{self._bind('each', op)}(e) for e in {inputs[0]}]"
        return f"{self._bind('construct', op)}({inputs[0]})"

    def _route(self, op: ops.Route, key: str) -> str:
        """Write the branch's number: the first keys by identity, which is what a dict looks at first as well."""
        chain = ""
        for index, value in enumerate(op.keys[:2]):
            if type(value) in _QUICK_KEYS:
                chain += f"{index} if {key} is {self._bind('key', op, index)} else "
        return f"{chain}{self._bind('route', op)}({key})"

    def _switch(self, op: ops.Switch, inputs: list[str], result: str, indent: int, depth: int) -> None:
        chosen, value = inputs
        if not inlined(op, depth):
            self._line(indent, f"{result} = {self._bind('arm', op)}[{chosen}]({value})", op)
            return
        for index, arm in enumerate(op.arms):
            last = index == len(op.arms) - 1
            if len(op.arms) > 1:
                head = "else:" if last else f"{'if' if index == 0 else 'elif'} {chosen} == {index}:"
                self._line(indent, head)
            inner = indent + (len(op.arms) > 1)
            written = len(self._lines)
            output = self._region(arm, [value], inner, depth + 1)[0]
            prefix = "    " * inner + f"{output} = "
            if len(self._lines) > written and self._lines[-1].startswith(prefix):
                self._lines[-1] = "    " * inner + f"{result} = " + self._lines[-1].removeprefix(prefix)
            else:
                self._line(inner, f"{result} = {output}")


def _arguments(names: tuple[str, ...] | None, inputs: list[str]) -> str:
    if names is None:
        return ", ".join(inputs)
    pairs = list(zip(names, inputs, strict=True))
    if all(name.isidentifier() and not keyword.iskeyword(name) for name in names):
        return ", ".join(f"{name}={value}" for name, value in pairs)
    return f"**{{{', '.join(f'{name!r}: {value}' for name, value in pairs)}}}"

