"""What every test gets: quiet libraries, a Hypothesis profile, and a check that no thread outlives its test."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

# Read when numpy, torch and matplotlib are first imported, so set before any test module imports them. The tests run
# in two processes on what may be two cores: a thread pool in each of these libraries only gets in the way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")
# Ray's workers are as nice as can be unless they are told not to: beside another process of tests they would starve.
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S", "1")  # a proxy that is killed is soon started again

import pytest
from executors import EXECUTORS, JOBS, RUNS, Kind
from hypothesis import settings

from dataflow.testing.profiles import register_profiles

# `ci` draws the same examples every time: a change is not failed by what another day's random numbers would have found.
# `--hypothesis-profile=expensive` looks much further, `fast` a little.
register_profiles()
settings.register_profile("ci", settings.get_profile("balanced"), derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if "CI" in os.environ else "balanced")

GRACE = 5.0  # seconds that a thread already told to end may take to do so on a busy machine


@pytest.fixture(autouse=True)
def no_thread_outlives_its_test() -> Iterator[None]:
    """Fail a test that leaves a thread of ours behind: each has an owner, and the owner joins it."""
    before = set(threading.enumerate())
    yield
    started = [thread for thread in threading.enumerate() if thread not in before and is_ours(thread)]
    deadline = time.monotonic() + GRACE
    for thread in started:
        thread.join(max(0.0, deadline - time.monotonic()))
    left = [thread.name for thread in started if thread.is_alive()]
    assert not left, f"threads left running: {left}"


def is_ours(thread: threading.Thread) -> bool:
    """Tell our threads, and those a test started, from the daemons that libraries keep (tqdm's monitor is one)."""
    return not thread.daemon or thread.name.startswith("dataflow")


# ------------------------------------------------------------------ every executor, in every way


@pytest.fixture(params=EXECUTORS.values(), ids=EXECUTORS.keys())
def executor(request: pytest.FixtureRequest) -> Kind:
    """Each kind of executor in turn; calling it makes one."""
    kind: Kind = request.param
    return kind


@pytest.fixture(params=RUNS.values(), ids=RUNS.keys())
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """``run(flow, item, **options)``: the result of one item, in every way that there is to run one."""
    kind, way = request.param
    return lambda flow, item, **options: way(kind(**options), flow, item)


@pytest.fixture(params=JOBS.values(), ids=JOBS.keys())
def job(request: pytest.FixtureRequest, executor: Kind) -> Callable[..., Any]:
    """``job(flow, items, on_error="raise", **options)``: the outcomes of many items, in every way to run them."""
    way = request.param
    return lambda flow, items, on_error="raise", **options: way(executor(**options), flow, items, on_error)


# ------------------------------------------------------------------ what is slow to set up


_on_ray = contextlib.ExitStack()  # what runs on Ray, until the last test there is over


@pytest.fixture(scope="session")
def ray_runs() -> None:
    """Let Ray and Ray Serve run; the tests that ask for it are of the xdist group "ray", so that it is started once."""
    from raycluster import cluster

    _on_ray.enter_context(cluster())


@pytest.fixture(scope="session")
def app(ray_runs: None) -> str:
    """An application on Ray Serve that obeys, and is deployed once."""
    import rayflows

    import dataflow as df
    from dataflow.http import Limits

    limits = Limits(max_items=8, max_body=100_000, max_depth=8, max_requests=4)
    executor = df.RayServe(name="obeys", route_prefix="/obeys", workers=16, start_timeout=180, limits=limits)
    _on_ray.enter_context(rayflows.counted().open(executor))
    return "obeys"


@pytest.fixture
def session(app: str) -> Iterator[Any]:
    """A session on that application."""
    import dataflow as df

    with df.RayServe.attach(app) as attached:
        yield attached


def _is_on_ray(item: pytest.Item | None) -> bool:
    return item is not None and any("ray" in mark.args for mark in item.iter_markers("xdist_group"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests on Ray: they stay together in one process, and take longer than those of any other file."""
    items.sort(key=lambda item: not _is_on_ray(item))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End Ray behind the last test on it: it keeps a quarter of the machine busy though nobody asks it for anything."""
    if _is_on_ray(item) and not _is_on_ray(nextitem):
        _on_ray.close()
