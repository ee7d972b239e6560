"""What runs in Ray's processes: the ingress, and what it sends batches to. They know Ray Serve's handles, no more."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import functools
import itertools
import os
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dataflow.errors import LoweringError
from dataflow.executors.aside import begin, watch
from dataflow.executors.batches import Batches
from dataflow.executors.calls import Replicas
from dataflow.executors.clock import SystemClock
from dataflow.executors.faults import Failure, Faults, outcome
from dataflow.executors.link import Program
from dataflow.executors.ray_serve.answers import Answer, answered, lookup_in
from dataflow.executors.ray_serve.away import Remote
from dataflow.executors.ray_serve.cluster import application_here
from dataflow.executors.ray_serve.engine import Limits, Pending, ReplicaSession, Stopped
from dataflow.executors.ray_serve.failures import Sent, sent
from dataflow.executors.ray_serve.line import Line
from dataflow.executors.ray_serve.loop import use_running_loop
from dataflow.executors.ray_serve.lowering import Lowered, lower
from dataflow.executors.ray_serve.payload import Message, load, unpack
from dataflow.executors.ray_serve.segments import ELSEWHERE, Visit
from dataflow.executors.ray_serve.shipping import Shipment
from dataflow.executors.ray_serve.watch import Watch
from dataflow.executors.rows import Column, one_by_one
from dataflow.executors.schedule.layout import Kind, kind_of
from dataflow.executors.stats import SessionReport, StepStats
from dataflow.executors.threads.source import call_in
from dataflow.http import Limits as HttpLimits
from dataflow.http import make_app
from dataflow.plan import Plan

if TYPE_CHECKING:
    from fastapi import FastAPI

GONE = -1
"""The number of what is not known here: a replica before this one knew it."""

_PARENT_SECONDS = 1.0  # how often it is looked whether what has started this process is still there
_READY_SECONDS = 0.4  # how long an answer to whether all is ready may take
_KEPT_SECONDS = 30.0  # how long outcomes are kept that nobody asks for


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the replicas of an application are told.

    Parameters
    ----------
    workers : int
        The most steps that run at once in a replica of the ingress.
    recovery : float
        Seconds within which a replica that died is to be replaced.
    patient : bool
        Whether a constructor's error is kept until it is asked for, so that who opens a session gets the error itself;
        otherwise the replica fails with it, and Ray Serve reports it.
    limits : HttpLimits
        What a request over HTTP may ask for.
    """

    workers: int
    recovery: float
    patient: bool
    limits: HttpLimits


