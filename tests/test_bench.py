"""The harness: what it says of samples, that it checks before it times, what it costs, and what it writes."""

import collections
import dataclasses
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import reduce
from operator import rshift
from pathlib import Path
from time import perf_counter
from typing import Any

import cloudpickle
import numpy as np
import pytest

import dataflow as df
from dataflow.bench import (
    Contestant,
    Effort,
    Findings,
    Goal,
    Report,
    Settings,
    Task,
    Watcher,
    compare,
    files,
    html,
    measure,
    ready,
    text,
)
from dataflow.bench.alike import alike
from dataflow.bench.changes import changes
from dataflow.bench.rounds import sample
from dataflow.bench.samples import median, percentile, ratios
from dataflow.bench.stopwatch import Line, StopWatch
from dataflow.bench.subjects import open_subjects
from dataflow.bench.tables import Curves, LatencyTable, Row, Table, TimeTable
from dataflow.bench.variants import batch_sizes, with_batch

ROOT = Path(__file__).parent.parent


def squares(x: int) -> int:
    return x * x


def task(units: int = 1) -> Task:
    return Task(items=lambda: [1, 2, 3], right=lambda x, y: bool(y == x * x), units=units)


QUICK = Effort(rounds=3, at_least=3, seconds=1.0)


# ------------------------------------------------------------------ samples


@pytest.mark.parametrize("count", [6, 9, 17, 40, 300])
def test_the_interval_holds_the_true_median_as_often_as_it_says(count: int) -> None:
    draw = random.Random(count)
    held = 0
    for _ in range(2000):
        found = median([draw.expovariate(1.0) for _ in range(count)])
        held += found.low <= 0.6931 <= found.high
    assert held / 2000 >= 0.94


def test_a_ratio_is_paired_by_the_round() -> None:
    """The machine slows down threefold half-way: times are far apart, and their ratio is not."""
    base = [1.0] * 5 + [3.0] * 5
    found = ratios([2 * seconds for seconds in base], base)
    assert found == (2.0, 2.0, 2.0)


def test_percentiles_are_numpys() -> None:
    values = sorted(random.Random(3).sample(range(10_000), 257))
    for share in (0.0, 0.01, 0.5, 0.95, 0.999, 1.0):
        assert percentile(values, share) == pytest.approx(np.quantile(values, share))


# ------------------------------------------------------------------ rounds


def test_what_is_wrong_or_missing_is_a_row_that_says_so() -> None:
    def missing() -> Any:
        raise ImportError("No module named 'rival'")

    def unable() -> Any:
        raise NotImplementedError("has no switch")

    def failing(x: int) -> int:
        raise OSError(x)

    table = compare(
        "squares",
        [
            Contestant("right", ready(squares), task()),
            Contestant("wrong", ready(lambda x: x + 1), task()),
            Contestant("missing", missing, task()),
            Contestant("unable", unable, task()),
            Contestant("failing", ready(failing), task()),
        ],
        effort=QUICK,
        sample_seconds=1e-4,
    )
    assert [row.note for row in table.rows] == [
        "",
        "failed: ValueError: wrong result: 2",
        "not installed (No module named 'rival')",
        "has no switch",
        "failed: OSError: 1",
    ]
    assert [len(row.samples) for row in table.rows] == [3, 0, 0, 0, 0]
    assert table.ratio("wrong") is None


def test_rounds_end_when_the_ratios_are_settled() -> None:
    same = [Contestant(name, ready(squares), task()) for name in ("a", "b")]
    table = compare("", same, effort=Effort(rounds=50, at_least=4, settled=1e9), sample_seconds=1e-5)
    assert len(table.rows[0].samples) == 4


def test_rounds_end_when_the_time_is_over() -> None:
    table = compare("", [Contestant("a", ready(squares), task())], effort=Effort(at_least=99, seconds=0.0), passes=1)
    assert len(table.rows[0].samples) == 1


def test_who_looks_on_may_end_it_and_keeps_what_there_is() -> None:
    class Enough(Watcher):
        def __init__(self) -> None:
            self.heard: list[str] = []

        def progress(self, what: str, done: int, total: int) -> None:
            self.heard.append(what)

        def stopped(self) -> bool:
            return len(self.heard) > 4

    watcher = Enough()
    contestants = [Contestant(name, ready(squares), task()) for name in ("a", "b")]
    table = compare("squares", contestants, effort=Effort(rounds=99, settled=0.0), passes=1, watcher=watcher)
    assert watcher.heard[:2] == ["squares: checking a", "squares: checking b"]
    assert [len(row.samples) for row in table.rows] == [2, 2]


