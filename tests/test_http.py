"""A flow over HTTP: what is answered, what is refused, and what is told of what fails. No network, no executor."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import dataflow as df
from dataflow import cli
from dataflow.executors.answering import answering, opened, stage_noted
from dataflow.http import Limits, make_app

ROOT = Path(__file__).parent.parent
JSON = {"Content-Type": "application/json"}
INFER = "/v2/models/flow/infer"

Request = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


def asked(app: Any, request: Request) -> httpx.Response:
    """Return the answer of an application to one request."""

    async def main() -> httpx.Response:
        async with client(app) as http:
            return await request(http)

    return asyncio.run(main())


def post(app: Any, body: Any, path: str = "/", **more: Any) -> httpx.Response:
    return asked(app, lambda http: http.post(path, json=body, **more))


def get(app: Any, path: str) -> httpx.Response:
    return asked(app, lambda http: http.get(path))


async def run_abs(items: list[Any], deadline: float | None) -> list[Any]:
    return [abs(item) for item in items]


async def run_nothing(items: list[Any], deadline: float | None) -> list[Any]:
    raise AssertionError("nothing was to be run")


def giving(*outcomes: Any) -> Any:
    """Return an application whose items come to these outcomes, or to the first where there is only one."""

    async def run(items: list[Any], deadline: float | None) -> list[Any]:
        return list(outcomes)

    return make_app(run)


def failing(error: Exception, stage: str = "?") -> Any:
    return giving(df.Failure(0, None, stage, error))


@contextlib.contextmanager
def serving(flow: df.Flow[Any, Any], executor: Any = "threads", **options: Any) -> Iterator[Any]:
    with flow.open(executor) as session:
        yield make_app(answering(session), **options)


# ------------------------------------------------------------------ JSON


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_one_item_or_several(executor: str) -> None:
    with serving(df.stage(abs) >> str, executor) as app:
        one, several, none = post(app, {"item": -1}), post(app, {"items": [-1, 2]}), post(app, {"items": []})
    assert (one.status_code, one.json()) == (200, {"result": "1"})
    assert (several.status_code, several.json()) == (200, {"results": ["1", "2"]})
    assert (none.status_code, none.json()) == (200, {"results": []})
    assert one.headers["content-type"] == "application/json"


def test_none_is_data() -> None:
    app = make_app(lambda items, deadline: asyncio.sleep(0, items))
    assert post(app, {"item": None}).json() == {"result": None}
    assert post(app, {"items": [None]}).json() == {"results": [None]}


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (np.arange(4, dtype=np.uint8).reshape(2, 2), "[[0,1],[2,3]]"),
        (np.float32(0.5), "0.5"),
        ({"a": np.array([True, False])}, '{"a":[true,false]}'),
        ((1, np.int64(2)), "[1,2]"),
        (np.array(3), "3"),
        (float("nan"), "NaN"),
        ("žluť", '"žluť"'),
        (np.array(["a", "b"]), '["a","b"]'),
    ],
)
def test_results_as_json(result: Any, text: str) -> None:
    assert post(giving(result), {"item": 0}).text == f'{{"result":{text}}}'


@pytest.mark.parametrize("result", [object(), {1, 2}, b"x", 1j, {(1, 2): 3}, "\ud800", np.array([1j])])
def test_a_result_that_json_cannot_hold_fails_its_item_only(result: Any) -> None:
    answer = post(giving(1, result), {"items": [0, 0]})
    assert answer.status_code == 200
    assert answer.json()["results"][0] == 1
    assert answer.json()["results"][1]["error"]["type"] == "Unencodable"


def test_a_result_that_holds_itself() -> None:
    knot: list[Any] = []
    knot.append(knot)
    assert post(giving(knot), {"item": 0}).json()["error"]["type"] == "Unencodable"


# ------------------------------------------------------------------ failures


def test_a_failed_item_is_an_error_in_its_place() -> None:
    flow = df.stage(int) >> abs
    with serving(flow) as app:
        answer = post(app, {"items": ["-1", "x", "2"]})
    body = answer.json()
    assert answer.status_code == 200
    assert (body["results"][0], body["results"][2], body["failed"]) == (1, 2, [1])
    error = body["results"][1]["error"]
    assert (error["type"], error["stage"], error["item"]) == ("ValueError", "int", 1)
    assert "invalid literal" in error["message"]


def test_where_all_items_failed_the_status_says_so() -> None:
    with serving(df.stage(int)) as app:
        answer = post(app, {"items": ["x", "y"]})
    assert answer.status_code == 500
    assert answer.json()["failed"] == [0, 1]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("no"), 500),
        (TimeoutError("of the user's own"), 500),
        (df.RoutingError("no"), 500),
        (df.BatchSizeError("no"), 500),
        (df.DeadlineExceeded("no"), 504),
        (df.QueueFull("no"), 503),
        (df.SessionClosed("no"), 503),
    ],
)
@pytest.mark.parametrize("path", ["/", INFER])
def test_each_error_has_its_status(error: Exception, status: int, path: str) -> None:
    body = {"item": 0} if path == "/" else inputs(a=[1])
    answer = post(failing(error, "model"), body, path)
    assert answer.status_code == status
    assert answer.headers.get("retry-after") == ("1" if status == 503 else None)
    told = answer.json()["error"]
    if path == "/":
        assert (told["type"], told["message"], told["stage"]) == (type(error).__name__, str(error), "model")
        assert len(told["id"]) == 32
    else:
        assert told.startswith(f"{type(error).__name__}: {error} (item 0, stage 'model', error ")


def test_an_error_has_a_number_and_only_the_log_has_the_traceback(caplog: pytest.LogCaptureFixture) -> None:
    def broken(x: int) -> int:
        raise KeyError("a secret of the inside" * 100, "Traceback (most recent call last)\n  File 'secret.py'")

    with caplog.at_level(logging.INFO, "dataflow.http"), serving(df.stage(broken)) as app:
        answer = post(app, {"items": [1, 2, 3]})
    number = answer.json()["results"][0]["error"]["id"]
    assert "Traceback" not in answer.text and "secret.py" not in answer.text and __file__ not in answer.text
    assert len(answer.text) < 3 * 1500
    (record,) = caplog.records  # one for all of a kind
    assert number in record.getMessage() and "3 items" in record.getMessage()
    assert record.exc_info is not None and isinstance(record.exc_info[1], KeyError)


def test_what_is_broken_outside_of_stages_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    async def run(items: list[Any], deadline: float | None) -> list[Any]:
        raise OSError("/etc/secret cannot be read")

    for path, body in (("/", {"item": 0}), (INFER, inputs(a=[1]))):
        caplog.clear()
        answer = post(make_app(run), body, path)
        assert answer.status_code == 500
        assert "secret" not in answer.text and "InternalError" in answer.text
        assert caplog.records[0].exc_info is not None


def test_a_broken_str_is_told_of() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even this")

    answer = post(failing(Mute()), {"item": 0})
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "Mute")


def test_a_session_that_is_cancelled_under_a_request() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def stage(x: int) -> int:
        begun.set()
        go_on.wait(60)
        return x

    async def main() -> httpx.Response:
        session = df.stage(stage).open(df.Threads(workers=1))
        async with client(make_app(answering(session))) as http:
            request = asyncio.create_task(http.post("/", json={"items": [1, 2]}))
            await asyncio.to_thread(begun.wait)
            await asyncio.to_thread(session.cancel)
            answer = await request
        go_on.set()
        return answer

    answer = asyncio.run(main())
    assert answer.status_code == 503
    assert {result["error"]["type"] for result in answer.json()["results"]} == {"SessionClosed"}


@pytest.mark.parametrize("name", ["a stage", "it's", "a \"b\" 'c'", "tab\t", "(x) failed"])
def test_the_stage_is_read_from_the_note(name: str) -> None:
    with pytest.raises(ValueError) as caught:
        df.stage(int).named(name)("x")
    assert stage_noted(caught.value) == name


def test_an_error_without_a_note_blames_no_stage() -> None:
    error = ValueError()
    assert stage_noted(error) is None
    error.add_note("dataflow: something else")
    assert stage_noted(error) is None


# ------------------------------------------------------------------ deadlines


def test_a_deadline_is_passed_on() -> None:
    given: list[float | None] = []

    async def run(items: list[Any], deadline: float | None) -> list[Any]:
        given.append(deadline)
        return items

    app = make_app(run)
    post(app, {"item": 0})
    post(app, {"item": 0}, headers={"Dataflow-Deadline": "60"})
    assert given[0] is None
    assert given[1] is not None and 0 < given[1] <= 60


def test_a_deadline_that_passes_in_a_stage() -> None:
    go_on = threading.Event()
    with serving(df.stage(lambda x: go_on.wait(60), name="slow")) as app:
        answer = post(app, {"item": 0}, headers={"Dataflow-Deadline": "0.02"})
        go_on.set()
    assert answer.status_code == 504
    assert answer.json()["error"]["type"] == "DeadlineExceeded"


def test_a_deadline_that_passes_while_the_body_comes() -> None:
    async def slow_body() -> AsyncIterator[bytes]:
        yield b'{"item"'
        loop = asyncio.get_running_loop()
        until = loop.time() + 0.02
        while loop.time() < until:
            await asyncio.sleep(0)
        yield b": 0}"

    headers = JSON | {"Dataflow-Deadline": "0.01"}
    answer = asked(make_app(run_nothing), lambda http: http.post("/", content=slow_body(), headers=headers))
    assert answer.status_code == 504


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf", ""])
def test_a_deadline_that_is_none(text: str) -> None:
    answer = post(make_app(run_nothing), {"item": 0}, headers={"Dataflow-Deadline": text})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "InvalidHeader")


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b'{"item": }', b'{"item": ' + b"9" * 5000 + b"}", b"\x80\x04N.", b"{'item': 1}"]
)
@pytest.mark.parametrize("path", ["/", INFER])
def test_what_is_no_json(body: bytes, path: str) -> None:
    answer = asked(make_app(run_nothing), lambda http: http.post(path, content=body, headers=JSON))
    assert answer.status_code == 400
    assert "InvalidJSON" in answer.text


@pytest.mark.parametrize("body", [1, [1], "x", {}, {"items": 1}, {"items": {}}, {"item": 1, "items": []}, {"x": 1}])
def test_what_is_no_request(body: Any) -> None:
    answer = post(make_app(run_nothing), body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (422, "InvalidRequest")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/octet-stream"},
        {"Content-Type": "application/python-pickle"},
    ],
)
@pytest.mark.parametrize("path", ["/", INFER])
def test_what_does_not_say_that_it_is_json(headers: dict[str, str], path: str) -> None:
    answer = asked(make_app(run_nothing), lambda http: http.post(path, content=b'{"item": 1}', headers=headers))
    assert answer.status_code == 415


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", "application/x.y+json"])
def test_what_says_so_in_other_words(kind: str) -> None:
    answer = asked(
        make_app(run_abs), lambda http: http.post("/", content=b'{"item": 1}', headers={"Content-Type": kind})
    )
    assert answer.status_code == 200


def test_nothing_is_unpickled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what says that it is pickled, nor what looks as if."""
    import pickle

    def unpickled(*given: Any, **more: Any) -> Any:
        raise AssertionError("something was unpickled")

    bomb = pickle.dumps(print)
    monkeypatch.setattr(pickle, "loads", unpickled)
    monkeypatch.setattr(pickle, "Unpickler", unpickled)
    app = make_app(lambda items, deadline: asyncio.sleep(0, items))
    for kind in ("application/json", "application/octet-stream", "application/x-pickle"):
        answer = asked(app, lambda http, kind=kind: http.post("/", content=bomb, headers={"Content-Type": kind}))
        assert answer.status_code in (400, 415)
    assert post(app, {"item": bomb.decode("latin-1")}).json() == {"result": bomb.decode("latin-1")}
    tensor = {"name": "a", "shape": [1], "datatype": "BYTES", "data": [bomb.decode("latin-1")]}
    assert post(app, {"inputs": [tensor]}, INFER).status_code == 200


