"""A flow on Ray Serve, asked over HTTP: the real proxy, the real ingress, and a real client."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from raycluster import processes

import dataflow as df

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(180), pytest.mark.usefixtures("ray_runs")]

LIMIT = 60.0
LOOK_AGAIN = 0.1
BOTH = pytest.mark.parametrize("where", ["ingress", "placed"])


@pytest.fixture
def client(session: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=session.url, timeout=LIMIT) as client:
        yield client


def test_one_item_and_several(client: httpx.Client) -> None:
    assert client.post("/", json={"item": {"a": [1, None]}}).json() == {"result": {"a": [1, None]}}
    orders = [["ingress", "value", 1], ["placed", "value", 2], "as it is"]
    assert client.post("/", json={"items": orders}).json() == {"results": [1, 2, "as it is"]}


@BOTH
def test_a_poison_item_fails_alone_and_without_a_traceback(client: httpx.Client, where: str) -> None:
    answer = client.post("/", json={"items": [1, [where, "refuse", "five"], 3]})
    assert answer.status_code == 200
    first, error, last = answer.json()["results"]
    assert (first, last, answer.json()["failed"]) == (1, 3, [1])
    assert error["error"]["type"] == "LookupError"
    assert error["error"]["stage"] in ("at_ingress", "Counted")
    assert error["error"]["id"]
    assert "Traceback" not in answer.text
    assert client.post("/", json={"item": [where, "refuse", "five"]}).status_code == 500


def test_the_open_inference_protocol(client: httpx.Client, session: Any) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"live": True, "ready": True}
    model = client.get("/v2/models/obeys").json()
    assert (model["name"], model["versions"]) == ("obeys", [session.plan.digest])
    rows = {"name": "rows", "shape": [2, 3], "datatype": "FP32", "data": [[1, 2, 3], [4, 5, 6]]}
    answer = client.post("/v2/models/obeys/infer", json={"id": "7", "inputs": [rows]}).json()
    assert answer["id"] == "7"
    (output,) = answer["outputs"]
    assert (output["shape"], output["datatype"], output["data"]) == ([2, 3], "FP32", [1, 2, 3, 4, 5, 6])
    assert "/v2/models/{model}/infer" in client.get("/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"item": "' + b"x" * 200_000 + b'"}', 413),
        (b'{"item": ' + b"[" * 20 + b"]" * 20 + b"}", 422),
        (b'{"items": [1, 2, 3, 4, 5, 6, 7, 8, 9]}', 422),
        (b"not json", 400),
    ],
    ids=["too large", "too deep", "too many", "no JSON"],
)
def test_what_is_too_much_is_refused(client: httpx.Client, content: bytes, status: int) -> None:
    answer = client.post("/", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert client.post("/", json={"item": 1}).json() == {"result": 1}


def test_nothing_is_unpickled(client: httpx.Client, tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "touched",)

    for kind in ("application/octet-stream", "application/json", "application/python-pickle"):
        answer = client.post("/", content=pickle.dumps(Touch()), headers={"Content-Type": kind})
        assert answer.status_code in (400, 415)
    assert not (tmp_path / "touched").exists()


@BOTH
def test_deadlines_travel(client: httpx.Client, where: str) -> None:
    answer = client.post("/", json={"item": [where, "hang"]}, headers={"Dataflow-Deadline": "0.3"})
    assert answer.status_code == 504
    assert client.post("/", json={"item": 1}, headers={"Dataflow-Deadline": "60"}).json() == {"result": 1}


def test_more_than_can_be_done_is_to_come_again_later(client: httpx.Client) -> None:
    refused: list[httpx.Response] = []

    def ask() -> None:
        with httpx.Client(base_url=client.base_url, timeout=LIMIT) as mine:
            hang = mine.post("/", json={"item": ["ingress", "hang"]}, headers={"Dataflow-Deadline": "4"})
        if hang.status_code != 504:
            refused.append(hang)

    asking = [threading.Thread(target=ask) for _ in range(6)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert [answer.status_code for answer in refused] == [503, 503]
    assert all(answer.headers["Retry-After"] for answer in refused)
    assert client.post("/", json={"item": 1}).json() == {"result": 1}


def test_who_leaves_makes_room_for_others(client: httpx.Client) -> None:
    left = 0
    while left < 4:  # as many as may be under way; the next is refused as long as the replica has not heard of it
        with contextlib.suppress(httpx.TimeoutException):
            assert client.post("/", json={"item": ["ingress", "hang"]}, timeout=1.0).status_code == 503
            continue
        left += 1
    while (answer := client.post("/", json={"item": 1})).status_code == 503:
        continue
    assert answer.json() == {"result": 1}


def _is_proxy(name: str) -> bool:
    return name.startswith("ray::ProxyActor")


def test_the_proxy_killed_under_load(client: httpx.Client) -> None:
    def ask() -> httpx.TransportError | None:
        try:
            assert client.post("/", json={"item": 1}).json() == {"result": 1}
        except httpx.TransportError as error:
            return error
        return None

    def keep_asking() -> set[type[Exception]]:
        met = set()
        while not over.is_set():
            if (error := ask()) is not None:
                met.add(type(error))
                time.sleep(LOOK_AGAIN)  # it has not been started again
        return met

    assert ask() is None
    over = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        callers = [pool.submit(keep_asking) for _ in range(2)]
        proxy = next(processes(_is_proxy))
        os.kill(proxy, signal.SIGKILL)
        while proxy in processes(_is_proxy):
            time.sleep(LOOK_AGAIN)
        while ask() is not None:
            time.sleep(LOOK_AGAIN)
        over.set()
        met = set().union(*[caller.result(LIMIT) for caller in callers])
    assert met
    assert not any(issubclass(kind, httpx.TimeoutException) for kind in met), "nobody is left waiting"


def test_a_session_leaves_running_what_ran_before_and_has_no_url_without_a_route(session: Any) -> None:
    assert session.url is not None
    with df.stage(abs).open("ray") as other:
        assert other.url is None
    assert session.run(("ingress", "value", 1)) == 1


def test_a_config_file_can_be_built(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "import dataflow as df\n"
        "flow = df.stage(abs) >> df.stage(str, placement='words')\n"
        "app = df.RayServe().app(flow)\n"
    )
    serve = Path(sys.executable).with_name("serve")
    done = subprocess.run(
        [serve, "build", "shop:app"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "import_path: shop:app" in done.stdout
    assert "- name: ingress" in done.stdout
    assert "- name: words" in done.stdout
