"""Stages that do what they are told, in whichever process they are told it: items are orders."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import dataflow as df

Order = tuple[Any, ...]


class Locked(Exception):
    """An exception that does not pickle."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Mute(Exception):
    """An exception that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Mine(Exception):
    """A user's own exception, with arguments of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def die() -> None:
    """Die as if somebody had pulled the plug."""
    os.kill(os.getpid(), signal.SIGKILL)


def obey(order: Any, here: str) -> Any:
    """Do what an order says, if it is for those who are here; otherwise hand it on."""
    if not isinstance(order, (tuple, list)) or order[0] != here:  # as lists they come over HTTP
        return order
    _, what, *given = order
    match what:
        case "value":
            return given[0]
        case "pid":
            return os.getpid()
        case "refuse":
            raise LookupError(given[0])
        case "mine":
            raise Mine(given[0])
        case "locked":
            raise Locked("a lock is inside")
        case "mute":
            raise Mute
        case "interrupt":
            raise KeyboardInterrupt
        case "exit":
            raise SystemExit(3)
        case "a lock":
            return threading.Lock()
        case "hang":
            threading.Event().wait()
        case "wait for":
            while not Path(given[0]).exists():
                threading.Event().wait(0.01)
            return given[1]
        case "die":
            die()
        case "die once":
            if not Path(given[0]).exists():
                Path(given[0]).touch()
                die()
            return given[1]
        case "grow":
            return "x" * given[0]
        case "change":
            given[0] += 1
            return given[0]
    raise NotImplementedError(what)


def at_ingress(order: Order) -> Any:
    """Obey in the ingress."""
    return obey(order, "ingress")


def at_placed(orders: list[Order]) -> list[Any]:
    """Obey where the stage is placed."""
    return [obey(order, "placed") for order in orders]


class Counted:
    """Obeys, and knows how often it has been constructed in this process."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1

    def __call__(self, orders: list[Order]) -> list[Any]:
        asked = [isinstance(order, (tuple, list)) and order[1] == "made" for order in orders]
        return [self.made if own else obey(order, "placed") for own, order in zip(asked, orders, strict=True)]


def flow(**options: Any) -> Any:
    """Return a flow of a stage in the ingress and one that is placed elsewhere."""
    return df.stage(at_ingress, **options) >> df.stage(at_placed, batch=8, placement="placed", **options)


def counted() -> Any:
    """Return a flow whose placed stage is an instance."""
    made: Any = df.stage(Counted, batch=8, placement="placed")
    return df.stage(at_ingress) >> made()


def waits(gate: str) -> str:
    """Wait until there is a file."""
    while not Path(gate).exists():
        threading.Event().wait(0.01)
    return gate


def refuses(gate: str) -> str:
    """Fail at once."""
    raise LookupError(gate)


def beside() -> Any:
    """Return a flow of a branch that waits and one that fails, each in a placement of its own."""
    branches = df.stage(waits, placement="slow") | df.stage(refuses, placement="quick")
    return branches >> df.combine(pair)


def pair(one: str, other: str) -> tuple[str, str]:
    """Join the branches."""
    return one, other