@pytest.mark.xdist_group("timing")
def test_the_harness_adds_at_most_a_microsecond_an_item() -> None:
    """Measuring a flow that does nothing, against the bare job: the least of many short ones, for noise only adds."""
    items = list(range(1_000))
    with df.identity.open("inline") as session:

        def run(xs: list[int]) -> list[int]:
            return list(session.map(xs))

        def bare() -> float:
            start = perf_counter()
            collections.deque(session.map(items), maxlen=0)
            return (perf_counter() - start) / len(items)

        offline = Task(lambda: [items], lambda _, results: True, len(items))
        pairs = [(bare(), sample(run, offline)) for _ in range(40)]
    alone, measured = (min(times) for times in zip(*pairs, strict=True))
    assert measured - alone <= 1e-6


# ------------------------------------------------------------------ variants


@df.stage(batch=4)
class Scale:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, xs: list[int]) -> list[int]:
        return [self.factor * x for x in xs]


def add(a: int, b: int) -> int:
    return a + b


def flow() -> Any:
    shared = df.stage(squares) >> Scale(3)
    return (shared | shared >> Scale(2)) >> df.combine(add) >> df.switch(bool, {True: abs, False: str})


def test_batch_sizes_are_changed_and_nothing_else() -> None:
    other = with_batch(flow(), 2)
    assert (batch_sizes(flow()), batch_sizes(other)) == ((4,), (2,))
    assert list(other.map(range(9))) == list(flow().map(range(9)))
    assert other.optimize().passes == flow().optimize().passes
    assert with_batch(flow(), 4) == flow()


def test_a_stop_watch_changes_neither_results_nor_plan() -> None:
    with StopWatch() as watch:
        timed = watch.around(flow())
        assert list(timed.map(range(9), "inline")) == list(flow().map(range(9), "inline"))
        assert [step.name for step in timed.optimize().steps] == [step.name for step in flow().optimize().steps]
        # merged, each batch stage is called for 9 items in batches of 4
        assert [(name, taken.calls) for name, taken in watch.taken().items()] == [
            ("squares", 9), ("Scale", 6), ("combine(add)", 9), ("bool", 9), ("abs", 8), ("str", 1),
        ]  # fmt: skip


def test_a_stop_watch_leaves_whole_batches_whole() -> None:
    torch = pytest.importorskip("torch")
    import dataflow.torch as dft

    flow = dft.module(torch.nn.ReLU(), batch=4) >> dft.module(torch.nn.Tanh(), batch=4)
    items = [np.full(3, value, dtype=np.float32) for value in (-1.0, 0.5, 2.0)]
    with StopWatch() as watch:
        timed = watch.around(flow)
        assert [step.name for step in timed.optimize().steps] == [step.name for step in flow.optimize().steps]
        assert alike(list(timed.map(items)), list(flow.map(items)))
        assert all(taken.calls for taken in watch.taken().values())


def test_a_stop_watch_counts_what_other_threads_and_processes_do() -> None:
    with StopWatch() as watch:
        timed = watch.around(flow())
        list(timed.map(range(9), "inline"))
        with ThreadPoolExecutor(2) as threads:
            assert list(threads.map(timed, range(9))) == [flow()(item) for item in range(9)]
        assert watch.processes() == {os.getpid()}
        program = "import pickle, sys; pickle.load(sys.stdin.buffer)(1)"
        command = [sys.executable, "-c", program]
        subprocess.run(command, input=cloudpickle.dumps(timed), cwd=Path(__file__).parent, check=True, timeout=60)
        assert len(watch.processes()) == 2
        assert watch.taken()["combine(add)"].calls == 9 + 9 + 1


def test_a_stop_watch_that_is_closed_is_no_trouble_to_stages() -> None:
    with StopWatch() as watch:
        timed = watch.around(flow())
    assert [timed(item) for item in range(9)] == [flow()(item) for item in range(9)]


def test_a_stop_watch_has_room_for_any_number_of_stages() -> None:
    with StopWatch() as watch:
        many = watch.around(reduce(rshift, (df.stage(abs, name=f"stage {number}") for number in range(600))))
        assert many(-1) == 1
        assert [taken.calls for taken in watch.taken().values()] == [1] * 600
        line = Line("/no/such/folder", 599)
        line.add(1.0)
        assert watch.taken()["stage 599"].calls == 1


