"""What must be survived on Ray Serve: errors across processes, and the death of processes."""

import dataclasses
import functools
import operator
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import rayflows
from raycluster import Hosted, processes

import dataflow as df
from dataflow.executors import Failure
from dataflow.executors.ray_serve import deploying, segments
from dataflow.executors.ray_serve.cluster import import_ray, quiet
from dataflow.executors.ray_serve.opening import deleted

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(180), pytest.mark.usefixtures("ray_runs")]

BOTH = pytest.mark.parametrize("where", ["ingress", "placed"])
LIMIT = 90.0


@pytest.fixture(scope="module")
def impure(ray_runs: None) -> Iterator[Any]:
    with rayflows.flow(pure=False).open(df.RayServe(name="impure")):
        yield "impure"


def values(where: str, count: int) -> list[Any]:
    return [(where, "value", number) for number in range(count)]


# ------------------------------------------------------------------ errors


@BOTH
def test_a_poison_item_fails_alone(session: Any, where: str) -> None:
    orders = values(where, 16)
    orders[5] = (where, "refuse", "five")
    found = list(session.map(orders, on_error="record", progress=False))
    assert [outcome for outcome in found if not isinstance(outcome, Failure)] == [n for n in range(16) if n != 5]
    failure = found[5]
    assert (failure.index, failure.item, type(failure.error)) == (5, (where, "refuse", "five"), LookupError)
    assert failure.stage in ("at_ingress", "Counted")


@BOTH
def test_an_error_arrives_as_itself_with_a_note(session: Any, where: str) -> None:
    with pytest.raises(rayflows.Mine) as caught:
        session.run((where, "mine", 7))
    assert caught.value.number == 7
    notes = "\n".join(caught.value.__notes__)
    assert "rayflows.py:" in notes
    assert "by Ray Serve" in notes
    assert "in obey" in str(caught.value.__cause__), "the traceback of where it was raised"


@BOTH
def test_an_error_that_does_not_pickle_has_a_stand_in(session: Any, where: str) -> None:
    with pytest.raises(df.RemoteError, match=r"rayflows\.Locked: a lock is inside") as caught:
        session.run((where, "locked"))
    assert "in obey" in str(caught.value.__cause__)


@BOTH
def test_an_error_that_cannot_speak_still_arrives(session: Any, where: str) -> None:
    with pytest.raises((rayflows.Mute, df.RemoteError)):
        session.run((where, "mute"))


@BOTH
@pytest.mark.parametrize(("what", "kind"), [("interrupt", KeyboardInterrupt), ("exit", SystemExit)])
def test_what_ends_everything_ends_the_session_and_not_the_replica(
    app: str, where: str, what: str, kind: type[BaseException]
) -> None:
    with df.RayServe.attach(app) as session:
        before = session.run((where, "pid"))
        with pytest.raises(kind):
            session.run((where, what))
    with df.RayServe.attach(app) as session:
        assert session.run((where, "pid")) == before


@BOTH
def test_a_result_that_cannot_be_sent_fails_alone(session: Any, where: str) -> None:
    found = list(session.map([(where, "value", 1), (where, "a lock"), 3], on_error="record", progress=False))
    assert [found[0], found[2]] == [1, 3]
    assert "cannot be sent" in str(found[1].error)


def test_an_item_that_cannot_be_sent_fails_alone(session: Any) -> None:
    found = list(session.map([1, threading.Lock(), 3], on_error="record", progress=False))
    assert [found[0], found[2]] == [1, 3]
    assert "cannot be sent" in str(found[1].error)


# ------------------------------------------------------------------ values


@pytest.mark.parametrize("size", [10, 10**5, 10**6])
@BOTH
def test_arrays_arrive_as_they_were_and_may_be_changed(session: Any, where: str, size: int) -> None:
    items = [np.arange(size, dtype=np.float32) + number for number in range(3)]
    found = list(session.map([(where, "change", item) for item in items], progress=False))
    for item, result in zip(items, found, strict=True):
        assert result.dtype == item.dtype
        assert np.array_equal(result, item + 1)
        result += 1  # what comes back is the user's
    assert items[0][0] == 0, "a copy was changed"


@BOTH
def test_a_value_that_becomes_large_arrives_again_and_again(session: Any, where: str) -> None:
    for size in (10, 10**6, 3 * 10**6, 10**6):  # what is answered is at times more than what was sent before
        assert len(session.run((where, "grow", size))) == size


