"""The ten laws of flows, each a check that can be called with flows of yours, or run on random ones.

``laws.check(flow, items)`` holds one flow to all of them. Each law by itself takes as many flows as it speaks of::

    laws.chaining_is_associative(f, g, h)
    laws.a_job_gives_what_calls_give(f, items=[1, 2, 3])

and ``law.test(strategy)`` runs it on flows drawn from a Hypothesis strategy.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dataflow.executors import Failure, Inline
from dataflow.expr.flow import Flow
from dataflow.expr.stage import short_repr
from dataflow.expr.words import combine, each, fanout, identity, stage, switch
from dataflow.graph import lower, to_text
from dataflow.passes import optimize
from dataflow.testing.counting import counted, decided
from dataflow.testing.equivalence import PASSES, recorded, shown, subsets, written
from dataflow.testing.outcomes import Outcome, outcome_of, outcomes
from dataflow.testing.rebuild import rebuilt, stages_of, with_options

if TYPE_CHECKING:
    from hypothesis import settings
    from hypothesis.strategies import SearchStrategy

_Any = Flow[Any, Any]
_Items = Sequence[Any]
_BATCHES = (1, 2, 5, 64)


@dataclasses.dataclass(frozen=True)
class Law:
    """One law.

    Parameters
    ----------
    number : int
        As the design counts them.
    says : str
        The law.
    flows : int
        Of how many flows it speaks.
    items : bool
        Whether it speaks of results, and so needs items.
    check : callable
        Takes the flows, and the items by name.
    """

    number: int
    says: str
    flows: int
    items: bool
    check: Callable[..., None]

    @property
    def name(self) -> str:
        """The law in few words, as one."""
        return self.check.__name__

    def __call__(self, *flows: Flow[Any, Any], items: Sequence[Any] = ()) -> None:
        """Check the law for these flows.

        Parameters
        ----------
        *flows : Flow
            As many as it speaks of.
        items : sequence
            On which to compare results.

        Raises
        ------
        AssertionError
            Where it does not hold, with the flows.
        """
        if len(flows) != self.flows:
            raise TypeError(f"law {self.number}, {self.name}, speaks of {self.flows} flows, and was given {len(flows)}")
        try:
            self.check(*flows, **({"items": items} if self.items else {}))
        except AssertionError as error:
            error.add_note(f"law {self.number}: {self.says}")
            for letter, flow in zip("fgh", flows, strict=False):
                error.add_note(f"  {letter} = {written(flow)}")
            if self.items:
                error.add_note(f"  items = {short_repr(list(items), 200)}")
            raise

    def test(
        self,
        flows: SearchStrategy[Flow[Any, Any]] | None = None,
        items: SearchStrategy[Sequence[Any]] | None = None,
        settings: settings | None = None,
    ) -> None:
        """Check the law on random flows.

        Parameters
        ----------
        flows : SearchStrategy, optional
            `dataflow.testing.flows` by default.
        items : SearchStrategy, optional
            Of sequences of items.
        settings : hypothesis.settings, optional
            The current profile's by default.
        """
        from hypothesis import given
        from hypothesis import strategies as st

        from dataflow.testing import strategies

        flow = strategies.flows(max_depth=2) if flows is None else flows
        jobs = st.lists(st.integers(-20, 60), max_size=6) if items is None else items

        def test(given_flows: tuple[Flow[Any, Any], ...], given_items: Sequence[Any]) -> None:
            self(*given_flows, items=given_items)

        run = given(given_flows=st.tuples(*[flow] * self.flows), given_items=jobs)(test)
        (settings(run) if settings is not None else run)()


LAWS: list[Law] = []


def _law(number: int, says: str) -> Callable[[Callable[..., None]], Law]:
    def make(check: Callable[..., None]) -> Law:
        parameters = inspect.signature(check).parameters
        law = Law(number, says, len(parameters) - ("items" in parameters), "items" in parameters, check)
        LAWS.append(law)
        return law

    return make


def check(flow: Flow[Any, Any], items: Sequence[Any]) -> None:
    """Hold one flow to all ten laws, in company of functions that fit any flow.

    Parameters
    ----------
    flow : Flow
        Its stages are deterministic.
    items : sequence
        A few items that it takes.

    Raises
    ------
    AssertionError
        For the first law that does not hold.

    Examples
    --------
    >>> import dataflow as df
    >>> from dataflow.testing import laws
    >>> laws.check(df.stage(abs) >> str, [-1, 2])
    """
    company = (flow, stage(_boxed), stage(_shown))
    for law in LAWS:
        law(*company[: law.flows], items=items)


def _boxed(x: object) -> list[object]:
    return [x]


def _shown(x: object) -> str:
    return repr(x)


def _third(x: object) -> int:
    """Tell items apart in some way that any item allows."""
    return len(repr(x)) % 3


@_law(1, "(f >> g) >> h == f >> (g >> h)")
def chaining_is_associative(f: _Any, g: _Any, h: _Any) -> None:
    """Check the structure."""
    _identical((f >> g) >> h, f >> (g >> h))


@_law(2, "identity >> f == f == f >> identity")
def identity_is_neutral(f: _Any) -> None:
    """Check the structure."""
    _identical(identity >> f, f)
    _identical(f >> identity, f)


@_law(3, "(f | g) | h == f | (g | h)")
def branching_is_associative(f: _Any, g: _Any, h: _Any) -> None:
    """Check the structure."""
    _identical((f | g) | h, f | (g | h))


@_law(4, "f >> (g | h) is (f >> g) | (f >> h), and after optimization f runs once per item in both")
def a_head_can_be_written_in_each_branch(f: _Any, g: _Any, h: _Any, items: _Items) -> None:
    """Check the results, and how often a pure f runs."""
    _alike(f >> (g | h), (f >> g) | (f >> h), items)
    head, tally = counted(f)
    if not decided(f) or not all(stage.options.pure for stage in stages_of(f)):
        return
    for item in items:
        if any(outcome.error for flow in (f, f >> (g | h)) for outcome in outcomes(flow, item)):
            continue
        tally.clear()
        head(item)
        once = dict(tally.items)
        for both in (head >> (g | h), (head >> g) | (head >> h)):
            tally.clear()
            both(item)
            assert dict(tally.items) == once, f"f runs {dict(tally.items)} on {item!r}, and alone {once}"


@_law(5, "(f | g) >> combine(h) is h(f(x), g(x))")
def combine_calls_with_the_parts(f: _Any, g: _Any, items: _Items) -> None:
    """Check the results, by position and by name."""
    gathered = (f | g) >> combine(_pair)
    _alike(gathered, fanout(b=g, a=f) >> combine(_pair), items)
    for item in items:
        one, other, both = (outcomes(flow, item) for flow in (f, g, gathered))
        if len(one) == len(other) == 1 and not one[0].error and not other[0].error:
            _one_of(outcome_of(functools.partial(gathered, item)), [Outcome(_pair(one[0].value, other[0].value))])
            assert len(both) == 1


@_law(6, "switch(k, {a: f, b: g}) >> h is switch(k, {a: f >> h, b: g >> h})")
def what_follows_a_switch_can_be_written_in_each_branch(f: _Any, g: _Any, h: _Any, items: _Items) -> None:
    """Check the results, with a default and without."""
    for default in (None, f):
        behind = switch(_third, {0: f, 1: g}, default) >> h
        inside = switch(_third, {0: f >> h, 1: g >> h}, None if default is None else default >> h)
        _alike(behind, inside, items)


@_law(7, "each(f) >> each(g) is each(f >> g)")
def each_after_each_is_each_of_both(f: _Any, g: _Any, items: _Items) -> None:
    """Check the results, for the items as one list and in several."""
    middle = len(items) // 2
    _alike(each(f) >> each(g), each(f >> g), [list(items), [], list(items[:middle]), list(items[middle:])])


@_law(8, "list(f.map(xs)) == [f(x) for x in xs]")
def a_job_gives_what_calls_give(f: _Any, items: _Items) -> None:
    """Check the results of the items that cannot fail, from a list and from an iterator."""
    sound = [item for item in items if len(found := outcomes(f, item)) == 1 and not found[0].error]
    called = [Outcome(f(item)) for item in sound]
    for source in (sound, iter(sound)):
        results = [Outcome(result) for result in f.map(source, "inline", progress=False)]
        assert len(results) == len(called), f"{len(results)} results of {len(called)} items"
        for result, one in zip(results, called, strict=True):
            _one_of(result, [one])


@_law(9, "any batch size, any executor, any set of optimizer passes: the same results")
def nothing_but_the_flow_decides_the_results(f: _Any, items: _Items) -> None:
    """Check a few sets of passes, batch sizes and windows; `assert_equivalent` checks every set of passes."""
    ways = [(f, Inline(passes=passes, max_in_flight=window)) for passes in _some_passes() for window in (1, 7)]
    for size in _BATCHES:
        ways.append((rebuilt(f, functools.partial(_with_batch, size)), Inline()))
    wanted = [outcomes(f, item) for item in items]
    for flow, executor in ways:
        found = list(recorded(flow.map(list(items), executor, on_error="record", progress=False)))
        assert len(found) == len(items), f"{len(found)} outcomes of {len(items)} items by {executor}"
        for outcome, allowed in zip(found, wanted, strict=True):
            _one_of(outcome, allowed)


@_law(10, "optimizing twice changes nothing more")
def optimizing_twice_changes_nothing_more(f: _Any) -> None:
    """Check the graph and the remarks."""
    once, _ = optimize(lower(f), check=True)
    twice, remarks = optimize(once, check=True)
    assert to_text(twice) == to_text(once), f"{to_text(once)}\nbecomes\n{to_text(twice)}"
    done = [remark for remark in remarks if remark.verdict == "did"]
    assert twice is once and not done, f"optimizing again did {done}"


def _pair(a: object, b: object) -> tuple[object, object]:
    return (a, b)


def _with_batch(size: int, written: Any) -> Any:
    """Return a batched stage with another batch size; an impure one stays, for its batches fail as they are formed."""
    options = written.options
    return written if options.batch is None or not options.pure else with_options(written, batch=size)


def _some_passes() -> list[tuple[str, ...]]:
    """Return the sets of no pass, of each alone, and of all but one."""
    return [names for names in subsets() if len(names) in (0, 1, len(PASSES) - 1)]


def _identical(one: _Any, other: _Any) -> None:
    """Check that two expressions are one and the same, and that the same runs."""
    assert one == other, f"{one!r} is not equal to {other!r}"
    assert hash(one) == hash(other), f"{one!r} and {other!r} are equal and hash differently"
    assert one.optimize().digest == other.optimize().digest, f"{one!r} and {other!r} are equal and run differently"


def _alike(one: _Any, other: _Any, items: _Items) -> None:
    """Check that two expressions may give the same values and fail for the same items, and that they do so.

    Which error arrives may differ: where several stages fail, that is left open.
    """
    for flow in (one, other):
        results = flow.map(list(items), "inline", on_error="record", progress=False)
        for item, result in zip(items, results, strict=True):
            allowed = outcomes(flow, item)
            _one_of(outcome_of(functools.partial(flow, item)), allowed)
            _one_of(Outcome(None, type(result.error)) if isinstance(result, Failure) else Outcome(result), allowed)
    for item in items:
        mine, theirs = _summary(one, item), _summary(other, item)
        if max(len(mine[0]), len(theirs[0])) > 1:
            continue  # a race that may go either way: written twice, it may go both
        assert mine == theirs, f"on {item!r} {one!r} may give {mine}, and {other!r} {theirs}"


def _summary(flow: _Any, item: Any) -> tuple[list[str], bool]:
    """Return the values that a flow may give, and whether it may fail."""
    allowed = outcomes(flow, item)
    values = sorted(repr(outcome.value) for outcome in allowed if not outcome.error)
    return values, any(outcome.error for outcome in allowed)


def _one_of(outcome: Outcome, allowed: Sequence[Outcome]) -> None:
    assert any(outcome.matches(other) for other in allowed), (
        f"gives {shown(outcome)}, and may give {' or '.join(map(shown, allowed))}"
    )
