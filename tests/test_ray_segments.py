"""Memory that a caller shares with whoever it calls: whose a segment is, when it is used again, who cannot open it."""

import asyncio
import contextvars
import dataclasses
import gc
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dataflow as df
from dataflow.executors.aside import Abandoned, watch
from dataflow.executors.ray_serve import segments
from dataflow.executors.ray_serve.line import Line, _cancel
from dataflow.executors.ray_serve.payload import dump, load
from dataflow.executors.ray_serve.requests import Requests
from dataflow.executors.ray_serve.segments import Segment, Segments, Visit

MIB = 2**20

ANSWERS = """
import pickle, sys
from dataflow.executors.ray_serve.payload import dump, load
from dataflow.executors.ray_serve.segments import Visit
visit = Visit(pickle.load(sys.stdin.buffer))
answer = "elsewhere" if visit.message is None else visit.answered(dump(load(visit.message) + 1))
pickle.dump(answer, sys.stdout.buffer)
"""


def answered(message: Any) -> Any:
    """Return what another process answers: the array that the message holds, and one more."""
    import pickle

    run = subprocess.run([sys.executable, "-c", ANSWERS], input=pickle.dumps(message), capture_output=True, check=True)
    return pickle.loads(run.stdout)


def lent(pool: Segments, size: int) -> Segment:
    segment = pool.lend(size)
    assert segment is not None
    return segment


