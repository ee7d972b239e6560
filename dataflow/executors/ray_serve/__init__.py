"""Ray Serve: the same flow on a cluster, a placement a deployment."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dataflow.executors.link import Program
from dataflow.executors.planning import Planning
from dataflow.executors.ray_serve.explaining import places
from dataflow.executors.ray_serve.lowering import Lowered, lower
from dataflow.executors.results import OnError, Results
from dataflow.executors.threads.pool import workers_of
from dataflow.executors.threads.session import run_job
from dataflow.explain import Place
from dataflow.expr import options as checks
from dataflow.expr.flow import Flow
from dataflow.http import LIMITS, Limits
from dataflow.passes import Pass
from dataflow.plan import Plan

if TYPE_CHECKING:
    from dataflow.executors.ray_serve.session import RaySession

__all__ = ["RayServe"]


@dataclasses.dataclass(frozen=True)
class RayServe(Planning):
    """Runs flows as Ray Serve applications: a deployment for each placement, and batches formed before they travel.

    Parameters
    ----------
    name : str
        The application's name. ``"ray"`` stands for a new name for every session.
    route_prefix : str, optional
        Under which path it is reached over HTTP, as `dataflow.http` says; not at all by default.
    limits : Limits
        What a request over HTTP may ask for.
    address : str, optional
        The Ray cluster's; by default the one that this process is connected to, or that ``RAY_ADDRESS`` names, or one
        that is started on this machine and stopped with the last session.
    start_timeout : float
        Seconds within which all replicas are to be ready.
    workers : int, optional
        The most stages that run at once in a replica of the ingress; by default 4 more than there are cores here, 32 at
        the most.
    max_in_flight : int
        The most items that ``map`` reads ahead of the results taken, and the most that ``submit`` accepts before it
        waits for some to be done.
    max_queue : int, optional
        The most submitted items that may wait to be begun: one more is a `QueueFull` at once, instead of waiting.
    passes : iterable of str or Pass, or str, optional
        The optimizer passes, as `Flow.optimize` takes them.

    Examples
    --------
    >>> import dataflow as df
    >>> flow = df.stage(str.strip) >> df.stage(len, placement="counters")
    >>> [each.name for each in df.RayServe().lower(flow).deployments]
    ['ingress', 'counters']
    """

    name: str = "ray"
    route_prefix: str | None = None
    address: str | None = None
    start_timeout: float = 60.0
    workers: int | None = None
    max_in_flight: int = 1024
    max_queue: int | None = None
    passes: Iterable[str | Pass] | str | None = None
    limits: Limits = LIMITS

    def __post_init__(self) -> None:
        checks.duration("RayServe", "start_timeout", self.start_timeout, zero=False)
        if self.workers is not None:
            checks.whole_number("RayServe", "workers", self.workers, 1)
        checks.whole_number("RayServe", "max_in_flight", self.max_in_flight, 1)
        if self.max_queue is not None:
            checks.whole_number("RayServe", "max_queue", self.max_queue, 1)
        super().__post_init__()

    def lower(self, flow: Flow[Any, Any]) -> Lowered:
        """Return what would be deployed."""
        return lower(self.plan(flow))

    def places(self, plan: Plan) -> tuple[Place, ...]:
        """Return what a plan's deployments are, to be explained."""
        return places(lower(plan))

    def open(self, flow: Flow[Any, Any]) -> RaySession:
        """Deploy a flow and open a session on it; the application is deleted when the session ends."""
        return self._opened(self.plan(flow))

    def app(self, flow: Flow[Any, Any]) -> Any:
        """Return a flow as a `ray.serve.Application`, for ``serve run``, ``serve build`` and Serve's config files.

        Its route, its name and when it runs are then Ray Serve's to say; this executor's are not used.
        """
        from dataflow.executors.ray_serve.opening import built

        return built(self, self.plan(flow))

    @classmethod
    def attach(cls, name: str, **options: Any) -> RaySession:
        """Open a session on an application that runs already, and go on running when the session ends.

        Parameters
        ----------
        name : str
            The application's name.
        **options
            Of `RayServe`, as far as they say something of the session: ``address``, ``max_in_flight``, ``max_queue``,
            ``start_timeout``.
        """
        from dataflow.executors.ray_serve.opening import attached

        return attached(cls(name=name, **options), name)

    def map(
        self,
        program: Program,
        items: Iterable[Any],
        *,
        ordered: bool = True,
        on_error: OnError = "raise",
        max_in_flight: int | None = None,
        progress: bool | None = None,
    ) -> Results:
        """Run a program over items, on an application that is deployed for the job."""
        return run_job(
            lambda: self._opened(program.plan),
            items,
            ordered=ordered,
            on_error=on_error,
            max_in_flight=max_in_flight,
            progress=progress,
        )

    def _opened(self, plan: Plan) -> RaySession:
        from dataflow.executors.ray_serve.opening import opened

        return opened(self, plan)

    @property
    def stages_at_once(self) -> int:
        """The most stages that run at once in a replica of the ingress."""
        return workers_of(self)