def test_passes_are_not_left_out_where_each_way_would_reserve_what_the_flow_asks_for() -> None:
    with ExitStack() as stack:
        subjects = open_subjects(df.stage(abs, cpus=0.5) >> str, [Deployed()], stack)
        assert [each.name for each in subjects if each.system is not None] == ["Deployed()"]
        assert "'abs' asks for resources" in subjects[1].note
        settings = Settings(executors=(Deployed(),), scenarios=(), seconds=0.01)
        (note,) = measure(df.stage(abs, cpus=0.5) >> str, [1], settings).notes
        assert note.startswith("Deployed(), no passes: not measured: stage 'abs' asks")
        subjects = open_subjects(df.stage(abs) >> str, [Deployed()], stack)
        assert [each.name for each in subjects if each.system is not None] == ["Deployed()", "Deployed(), no passes"]


@dataclasses.dataclass(frozen=True)
class Deployed(df.Inline):
    """Says that it runs flows in several processes."""

    def places(self, plan: Any) -> tuple[Any, ...]:
        return ()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1.0, 1.00001, True),
        (1.0, 1.1, False),
        (np.array([1.0, np.nan]), np.array([1.0, np.nan]), True),
        (np.array([1, 2]), np.array([1, 3]), False),
        (np.ones(2), np.ones(3), False),
        ([1, (2.0, {"a": np.ones(2)})], [1, (2.0000001, {"a": np.ones(2)})], True),
        ({"a": 1}, {"b": 1}, False),
        ("a", "a", True),
        (None, 0.0, False),
    ],
)
def test_results_are_alike(one: Any, other: Any, same: bool) -> None:
    assert alike(one, other) is same


# ------------------------------------------------------------------ a flow, measured


def by_hand(xs: Any) -> list[Any]:
    sums = (9 * x * x for x in xs)
    return [abs(total) if total else str(total) for total in sums]


SETTINGS = Settings(
    executors=("inline", "abacus"),
    baseline=by_hand,
    baseline_one=lambda x: by_hand([x])[0],
    scenarios=("offline", "single", "multi", "server"),
    width=3,
    rate=2000.0,
    seconds=0.05,
)


@pytest.fixture(scope="module")
def report() -> Report:
    return Report({"flow": "w <&>", "cpu": "a"}, {"w <&>": measure(flow(), range(50), SETTINGS)})


def test_a_flow_is_measured_in_every_way(report: Report) -> None:
    tables = report.findings["w <&>"].tables
    kinds = [Table, Table, TimeTable, Curves, LatencyTable, LatencyTable, LatencyTable]
    assert [type(table) for table in tables] == kinds
    offline, worth, times, curves, single, multi, served = tables
    assert isinstance(offline, Table) and isinstance(worth, Table) and isinstance(times, TimeTable)
    assert [row.name for row in offline.rows if row.samples] == ["by hand", "inline"]
    assert offline.row("abacus").note == "there is no executor 'abacus' in this version"
    assert offline.row("inline").facts["digest"] == flow().optimize().digest
    assert "no merge" in [row.name for row in worth.rows]
    assert list(times.rows[0].parts)[-1] == "glue"
    assert isinstance(curves, Curves) and [point.x for point in curves.curves[0].points] == [2, 4, 8, 16]
    for table in (single, multi, served):
        assert isinstance(table, LatencyTable)
        assert [row.name for row in table.rows if row.latencies] == ["by hand", "inline"]
    assert "drop" in report.findings["w <&>"].notes[0] or "hoist" in report.findings["w <&>"].notes[0]


def test_a_wrong_baseline_is_not_timed() -> None:
    settings = Settings(executors=("inline",), baseline=lambda xs: [0] * len(xs), scenarios=("offline",), seconds=0.01)
    table = measure(flow(), range(1, 9), settings).tables[0]
    assert isinstance(table, Table)
    assert table.row("by hand").note.startswith("failed: ValueError: wrong result")


def test_a_limit_is_searched_for() -> None:
    from dataflow.bench import Limit

    settings = Settings(executors=("inline",), scenarios=(), limit=Limit(0.001, 0.9), seconds=0.05, passes=False)
    (table,) = measure(df.stage(squares), range(9), settings).tables
    assert isinstance(table, LatencyTable)
    assert table.row("inline").facts["highest rate"] > 0