@pytest.mark.parametrize("path", ["/", INFER])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large(path: str, chunked: bool) -> None:
    """With its length said beforehand it is not read at all; in chunks, no more than is allowed."""
    read: list[int] = []

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(1000):
            read.append(64)
            yield b" " * 64

    headers = JSON if chunked else JSON | {"Content-Length": "64000"}
    app = make_app(run_nothing, limits=Limits(max_body=256))
    answer = asked(app, lambda http: http.post(path, content=chunks(), headers=headers))
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"
    assert sum(read) == (256 + 64 if chunked else 0)


def test_a_body_of_just_the_size_that_is_allowed() -> None:
    body = b'{"item": 1}'
    for most, status in ((len(body), 200), (len(body) - 1, 413)):
        app = make_app(run_abs, limits=Limits(max_body=most))
        answer = asked(app, lambda http: http.post("/", content=body, headers=JSON))
        assert answer.status_code == status


def nested(depth: int) -> Any:
    value: Any = 0
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


@pytest.mark.parametrize(("depth", "status"), [(7, 200), (8, 422), (9, 422)])
def test_a_body_that_is_nested_too_deep(depth: int, status: int) -> None:
    app = make_app(lambda items, deadline: asyncio.sleep(0, items), limits=Limits(max_depth=8))
    assert post(app, {"item": nested(depth)}).status_code == status


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("path", ["/", INFER])
def test_a_body_that_is_nested_deeper_than_python_goes(opening: bytes, path: str) -> None:
    answer = asked(make_app(run_nothing), lambda http: http.post(path, content=opening * 100_000, headers=JSON))
    assert answer.status_code == 422
    assert "TooDeep" in answer.text


