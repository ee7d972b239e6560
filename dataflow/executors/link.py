"""Linking: a plan's generated code bound to what it calls, and errors led back to who raised them."""

from __future__ import annotations

import threading
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from dataflow.executors import policies
from dataflow.executors.aside import Aside
from dataflow.executors.calls import BatchCall, Replicas
from dataflow.executors.clock import Clock
from dataflow.executors.faults import UNKNOWN, add_note, add_trail
from dataflow.expr.stage import Stage
from dataflow.graph import Builder, Region, Value, ops, regions
from dataflow.plan import Binding, Code, Plan, Step, generate

if TYPE_CHECKING:
    from dataflow.executors.faults import Faults
    from dataflow.executors.rows import Column
    from dataflow.executors.schedule.work import Work

Function = Callable[..., Any]
Outcome = tuple[list["Column"], "Faults"]
"""The output columns of some rows, with None where one failed, and the faults."""

Done = Callable[[Outcome | None, BaseException | None], None]
"""Takes what a call has come to: its outcome, or the error that it has none for."""

Stop = Callable[[], None]
"""Gives up what was begun."""


class Away(Protocol):
    """What runs a step elsewhere, many rows in one call.

    Attributes
    ----------
    ceiling : int
        The most rows a batch.
    at_once : int
        How many full batches of a job may go in one call.
    places : int
        How many calls may be under way at once.
    max_wait : float
        Seconds that a first row may wait for others.
    """

    ceiling: int
    at_once: int
    places: int
    max_wait: float

    @property
    def needs_thread(self) -> bool:
        """Whether the next call is to be made by a thread that waits for it: `run` is called, otherwise `begin`."""
        ...

    def run(self, work: Work, inputs: list[Column]) -> Outcome:
        """Make the call, and return what it has come to."""
        ...

    def begin(self, work: Work, inputs: list[Column], done: Done) -> Stop:
        """Begin the call, and return what gives it up; `done` is called once, in any thread, unless it is given up."""
        ...


