"""What is compared: one flow on several executors, with all passes, without any, and with each left out in turn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

from dataflow.bench.load import System
from dataflow.bench.rounds import problem
from dataflow.executors import Session, resolve
from dataflow.expr.flow import Flow
from dataflow.expr.stage import Stage, short_name
from dataflow.expr.walk import postorder
from dataflow.passes import DEFAULT

EXECUTORS = ("inline", "threads", "ray")


@dataclasses.dataclass(frozen=True)
class Subject:
    """One way of running a flow.

    Parameters
    ----------
    name : str
        In the tables: the executor's, and what was left out.
    executor : str
        The executor's name.
    left_out : str
        The pass that was left out; ``"*"`` where all were, and nothing where none was.
    system : System, optional
        The open session, or the hand-written function; None where `note` says why there is none.
    same_as : str
        The subject whose plan is this one's too, so that nothing would be learned from measuring it.
    note : str
        Why it is not measured.
    """

    name: str
    executor: str
    left_out: str = ""
    system: System | None = None
    same_as: str = ""
    note: str = ""

    @property
    def whole(self) -> bool:
        """Whether no pass was left out."""
        return not self.left_out

    def job(self, items: Iterable[Any]) -> list[Any]:
        """Return the results of a batch job."""
        assert self.system is not None
        return list(self.system.map(items))

    @property
    def session(self) -> Session | None:
        """The session, where it is one."""
        return self.system if isinstance(self.system, Session) else None


class ByHand:
    """A hand-written function as a system.

    Parameters
    ----------
    batch : callable, optional
        Takes all items, and returns their results in order.
    one : callable, optional
        Takes one item, and returns its result.
    """

    def __init__(self, batch: Callable[[Any], Iterable[Any]] | None, one: Callable[[Any], Any] | None) -> None:
        self._batch = batch
        self._one = one

    @property
    def maps(self) -> bool:
        """Whether it can do a batch job."""
        return self._batch is not None or self._one is not None

    @property
    def runs(self) -> bool:
        """Whether it can do one item."""
        return self._one is not None

    def run(self, item: Any) -> Any:
        """Return the result of one item."""
        assert self._one is not None
        return self._one(item)

    def submit(self, item: Any) -> Future[Any]:
        """Run one item here and now; the future is done."""
        future: Future[Any] = Future()
        try:
            future.set_result(self.run(item))
        except Exception as error:
            future.set_exception(error)
        return future

    def map(self, items: Iterable[Any]) -> Iterable[Any]:
        """Return the results of many items."""
        return self._batch(items) if self._batch is not None else map(self.run, items)


def open_subjects(
    flow: Flow[Any, Any], executors: Sequence[Any], stack: ExitStack, *, passes: bool = True
) -> list[Subject]:
    """Open a session for each way of running a flow.

    Parameters
    ----------
    flow : Flow
        What is run.
    executors : sequence of str or executor
        On what. One that cannot run it is a subject with a note.
    stack : ExitStack
        Which closes the sessions.
    passes : bool
        Whether passes are left out too; not where each way would reserve resources that the flow asks for.

    Examples
    --------
    >>> with ExitStack() as stack:
    ...     subjects = open_subjects(df.stage(abs) >> str, ["inline", "abacus"], stack)
    >>> [subject.name for subject in subjects if subject.system]
    ['inline', 'inline, no passes']
    >>> subjects[-1].name, subjects[-1].note.partition(" in this")[0]
    ('abacus', "there is no executor 'abacus'")
    """
    subjects: list[Subject] = []
    for given in executors:
        name = called(given)
        try:
            executor = resolve(given)
            whole = stack.enter_context(executor.open(flow))
        except Exception as error:  # one executor's failure is a row, not the end
            subjects.append(Subject(name, name, note=problem(error)))
            continue
        subjects.append(Subject(name, name, system=whole))
        if not passes:
            continue
        if hasattr(executor, "places") and (asks := _asks(flow)):
            why = f"{asks} asks for resources of its own, and each way of running the flow would ask for them again"
            subjects.append(Subject(f"{name}, no passes", name, "*", note=why))
            continue
        digests = {whole.plan.digest: name}
        for left_out in ("*", *(each.name for each in DEFAULT)):
            title = f"{name}, no passes" if left_out == "*" else f"{name}, no {left_out}"
            subjects.append(_without(flow, executor, name, title, left_out, stack, digests))
    return subjects


def called(executor: Any) -> str:
    """Return what an executor is called in tables: by its name, or by what it was given.

    Examples
    --------
    >>> called("threads"), called(df.Inline(max_in_flight=8))
    ('threads', 'Inline(max_in_flight=8)')
    """
    if isinstance(executor, str):
        return executor
    given = [
        f"{field.name}={getattr(executor, field.name)!r}"
        for field in dataclasses.fields(executor)
        if getattr(executor, field.name) != field.default
    ]
    return f"{type(executor).__name__}({', '.join(given)})"


def _asks(flow: Flow[Any, Any]) -> str:
    """Return what of a flow asks for resources; nothing where nothing does."""
    for node in postorder(flow):
        if isinstance(node, Stage):
            asked = node.options
            if asked.gpu or any(each is not None for each in (asked.cpus, asked.gpus, asked.memory)):
                return f"stage {short_name(node.name)!r}"
    return ""


def _without(
    flow: Flow[Any, Any],
    executor: Any,
    name: str,
    title: str,
    left_out: str,
    stack: ExitStack,
    digests: dict[str, str],
) -> Subject:
    """Open a session without a pass, unless its plan has been opened already."""
    try:
        if not any(field.name == "passes" for field in dataclasses.fields(executor)):
            raise NotImplementedError(f"{type(executor).__name__} cannot be told which passes to run")
        other = dataclasses.replace(executor, passes=() if left_out == "*" else (f"-{left_out}",))
        digest = other.plan(flow).digest
        if digest in digests:
            return Subject(title, name, left_out, same_as=digests[digest], note=f"the plan of {digests[digest]!r}")
        digests[digest] = title
        return Subject(title, name, left_out, system=stack.enter_context(other.open(flow)))
    except Exception as error:
        return Subject(title, name, left_out, note=problem(error))