def test_too_many_items() -> None:
    app = make_app(run_abs, limits=Limits(max_items=3))
    assert post(app, {"items": [1] * 3}).status_code == 200
    assert post(app, {"items": [1] * 4}).status_code == 422
    assert post(app, inputs(a=[1] * 3), INFER).status_code == 200
    assert post(app, inputs(a=[1] * 4), INFER).status_code == 422


def test_too_many_requests_under_way() -> None:
    async def main() -> tuple[httpx.Response, httpx.Response, httpx.Response, httpx.Response]:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def run(items: list[Any], deadline: float | None) -> list[Any]:
            begun.set()
            await go_on.wait()
            return items

        async with client(make_app(run, limits=Limits(max_requests=1))) as http:
            first = asyncio.create_task(http.post("/", json={"item": 1}))
            await begun.wait()
            second = await http.post("/", json={"item": 2})
            alive = await http.get("/v2/health/live")
            go_on.set()
            return await first, second, alive, await http.post("/", json={"item": 3})

    first, second, alive, third = asyncio.run(main())
    assert (first.status_code, alive.status_code, third.status_code) == (200, 200, 200)
    assert (second.status_code, second.headers["retry-after"]) == (503, "1")
    assert second.json()["error"]["type"] == "Busy"


def test_a_body_that_does_not_come() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    app = make_app(run_nothing, limits=Limits(body_timeout=0.02, max_requests=1))
    for _ in range(2):  # its place is free again
        answer = asked(app, lambda http: http.post("/", content=chunks(), headers=JSON))
        assert answer.status_code == 408