class Replica:
    """A part of a plan, made callable in this process.

    Parameters
    ----------
    shipment : Shipment
        The flow.
    settings : Settings
        Settings.
    name : str
        Of which deployment this is a replica.
    """

    def __init__(self, shipment: Shipment, settings: Settings, name: str) -> None:
        self.shipment = shipment
        self.settings = settings
        self.name = name
        self.application = application_here()
        _end_with_parent()
        self.place = f"by Ray Serve, in a replica of {name!r} of {self.application!r}, process {os.getpid()}"
        self.failed: Sent | None = None
        try:
            self.plan: Plan = shipment.plan()
            if self.plan.digest != shipment.digest:
                raise LoweringError(
                    f"the plan made here ({self.plan.digest}) is not the one that was sent ({shipment.digest}): both "
                    "sides must have the same dataflow, the same Python, and the same modules that the flow is made of"
                )
            self.lowered: Lowered = lower(self.plan)
            self.program = Program(self.plan, SystemClock(), instances=1)
            here = set(self.lowered.named(name).steps)
            mine = {id(call) for _, step in self.plan.walk() if step.name in here for call in step.stages}
            self.program.construct(only=lambda call: id(call) in mine)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Keep an error until it is asked for, or fail with it."""
        if not self.settings.patient:
            raise error
        self.failed = sent(error, None, self.place)


class Placed(Replica):
    """A deployment that the ingress sends batches to."""

    def __init__(self, shipment: Shipment, settings: Settings, name: str) -> None:
        super().__init__(shipment, settings, name)
        if self.failed is None:
            self._steps = {step.name: step for _, step in self.plan.walk()}

    async def call(self, options: tuple[str], *message: Any) -> Message:
        """Run one batch through a step: in a thread of its own, which is left behind if the call is given up."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Message] = loop.create_future()
        cancel = threading.Event()
        threads: list[threading.Thread] = []

        def work() -> None:
            threads.append(threading.current_thread())
            watch(cancel)
            made, error = outcome(self._call, options[0], message)
            call_in(loop, functools.partial(_answer, answer, made, error))

        begin(functools.partial(contextvars.copy_context().run, work))
        try:
            return await answer
        except asyncio.CancelledError:
            cancel.set()
            for call in self._steps[options[0]].stages:
                target = self.program.target(call.stage)
                if isinstance(target, Replicas) and threads:
                    target.renew(threads[0])
            raise

    async def ready(self, options: tuple[()], *message: Any) -> Sent | bool:
        """Return whether it is ready, or why it never will be."""
        return self.failed or True

    def _call(self, name: str, message: Message) -> Message:
        visit = Visit(message)
        if visit.message is None:
            return ELSEWHERE
        return visit.answered(self._answer_to(name, [unpack(column) for column in load(visit.message)]))

    def _answer_to(self, name: str, inputs: list[Column]) -> Message:
        stats = StepStats()
        began = time.perf_counter()
        try:
            columns, faults = self._run(name, inputs, stats)
        except BaseException as error:  # KeyboardInterrupt ends everything where it was asked for, not here
            return Answer([], {}, stop=sent(error, None, self.place)).message()
        return answered(
            self.plan,
            columns,
            faults,
            self.place,
            batches=stats.report()["batches"],
            seconds=time.perf_counter() - began,
        )

    def _run(self, name: str, inputs: list[Column], stats: StepStats) -> tuple[list[Column], Faults]:
        step = self._steps[name]
        if kind_of(step) is Kind.BATCH:
            return Batches(self.program, step.op, stats).run(inputs)
        return one_by_one(self.program, step.op, self.program.function(step.op), inputs)


