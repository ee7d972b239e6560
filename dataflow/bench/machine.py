"""What a figure means nothing without: the machine, the versions, the switches; and the memory of processes."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

VERSIONS = ("dataflow", "networkx", "numpy", "torch", "ray")
"""The distributions that every report names."""

SWITCHES = (
    "OMP_NUM_THREADS",
    "PYTHONMALLOC",
    "RAY_SERVE_ENABLE_HA_PROXY",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED",
    "RAY_worker_niceness",
)
"""The environment variables that change figures; a report names those that are set."""


def machine() -> dict[str, str]:
    """Return what describes the machine, the interpreter and the switches."""
    about = {
        "cpu": _processor(),
        "cores": str(usable_cores()),
        "memory": _memory(),
        "load": load(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    if "torch" in sys.modules:
        about["torch threads"] = str(sys.modules["torch"].get_num_threads())
    return about | {name: os.environ[name] for name in SWITCHES if name in os.environ}


def versions(distributions: Iterable[str] = VERSIONS) -> dict[str, str]:
    """Return the installed version of each distribution.

    Examples
    --------
    >>> versions(["no-such-distribution"])
    {'no-such-distribution': 'not installed'}
    """
    found = {}
    for distribution in distributions:
        try:
            found[distribution] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            found[distribution] = "not installed"
    return found


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load() -> str:
    """Return the load of the last minute: what else the machine is busy with."""
    try:
        return f"{os.getloadavg()[0]:.2f}"
    except (AttributeError, OSError):
        return "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    models = (line.partition(":")[2] for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or "unknown").strip()


def _memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return "unknown"
    return f"{size / 2**30:.1f} GiB"


def resident() -> int | None:
    """Return the bytes of memory that this process holds; None where the system does not say."""
    return _status("VmRSS")


def peak(process: int | None = None) -> int | None:
    """Return the most bytes that a process has held; None where the system does not say.

    Parameters
    ----------
    process : int, optional
        Its number; by default this one's, since `forget_peak`.
    """
    return _status("VmHWM", process)


def forget_peak() -> bool:
    """Begin anew to look for the peak; return whether the system lets us."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _status(name: str, process: int | None = None) -> int | None:
    try:
        lines = Path(f"/proc/{process or 'self'}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = (line for line in lines if line.startswith(f"{name}:"))
    return next((int(line.split()[1]) * 1024 for line in found), None)
