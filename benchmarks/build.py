"""Building, optimizing and planning big flows: what it costs, and how it grows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.peers import adapters
from dataflow.bench import Contestant, Effort, Findings, Goal, Run, Table, Task, compare, ready

Function = Callable[[int], int]
Built = Callable[[], Any]

GROWTH = 12.0
"""How much more ten times the size may cost."""


def adder(amount: int) -> Function:
    """Make a function of its own."""

    def add_amount(x: int) -> int:
        return x + amount

    return add_amount


def adders(count: int) -> list[Function]:
    """Make that many functions that no flow has seen before."""
    return [adder(amount) for amount in range(count)]


def add(a: int, b: int) -> int:
    """Join a diamond."""
    return a + b


def total(*parts: int) -> int:
    """Join a fan-out."""
    return sum(parts)


def build_chain(functions: Sequence[Function]) -> Built:
    """Build a chain, and plan it."""
    import dataflow as df

    flow: df.Flow[int, int] = df.stage(functions[0])
    for function in functions[1:]:
        flow = flow >> function
    flow.optimize()
    return lambda: flow(1)


def build_fan_out(functions: Sequence[Function]) -> Built:
    """Build a fan-out and its combine, and plan it."""
    import dataflow as df

    flow = df.fanout(*functions) >> df.combine(total)
    flow.optimize()
    return lambda: flow(1)


def build_diamonds(functions: Sequence[Function]) -> Built:
    """Stack diamonds, each shared by both sides of the next, and plan them."""
    import dataflow as df

    flow: df.Flow[int, int] = df.stage(functions[0])
    for left, right in pairs(functions[1:]):
        flow = (flow >> left | flow >> right) >> df.combine(add)
    flow.optimize()
    return lambda: flow(1)


def chain_by_hand(functions: Sequence[Function]) -> int:
    """Give what the chain must give."""
    x = 1
    for function in functions:
        x = function(x)
    return x


def fan_out_by_hand(functions: Sequence[Function]) -> int:
    """Give what the fan-out must give."""
    return total(*[function(1) for function in functions])


def diamonds_by_hand(functions: Sequence[Function]) -> int:
    """Give what the diamonds must give."""
    x = functions[0](1)
    for left, right in pairs(functions[1:]):
        x = add(left(x), right(x))
    return x


def pairs(functions: Sequence[Function]) -> list[tuple[Function, Function]]:
    """Take the functions two by two."""
    return list(zip(functions[::2], functions[1::2], strict=True))


def building(count: int, by_hand: Callable[[Sequence[Function]], int], times: int = 1) -> Task:
    """Ask for a flow of that many new functions, several `times` a sample."""
    return Task(
        items=lambda: [adders(count) for _ in range(times)],
        right=lambda functions, built: bool(built() == by_hand(functions)),
    )


def growth(
    title: str,
    build: Run,
    by_hand: Callable[[Sequence[Function]], int],
    sizes: dict[str, int],
    *,
    repeats: int,
    times: int = 1,
) -> Table:
    """Compare the cost at each of the sizes (functions, under a name) with the first.

    The smaller flow is built ten times a sample, so that the samples are alike.
    """
    (small, few), (big, many) = sizes.items()
    return compare(
        title,
        [
            Contestant(small, ready(build), building(few, by_hand, 10 * times)),
            Contestant(big, ready(build), building(many, by_hand, times)),
        ],
        effort=Effort(repeats, repeats, seconds=30),
        passes=1,
    )


def beside(count: int, repeats: int) -> Table:
    """Compare building a chain with the peers."""
    task = building(count, chain_by_hand)
    return compare(
        f"build and plan a chain of {count:,} stages, beside the peers",
        [
            Contestant("dataflow", ready(build_chain), task),
            *adapters("builder", 1, task=task),
        ],
        effort=Effort(repeats, repeats, seconds=30),
        passes=1,
    )


def findings(quick: bool = False) -> Findings:
    """Measure."""
    many = 2 if quick else 7
    chain = growth(
        "build, optimize and plan a chain",
        build_chain,
        chain_by_hand,
        {"1,000 stages": 1_000, "10,000 stages": 10_000},
        repeats=2 if quick else 5,
    )
    fan_out = growth(
        "build, optimize and plan a fan-out and its combine",
        build_fan_out,
        fan_out_by_hand,
        {"100 branches": 100, "1,000 branches": 1_000},
        repeats=many,
    )
    diamonds = growth(
        "build, optimize and plan stacked diamonds",
        build_diamonds,
        diamonds_by_hand,
        {"3 diamonds": 1 + 2 * 3, "30 diamonds": 1 + 2 * 30},
        repeats=many,
        times=5,
    )
    longest = chain.row("10,000 stages").seconds
    peers = () if quick else (beside(1_000, repeats=3), beside(4_000, repeats=1))
    return Findings(
        (chain, fan_out, diamonds, *peers),
        (
            Goal("10,000 stages", longest and longest.middle, 1.0, unit=" s"),
            Goal("10,000 stages over 1,000", chain.slowness("10,000 stages"), GROWTH),
            Goal("1,000 branches over 100", fan_out.slowness("1,000 branches"), GROWTH),
            Goal("30 diamonds over 3", diamonds.slowness("30 diamonds"), GROWTH),
        ),
    )