@pytest.mark.parametrize("name", ["max_body", "max_depth", "max_items", "max_requests", "body_timeout"])
@pytest.mark.parametrize("value", [0, -1, True, "1", float("inf"), float("nan"), None])
def test_limits_are_checked(name: str, value: Any) -> None:
    with pytest.raises(df.OptionError, match=name):
        Limits(**{name: value})


def test_a_client_that_leaves_takes_its_items_along() -> None:
    async def main() -> list[str]:
        begun, gone = asyncio.Event(), asyncio.Event()
        seen: list[str] = []

        async def run(items: list[Any], deadline: float | None) -> list[Any]:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise
            return items

        messages = [{"type": "http.request", "body": b'{"item": 1}', "more_body": False}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            seen.append(message["type"])

        scope = {"type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b""}
        scope |= {"headers": [(b"content-type", b"application/json")], "http_version": "1.1", "scheme": "http"}
        answering_it = asyncio.create_task(make_app(run)(scope, receive, send))
        await begun.wait()
        gone.set()
        await answering_it
        return seen

    assert asyncio.run(main())[0] == "cancelled"


# ------------------------------------------------------------------ the Open Inference Protocol


def inputs(datatype: str = "INT64", **tensors: list[Any]) -> dict[str, Any]:
    """Return the body of a request, of tensors given as nested lists."""
    return {
        "inputs": [
            {"name": name, "datatype": datatype, "shape": list(np.shape(data)), "data": data}
            for name, data in tensors.items()
        ]
    }


def echo(**options: Any) -> Any:
    return make_app(lambda items, deadline: asyncio.sleep(0, items), **options)


DATA: dict[str, list[Any]] = {
    "BOOL": [[True, False], [False, True]],
    "UINT8": [0, 255],
    "UINT16": [0, 2**16 - 1],
    "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**64 - 1],
    "INT8": [[-128], [127]],
    "INT16": [-(2**15), 2**15 - 1],
    "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**63 - 1],
    "FP16": [0.5, -2.0],
    "FP32": [[[0.5, 1]], [[2, -1e30]]],
    "FP64": [0.1, 1e300],
    "BYTES": [["a", "ž"], ["", "x y"]],
}


@pytest.mark.parametrize("datatype", DATA)
@pytest.mark.parametrize("flat", [False, True])
def test_tensors_there_and_back(datatype: str, flat: bool) -> None:
    data = DATA[datatype]
    shape = list(np.shape(data))
    row_major = np.array(data, dtype=object).ravel().tolist()
    tensor = {"name": "x", "datatype": datatype, "shape": shape, "data": row_major if flat else data}
    answer = post(echo(), {"id": "42", "inputs": [tensor]}, INFER)
    assert answer.status_code == 200
    assert answer.json()["id"] == "42" and answer.json()["model_name"] == "flow"
    (output,) = answer.json()["outputs"]
    expected = np.array(row_major, dtype=np.float32).tolist() if datatype == "FP32" else row_major
    assert output == {"name": "output0", "datatype": datatype, "shape": shape, "data": expected}


def test_each_row_of_a_tensor_is_an_item() -> None:
    seen: list[Any] = []

    async def run(items: list[Any], deadline: float | None) -> list[Any]:
        seen.extend(items)
        return [item.sum() for item in items]

    answer = post(make_app(run), inputs("FP32", x=[[1, 2], [3, 4], [5, 6]]), INFER)
    assert [(item.dtype, item.shape) for item in seen] == [(np.float32, (2,))] * 3
    assert answer.json()["outputs"] == [{"name": "output0", "datatype": "FP32", "shape": [3], "data": [3.0, 7.0, 11.0]}]


def test_several_inputs_are_dicts_and_dicts_are_several_outputs() -> None:
    flow = df.stage(lambda x: {"sum": x["a"] + x["b"], "text": "ab"})
    with serving(flow) as app:
        answer = post(app, inputs(a=[1, 2], b=[10, 20]), INFER)
        some = post(app, inputs(a=[1], b=[2]) | {"outputs": [{"name": "text"}]}, INFER)
    assert answer.json()["outputs"] == [
        {"name": "sum", "datatype": "INT64", "shape": [2], "data": [11, 22]},
        {"name": "text", "datatype": "BYTES", "shape": [2], "data": ["ab", "ab"]},
    ]
    assert some.json()["outputs"] == [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["ab"]}]


def test_tuples_are_several_outputs() -> None:
    with serving(df.stage(int) | float) as app:
        answer = post(app, inputs(x=[1, 2]), INFER)
    assert [(output["name"], output["data"]) for output in answer.json()["outputs"]] == [
        ("output0", [1, 2]),
        ("output1", [1.0, 2.0]),
    ]


def tensor(**changed: Any) -> dict[str, Any]:
    whole = {"name": "x", "datatype": "INT64", "shape": [2, 2], "data": [1, 2, 3, 4]} | changed
    return {"inputs": [{name: value for name, value in whole.items() if value is not ...}]}


@pytest.mark.parametrize(
    "body",
    [
        1,
        {},
        {"inputs": None},
        {"inputs": []},
        {"inputs": [1]},
        {"inputs": {"x": 1}},
        tensor() | {"id": 1},
        tensor() | {"outputs": 1},
        tensor() | {"outputs": [{"name": "nowhere"}]},
        {"inputs": tensor()["inputs"] * 2},
        {"inputs": [*tensor()["inputs"], *tensor(name="y", shape=[4])["inputs"]]},
        tensor(name=...),
        tensor(name=1),
        tensor(datatype=...),
        tensor(datatype="FLOAT"),
        tensor(datatype=["INT64"]),
        tensor(shape=...),
        tensor(shape=4),
        tensor(shape=[]),
        tensor(shape=[4.0]),
        tensor(shape=[True, 4]),
        tensor(shape=[-2, -2]),
        tensor(shape=[2, 3]),
        tensor(shape=[0], data=[]),
        tensor(shape=[1, 0, 10**30], data=[]),
        tensor(shape=[1] * 40 + [4]),
        tensor(data=...),
        tensor(data="1234"),
        tensor(data={"a": 1}),
        tensor(data=[1, 2, 3]),
        tensor(data=[[1, 2], [3]]),
        tensor(data=[[1], [2, 3, 4]]),
        tensor(data=[[1, 2], 3, 4]),
        tensor(data=[[1, 2, 3, 4]]),
        tensor(data=[[[1], [2]], [[3], [4]]]),
        tensor(data=[1, 2, 3, 4.5]),
        tensor(data=[1, 2, 3, True]),
        tensor(data=[1, 2, 3, "4"]),
        tensor(data=[1, 2, 3, None]),
        tensor(data=[1, 2, 3, {}]),
        tensor(data=[1, 2, 3, 2**63]),
        tensor(datatype="UINT8", data=[1, 2, 3, 256]),
        tensor(datatype="UINT8", data=[1, 2, 3, -1]),
        tensor(datatype="FP64", data=[1, 2, 3, 10**400]),
        tensor(datatype="BOOL", data=[0, 1, 0, 1]),
        tensor(datatype="BYTES"),
        tensor(datatype="BF16"),
    ],
)
def test_what_is_no_inference_request(body: Any) -> None:
    answer = post(echo(), body, INFER)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"] and answer.json()["error"].startswith("InvalidRequest: ")


@pytest.mark.parametrize(
    "results",
    [
        [None],
        [{"a": {}}],
        [object()],
        [1j],
        [np.zeros(1), np.zeros(2)],
        [[1, [2]]],
        [{"a": 1}, {"b": 1}],
        [{"a": 1}, 1],
        [{1: 1}],
        [(1, 2), (1,)],
        [b"\xff"],
        [["a", None]],
    ],
)
def test_results_that_are_no_tensors(results: list[Any]) -> None:
    answer = post(giving(*results), inputs(x=[0] * len(results)), INFER)
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("Unencodable: ")


def test_results_of_torch() -> None:
    import torch

    answer = post(giving(torch.ones(2, requires_grad=True)), inputs(x=[0]), INFER)
    assert answer.json()["outputs"] == [{"name": "output0", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 1.0]}]
    assert post(giving(torch.ones(2)), {"item": 0}).json() == {"result": [1.0, 1.0]}


