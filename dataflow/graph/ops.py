"""Ops: the typed, frozen payloads of the graph's nodes.

An op says what is done with the values on its input ports. What it holds besides its inputs is its `key`: two ops with
equal keys and the same inputs give the same value. Constructs that decide whether, how often or how long something runs
hold that something as a `Region`, a graph of its own, as MLIR's regions do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from dataflow.expr.keys import callable_key, value_key
from dataflow.expr.stage import Stage, qualified_name, short_name, short_repr
from dataflow.graph.op import Op as Op

if TYPE_CHECKING:
    from dataflow.graph.region import Region


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Input(Op):
    """A value that the region is given."""

    name: ClassVar[str] = "input"
    arity: ClassVar[int | None] = 0

    index: int = 0

    def details(self) -> tuple[Hashable, ...]:
        return (self.index,)

    def head(self) -> str:
        return f"input {self.index}" if self.index else "input"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Output(Op):
    """The values that the region gives."""

    name: ClassVar[str] = "output"
    arity: ClassVar[int | None] = None

    size: int = 1

    def details(self) -> tuple[Hashable, ...]:
        return (self.size,)

    @property
    def outputs(self) -> int:
        return 0

    @property
    def ports(self) -> int:
        return self.size


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Same(Op):
    """``identity``: its input."""

    name: ClassVar[str] = "identity"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Call(Op):
    """A call of a user's stage."""

    name: ClassVar[str] = "call"

    stage: Stage[Any, Any]

    def details(self) -> tuple[Hashable, ...]:
        return (self.stage,)

    def pure(self) -> bool:
        return self.stage.options.pure

    def label(self) -> str:
        return "/".join((*self.scope, repr(self.stage)))

    def head(self) -> str:
        return f"call {self.label()}"

    def tail(self) -> str:
        given = self.stage.options.given()
        given.pop("name", None)
        return " ".join(f"{key}={value}" for key, value in given.items())


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Pack(Op):
    """The parts of a fan-out put together: a tuple, or a dict where they have names."""

    name: ClassVar[str] = "pack"
    arity: ClassVar[int | None] = None

    size: int
    names: tuple[str, ...] | None = None

    def details(self) -> tuple[Hashable, ...]:
        return (self.size, self.names)

    @property
    def ports(self) -> int:
        return self.size

    def tail(self) -> str:
        return "" if self.names is None else f"names={','.join(self.names)}"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Spread(Op):
    """``combine(fn)`` on a value that holds the parts: a tuple as arguments, a dict as keywords."""

    name: ClassVar[str] = "spread"

    fn: Callable[..., Any] | None

    def details(self) -> tuple[Hashable, ...]:
        return (None if self.fn is None else callable_key(self.fn),)

    def label(self) -> str:
        return _combine(self.fn)

    def head(self) -> str:
        return f"spread {self.label()}"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Apply(Op):
    """``combine(fn)`` on the parts themselves, one a port."""

    name: ClassVar[str] = "apply"
    arity: ClassVar[int | None] = None

    fn: Callable[..., Any]
    size: int
    names: tuple[str, ...] | None = None

    def details(self) -> tuple[Hashable, ...]:
        return (callable_key(self.fn), self.size, self.names)

    @property
    def ports(self) -> int:
        return self.size

    def label(self) -> str:
        return _combine(self.fn)

    def head(self) -> str:
        return f"apply {self.label()}"

    def tail(self) -> str:
        return "" if self.names is None else f"names={','.join(self.names)}"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Route(Op):
    """A switch's decision: the key in, the number of the branch out."""

    name: ClassVar[str] = "route"

    keys: tuple[Hashable, ...]
    default: bool

    def details(self) -> tuple[Hashable, ...]:
        return (tuple(value_key(key) for key in self.keys), self.default)

    def tail(self) -> str:
        return f"to {', '.join([short_repr(key) for key in self.keys] + ['default'] * self.default)}"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Switch(Op):
    """A switch's branches: the number of one and the value for it in, that branch's result out."""

    name: ClassVar[str] = "switch"
    arity: ClassVar[int | None] = 2

    arms: tuple[Region, ...]
    keys: tuple[Hashable, ...]

    @property
    def bodies(self) -> tuple[Region, ...]:
        return self.arms

    def with_bodies(self, bodies: tuple[Region, ...]) -> Op:
        return dataclasses.replace(self, arms=bodies)

    def arm_labels(self) -> list[str]:
        """Return what leads to each branch."""
        return [f"case {short_repr(key)}" for key in self.keys] + ["default"] * (len(self.arms) - len(self.keys))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Each(Op):
    """A region run over every element of its input."""

    name: ClassVar[str] = "each"

    body: Region

    @property
    def bodies(self) -> tuple[Region, ...]:
        return (self.body,)

    def with_bodies(self, bodies: tuple[Region, ...]) -> Op:
        return dataclasses.replace(self, body=bodies[0])


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Race(Op):
    """Regions over one input, of which the first success counts."""

    name: ClassVar[str] = "race"

    competitors: tuple[Region, ...]

    @property
    def bodies(self) -> tuple[Region, ...]:
        return self.competitors

    def with_bodies(self, bodies: tuple[Region, ...]) -> Op:
        return dataclasses.replace(self, competitors=bodies)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Retry(Op):
    """A region that is run again where it fails."""

    name: ClassVar[str] = "retry"

    body: Region
    times: int
    on: tuple[type[Exception], ...]
    backoff: float

    def details(self) -> tuple[Hashable, ...]:
        return (self.times, self.on, self.backoff)

    @property
    def bodies(self) -> tuple[Region, ...]:
        return (self.body,)

    def with_bodies(self, bodies: tuple[Region, ...]) -> Op:
        return dataclasses.replace(self, body=bodies[0])

    def tail(self) -> str:
        wait = f" backoff={self.backoff:g}" if self.backoff else ""
        return f"times={self.times} on={_types(self.on)}{wait}"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Timeout(Op):
    """A region with a limit on its time."""

    name: ClassVar[str] = "timeout"

    body: Region
    seconds: float

    def details(self) -> tuple[Hashable, ...]:
        return (self.seconds,)

    @property
    def bodies(self) -> tuple[Region, ...]:
        return (self.body,)

    def with_bodies(self, bodies: tuple[Region, ...]) -> Op:
        return dataclasses.replace(self, body=bodies[0])

    def tail(self) -> str:
        return f"seconds={self.seconds:g}"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Fallback(Op):
    """A region, and another that takes over where it fails."""

    name: ClassVar[str] = "fallback"

    body: Region
    handler: Region
    on: tuple[type[Exception], ...]

    def details(self) -> tuple[Hashable, ...]:
        return (self.on,)

    @property
    def bodies(self) -> tuple[Region, ...]:
        return (self.body, self.handler)

    def with_bodies(self, bodies: tuple[Region, ...]) -> Op:
        return dataclasses.replace(self, body=bodies[0], handler=bodies[1])

    def tail(self) -> str:
        return f"on={_types(self.on)}"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Quorum(Op):
    """A fan-out and its combine where some branches may fail or be late."""

    name: ClassVar[str] = "quorum"

    branches: tuple[Region, ...]
    names: tuple[str, ...] | None
    fn: Callable[..., Any] | None
    quorum: int
    within: float | None

    def details(self) -> tuple[Hashable, ...]:
        return (self.names, None if self.fn is None else callable_key(self.fn), self.quorum, self.within)

    @property
    def bodies(self) -> tuple[Region, ...]:
        return self.branches

    def with_bodies(self, bodies: tuple[Region, ...]) -> Op:
        return dataclasses.replace(self, branches=bodies)

    def label(self) -> str:
        return _combine(self.fn)

    def head(self) -> str:
        return f"quorum {self.label()}"

    def tail(self) -> str:
        within = "" if self.within is None else f" within={self.within:g}"
        names = "" if self.names is None else f" names={','.join(self.names)}"
        return f"quorum={self.quorum}{within}{names}"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Fused(Op):
    """CPU ops that run as one generated function."""

    name: ClassVar[str] = "fused"
    arity: ClassVar[int | None] = None

    body: Region
    placement: str

    def details(self) -> tuple[Hashable, ...]:
        return (self.placement,)

    @property
    def ports(self) -> int:
        return self.body.size

    @property
    def outputs(self) -> int:
        return len(self.body.outputs)

    @property
    def bodies(self) -> tuple[Region, ...]:
        return (self.body,)

    def with_bodies(self, bodies: tuple[Region, ...]) -> Op:
        return dataclasses.replace(self, body=bodies[0])

    def tail(self) -> str:
        return f"placement={self.placement}"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Batched(Op):
    """Batched stages that share their batches: formed once, collated once, split once."""

    name: ClassVar[str] = "batched"
    arity: ClassVar[int | None] = None

    body: Region
    placement: str
    batch: int

    def details(self) -> tuple[Hashable, ...]:
        return (self.placement, self.batch)

    @property
    def ports(self) -> int:
        return self.body.size

    @property
    def outputs(self) -> int:
        return len(self.body.outputs)

    @property
    def bodies(self) -> tuple[Region, ...]:
        return (self.body,)

    def with_bodies(self, bodies: tuple[Region, ...]) -> Op:
        return dataclasses.replace(self, body=bodies[0])

    def tail(self) -> str:
        return f"batch={self.batch} placement={self.placement}"


def _combine(fn: Callable[..., Any] | None) -> str:
    return "combine()" if fn is None else f"combine({short_name(qualified_name(fn))})"


def _types(types: Iterable[type[Exception]]) -> str:
    return "|".join(cls.__name__ for cls in types)
