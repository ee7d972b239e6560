"""Programs that have a Ray of their own: it is started and stopped for them, quietly, and may die under them."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(280)]

STARTS_AND_STOPS = """
import dataflow as df

def double(x):
    return 2 * x

if __name__ == "__main__":
    with (df.stage(double) >> str).open("ray") as session:
        print(session.run(1), list(session.map([2, 3], progress=False)))
    import ray
    print(ray.is_initialized())
"""

LEAVES_RUNNING_WHAT_RAN = """
import dataflow as df
from dataflow.executors.ray_serve.cluster import quiet

if __name__ == "__main__":
    with quiet():
        import ray
        from ray import serve
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with df.stage(abs).open("ray") as session:
        print(session.run(-1))
    print(ray.is_initialized())
    with quiet():
        serve.shutdown()
        ray.shutdown()
"""

RAY_DIES = """
import os, signal, threading, time
import dataflow as df

def hang(x):
    if x == 7:
        threading.Event().wait()
    return x

if __name__ == "__main__":
    from dataflow.executors.ray_serve import watch
    watch._UNREACHABLE_SECONDS = 5.0
    session = df.stage(hang).open("ray")
    print(session.run(1), flush=True)
    future = session.submit(7)
    import ray
    node = ray._private.worker._global_node
    for kind in ("gcs_server", "raylet"):
        for info in node.all_processes[kind]:
            os.kill(info.process.pid, signal.SIGKILL)
    try:
        future.result(120)
    except df.ReplicaLost as error:
        print("lost")
    session.cancel()
    print("over", flush=True)
    os._exit(0)
"""


def run(tmp_path: Path, program: str, *, timeout: float = 240) -> "subprocess.CompletedProcess[str]":
    (tmp_path / "program.py").write_text(program)
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning:dataflow", "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def test_a_ray_is_started_and_stopped_in_silence(tmp_path: Path) -> None:
    done = run(tmp_path, STARTS_AND_STOPS)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2 ['4', '6']\nFalse\n"
    assert done.stderr == ""


def test_a_ray_that_ran_before_goes_on_running(tmp_path: Path) -> None:
    done = run(tmp_path, LEAVES_RUNNING_WHAT_RAN)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line in ("1", "True", "False")] == ["1", "True"]


def test_ray_gone_is_an_error_and_no_wait_for_ever(tmp_path: Path) -> None:
    done = run(tmp_path, RAY_DIES)
    assert done.stdout.split()[:1] == ["1"]
    assert done.stdout.split()[1:] == ["lost", "over"], done.stderr[-2000:]
