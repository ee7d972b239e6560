"""The bugs, read from ``catalogue.txt``.

There each is a few lines: its name; the file below ``dataflow``, the test file that is likeliest to find it, and
``shrinks`` where a random flow shows it in its results; the text that is there, once; and what is put in its place.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

SUITE = (
    "test_passes_golden.py",
    "test_threads_stress.py",
    "test_testing_simulated.py",
    "test_testing_equivalence.py",
    "test_faults_in_batches.py",
    "test_testing_conformance.py",
    "test_differential.py",
    "test_session.py",
    "test_threads_faults.py",
    "test_faults.py",
    "test_meaning.py",
    "test_laws.py",
)
"""The tests that are run, the quickest first, until one fails."""

OF_SIZE = "long_chains or nested_deep or memory_stays_flat"
"""Tests of what is large, which are not run: they take as long as half of the others, and no profile changes them."""


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One bug.

    Parameters
    ----------
    name : str
        What is wrong.
    file : str
        Below `dataflow`.
    old, new : str
        The text that is there, once, and what is put in its place.
    likeliest : str
        The file of tests, or the class in one, that is run first.
    shrinks : bool
        Whether a random flow shows it in its results, so that a counterexample can be shrunk.
    """

    name: str
    file: str
    old: str
    new: str
    likeliest: str
    shrinks: bool


def read(text: str) -> Iterator[Mutant]:
    """Yield the mutants of a catalogue."""
    for entry in ("\n" + text).split("\n== ")[1:]:
        name, about, *lines = entry.rstrip("\n").split("\n")
        file, likeliest, *shrinks = about.split()
        old, new = ("\n".join(line[1:] for line in lines if line[:1] == sign) for sign in "-+")
        yield Mutant(name, file, old, new, likeliest, bool(shrinks))


MUTANTS = tuple(read((Path(__file__).parent / "catalogue.txt").read_text(encoding="utf-8")))