def test_the_memory_of_other_processes_is_told() -> None:
    row = Row("ray", (1.0,), facts={"memory": 2**20, "processes": [2**20, 3 * 2**20]})
    assert text.remarks(row) == "+1 MiB; 4 MiB in 2 processes of its own"


def test_no_items_are_refused() -> None:
    with pytest.raises(ValueError, match="no items"):
        measure(df.stage(squares), [])


# ------------------------------------------------------------------ reports


def test_a_report_read_back_is_the_same(report: Report, tmp_path: Path) -> None:
    files.write(report, tmp_path / "report.jsonl")
    again = files.read(tmp_path / "report.jsonl")
    assert list(files.lines(again)) == list(files.lines(report))
    assert again == report


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"kind": "goal"}'])
def test_what_is_no_report_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text(content)
    with pytest.raises(ValueError, match="no report"):
        files.read(tmp_path / "x")


def test_a_page_needs_nothing_else(report: Report) -> None:
    page = html.page(report, report)
    assert page.count("<svg") == 7
    assert "w &lt;&amp;&gt;" in page and "w <&>" not in page
    assert not any(word in page for word in ("<script", "<link", 'src="http', "@import"))


def test_everything_is_printed(report: Report) -> None:
    out = text.console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with text.live(out, Watcher()) as watcher:
        watcher.progress("half", 1, 2)
    text.show(report, out)
    printed = out.export_text()
    out.file.close()
    for words in ("w <&>", "by hand", "abacus", "95% sure", "p99", "glue", "batch size"):
        assert words in printed


def timed(*rows: tuple[str, float], cpu: str = "a") -> Report:
    made = tuple(Row(name, tuple(seconds * (1 + spread / 100) for spread in (-1, 0, 1))) for name, seconds in rows)
    return Report({"cpu": cpu}, {"w": Findings((Table("t, 5 items", "hand", made),))})


def test_changes_beyond_noise_are_told() -> None:
    old, new = timed(("hand", 1.0), ("a", 1.0), ("b", 1.0)), timed(("hand", 1.01), ("a", 2.0), ("b", 0.5))
    assert {change.name: change.verdict for change in changes(old, new)} == {
        "hand": "same", "a": "slower", "b": "faster",
    }  # fmt: skip


def test_on_another_machine_the_ratios_are_compared() -> None:
    """Everything takes thrice as long there, and only one of them a longer time than the hand-written code."""
    old, new = timed(("hand", 1.0), ("a", 2.0), ("b", 2.0)), timed(("hand", 3.0), ("a", 6.0), ("b", 9.0), cpu="b")
    assert {change.name: change.verdict for change in changes(old, new)} == {"a": "same", "b": "slower"}


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal("", None, 1.0), False),
        (Goal("", 1.0, 1.0), True),
        (Goal("", 1.1, 1.0), False),
        (Goal("", 1.1, 1.0, at_least=True), True),
    ],
)
def test_goals(goal: Goal, met: bool) -> None:
    assert goal.met is met
    assert ("PASS" if met else "MISS") in text.goal_line(goal)


# ------------------------------------------------------------------ the project's own benchmarks


def test_a_workload_runs_and_tells_its_goals(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--quick", "many", "--json", str(tmp_path / "a.jsonl")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert "20,000 items through 10 trivial stages" in done.stdout
    assert "goals met" in done.stdout
    assert [goal.what for goal in files.read(tmp_path / "a.jsonl").goals]


def test_every_workload_is_listed_and_described() -> None:
    listed = run_python("from benchmarks.__main__ import WORKLOADS; print(*WORKLOADS)").split()
    held = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "def findings(" in path.read_text()}
    described = (ROOT / "benchmarks" / "README.md").read_text()
    assert set(listed) == held
    assert [name for name in listed if f"| `{name}` |" not in described] == []


def test_every_adapter_offers_what_is_said_of_it() -> None:
    """By its text: the peers themselves may not be installed."""
    code = "from benchmarks.peers import PEERS\nfor peer in PEERS: print(peer.adapter, *peer.offers)"
    for line in run_python(code).splitlines():
        adapter, *offers = line.split()
        source = (ROOT / "benchmarks" / "peers" / f"{adapter}.py").read_text()
        assert all(f"def {offer}(" in source for offer in offers), adapter


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
