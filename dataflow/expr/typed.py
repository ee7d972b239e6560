"""Types that only type checkers read: how an expression's parts say what they take and give.

A ``Flow[In, Out]`` is also a ``Callable[[In], Out]``, so a parameter that takes either is written as the callable.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypedDict, TypeVarTuple, overload

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # What a checker cannot infer (a lambda's parameter, a generic function's) is then Any, and never complained about.
    A = TypeVar("A", default=Any)
    B = TypeVar("B", default=Any)
    C = TypeVar("C", default=Any)
    D = TypeVar("D", default=Any)
    E = TypeVar("E", default=Any)

    # The same for types that stand once among a function's parameters. Without a bound pyright reads the parameter of
    # a lambda as an `object`; with this one it does not compare two parameters of one type with each other.
    Part1 = TypeVar("Part1", bound=Any, default=Any)
    Part2 = TypeVar("Part2", bound=Any, default=Any)
    Part3 = TypeVar("Part3", bound=Any, default=Any)
    Part4 = TypeVar("Part4", bound=Any, default=Any)
else:
    from typing import TypeVar

    A, B, C, D, E, Part1, Part2, Part3, Part4 = (
        TypeVar(name) for name in ("A", "B", "C", "D", "E", "Part1", "Part2", "Part3", "Part4")
    )

P = ParamSpec("P")
Ts = TypeVarTuple("Ts")
T = TypeVar("T")
In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)
Class = TypeVar("Class", bound="type[Called[Any, Any]]")

Errors = type[Exception] | tuple[type[Exception], ...]
OnError = Literal["raise", "record", "skip"]
OnlyResults = Literal["raise", "skip"]  # with "record" a `Failure` may stand in a result's place


class Called(Protocol[In, Out]):
    """What an instance of a class stage is: called with an item, or with a list of them."""

    def __call__(self, item: In, /) -> Out: ...


class LambdaOf(Called[In, Out], Protocol[In, Out]):
    """Added to a parameter that takes one callable, for pyright's sake.

    Pyright reads ``lambda x: x.field`` with an `object` for x where it knows nothing of x, and complains of the field;
    given this choice as well it reads it with Any. Mypy does read it with Any, and given the choice would infer nothing
    of any function: so to mypy alone this protocol has an attribute that no function has.
    """

    if 0:  # which pyright sees is never true, and mypy does not
        not_for_mypy: None  # type: ignore[unreachable]


Lambda = LambdaOf[Any, Any]
BatchLambda = LambdaOf[list[Any], Iterable[Any]]


class Loose1(Protocol[Out]):
    """A function that can be called with one part and with two: its default, or ``*args``, is not for us to count."""

    @overload
    def __call__(self, a: Any, /) -> Out: ...
    @overload
    def __call__(self, a: Any, b: Any, /) -> Out: ...


class Loose2(Protocol[Out]):
    """The same of two and three."""

    @overload
    def __call__(self, a: Any, b: Any, /) -> Out: ...
    @overload
    def __call__(self, a: Any, b: Any, c: Any, /) -> Out: ...


class Loose3(Protocol[Out]):
    """The same of three and four."""

    @overload
    def __call__(self, a: Any, b: Any, c: Any, /) -> Out: ...
    @overload
    def __call__(self, a: Any, b: Any, c: Any, d: Any, /) -> Out: ...


class StageOptions(TypedDict, total=False):
    """The options of `stage` but `batch`, which changes what a function takes."""

    name: str | None
    max_wait: float
    device: str
    pure: bool
    replicas: int | tuple[int, int]
    cpus: float | None
    gpus: float | None
    memory: int | None
    placement: str | None


class MapOptions(TypedDict, total=False):
    """The options of `Flow.map` but `on_error`, which changes what it yields."""

    ordered: bool
    max_in_flight: int | None
    progress: bool | None