def test_large_values_reach_who_cannot_open_the_callers_memory(app: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put = segments.Segment.put

    def put_elsewhere(self: Any, message: Any) -> Any:
        (place,) = put(self, message)
        self.placed = (dataclasses.replace(place, token="of another machine"),)
        return self.placed

    monkeypatch.setattr(segments.Segment, "put", put_elsewhere)
    array = np.arange(10**6)
    with df.RayServe.attach(app) as session:
        for _ in range(3):
            assert np.array_equal(session.run(("placed", "change", array)), np.arange(10**6) + 1)


def test_one_instance_a_replica(session: Any) -> None:
    assert set(session.map([("placed", "made")] * 50, progress=False)) == {1}


# ------------------------------------------------------------------ time


@BOTH
def test_what_hangs_fails_by_its_deadline_and_others_go_on(session: Any, where: str) -> None:
    with pytest.raises(df.DeadlineExceeded):
        session.run((where, "hang"), deadline=0.3)
    assert session.run((where, "value", 1), deadline=60) == 1


def test_a_branch_that_fails_beside_a_slow_one_surfaces_at_once(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with rayflows.beside().open(Hosted()) as session:
        assert isinstance(session.submit(str(gate)).exception(LIMIT), LookupError)
        assert not gate.exists()
        gate.touch()


def test_nobody_waits_for_what_travels_in_the_same_request(session: Any) -> None:
    hanging = [session.submit(("ingress", "hang")) for _ in range(3)]
    quick = [session.submit(number) for number in range(40)]
    assert [future.result(LIMIT) for future in quick] == list(range(40))
    assert all(future.cancel() for future in hanging)


@BOTH
def test_what_is_done_last_may_have_been_first_in_its_request(session: Any, where: str, tmp_path: Path) -> None:
    assert session.run(0) == 0
    waiting = [session.submit((where, "wait for", str(tmp_path / "gate"), number)) for number in range(3)]
    quick = [session.submit(("ingress", "value", number)) for number in range(40)]
    if where == "ingress":
        assert [future.result(LIMIT) for future in quick] == list(range(40))
    (tmp_path / "gate").touch()
    assert [future.result(LIMIT) for future in waiting] == [0, 1, 2]
    assert [future.result(LIMIT) for future in quick] == list(range(40))


def test_an_item_can_be_cancelled(session: Any) -> None:
    future = session.submit(("ingress", "hang"))
    assert session.run(5) == 5
    assert future.cancel()


# ------------------------------------------------------------------ death


@pytest.mark.timeout(60)
def test_a_lone_callers_item_is_sent_by_its_own_thread_and_others_go_on(session: Any, tmp_path: Path) -> None:
    assert [session.run(order) for order in values("ingress", 2)] == [0, 1]
    workers = len(session.pool._threads)
    assert workers, "the first of many is lone too, so the first go as all do"
    with ThreadPoolExecutor(1) as threads:
        lone = threads.submit(session.run, ("ingress", "wait for", str(tmp_path / "go on"), "done"))
        while session._here is None or not session._here.busy:
            threading.Event().wait(0.01)
        assert len(session.pool._threads) == workers and session.pool.resting
        others = [session.submit(order) for order in values("placed", 3)]
        assert [each.result(LIMIT) for each in others] == [0, 1, 2]
        assert session.run(("ingress", "value", 4)) == 4
        (tmp_path / "go on").touch()
        assert lone.result(LIMIT) == "done"
    assert session.stats()["items"] == 7


@pytest.mark.timeout(60)
@pytest.mark.parametrize("end", ["close", "cancel"])
def test_a_lone_caller_whose_session_ends(session: Any, tmp_path: Path, end: str) -> None:
    assert [session.run(order) for order in values("ingress", 2)] == [0, 1]
    with ThreadPoolExecutor(2) as threads:
        lone = threads.submit(session.run, ("ingress", "wait for", str(tmp_path / "go on"), "done"))
        while session._here is None or not session._here.busy:
            threading.Event().wait(0.01)
        ending = threads.submit(getattr(session, end))
        if end == "close":
            (tmp_path / "go on").touch()
            assert lone.result(LIMIT) == "done"
        else:
            with pytest.raises(df.SessionClosed):
                lone.result(LIMIT)
            (tmp_path / "go on").touch()
        ending.result(LIMIT)


@BOTH
def test_a_replica_that_dies_of_an_item_once(session: Any, where: str, tmp_path: Path) -> None:
    orders = values(where, 20)
    orders[7] = (where, "die once", str(tmp_path / "died"), 7)
    assert list(session.map(orders, progress=False)) == list(range(20))
    assert (tmp_path / "died").exists()


@BOTH
def test_a_replica_killed_under_load(session: Any, where: str) -> None:
    pid = session.run((where, "pid"))

    def source() -> Iterator[Any]:
        for number in range(3000):
            if number == 1000:
                os.kill(pid, signal.SIGKILL)
            yield (where, "value", np.full(10**5, number) if number % 25 == 0 else number)

    found = list(session.map(source(), progress=False))
    assert [int(np.min(each)) for each in found] == [int(np.max(each)) for each in found] == list(range(3000))
    assert session.run((where, "pid")) != pid


@BOTH
def test_what_is_not_pure_fails_clearly_when_its_replica_dies(impure: str, where: str) -> None:
    with df.RayServe.attach(impure) as session:
        with pytest.raises(df.ReplicaLost, match=f"'{where}'.*not pure is not sent again"):
            session.submit((where, "die")).result(LIMIT)
        assert _until_it_is_back(session, where) == 1


def test_the_controller_killed_under_load(session: Any) -> None:
    controller = next(processes(lambda name: name.startswith("ray::ServeController")))

    def source() -> Iterator[Any]:
        for number in range(2000):
            if number == 500:
                os.kill(controller, signal.SIGKILL)
            yield ("placed", "value", number)

    assert list(session.map(source(), progress=False)) == list(range(2000))
    assert session.run(1) == 1


def test_a_new_version_under_load_loses_nothing() -> None:
    serve = import_ray()

    def deploy(sign: int) -> None:
        flow = df.stage(functools.partial(operator.mul, sign), placement="one", cpus=0, name="sign")
        with quiet():
            serve.run(df.RayServe().app(flow), name="rolls", route_prefix="/rolls")

    deploy(1)
    answers: list[int] = []
    with df.RayServe.attach("rolls") as session, httpx.Client(timeout=LIMIT) as client:
        url = session.url
        rolled = threading.Event()

        def ask() -> None:
            while not rolled.is_set():
                answers.append(client.post(f"{url}/", json={"item": 1}).raise_for_status().json()["result"])

        def source() -> Iterator[int]:
            number = 0
            while not rolled.is_set():
                number += 1
                yield number
            yield from range(1, 50)

        rolling = threading.Thread(target=lambda: (deploy(-1), rolled.set()))
        results = session.map(source(), on_error="record", progress=False)
        assert next(results) == 1
        rolling.start()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask)
            found = list(results)
            asked.result(LIMIT)
        rolling.join()
    assert not [outcome for outcome in found if isinstance(outcome, Failure)]
    assert [abs(number) for number in found[:-49]] == list(range(2, len(found) - 49 + 2)), "each once, in order"
    assert found[-49:] == [-number for number in range(1, 50)], "the new version answers"
    assert answers == [1] * answers.count(1) + [-1] * answers.count(-1), "over HTTP as well"
    deleted("rolls")


def _until_it_is_back(session: Any, where: str) -> Any:
    """Return the result of an order, once there is a replica again."""
    while True:
        try:
            return session.submit((where, "value", 1)).result(LIMIT)
        except df.ReplicaLost:
            continue


# ------------------------------------------------------------------ opening


class Broken:
    def __init__(self) -> None:
        raise rayflows.Mine(3)

    def __call__(self, x: int) -> int:
        return x


@pytest.mark.parametrize("placement", [None, "there"])
def test_a_constructor_that_fails_is_the_error_of_open(placement: str | None) -> None:
    broken: Any = df.stage(Broken, placement=placement)
    with pytest.raises(rayflows.Mine) as caught:
        (df.stage(abs) >> broken()).open("ray")
    assert caught.value.number == 3
    assert any("Broken" in note for note in caught.value.__notes__)


def test_more_than_the_cluster_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploying, "_GRACE_SECONDS", 1.0)  # which replicas that have not begun are given as well
    flow = df.stage(abs) >> df.stage(str, gpus=3, device="cuda", name="greedy")
    with pytest.raises(df.LoweringError, match=r"(?s)start_timeout.*3 GPU.*greedy"):
        flow.open(df.RayServe(start_timeout=2))


def test_a_name_that_is_taken(app: str) -> None:
    with pytest.raises(df.LoweringError, match="attach"):
        df.stage(abs).open(df.RayServe(name=app))


def test_attaching_to_nothing() -> None:
    with pytest.raises(df.LoweringError, match="nobody"):
        df.RayServe.attach("nobody")


def test_a_closure_that_does_not_pickle_is_refused() -> None:
    lock = threading.Lock()

    def locked(x: int) -> int:
        with lock:
            return x

    with pytest.raises(df.LoweringError, match=r"(?s)'.*locked'.*test_ray_faults.py:\d+.*lock = .*_thread.lock"):
        (df.stage(abs) >> locked).open("ray")


def test_large_captured_objects_are_warned_of() -> None:
    weights = np.zeros(3_000_000)

    def weighs(x: Any) -> Any:
        return x + weights[0]

    from dataflow.executors.ray_serve.shipping import ship

    with pytest.warns(UserWarning, match=r"23 MiB.*weighs"):
        ship((df.stage(abs) >> weighs).optimize(), None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ship((df.stage(abs) >> str).optimize(), None)
