"""The application: which address does what, and how each answers when something goes wrong."""

from __future__ import annotations

import logging
from collections import Counter
from importlib.metadata import version as version_of
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Route

from dataflow.failure import Failure
from dataflow.http import Ready, Run, describing
from dataflow.http.encoding import Unencodable, encoded
from dataflow.http.limits import Limits, Room
from dataflow.http.problems import Problem, failed
from dataflow.http.protocol import inference, response
from dataflow.http.requests import Arrival, checked_count

logger = logging.getLogger("dataflow.http")

_JSON = "application/json"


def application(run: Run, *, name: str, version: str | None, ready: Ready | None, limits: Limits) -> FastAPI:
    """Return the application; see `dataflow.http.make_app`."""
    service = Service(run, name, version, ready, limits)
    app = FastAPI(title=name, version=version or "unversioned", description=describing.DESCRIPTION)
    app.add_api_route("/", service.items, methods=["POST"], **describing.ITEMS)
    app.add_api_route("/v2", service.server, **describing.SERVER)
    app.add_api_route("/v2/health/live", service.live, **describing.LIVE)
    app.add_api_route("/v2/health/ready", service.ready, **describing.READY)
    app.add_api_route("/v2/models/{model}", service.model, **describing.MODEL)
    app.add_api_route("/v2/models/{model}/ready", service.model_ready, **describing.MODEL_READY)
    app.add_api_route("/v2/models/{model}/infer", service.infer, methods=["POST"], **describing.INFER)
    if version is not None:
        of_version = "/v2/models/{model}/versions/{model_version}"
        app.add_api_route(of_version, service.model_of_version, **describing.MODEL)
        app.add_api_route(f"{of_version}/ready", service.model_of_version_ready, **describing.MODEL_READY)
        app.add_api_route(f"{of_version}/infer", service.infer_by_version, methods=["POST"], **describing.INFER)
    app.add_exception_handler(HTTPException, _unrouted)
    app.router.routes.insert(0, Route("/", service.items, methods=["POST"]))  # FastAPI's own describes it
    return app


class Service:
    """What is behind the addresses.

    Parameters
    ----------
    run, name, version, ready, limits
        As `dataflow.http.make_app` takes them.
    """

    def __init__(self, run: Run, name: str, version: str | None, ready: Ready | None, limits: Limits) -> None:
        self._run = run
        self._name = name
        self._version = version
        self._ready = ready
        self._limits = limits
        self._room = Room(limits.max_requests)

    # -- JSON ------------------------------------------------------------------------------------------------------

    async def items(self, request: Request) -> Response:
        """Run one item, or several."""
        try:
            return await self._items(request)
        except Problem as problem:
            return _refused(problem)
        except Exception as error:
            return _refused(_unexpected(error))

    async def _items(self, request: Request) -> Response:
        with self._room.place():
            arrival = Arrival(request)
            body = await arrival.body(self._limits)
            items, single = _asked(body, self._limits)
            outcomes = await self._outcomes(arrival, items) if items else []
            parts, problems = _written(outcomes)
            if single:
                if problems:
                    raise problems[0]
                return Response(b'{"result":' + parts[0] + b"}", media_type=_JSON)
            if problems:
                number = uuid4().hex
                _log(problems.values(), number)
                for index, problem in problems.items():
                    parts[index] = encoded({"error": problem.described(number)})
            text = b'{"results":[' + b",".join(parts) + b"]"
            if problems:
                text += b',"failed":' + encoded(list(problems))
            none = problems[0] if problems and len(problems) == len(items) else None
            status, headers = (none.status, none.headers) if none else (200, None)
            return Response(text + b"}", status, headers, _JSON)

    # -- the Open Inference Protocol -------------------------------------------------------------------------------

    async def live(self) -> Response:
        """Say that requests are answered."""
        return _json({"live": True})

    async def ready(self) -> Response:
        """Say whether items can be run."""
        ready = await self._is_ready()
        return _json({"live": True, "ready": ready}, 200 if ready else 503)

    async def server(self) -> Response:
        """Say what answers here."""
        return _json({"name": "dataflow", "version": version_of("dataflow"), "extensions": []})

    async def model(self, model: str) -> Response:
        """Say what is known of the model."""
        if (unknown := self._unknown(model)) is not None:
            return unknown
        versions = {} if self._version is None else {"versions": [self._version]}
        return _json({"name": model, **versions, "platform": "dataflow", "inputs": [], "outputs": []})

    async def model_of_version(self, model: str, model_version: str) -> Response:
        """Say what is known of the model."""
        return self._unknown(model, model_version) or await self.model(model)

    async def model_ready(self, model: str) -> Response:
        """Say whether items can be run."""
        if (unknown := self._unknown(model)) is not None:
            return unknown
        ready = await self._is_ready()
        return _json({"name": model, "ready": ready}, 200 if ready else 503)

    async def model_of_version_ready(self, model: str, model_version: str) -> Response:
        """Say whether items can be run."""
        return self._unknown(model, model_version) or await self.model_ready(model)

    async def infer(self, request: Request, model: str) -> Response:
        """Run the items of tensors."""
        if (unknown := self._unknown(model)) is not None:
            return unknown
        try:
            return await self._infer(request)
        except Problem as problem:
            return _refused(problem, protocol=True)
        except Exception as error:
            return _refused(_unexpected(error), protocol=True)

    async def infer_by_version(self, request: Request, model: str, model_version: str) -> Response:
        """Run the items of tensors."""
        return self._unknown(model, model_version) or await self.infer(request, model)

    async def _infer(self, request: Request) -> Response:
        with self._room.place():
            arrival = Arrival(request)
            asked = inference(await arrival.body(self._limits), self._limits)
            outcomes = await self._outcomes(arrival, asked.items)
            for index, outcome in enumerate(outcomes):
                if isinstance(outcome, Failure):
                    raise failed(index, outcome)
            return _json(response(self._name, self._version, asked, outcomes))

    def _unknown(self, model: str, version: str | None = None) -> Response | None:
        """Return the answer to who asks for another model, or another version of it."""
        if model != self._name:
            return _json({"error": f"there is no model {model[:100]!r} here: there is {self._name!r}"}, 404)
        if version not in (None, self._version):
            return _json({"error": f"there is no version {str(version)[:100]!r} here: there is {self._version!r}"}, 404)
        return None

    async def _is_ready(self) -> bool:
        if self._ready is None:
            return True
        try:
            return bool(await self._ready())
        except Exception:
            logger.exception("cannot say whether %r is ready", self._name)
            return False

    # -- running ---------------------------------------------------------------------------------------------------

    async def _outcomes(self, arrival: Arrival, items: list[Any]) -> list[Any]:
        """Run items, unless the client leaves: then nobody wants the results, and what waits leaves the queues."""
        with arrival.stay():
            return await self._run(items, arrival.left_of_deadline())