def test_one_failed_item_fails_an_inference() -> None:
    with serving(df.stage(lambda x: 1 // int(x), name="invert")) as app:
        answer = post(app, inputs(x=[1, 0]), INFER)
    assert answer.status_code == 500
    assert answer.json()["error"].startswith("ZeroDivisionError: ")
    assert "(item 1, stage 'invert', error " in answer.json()["error"]


def test_health_and_metadata() -> None:
    app = make_app(run_nothing, name="m", version="7")
    assert get(app, "/v2/health/live").json() == {"live": True}
    assert get(app, "/v2/health/ready").json() == {"live": True, "ready": True}
    assert get(app, "/v2").json() == {"name": "dataflow", "version": df.__version__, "extensions": []}
    model = {"name": "m", "versions": ["7"], "platform": "dataflow", "inputs": [], "outputs": []}
    for path in ("/v2/models/m", "/v2/models/m/versions/7"):
        assert get(app, path).json() == model
        assert get(app, f"{path}/ready").json() == {"name": "m", "ready": True}


def test_a_version_is_served_where_there_is_one() -> None:
    path = "/v2/models/flow/versions/7/infer"
    assert post(echo(version="7"), inputs(x=[1]), path).json()["model_version"] == "7"
    assert post(echo(version="8"), inputs(x=[1]), path).status_code == 404
    assert post(echo(), inputs(x=[1]), path).status_code == 404
    assert "versions" not in get(echo(), "/v2/models/flow").json()


@pytest.mark.parametrize("path", ["/v2/models/other", "/v2/models/other/ready", "/v2/models/flow/versions/2"])
def test_a_model_that_is_not_here(path: str) -> None:
    answer = get(echo(version="1"), path)
    assert answer.status_code == 404
    assert isinstance(answer.json()["error"], str)
    assert post(echo(), inputs(x=[1]), "/v2/models/other/infer").status_code == 404


def test_what_is_not_ready_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> bool:
        raise OSError

    session = df.stage(abs).open()
    for ready in (opened(session), broken):
        app = make_app(answering(session), ready=ready)
        session.close()
        assert get(app, "/v2/health/live").status_code == 200
        assert get(app, "/v2/health/ready").status_code == 503
        answer = get(app, "/v2/models/flow/ready")
        assert (answer.status_code, answer.json()) == (503, {"name": "flow", "ready": False})


# ------------------------------------------------------------------ the pages


def test_the_openapi_page() -> None:
    app = make_app(run_nothing, name="digits", version="3")
    assert get(app, "/docs").status_code == 200
    page = get(app, "/openapi.json").json()
    assert page["info"]["title"] == "digits"
    for path in ("/", "/v2/models/{model}/infer"):
        operation = page["paths"][path]["post"]
        assert {"200", "400", "413", "415", "422", "500", "503", "504"} <= set(operation["responses"])
        assert "application/json" in operation["requestBody"]["content"]
        assert "Dataflow-Deadline" in {parameter["name"] for parameter in operation["parameters"]}


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/x", 404), ("GET", "/", 405), ("POST", "/v2", 405)])
def test_an_address_that_there_is_not(method: str, path: str, status: int) -> None:
    answer = asked(echo(), lambda http: http.request(method, path))
    assert answer.status_code == status
    assert isinstance(answer.json()["error"], str if path == "/v2" else dict)


def test_below_another_application() -> None:
    from fastapi import FastAPI

    whole = FastAPI()
    whole.mount("/flows", echo())
    assert post(whole, {"item": 1}, "/flows/").json() == {"result": 1}
    assert post(whole, inputs(x=[1]), f"/flows{INFER}").status_code == 200
    assert isinstance(get(whole, "/flows/v2/x").json()["error"], str)


# ------------------------------------------------------------------ the command

SHOP = """
import os
import dataflow as df

@df.stage
def wait(path):
    print("begun", flush=True)
    with open(path) as gate:  # a pipe: until somebody opens it to write, and closes it
        gate.read()
    return path

flow = df.stage(int) >> abs
slow = wait
"""


@contextlib.contextmanager
def served(folder: Path, flow: str, *given: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    (folder / "shop.py").write_text(SHOP)
    command = [sys.executable, "-m", "dataflow", "serve", f"shop:{flow}", "--port", "0", *given]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield process, line.split("served on ")[1].split(",")[0]
        finally:
            process.kill()


def test_the_command_serves_until_sigterm(tmp_path: Path) -> None:
    with served(tmp_path, "flow") as (process, url):
        assert url.startswith("http://127.0.0.1:")
        with httpx.Client(base_url=url) as http:
            assert http.post("/", json={"item": "-3"}).json() == {"result": 3}
            name = http.get("/v2/models/flow").json()["name"]
            body = inputs(x=[-1, 2])
            assert http.post(f"/v2/models/{name}/infer", json=body).json()["outputs"][0]["data"] == [1, 2]
            large = http.post("/", content=iter([b" " * 2**20] * 17), headers=JSON)
            assert large.status_code == 413
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (cli.TERMINATED, "")


def test_the_command_finishes_what_is_under_way(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    answers: list[httpx.Response] = []
    with served(tmp_path, "slow", "--grace", "60") as (process, url):
        asking = threading.Thread(
            target=lambda: answers.append(httpx.post(url, json={"item": str(tmp_path / "gate")}, timeout=60))
        )
        asking.start()
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        with open(tmp_path / "gate", "w"):
            pass
        asking.join(60)
        process.communicate(timeout=60)
    assert [answer.status_code for answer in answers] == [200]
    assert process.returncode == cli.TERMINATED


def test_the_command_does_not_outlast_its_grace(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    failures: list[Exception] = []

    def ask(url: str) -> None:
        try:
            httpx.post(url, json={"item": str(tmp_path / "gate")}, timeout=60)
        except httpx.HTTPError as error:
            failures.append(error)

    with served(tmp_path, "slow", "--grace", "0.1") as (process, url):
        asking = threading.Thread(target=ask, args=(url,))
        asking.start()
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        asking.join(60)
    assert process.returncode == cli.TERMINATED


def test_a_port_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    from dataflow.http import server

    (tmp_path / "taken_shop.py").write_text(SHOP)
    monkeypatch.syspath_prepend(str(tmp_path))
    with server.listen(port=0) as listener, pytest.raises(SystemExit):
        cli.main(["serve", "taken_shop:flow", "--port", str(listener.getsockname()[1])])
    assert "cannot listen on 127.0.0.1" in capsys.readouterr().err


def test_without_fastapi_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules.update(fastapi=None, starlette=None)\n"
        "from dataflow.http import make_app\n"
        "try: make_app(None)\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "pip install 'dataflow[http]'" in done.stdout, done.stderr


def test_json_is_what_pythons_json_reads() -> None:
    values = [float("nan"), float("inf"), -float("inf")]
    answer = post(giving(*values), {"items": [0, 0, 0]})
    assert [str(value) for value in json.loads(answer.text)["results"]] == ["nan", "inf", "-inf"]
