"""Programs that have a Ray of their own: it is started and stopped for them, quietly, and may die under them."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(280)]

STARTS_AND_STOPS = """
from pathlib import Path
import dataflow as df

def double(x):
    return 2 * x

def listening(port):
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == "0A" and local.endswith(f":{port:04X}"):
                yield local

if __name__ == "__main__":
    with (df.stage(double) >> str).open(df.RayServe(route_prefix="/double")) as session:
        print(session.run(1), list(session.map([2, 3], progress=False)))
        port = int(session.url.split(":")[2].split("/")[0])
        print(sorted(listening(port)))
    import ray
    print(ray.is_initialized())
"""

TWICE = """
import numpy as np
import dataflow as df

def double(x):
    return 2 * x

if __name__ == "__main__":
    import ray
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    flow = df.stage(double) >> df.stage(double, placement="there")
    for size in (1, 10**6):
        with flow.open("ray") as session:
            print([int(total.sum()) for total in session.map([np.ones(size)] * 3, progress=False)])
    ray.shutdown()
"""

MEASURED = """
import dataflow as df
from dataflow.bench import Settings, measure

def double(x):
    return 2 * x

def half(xs):
    return [x / 2 for x in xs]

if __name__ == "__main__":
    flow = df.stage(double) >> df.stage(half, batch=4) >> df.stage(abs, placement="there") >> str >> len
    found = measure(flow, range(20), Settings(executors=("ray",), scenarios=("offline",), batches=(), seconds=0.1))
    offline, worth, times = found.tables
    print(list(times.rows[0].parts), times.rows[0].queueing is not None)
    print([size > 2**20 for size in offline.row("ray").facts["processes"]])
    print([row.name for row in worth.rows if row.samples])
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
    watch._UNREACHABLE_SECONDS = 0.0  # as if it had been away for long
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

A_NODE_DIES = """
import os, pathlib, signal, threading, time
import dataflow as df
from dataflow.executors.ray_serve.cluster import quiet

GPU = dict(device="cuda", cpus=0, gpus=0.5)  # which only nodes have that come later: who needs one runs there
HELD = pathlib.Path("held").absolute()
KILLED_AT = 500

def same(order):
    return order

def obey(order):
    if order == "where":
        import ray
        return ray.get_runtime_context().get_node_id()
    return order

def obey_all(orders):
    return [obey(order) for order in orders]

def hold(order):
    HELD.touch()
    threading.Event().wait()

def items(kill, over):
    yield from range(KILLED_AT)
    kill()
    number = KILLED_AT
    while not over():  # its processes may outlive a raylet for a while
        yield from range(number, number + 50)
        number += 50

if __name__ == "__main__":
    least = {"object_store_memory": 80 * 2**20}
    quick = {"health_check_period_ms": 1000, "health_check_failure_threshold": 2}  # a dead node is known sooner
    with quiet():
        import ray
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={
            "num_cpus": 4, "include_dashboard": False, "_system_config": quick, **least})
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        second = cluster.add_node(num_cpus=0, num_gpus=1, **least)
    flow = df.stage(same) >> df.stage(obey_all, batch=8, **GPU)
    once = df.stage(same) >> df.stage(hold, pure=False, **GPU)
    with flow.open(df.RayServe()) as safe, once.open(df.RayServe()) as unsafe:
        assert safe.run("where") == second.node_id
        held = unsafe.submit(1)
        while not HELD.exists():
            time.sleep(0.01)
        with quiet():
            third = cluster.add_node(num_cpus=0, num_gpus=1, **least)

        def kill():
            for info in second.all_processes["raylet"]:
                os.kill(info.process.pid, signal.SIGKILL)

        def over():
            return safe.run("where") == third.node_id

        found = list(safe.map(items(kill, over), progress=False))
        print("recovered", found == list(range(len(found))), flush=True)
        print("taken over", over(), flush=True)
        print("told", type(held.exception(60)).__name__, flush=True)
    with quiet():
        ray.shutdown()
        cluster.shutdown()
"""


def run(tmp_path: Path, program: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    (tmp_path / "program.py").write_text(program)
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning:dataflow", "program.py"],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_a_ray_is_started_and_stopped_in_silence_and_only_this_machine_can_ask_it(tmp_path: Path) -> None:
    done = run(tmp_path, STARTS_AND_STOPS)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2 ['4', '6']\n['0100007F:1F40']\nFalse\n", "it listens on 127.0.0.1, port 8000"
    assert done.stderr == ""


def test_sessions_follow_one_another_with_rays_throughput_switches_too(tmp_path: Path) -> None:
    switches = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0"}
    done = run(tmp_path, TWICE, **switches)
    said = [line for line in done.stdout.splitlines() if line.startswith("[4")]  # Ray speaks too
    assert (done.returncode, said) == (0, ["[4, 4, 4]", "[4000000, 4000000, 4000000]"]), done.stderr[-3000:]


def test_what_a_flow_does_in_other_processes_is_measured_with_each_pass_left_out(tmp_path: Path) -> None:
    done = run(tmp_path, MEASURED)
    assert done.returncode == 0, done.stderr[-3000:]
    times, processes, worth = done.stdout.splitlines()
    assert times == "['double', 'half', 'abs', 'str', 'len', 'glue'] True"
    assert processes == "[True, True]"
    assert worth == "['ray', 'no passes']", "they are all the plan without fusing, too"


def test_ray_gone_is_an_error_and_no_wait_for_ever(tmp_path: Path) -> None:
    done = run(tmp_path, RAY_DIES)
    assert done.stdout.split()[:1] == ["1"]
    assert done.stdout.split()[1:] == ["lost", "over"], done.stderr[-2000:]


def test_a_node_that_dies_under_load_is_replaced_by_another(tmp_path: Path) -> None:
    # A cluster says where it is, and any Ray that is started on this machine joins it: not if it is said elsewhere. The
    # name is short because sockets are in there.
    with tempfile.TemporaryDirectory() as apart:
        done = run(tmp_path, A_NODE_DIES, RAY_TMPDIR=apart)
    said = [
        line for line in done.stdout.splitlines() if line.startswith(("recovered", "taken", "told"))
    ]  # Ray speaks too
    assert said == ["recovered True", "taken over True", "told ReplicaLost"], done.stderr[-3000:]