def _asked(body: Any, limits: Limits) -> tuple[list[Any], bool]:
    """Return the items of a body, and whether it is a single one."""
    if isinstance(body, dict) and len(body) == 1:
        if "item" in body:
            return [body["item"]], True
        if isinstance(items := body.get("items"), list):
            checked_count(len(items), limits)
            return items, False
    raise Problem(422, "InvalidRequest", 'the body must be {"item": ...}, or {"items": [...]}')


def _written(outcomes: list[Any]) -> tuple[list[bytes], dict[int, Problem]]:
    """Return results as JSON, with nothing in the places of those that have none, and their problems."""
    parts: list[bytes] = []
    problems: dict[int, Problem] = {}
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome, Failure):
            problems[index] = failed(index, outcome)
        else:
            try:
                parts.append(encoded(outcome))
                continue
            except Unencodable as error:
                problems[index] = Problem(500, "Unencodable", str(error), item=index, error=error)
        parts.append(b"")
    return parts, problems


# -- answers -----------------------------------------------------------------------------------------------------------


def _json(value: Any, status: int = 200, headers: Any = None) -> Response:
    return Response(encoded(value), status, headers, _JSON)


def _refused(problem: Problem, *, protocol: bool = False) -> Response:
    """Return the answer to a request that came to nothing, and log it."""
    number = uuid4().hex
    _log([problem], number)
    headers = {**problem.headers, **({"Connection": "close"} if problem.unread else {})}
    error = problem.sentence(number) if protocol else problem.described(number)
    return _json({"error": error}, problem.status, headers)


def _unexpected(error: Exception) -> Problem:
    """Return the problem that something outside any stage went wrong; what, only the log says."""
    if isinstance(error, Unencodable):
        return Problem(500, "Unencodable", str(error), error=error)
    return Problem(500, "InternalError", "the request could not be answered", error=error)


def _log(problems: Any, number: str) -> None:
    """Log what went wrong under the number that the client is told: a traceback for each kind, not for each item."""
    kinds = [(problem.kind, problem.stage) for problem in problems]
    counts = Counter(kinds)
    for problem, kind in zip(problems, kinds, strict=True):
        if count := counts.pop(kind, 0):
            level = logging.ERROR if problem.status == 500 else logging.INFO
            trace = problem.error if problem.status == 500 else None
            also = f"; {count} items failed so" if count > 1 else ""
            logger.log(level, "%d: %s%s", problem.status, problem.sentence(number), also, exc_info=trace)


async def _unrouted(request: Request, error: Exception) -> Response:
    """Answer who asks for an address, or a method, that there is not."""
    assert isinstance(error, HTTPException)
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    problem = Problem(error.status_code, "NoRoute", f"{request.method} {path[:200]}: {error.detail}")
    shown = problem.message if path.startswith("/v2") else {"type": problem.kind, "message": problem.message}
    return _json({"error": shown}, problem.status, error.headers)