def test_another_process_reads_the_message_and_leaves_its_answer() -> None:
    pool = Segments()
    segment = lent(pool, 3 * MIB)
    array = np.arange(MIB // 4, dtype=np.float64)
    answer = answered(segment.put(dump(array)))
    assert isinstance(answer[0], segments.Place), "it was not copied through a pipe"
    result = load(segment.get(answer))
    assert np.array_equal(result, array + 1)
    segment.put(dump(np.zeros(MIB // 4)))
    assert np.array_equal(result, array + 1), "what has been read is the reader's own"
    result += 1
    pool.give_back(segment)
    pool.close()


def test_an_answer_that_is_too_large_travels_otherwise() -> None:
    pool = Segments()
    segment = lent(pool, 1)
    visit = Visit(segment.put((b"small",)))
    answer = (b"head", b"x" * (segment.capacity + 1))
    assert visit.answered(answer) is answer
    assert segment.get(answer) is answer
    pool.close()


@pytest.mark.parametrize("changed", [{"token": "dataflow-of-others"}, {"process": 1}, {"file": 2}, {"file": 10**6}])
def test_a_segment_of_another_machine_is_not_opened(changed: dict[str, Any]) -> None:
    pool = Segments()
    (place,) = lent(pool, MIB).put((b"head",))
    assert answered((dataclasses.replace(place, **changed),)) == "elsewhere"
    pool.close()


def test_a_message_that_is_in_none_is_what_it_was() -> None:
    message = dump([1, 2])
    visit = Visit(message)
    assert visit.message is message
    assert visit.answered(message) is message


def test_segments_are_used_again_unless_somebody_may_still_write_to_them() -> None:
    pool = Segments()
    first = lent(pool, MIB)
    assert lent(pool, MIB) is not first, "two calls never share one"
    pool.give_back(first)
    assert lent(pool, MIB) is first
    first.spoilt = True
    pool.give_back(first)
    assert lent(pool, MIB) is not first
    pool.close()


def test_an_answer_may_stay_where_it_is_until_nobody_refers_to_it() -> None:
    pool = Segments()
    segment = lent(pool, MIB)
    answer = segment.get(segment.put(dump([np.arange(MIB // 32), np.ones(MIB // 32)])))
    kept = pool.keep(segment, answer)
    assert kept is not None
    first, second = load(kept, copied=False)
    del answer, kept
    first += 1  # it is as writable as any
    assert lent(pool, MIB) is not segment
    part = first[5:7].reshape(2, 1)
    del first, second
    assert lent(pool, MIB) is not segment, "a part of it is still somebody's"
    assert part.tolist() == [[6], [7]]
    del part
    assert lent(pool, MIB) is segment
    pool.close()


def test_only_so_much_stays_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_LENT", 4 * MIB)
    pool = Segments()
    kept = []
    for _ in range(3):
        segment = lent(pool, MIB)
        kept.append(pool.keep(segment, segment.get(segment.put((b"head",)))))
    assert [each is not None for each in kept] == [True, True, False]
    pool.close()


def test_what_is_lent_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_LENT", 3 * MIB)
    pool = Segments()
    assert pool.lend(segments._MOST + 1) is None
    out = [lent(pool, MIB) for _ in range(3)]
    assert pool.lend(1) is None
    pool.give_back(out[0])
    assert pool.lend(1) is out[0]
    pool.close()


def test_where_no_more_files_may_be_opened_nothing_is_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> int:
        raise OSError(24, "too many open files")

    monkeypatch.setattr(os, "memfd_create", refuse)
    assert Segments().lend(1) is None


def test_nothing_is_left_open() -> None:
    before = _open_segments()
    pool = Segments()
    kept, late = lent(pool, MIB), lent(pool, MIB)
    pool.give_back(kept)
    pool.close()
    pool.give_back(late)  # whose call ended after the session
    assert _open_segments() == before
    assert pool.lend(1) is None


def test_only_so_much_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_KEPT", 2 * MIB)
    before = _open_segments()
    pool = Segments()
    for segment in [lent(pool, MIB) for _ in range(5)]:
        pool.give_back(segment)
    assert _open_segments() == before + 2 * 2, "each has a file, and a mapping with one of its own"
    pool.close()


def test_only_so_much_of_others_is_kept_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_MAPPED", 2 * MIB)
    opened = segments._Opened()
    pool = Segments()
    places = [lent(pool, MIB).put((b"%d" % number,))[0] for number in range(4)]
    memories = [opened.get(place) for place in places]
    assert [memory and memory[:1] for memory in memories] == [b"0", b"1", b"2", b"3"], "those in use stay open"
    assert list(opened._mapped) == [place.token for place in places[2:]]
    assert opened.get(places[3]) is memories[3]
    pool.close()


def test_a_request_has_as_many_items_as_travel_well_together() -> None:
    nowhere: Any = None
    requests = Requests(nowhere, nowhere, (df.stage(abs) >> str).optimize(), nowhere, pure=True, ceiling=256, places=4)
    assert requests.ceiling < 256, "nobody knows yet how large they are"
    requests.learn(64 * MIB, 64)
    assert requests.ceiling == 8
    requests.learn(100 * MIB, 1)
    assert requests.ceiling == 1
    requests.learn(100, 64)
    assert requests.ceiling == 256


class Silent:
    """A handle, and a response, that answers when it is told to."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.message: Any = None
        self.answer: Any = None  # a future

    def options(self, **options: Any) -> "Silent":
        return self

    def remote(self, options: Any, *message: Any) -> "Silent":
        self.message = message
        self.answer = asyncio.get_running_loop().create_future()
        self.asked.set()
        return self

    def __await__(self) -> Any:
        return self.answer.__await__()

    def cancel(self) -> None:
        pass


@pytest.mark.parametrize("end", ["answered", "given up", "closed"])
def test_what_a_call_that_was_given_up_had_is_not_used_again(end: str) -> None:
    loop, handle, given_up = asyncio.new_event_loop(), Silent(), threading.Event()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    line = Line(handle, "call", "nobody", loop)

    def ask() -> Any:
        watch(given_up)
        return line.ask(dump(np.zeros(MIB, dtype=np.uint8)), pure=False)

    try:
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(contextvars.copy_context().run, ask)
            assert handle.asked.wait(30)
            (place,) = handle.message
            if end == "answered":
                loop.call_soon_threadsafe(handle.answer.set_result, Visit(handle.message).answered(dump("done")))
                assert asked.result(30) == "done"
            elif end == "given up":
                given_up.set()
                with pytest.raises(Abandoned):
                    asked.result(30)
            else:
                line.close()
                with pytest.raises(df.ReplicaLost, match="given up"):
                    asked.result(30)
                assert Visit(handle.message).message is None, "nobody can open it any more"
        lent_next = line._segments.lend(MIB + 1)
        assert (lent_next is not None and lent_next._token == place.token) is (end == "answered")
        assert (lent_next is None) is (end == "closed")
    finally:
        line.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_call_that_was_assigned_and_nobody_knows_yet_is_cancelled_too() -> None:
    class Call:
        _replica_result_future: Any = None
        cancelled = 0

        def cancel(self) -> None:
            self.cancelled += 1

    async def run() -> tuple[int, int]:
        response, result = Call(), Call()
        response._replica_result_future = asyncio.get_running_loop().create_future()
        _cancel(response)
        assert result.cancelled == 0
        response._replica_result_future.set_result(result)
        _cancel(response)
        return response.cancelled, result.cancelled

    assert asyncio.run(run()) == (2, 1)


def _open_segments() -> int:
    """Return how many segments this process has open, but for those that are garbage."""
    gc.collect()
    links = (os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink())
    return sum(link.startswith("/memfd:dataflow-") for link in links)