class Ingress(Replica):
    """The deployment that takes requests in, and runs what is placed nowhere else.

    Parameters
    ----------
    shipment, settings, name
        As `Replica` takes them.
    handles : mapping of str to DeploymentHandle
        The other deployments, by name.
    """

    def __init__(self, shipment: Shipment, settings: Settings, name: str, handles: Mapping[str, Any]) -> None:
        super().__init__(shipment, settings, name)
        loop = asyncio.get_running_loop()  # Ray Serve constructs it where it calls it
        for handle in handles.values():
            use_running_loop(handle)
        self._lines = {other: Line(handle, "ready", f"deployment {other!r}", loop) for other, handle in handles.items()}
        self._numbers = itertools.count()
        self._pending: dict[int, tuple[Pending, asyncio.TimerHandle]] = {}
        self._session: ReplicaSession | None = None
        if self.failed is None:
            self._elsewhere = self._send_away(handles, loop)
            self._session = self._new_session()

    def _new_session(self) -> ReplicaSession:
        return ReplicaSession(self.program, self.settings.workers, self._elsewhere)

    def _send_away(self, handles: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> int:
        """Let steps be run in other deployments, and return how many calls may be under way there at once."""
        steps = {step.name: step for _, step in self.plan.walk()}
        lookup = lookup_in(self.plan)
        places = 0
        for deployment in self.lowered.deployments[1:]:
            handle = handles[deployment.name]
            watch = Watch(handle.app_name, handle.deployment_name, self.settings.recovery)
            line = Line(handle, "call", f"deployment {deployment.name!r}", loop, watch, keeps=True)
            for hop in deployment.hops:
                remote = Remote(steps[hop.step], hop, deployment, line, lookup)
                self.program.send(steps[hop.step].op, remote)
                places += remote.places
        return places

    async def items(self, options: tuple[Limits, bool], *message: Any) -> Message:
        """Run items that came together."""
        limits, patient = options
        visit = Visit(message)
        if visit.message is None:
            return ELSEWHERE
        pending = self._begin(unpack(load(visit.message)[0]), limits, patient=patient)
        return visit.answered(await self._answer(pending, first=True))

    async def rest(self, options: tuple[int], *message: Any) -> Message:
        """Go on with items of which some have been answered."""
        visit = Visit(message)
        if visit.message is None:
            return ELSEWHERE
        pending, forget = self._pending.pop(options[0], (None, None))
        if pending is None or forget is None:
            return Answer([], {}, rest=GONE).message()
        forget.cancel()
        return visit.answered(await self._answer(pending, first=False))

    def _begin(self, items: list[Any], limits: Limits, *, patient: bool) -> Pending:
        if self._session is None or self._session.closed:
            self._session = self._new_session()  # the one before was ended by what a stage raised
        return self._session.begin(items, limits, patient=patient)

    async def _answer(self, pending: Pending, *, first: bool) -> Message:
        """Answer with the outcomes that there are soon, and keep the others until they are asked for."""
        try:
            positions, results, faults = await pending.some(whole=self.lowered.ingress.most > 1)
        except Stopped as stopped:
            return Answer([], {}, stop=sent(stopped.error, None, self.place)).message()
        except asyncio.CancelledError:
            pending.give_up()
            raise
        if first and not pending.left and positions == list(range(len(positions))):
            return answered(self.plan, [results], faults, self.place)
        rest = next(self._numbers) if pending.left else None
        if rest is not None:  # whoever asks for the others comes here: this is the only replica
            forget = asyncio.get_running_loop().call_later(_KEPT_SECONDS, self._forget, rest)
            self._pending[rest] = pending, forget
        return answered(self.plan, [results], faults, self.place, positions=positions, rest=rest)

    def _forget(self, number: int) -> None:
        pending, _ = self._pending.pop(number)
        pending.give_up()

    async def run(self, items: list[Any], deadline: float | None = None) -> list[Any]:
        """Run items that came together over HTTP, say, and return their results, or a `Failure` in the place of one.

        Parameters
        ----------
        items : list
            The items.
        deadline : float, optional
            Seconds within which they are to be done.
        """
        limits: Limits = None if deadline is None else [deadline] * len(items)
        pending = self._begin(items, limits, patient=False)
        try:
            _, results, faults = await pending.some(whole=True)
        except asyncio.CancelledError:
            pending.give_up()
            raise
        for index, fault in faults.items():
            stage = "?" if fault.op is None else self.program.note(fault.error, fault.op, index, self.place)
            results[index] = Failure(index, items[index], stage, fault.release())
        return results

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return what answers over HTTP, where the application has a route; Ray Serve asks each replica for it."""
        version = self.shipment.digest
        return make_app(
            self.run, name=self.application, version=version, ready=self._ready, limits=self.settings.limits
        )

    async def _ready(self) -> bool:
        return await self.ready(()) is True

    async def ready(self, options: tuple[()], *message: Any) -> Sent | bool:
        """Return whether the application is ready, or why it never will be.

        It does not wait for the others for long: a replica that has a call under way is not ended.
        """
        if self.failed is not None or not self._lines:
            return self.failed or True
        asked = [asyncio.ensure_future(line.answer((b"",), pure=True)) for line in self._lines.values()]
        done, late = await asyncio.wait(asked, timeout=_READY_SECONDS)
        for task in late:
            task.cancel()
        answers = [task.result() for task in done]
        return next((answer for answer in answers if answer is not True), not late)

    async def about(self, options: tuple[()], *message: Any) -> Shipment:
        """Return the flow, for who attaches."""
        return self.shipment

    def end(self) -> None:
        """End what is under way here."""
        if self._session is not None:
            self._session.cancel()

    async def report(self, options: tuple[()], *message: Any) -> tuple[str, SessionReport]:
        """Return which replica this is, and what it has done."""
        assert self._session is not None
        return f"{os.uname().nodename}/{os.getpid()}", self._session.stats()


@functools.cache  # a process ends once
def _end_with_parent() -> None:
    """End this process when the one that has started it, the node's raylet, has ended.

    Ray counts all of a node's replicas as dead when the raylet is, and puts others in their place. A replica that lived
    on would keep the connections open over which its callers wait for answers, and they would wait as long as it runs.
    A process that is not Ray's, as where Ray Serve tests an application locally, is not ours to end.
    """
    import ray

    if ray.get_runtime_context().worker.mode != ray.WORKER_MODE:
        return
    parent = os.getppid()

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_SECONDS)
        os._exit(1)

    threading.Thread(target=look, name="dataflow-parent", daemon=True).start()


def _answer(future: asyncio.Future[Message], made: Message | None, error: BaseException | None) -> None:
    if future.done():
        return
    if made is not None:
        future.set_result(made)
    elif error is not None:
        future.set_exception(error)
