"""The command line: ``python -m dataflow bench``, ``python -m dataflow explain`` and ``python -m dataflow serve``."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from dataflow.bench.rounds import Watcher
from dataflow.errors import DataflowError
from dataflow.expr.flow import Flow

TERMINATED = 128 + signal.SIGTERM
INTERRUPTED = 128 + signal.SIGINT
GRACE = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows the command's name; the process's own by default.

    Examples
    --------
    >>> main(["explain", "builtins:abs"])
    Traceback (most recent call last):
    SystemExit: 2
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    # what `python -m` does for the current folder, an installed script would not
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, "")
    try:
        status: int = options.run(options)
    except (Unknown, DataflowError, ImportError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


class Unknown(ValueError):
    """Something named on the command line that is not there, or is something else."""


def _parser() -> argparse.ArgumentParser:
    from dataflow import __version__

    parser = argparse.ArgumentParser(prog="python -m dataflow", description="Explain, measure and serve flows.")
    parser.add_argument("--version", action="version", version=f"dataflow {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_bench(commands)
    explain = commands.add_parser("explain", help="say what will run, and why")
    explain.add_argument("flow", metavar="MODULE:FLOW", help="a flow, or a function without arguments that makes one")
    explain.add_argument("--executor", default=None, help="on which it would run; the default one if not given")
    explain.add_argument("--format", default="text", choices=("text", "mermaid", "dot", "json"))
    explain.set_defaults(run=_explain)
    _add_serve(commands)
    return parser


def _add_bench(commands: Any) -> None:
    bench = commands.add_parser(
        "bench",
        help="measure a flow on every executor, with and without each optimizer pass",
        description="Measure a flow on every executor, with and without each optimizer pass.",
    )
    add = bench.add_argument
    add("flow", metavar="MODULE:FLOW", help="a flow, or a function without arguments that makes one")
    add("--items", required=True, metavar="MODULE:ITEMS", help="items, or a function that makes them")
    add("--baseline", metavar="MODULE:FUNCTION", help="the same by hand: takes all items, gives their results in order")
    add("--baseline-one", metavar="MODULE:FUNCTION", help="the same by hand, for one item")
    add("--executors", default="inline,threads,ray", metavar="NAMES", help="default: %(default)s")
    add("--scenarios", default="offline,single,multi", metavar="NAMES", help="also: server; default: %(default)s")
    add("--no-passes", action="store_true", help="do not measure what each optimizer pass is worth")
    add("--batches", metavar="SIZES", help="batch sizes to try, as in 1,8,64; default: around the flow's own")
    add("--width", type=int, default=8, help="items in a query of the multi stream; default: %(default)s")
    add("--rate", type=float, help="server: so many requests a second")
    add(
        "--limit", metavar="LIMIT", help="server: find the highest rate that keeps this, as in 'p99<50ms' or 'mean<5ms'"
    )
    add("--shape", type=float, default=1.0, help="server: gamma arrivals of this shape; default: 1, which is Poisson")
    add("--seconds", type=float, default=10.0, help="about how long each table may take; default: %(default)s")
    add("--seed", type=int, default=7, help="of the arrivals; default: %(default)s")
    add("--tolerance", type=float, default=1e-4, help="within which results are the same; default: %(default)s")
    add("--json", metavar="FILE", help="write JSON lines there")
    add("--html", metavar="FILE", help="write a report with plots there")
    add("--compare", metavar="FILE", help="say what got faster or slower since these JSON lines were written")
    add(
        "--grace", type=float, default=GRACE, help="seconds in which to come to an end on SIGTERM; default: %(default)s"
    )
    bench.set_defaults(run=_bench)


def _add_serve(commands: Any) -> None:
    serve = commands.add_parser("serve", help="answer requests over HTTP", description="Serve a flow over HTTP.")
    add = serve.add_argument
    add("flow", metavar="MODULE:FLOW", help="a flow, or a function without arguments that makes one")
    add("--host", default="127.0.0.1", help="where to listen; 0.0.0.0 for all the world; default: %(default)s")
    add("--port", type=int, default=8000, help="0 for one that is free; default: %(default)s")
    add("--executor", default=None, help="on which to run it; the default one if not given")
    add("--name", help="the model's name in the Open Inference Protocol; by default the flow's in its module")
    add("--max-body", type=int, metavar="BYTES", help="the most bytes of a request's body")
    add("--max-depth", type=int, metavar="N", help="the deepest that lists may be nested in it")
    add("--max-items", type=int, metavar="N", help="the most items of a request")
    add("--max-requests", type=int, metavar="N", help="the most requests that may be under way at once")
    add("--grace", type=float, default=GRACE, help="seconds to finish on SIGTERM; default: %(default)s")
    serve.set_defaults(run=_serve)


def _explain(options: argparse.Namespace) -> int:
    print(_flow(options.flow).explain(options.executor, format=options.format))
    return 0


def _bench(options: argparse.Namespace) -> int:
    from dataflow.bench import files, text
    from dataflow.bench.changes import changes
    from dataflow.bench.machine import machine, versions
    from dataflow.bench.measure import SCENARIOS, Settings, measure
    from dataflow.bench.tables import Report

    try:
        settings = Settings(
            executors=_names(options.executors),
            baseline=options.baseline and _named(options.baseline),
            baseline_one=options.baseline_one and _named(options.baseline_one),
            passes=not options.no_passes,
            batches=None if options.batches is None else tuple(map(int, _names(options.batches))),
            scenarios=_names(options.scenarios, SCENARIOS),
            width=options.width,
            rate=options.rate,
            limit=_limit(options.limit),
            shape=options.shape,
            seconds=options.seconds,
            seed=options.seed,
            tolerance=options.tolerance,
        )
        old = options.compare and files.read(options.compare)
    except (OSError, ValueError) as error:
        raise Unknown(str(error)) from error
    flow, items = _flow(options.flow), _items(options.items)
    out = text.console()
    with Drain(options.grace) as drain:
        about = {"flow": options.flow, "when": datetime.now(UTC).isoformat(timespec="seconds")}
        about |= {"digest": flow.optimize().digest, "seed": str(options.seed), **machine(), **versions()}
        with text.live(out, drain) as watcher:
            findings = measure(flow, items, settings, watcher)
        report = Report(about, {options.flow: findings})
        text.show(report, out)
        if old:
            text.show_changes(changes(old, report), out)
        if options.json:
            files.write(report, options.json)
        if options.html:
            from dataflow.bench import html

            html.write(report, options.html, old)
        return TERMINATED if drain.stopped() else 0


def _serve(options: argparse.Namespace) -> int:
    from dataflow.executors.answering import answering, opened
    from dataflow.http import Limits, make_app, server

    given = {name: getattr(options, name) for name in ("max_body", "max_depth", "max_items", "max_requests")}
    limits = Limits(**{name: value for name, value in given.items() if value is not None})
    flow = _flow(options.flow)
    name = options.name or options.flow.partition(":")[2]
    try:
        listener = server.listen(options.host, options.port)
    except (OSError, OverflowError) as error:
        raise Unknown(f"cannot listen on {options.host}, port {options.port}: {error}") from error
    with listener, Drain(options.grace) as drain:
        session = flow.open(options.executor)
        try:
            run, ready = answering(session), opened(session)
            app = make_app(run, name=name, version=session.plan.digest, ready=ready, limits=limits)
            if not drain.stopped():
                print(f"{name} is served on {server.address(listener)}, described on /docs", flush=True)
                server.serve(app, listener, grace=options.grace)
        finally:
            session.cancel()  # all that was accepted is done by now, or its grace is over
        return TERMINATED if drain.stopped() else 0


class Drain(Watcher):
    """Comes to an orderly end on SIGTERM: nothing new is begun, what was accepted is finished, and reported.

    Once the grace is over, or on a second SIGTERM, what still runs is cancelled. It is the command line that does so;
    the library installs no signal handlers.

    Parameters
    ----------
    grace : float
        Seconds.
    """

    def __init__(self, grace: float = GRACE) -> None:
        self._timer = threading.Timer(grace, os.kill, (os.getpid(), signal.SIGTERM))
        self._timer.name = "dataflow drain"
        self._timer.daemon = True
        self._stopped = False
        self._before: Any = None

    def stopped(self) -> bool:
        return self._stopped

    def __enter__(self) -> Drain:
        self._before = signal.signal(signal.SIGTERM, self._on_signal)
        return self

    def __exit__(self, *exc: object) -> None:
        self._timer.cancel()
        signal.signal(signal.SIGTERM, self._before)
        if self._timer.is_alive():
            self._timer.join()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stopped:
            raise SystemExit(TERMINATED)
        self._stopped = True
        self._timer.start()


# -- what is named on the command line ---------------------------------------------------------------------------------


def _named(path: str) -> Any:
    """Return what ``module:name`` names."""
    module, colon, name = path.partition(":")
    if not colon or not module or not name:
        raise Unknown(f"{path!r} names nothing: write MODULE:NAME, as in mypackage.flows:classify")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # something that the module itself imports
        place = sys.path[0] or os.getcwd()
        raise Unknown(f"there is no module {error.name!r} in {place} or installed: {path!r} names it") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise Unknown(f"module {module!r} has no {name!r}, which {path!r} names")
        found = getattr(found, part)
    return found


def _flow(path: str) -> Flow[Any, Any]:
    found = _named(path)
    if not isinstance(found, Flow) and callable(found) and not isinstance(found, type):
        try:
            found = found()
        except TypeError as error:
            raise Unknown(f"{path!r} is neither a flow nor a function that makes one: {error}") from error
    if not isinstance(found, Flow):
        raise Unknown(f"{path!r} is neither a flow nor a function that makes one, but a {type(found).__name__}")
    return found


def _items(path: str) -> Iterable[Any]:
    found = _named(path)
    items = found() if callable(found) else found
    if not isinstance(items, Iterable):
        raise Unknown(f"{path!r} is neither items nor a function that makes them, but a {type(items).__name__}")
    return items


def _names(text: str, among: Sequence[str] | None = None) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if among is not None and name not in among:
            raise ValueError(f"there is no {name!r}: there are {', '.join(among)}")
    return names


def _limit(text: str | None) -> Any:
    from dataflow.bench.load import Limit

    return None if text is None else Limit.parse(text)
