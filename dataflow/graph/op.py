"""What every op has in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import TYPE_CHECKING, ClassVar

from dataflow.expr.origin import Origin

if TYPE_CHECKING:
    from dataflow.graph.region import Region


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Op:
    """What every op has.

    Parameters
    ----------
    origin : Origin, optional
        Where in the user's files it was written.
    scope : tuple of str
        The names that the user gave to the flows around it, outermost first, within its region.
    """

    name: ClassVar[str] = "op"
    arity: ClassVar[int | None] = 1

    origin: Origin | None = None
    scope: tuple[str, ...] = ()

    def key(self) -> Hashable:
        """Return all that distinguishes this op from another on the same inputs."""
        return (self.name, *(body.key() for body in self.bodies), *self.details())

    def details(self) -> tuple[Hashable, ...]:
        """Return the op's own parameters as hashable values."""
        return ()

    @property
    def ports(self) -> int:
        """How many inputs the op has."""
        if self.arity is None:
            raise NotImplementedError
        return self.arity

    @property
    def outputs(self) -> int:
        """How many values the op gives."""
        return 1

    @property
    def bodies(self) -> tuple[Region, ...]:
        """The regions that the op holds, in order."""
        return ()

    def with_bodies(self, bodies: tuple[Region, ...]) -> Op:
        """Return the same op around other regions."""
        if bodies:
            raise NotImplementedError
        return self

    def pure(self) -> bool:
        """Return whether running it twice does no harm."""
        return all(body.pure() for body in self.bodies)

    def label(self) -> str:
        """Return a short name for people."""
        return self.name

    def head(self) -> str:
        """Return the op as the graph's text shows it before its inputs."""
        return self.name

    def tail(self) -> str:
        """Return the op's settings as the graph's text shows them after its inputs."""
        return ""
