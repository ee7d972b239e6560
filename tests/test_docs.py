"""Every snippet in the documentation and every example runs, and prints what the page says it prints.

The convention is written down for authors in CONTRIBUTING.md, under "Documentation".
"""

import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
import traceback
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROSE = sorted({*PAGES, *ROOT.glob("*.md"), *(ROOT / "benchmarks").rglob("*.md")})
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

RUN, NOT_RUN, OUTPUT = "python", "python no-run", "text output"
REASON = re.compile(r"# not run: \S+")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Snippet:
    """A block of Python on a page, with what the page says it prints (None: the page does not say)."""

    code: str
    line: int  # of the block's first line of code, from 1
    output: str | None


def fence(token: Token | None) -> str | None:
    """Return what is written after the opening backticks of a fenced block; None for anything else."""
    return token.info.strip() if token is not None and token.type == "fence" else None


def snippets(markdown: str) -> Iterator[Snippet]:
    """Yield the blocks of a page that are to be run, in order, and refuse those that break the convention."""
    tokens = MarkdownIt().parse(markdown)
    for before, token, after in zip([None, *tokens], tokens, [*tokens[1:], None], strict=False):
        info = fence(token)
        if info is None:
            continue
        assert token.map is not None
        line = token.map[0] + 2
        if info == RUN:
            yield Snippet(token.content, line, after.content if after and fence(after) == OUTPUT else None)
        elif info == NOT_RUN:
            assert REASON.match(token.content), f"line {line}: a block that is not run begins '# not run: <reason>'"
        elif info == OUTPUT:
            assert fence(before) == RUN, f"line {line}: an output block directly follows the block that prints it"
        else:
            assert not info.startswith("py"), f"line {line}: write ```{RUN} or ```{NOT_RUN}, not ```{info}"


def run_page(name: str, markdown: str, filename: str) -> None:
    """Run a page's snippets in order, in the namespace of one module, and compare what they print."""
    module = types.ModuleType(name)
    sys.modules[name] = module  # so that what a snippet defines can be found by its module, as pickle does
    try:
        for snippet in snippets(markdown):
            # Blank lines before the code make a traceback name the page's own lines.
            code = compile("\n" * (snippet.line - 1) + snippet.code, filename, "exec", dont_inherit=True)
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(code, module.__dict__)
            if snippet.output is not None:
                check_output(snippet, printed.getvalue())
    finally:
        del sys.modules[name]


def check_output(snippet: Snippet, printed: str) -> None:
    """Compare as doctest does: exactly, but for `...`, which stands for anything."""
    assert snippet.output is not None
    flags = doctest.ELLIPSIS | doctest.DONT_ACCEPT_BLANKLINE | doctest.REPORT_NDIFF
    checker = doctest.OutputChecker()
    if not checker.check_output(snippet.output, printed, flags):
        difference = checker.output_difference(doctest.Example(snippet.code, snippet.output), printed, flags)
        pytest.fail(f"the block at line {snippet.line} prints something else\n{difference}", pytrace=False)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_page_runs_as_written(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = re.sub(r"\W", "_", relative(page))
    run_page(name, page.read_text(encoding="utf-8"), str(page))


def _marks(example: Path) -> Any:
    """Let examples that start a Ray of their own run when the tests on Ray do."""
    return pytest.mark.xdist_group("ray") if "import ray" in example.read_text(encoding="utf-8") else ()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "example",
    [pytest.param(each, marks=_marks(each), id=relative(each)) for each in EXAMPLES],
)
def test_example_runs(example: Path, tmp_path: Path) -> None:
    # One torch thread: the tests share two cores.
    done = subprocess.run(
        [sys.executable, str(example), "--quick"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip(), "an example prints what it shows"


@pytest.mark.parametrize("page", PROSE, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    """A link or a picture that names a file of the repository names one that exists."""
    inline = [child for token in MarkdownIt().parse(page.read_text(encoding="utf-8")) for child in token.children or ()]
    targets = [str(token.attrs.get("href") or token.attrs.get("src") or "") for token in inline]
    local = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:", target)]
    missing = [target for target in local if not (page.parent / target).exists()]
    assert not missing


# ------------------------------------------------------------------ the checks above, checked


def as_page(*blocks: tuple[str, str]) -> str:
    return "\n\n".join(f"```{info}\n{content}\n```" for info, content in blocks)


def test_snippets_share_a_namespace_and_print_what_is_said() -> None:
    run_page("p", as_page(("python", "x = 2"), ("python", "print(x + 1)"), ("text output", "3")), "p.md")


def test_dots_stand_for_anything() -> None:
    run_page("p", as_page(("python", "print('took 17 ms')"), ("text output", "took ... ms")), "p.md")


def test_other_output_is_a_failure() -> None:
    with pytest.raises(pytest.fail.Exception, match="line 2"):
        run_page("p", as_page(("python", "print(3)"), ("text output", "4")), "p.md")


def test_no_output_where_some_is_promised_is_a_failure() -> None:
    with pytest.raises(pytest.fail.Exception):
        run_page("p", as_page(("python", "x = 3"), ("text output", "3")), "p.md")


def test_an_error_names_the_line_of_the_page() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run_page("p", "Some prose.\n\n" + as_page(("python", "x = 1\nx / 0")), "p.md")
    last = traceback.extract_tb(caught.tb)[-1]
    assert (last.filename, last.lineno) == ("p.md", 5)


@pytest.mark.parametrize(
    "markdown",
    [
        as_page(("python no-run", "x = 1")),
        as_page(("python no-run", "# not run:\nx = 1")),
        as_page(("text output", "3")),
        as_page(("text", "3"), ("text output", "3")),
        as_page(("py", "x = 1")),
        as_page(("python3", "x = 1")),
        as_page(("pycon", ">>> 1")),
        as_page(("python skip", "x = 1")),
        as_page(("python", "print(3)")) + "\n\nprose\n\n" + as_page(("text output", "3")),
    ],
)
def test_what_breaks_the_convention_is_refused(markdown: str) -> None:
    with pytest.raises(AssertionError):
        list(snippets(markdown))


def test_a_block_that_is_not_run_gives_its_reason() -> None:
    run_page("p", as_page(("python no-run", "# not run: needs a cluster\n1 / 0"), ("text", "anything")), "p.md")
