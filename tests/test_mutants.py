"""The seeded bugs apply to the library as it is, and a sample of them is found."""

import ast

import pytest
from mutants import verdicts
from mutants.catalogue import MUTANTS, SUITE
from mutants.run import ROOT, applies, judge, mutated


def test_nine_in_ten_apply() -> None:
    """The library may be rewritten under some of them, and not under all."""
    stale = [mutant.name for mutant in MUTANTS if not applies(mutant)]
    assert len(stale) * 10 <= len(MUTANTS), stale
    for mutant in MUTANTS:
        source = (ROOT / "dataflow" / mutant.file).read_text(encoding="utf-8")
        assert not applies(mutant) or ast.unparse(ast.parse(mutated(mutant, source))) != ast.unparse(ast.parse(source))
    assert all((ROOT / "tests" / mutant.likeliest.partition("::")[0]).exists() for mutant in MUTANTS)


def test_there_are_enough() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 40
    assert sum(mutant.shrinks for mutant in MUTANTS) >= 10
    assert all((ROOT / "tests" / name).exists() for name in SUITE)


def test_nine_in_ten_are_found_and_the_page_says_which_are_not_and_why() -> None:
    known = verdicts.read()
    judged = [known[key] for key in map(verdicts.digest, MUTANTS) if key in known]
    survivors = [verdict.name for verdict in judged if verdict.killed_by is None]
    assert len(judged) * 10 >= len(MUTANTS) * 8, "python -m tests.mutants judges those that have been changed"
    assert len(survivors) * 10 <= len(judged), survivors
    _, _, reasons = (ROOT / "docs/explanation/seeded-bugs.md").read_text(encoding="utf-8").partition("and why")
    assert all(name in reasons for name in survivors), survivors


def test_one_that_does_not_apply_is_told() -> None:
    with pytest.raises(ValueError, match="does not apply: its text is 0 times"):
        mutated(MUTANTS[0], "")


SAMPLE = ("canonicalize: a combine takes its parts backwards", "columns: faults at the wrong items", "merge: impure")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SAMPLE)
def test_a_mutant_is_found(name: str) -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name.startswith(name))
    assert judge(mutant).killed_by is not None
