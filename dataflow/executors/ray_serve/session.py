"""The session of Ray Serve: the thread executor's, whose one step is to send items to the ingress.

So items are read, bounded, ordered, cancelled and timed as they are there. What is submitted while requests are under
way travels together in the next one, as any batch forms there, and a lone caller's item is never kept waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dataflow.executors import tracing
from dataflow.executors.clock import SystemClock
from dataflow.executors.faults import Fault, Faults
from dataflow.executors.link import Program
from dataflow.executors.ray_serve.answers import RemoteFault
from dataflow.executors.ray_serve.cluster import url_of
from dataflow.executors.ray_serve.line import Line
from dataflow.executors.ray_serve.loop import Loop
from dataflow.executors.ray_serve.lowering import Lowered
from dataflow.executors.ray_serve.requests import MAX_WAIT, Requests
from dataflow.executors.ray_serve.watch import Watch
from dataflow.executors.rows import Column
from dataflow.executors.schedule import Work, timed
from dataflow.executors.stats import SessionReport, merged
from dataflow.executors.threads import Threads
from dataflow.executors.threads.here import Here
from dataflow.executors.threads.pool import Pool
from dataflow.executors.threads.session import ThreadsSession
from dataflow.expr.words import stage
from dataflow.plan import Plan, make_plan

if TYPE_CHECKING:
    from dataflow.executors.ray_serve import RayServe

CHUNK = 512
"""The most items in one request."""

_CHUNK_TIMED = 16  # where the flow watches a clock, which runs for an item from when it has arrived
_PARTS = 4  # a job's request is at most this part of what may be in flight, so that several are under way
_PLACES = 16  # how many requests may be under way at once, and for each replica of the ingress but the first
_MORE_PLACES = 4
_LONE = 2  # how many callers in a row are taken for company: of many that come back together, the first is lone too
_REPORT_SECONDS = 10.0
_CLOSE_SECONDS = 5.0


def _sent_away(items: list[Any]) -> list[Any]:
    """Stand for what the ingress does."""
    raise NotImplementedError


async def _closed(handle: Any) -> None:
    """Close what a handle keeps open to find replicas and to reach them."""
    await handle.shutdown_async()


class RaySession(ThreadsSession):
    """A session on Ray Serve.

    Parameters
    ----------
    plan : Plan
        What is deployed.
    lowered : Lowered
        How.
    executor : RayServe
        Whose session it is.
    handle : DeploymentHandle
        The ingress's.
    after : callable
        Called when the session has ended.
    """

    def __init__(
        self, plan: Plan, lowered: Lowered, executor: RayServe, handle: Any, after: Callable[[], None]
    ) -> None:
        loop = Loop(handle)
        most = _CHUNK_TIMED if timed([plan.block]) else CHUNK
        ceiling = max(1, min(most, executor.max_in_flight // _PARTS))
        places = _PLACES + _MORE_PLACES * (lowered.ingress.most - 1)
        name = f"deployment {lowered.ingress.name!r}"
        watch = Watch(handle.app_name, handle.deployment_name, executor.start_timeout)
        self._line = Line(handle, "items", name, loop.loop, watch)
        self._reports = Line(handle, "report", name, loop.loop)
        self._handle = handle
        self._loop = loop
        self._after = after
        self._lowered = lowered
        self._ray = executor
        self._known: dict[str, SessionReport] = {}
        self._rest = Line(handle, "rest", name, loop.loop, watch)
        self._requests = Requests(
            self._line, self._rest, plan, self._early, pure=lowered.pure, ceiling=ceiling, places=places
        )
        there = stage(_sent_away, batch=ceiling, max_wait=MAX_WAIT, pure=lowered.pure, name="ray serve")
        program = Program(make_plan(there, ()), SystemClock())
        program.send(program.plan.steps[0].op, self._requests)
        threads = Threads(workers=places + 1, max_in_flight=executor.max_in_flight, max_queue=executor.max_queue)
        super().__init__(program, threads, Pool(places + 1, program.clock, threads), owns_pool=True)
        self.schedule.gives_up = True
        self.plan = plan
        self._linked = Program(plan, program.clock)  # it runs nothing: it knows whose an error is

    def _new_here(self) -> Here:
        never = tracing.tracer() is not None  # which makes its spans where works are run
        return Here(self, self._requests.alone, soon=math.inf, never=never, waits=True, after=_LONE)

    def note(self, fault: Fault, index: int | None, item: Any) -> str:
        if not isinstance(fault, RemoteFault):
            return "?"
        if fault.op is None:
            return fault.label or "?"
        return self._linked.note(fault.error, fault.op, index, fault.place, item=item)

    @property
    def url(self) -> str | None:
        """Where the application is reached over HTTP; None where it has no ``route_prefix``."""
        return url_of(self._handle.app_name)

    def stats(self) -> SessionReport:
        whole = self._whole.report()
        with contextlib.suppress(Exception):  # those that are known are better than none
            self._ask_for_reports()
        known = list(self._known.values())
        return {
            "executor": self._ray.name,
            "digest": self.plan.digest,
            "items": whole["items"],
            "failures": whole["failures"],
            "abandoned_threads": sum(report["abandoned_threads"] for report in known),
            "steps": merged(self.plan, known),
        }

    def _early(self, work: Work, rows: Sequence[int], columns: list[Column], faults: Faults) -> None:
        """Take the outcomes of some of a work's rows before the others have theirs."""
        with self.pool.lock:
            self.schedule.finish_some(work, rows, columns, faults)
            calls = self.pool.changed(self)
        for call in calls:
            call()

    def _ask_for_reports(self) -> None:
        """Ask the ingress what it has done: each of its replicas, as far as the requests meet them."""
        most = self._lowered.ingress.most
        asked = [self._reports.answer((b"",), pure=True) for _ in range(1 if most == 1 else 4 * most)]

        async def ask() -> list[tuple[str, SessionReport]]:
            return list(await asyncio.gather(*asked))

        self._known.update(self._loop.do(ask(), _REPORT_SECONDS))

    def _close_lines(self) -> None:
        self._line.close()
        self._rest.close()

    def _leave(self, finish: bool) -> None:
        left = self._left
        if not finish:
            self._close_lines()
        super()._leave(finish)
        if not left:
            self._close_lines()
            with contextlib.suppress(Exception):  # where Ray has gone, so has what is to be closed
                self._loop.do(_closed(self._handle), _CLOSE_SECONDS)
            self._after()
