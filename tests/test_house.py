"""The house rules that a machine can check: imports, public names, docstrings, sizes, versions."""

import configparser
import doctest
import importlib
import importlib.metadata
import inspect
import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dataflow as df

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "dataflow").rglob("*.py"))
LONGEST_MODULE = 450  # lines: one sitting's read
IMPORT_SECONDS = 0.15

# What `dataflow` offers. A name is added here, to the docs and to the changelog together.
PUBLIC = {
    "BatchSizeError",
    "CompositionError",
    "DataflowError",
    "DeadlineExceeded",
    "Failure",
    "Flow",
    "Inline",
    "LoweringError",
    "OptionError",
    "Plan",
    "QueueFull",
    "RayServe",
    "RemoteError",
    "ReplicaLost",
    "RoutingError",
    "Session",
    "SessionClosed",
    "Threads",
    "combine",
    "each",
    "fanout",
    "identity",
    "race",
    "stage",
    "switch",
}

# Imported where they are used, so that `import dataflow` is quick and works without them.
LAZY = {
    "hypothesis",
    "matplotlib",
    "networkx",
    "numpy",
    "opentelemetry",
    "prometheus_client",
    "ray",
    "rich",
    "sklearn",
    "torch",
    "torchvision",
    "tqdm",
}
REQUIRED = {"networkx", "numpy"}


def run_python(code: str) -> str:
    """Run code in an interpreter of its own and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    return relative(path).removesuffix(".py").replace("/", ".").removesuffix(".__init__")


MODULES = [name for name in map(module_name, SOURCES) if not name.endswith("__main__")]  # which runs when imported


# ------------------------------------------------------------------ imports


def test_imports_point_one_way() -> None:
    command = shutil.which("lint-imports", path=Path(sys.executable).parent)
    assert command, "import-linter is not installed beside this Python"
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_importing_dataflow_imports_nothing_heavy() -> None:
    loaded = json.loads(run_python("import sys, json, dataflow; print(json.dumps(sorted(sys.modules)))"))
    assert not LAZY & {name.partition(".")[0] for name in loaded}


def test_importing_dataflow_is_quick() -> None:
    """Processor time, and the best of several: what else the machine is doing is not our doing."""

    def seconds(code: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run_python(code)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    bare = min(seconds("pass") for _ in range(5))
    assert min(seconds("import dataflow") for _ in range(5)) - bare < IMPORT_SECONDS


def test_the_core_needs_no_optional_dependency() -> None:
    blocked = dict.fromkeys(LAZY - REQUIRED)
    assert (
        run_python(
            f"import sys; sys.modules.update({blocked!r})\n"
            "import dataflow as df\n"
            "flow = df.stage(str.strip) >> (df.stage(len) | df.stage(str.upper)) >> df.combine(lambda n, s: s * n)\n"
            "print(flow(' ab '), list(flow.map([' ab ', 'c'])), len(flow.explain()) > 0)"
        )
        == "ABAB ['ABAB', 'C'] True\n"
    )


# ------------------------------------------------------------------ public names and their documentation


def test_public_names_are_these() -> None:
    assert sorted(df.__all__) == sorted(PUBLIC)
    assert set(df.__all__) <= set(dir(df))


def documented() -> Iterator[tuple[str, object]]:
    """Yield what a user can call, by name: the public names, and the public methods of the public classes."""
    for name in sorted(df.__all__):
        value = getattr(df, name)
        yield name, value
        if inspect.isclass(value):
            for attribute, member in vars(value).items():
                if not attribute.startswith("_") and (callable(member) or isinstance(member, property | classmethod)):
                    yield f"{name}.{attribute}", member


@pytest.mark.parametrize(
    ("name", "value"), list(documented()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_is_public_is_documented(name: str, value: object) -> None:
    assert (inspect.getdoc(value) or "").strip()


def is_error(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, BaseException)


@pytest.mark.parametrize("name", sorted(name for name in df.__all__ if not is_error(getattr(df, name))))
def test_what_is_called_shows_an_example(name: str) -> None:
    doc = inspect.getdoc(getattr(df, name)) or ""
    assert re.search(r"^Examples\n-{8}$", doc, re.MULTILINE), "no Examples section (numpydoc)"
    assert ">>> " in doc.partition("Examples\n")[2]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name: str) -> None:
    module = importlib.import_module(name)
    assert (module.__doc__ or "").strip(), "a module says what it is for"
    options = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    assert doctest.testmod(module, extraglobs={"df": df}, optionflags=options).failed == 0


# ------------------------------------------------------------------ sizes and versions


@pytest.mark.parametrize("source", SOURCES, ids=relative)
def test_a_module_is_one_sittings_read(source: Path) -> None:
    assert len(source.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE


def test_the_version_is_the_same_everywhere() -> None:
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    version = config["metadata"]["version"]
    assert importlib.metadata.version("dataflow") == version
    assert df.__version__ == version
    assert re.search(
        rf"^## \[{re.escape(version)}\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )


def test_every_folder_is_a_package() -> None:
    """What has no `__init__.py` is left out of the wheel without a word."""
    assert all((source.parent / "__init__.py").exists() for source in SOURCES)


def test_the_page_of_faults_names_tests_that_there_are() -> None:
    page = (ROOT / "docs/explanation/what-is-survived.md").read_text(encoding="utf-8")
    conformance = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "dataflow/testing/conformance").glob("*.py")
    )
    named = re.findall(r"`(?:(test_\w+\.py)::)?(test_\w+)`", page)
    assert named
    for file, name in named:
        text = (ROOT / "tests" / file).read_text(encoding="utf-8") if file else conformance
        assert f"def {name}(" in text, f"{file or 'conformance'}::{name}"
    rows = re.findall(r"^\| ([\d, ]+) \|", page, re.MULTILINE)
    assert {int(number) for row in rows for number in row.split(",")} == set(range(1, 52))