class Program:
    """A plan made callable in this process: functions, class instances and batched calls of its own.

    Parameters
    ----------
    plan : Plan
        What to run.
    clock : Clock
        By which timeouts and back-off are measured.
    instances : int, optional
        How many instances of each class stage there are in this process; as many as it says by default.
    """

    def __init__(self, plan: Plan, clock: Clock, instances: int | None = None) -> None:
        self.plan = plan
        self.clock = clock
        self.instances = instances
        self._away: dict[int, Away] = {}
        self.aside = Aside(clock)
        self._replicas: dict[Any, Replicas] = {}
        self._batch_calls: dict[int, BatchCall] = {}
        self._functions: dict[int, Function] = {}
        self._regions: dict[int, Region] = {}
        self._of_op: dict[int, Function] = {}
        self._lines: dict[int, tuple[types.CodeType, dict[int, ops.Op]]] = {}
        self._insides: dict[int, str] = {}
        self._lock = threading.RLock()  # several threads may be the first to run a flow
        self._call: Function | None = None
        self._bare: Function | None = None

    # -- what runs ---------------------------------------------------------------------------------------------------

    @property
    def call(self) -> Function:
        """The whole flow as a function of one item."""
        if self._call is None:
            with self._lock:
                code = generate(self.plan.region, guarded=True)
                self._prepare(code)
                self._call = self._bound(code)
        return self._call

    @property
    def bare(self) -> Function:
        """The whole flow as a function of one item that leaves its errors as they are."""
        if self._bare is None:
            with self._lock:
                code = generate(self.plan.region)
                self._prepare(code)
                self._bare = self._bound(code)
        return self._bare

    def function(self, op: ops.Op) -> Function:
        """Return one op as a function of one item's inputs; of several outputs it returns a tuple."""
        if id(op) not in self._of_op:
            with self._lock:
                simple = self._simple(op) if isinstance(op, ops.Call) else None
                if simple is None:
                    code = generate(self.region(op), "step")
                    self._prepare(code)
                    simple = self._bound(code)
                self._of_op[id(op)] = simple
        return self._of_op[id(op)]

    def region(self, op: ops.Op) -> Region:
        """Return what a step runs as a region: its body, or one of nothing but its op."""
        with self._lock:
            if id(op) not in self._regions:
                self._regions[id(op)] = op.body if isinstance(op, (ops.Fused, ops.Batched)) else _alone(op)
            return self._regions[id(op)]

    def batch_call(self, op: ops.Op) -> BatchCall:
        """Return a batched stage ready to be called."""
        with self._lock:
            if id(op) not in self._batch_calls:
                stage = _stage(op)
                self._batch_calls[id(op)] = BatchCall(stage, self.target(stage), stage.options.batch or 1)
            return self._batch_calls[id(op)]

    def target(self, stage: Stage[Any, Any]) -> Callable[[Any], Any]:
        """Return what a stage calls: its function, or its replicas, shared by equal pure stages."""
        if not stage.constructed:
            return stage.fn
        key = stage if stage.options.pure else id(stage)
        with self._lock:
            if key not in self._replicas:
                self._replicas[key] = Replicas(stage, self.instances)
            return self._replicas[key]

    def replicas(self, stage: Stage[Any, Any]) -> int:
        """Return how many instances of a stage there may be in this process."""
        count = self.instances or stage.options.replicas
        return count[1] if isinstance(count, tuple) else count

    def send(self, op: ops.Op, away: Away) -> None:
        """Let a step be run elsewhere."""
        self._away[id(op)] = away

    def away(self, op: ops.Op) -> Away | None:
        """Return what runs a step elsewhere; None where it is run in this process."""
        return self._away.get(id(op))

    def construct(self, *, all_replicas: bool = False, only: Callable[[ops.Call], bool] = lambda call: True) -> None:
        """Construct every class stage now, so that what cannot be constructed is known.

        Parameters
        ----------
        all_replicas : bool
            Whether to construct each of a stage's replicas, or the first alone, which is all that one thread needs.
        only : callable
            Says which stages.
        """
        for region in regions(self.plan.region):
            for node in region.nodes:
                if isinstance(node.op, ops.Call) and node.op.stage.constructed and only(node.op):
                    target = self.target(node.op.stage)
                    if isinstance(target, Replicas):
                        try:
                            target.construct(all_replicas=all_replicas)
                        except Exception as error:
                            self.note(error, node.op, None)
                            raise

    def renew(self, op: ops.Op) -> None:
        """Replace the instances that abandoned work under this op still holds."""
        for body in op.bodies:
            self._renew(body)

    def renew_all(self) -> None:
        """Replace the instances that abandoned work still holds."""
        self._renew(self.plan.region)

    def _renew(self, root: Region) -> None:
        for region in regions(root):
            for node in region.nodes:
                if isinstance(node.op, ops.Call) and isinstance(target := self.target(node.op.stage), Replicas):
                    target.renew()

    # -- binding -----------------------------------------------------------------------------------------------------

    def _prepare(self, code: Code) -> None:
        """Make functions of all regions that `code` calls, the held before the holders."""
        codes: dict[int, Code] = {}
        roots: list[Region] = []
        waiting = [code]
        while waiting:
            for region in _called(waiting.pop()):
                if id(region) not in self._functions and id(region) not in codes:
                    codes[id(region)] = generate(region, "body")
                    waiting.append(codes[id(region)])
                    roots.append(region)
        for root in roots:
            for region in regions(root):
                if id(region) in codes and id(region) not in self._functions:
                    self._functions[id(region)] = self._bound(codes[id(region)])

    def _bound(self, code: Code) -> Function:
        name = f"dataflow generated/{self.plan.flow.kind.__name__.lower()}.{code.name}.py"
        scope: dict[str, Any] = {binding.symbol: self._value(binding) for binding in code.bindings}
        scope |= {"__name__": "dataflow.generated", "__loader__": _Source(code.source), "_blame": self.blame}
        exec(compile(code.source, name, "exec"), scope)
        function: Function = scope[code.name]
        # by identity, and held so that it lasts: functions of one shape have equal code, and call other stages
        self._lines[id(function.__code__)] = function.__code__, code.lines
        return function

    def _value(self, binding: Binding) -> Any:
        op: Any = binding.op
        match binding.kind:
            case "stage":
                return self._simple(op) or self.batch_call(op).one
            case "combine":
                return op.fn
            case "spread":
                return policies.spread(op)
            case "route":
                return policies.route(op)
            case "key":
                return op.keys[binding.index]
            case "arm":
                return tuple(self._functions[id(arm)] for arm in op.arms)
            case "each":
                return self._functions[id(op.body)]
        return self._construct(op)

    def _simple(self, op: ops.Call) -> Function | None:
        return self.target(op.stage) if op.stage.options.batch is None else None

    def _construct(self, op: ops.Op) -> Function:
        bodies = [self._functions[id(body)] for body in op.bodies]
        match op:
            case ops.Retry():
                return policies.retry(op, bodies[0], self.clock)
            case ops.Fallback():
                return policies.fallback(op, *bodies)
            case ops.Timeout():
                return policies.timeout(op, bodies[0], self.aside, lambda: self.renew(op))
            case ops.Race():
                return policies.race(bodies, self.aside, lambda: self.renew(op))
            case ops.Quorum():
                return policies.quorum(op, bodies, self.aside, lambda: self.renew(op))
        raise NotImplementedError(op.name)

    # -- blame -------------------------------------------------------------------------------------------------------

    def blame(self, error: Exception, item: Any) -> str:
        """Add a note to an error that says whose it is, and return the stage's name.

        Parameters
        ----------
        error : Exception
            As it left generated code.
        item : object
            What the flow was called on.

        Raises
        ------
        RuntimeError
            In the place of a StopIteration, which must not end a loop in silence.
        """
        op = self.culprit(error)
        if isinstance(error, StopIteration):
            converted = RuntimeError("a stage raised StopIteration")
            self.note(converted, op, None, item=item)
            try:
                raise converted from error
            finally:
                del converted  # no cycle through the traceback of this frame
        return self.note(error, op, None, item=item)

    def culprit(self, error: BaseException) -> ops.Op | None:
        """Return the op that raised an error, by the lines of generated code in its traceback."""
        found: ops.Op | None = None
        trace = error.__traceback__
        while trace is not None:
            _, lines = self._lines.get(id(trace.tb_frame.f_code), (None, None))
            if lines is not None:
                found = lines.get(trace.tb_lineno, found)
                if isinstance(found, (ops.Call, ops.Apply, ops.Spread)):
                    break
            trace = trace.tb_next
        return found

    def note(
        self,
        error: Exception,
        op: ops.Op | None,
        index: int | None,
        where: str = "inline, in this process",
        *,
        item: Any = UNKNOWN,
    ) -> str:
        """Add the note of an op's failure to an error, once, and return the op's name; `where` it was run.

        From then on the error leads back to the flow and the item, where that is known.
        """
        add_trail(error, self.plan.flow, item)
        name = self.plan.label(op) if op is not None and id(op) in self.plan.labels else "?"
        what = "stage" if isinstance(op, ops.Call) else "op"
        place = f" ({op.origin})" if op is not None and op.origin is not None else ""
        item = "" if index is None else f" on item {index}"
        inside = self._inside(op)
        add_note(error, f"dataflow: {what} {name!r}{place} failed{item}; {inside}, run {where}")
        return name

    def _inside(self, op: ops.Op | None) -> str:
        """Return whether an op has been fused, and into which step."""
        if id(op) not in self._insides:
            fused = next((step.name for _, step in self.plan.walk() if _fuses(step, op)), None)
            self._insides[id(op)] = "not fused" if fused is None else f"fused into step {fused!r}"
        return self._insides[id(op)]


class _Source:
    """Gives tracebacks the text of generated code."""

    def __init__(self, source: str) -> None:
        self._source = source

    def get_source(self, name: str) -> str:
        """Return the text."""
        return self._source


def _called(code: Code) -> list[Region]:
    return [
        body for binding in code.bindings if binding.kind in ("construct", "each", "arm") for body in binding.op.bodies
    ]


def _alone(op: ops.Op) -> Region:
    """Return a region of nothing but one op."""
    build = Builder(op.ports)
    made = build.add(op, *(Value(index) for index in range(op.ports)))
    return build.region(made)


def _stage(op: Any) -> Stage[Any, Any]:
    stage: Stage[Any, Any] = op.stage
    return stage


def _fuses(step: Step, op: ops.Op | None) -> bool:
    return isinstance(step.op, ops.Fused) and any(
        node.op is op for region in regions(step.op.body) for node in region.nodes
    )
