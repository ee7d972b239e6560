"""The verdicts on the bugs, kept in ``verdicts.txt``, so that a run that was stopped goes on where it was."""

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path

from .catalogue import Mutant

FILE = Path(__file__).parent / "verdicts.txt"
SURVIVES = "survives"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    Parameters
    ----------
    name : str
        The mutant's.
    digest : str
        Of what the mutant changes: a verdict on something else counts no longer.
    seconds : float
        How long it took.
    killed_by : str or None
        The test that found it, if one did.
    """

    name: str
    digest: str
    seconds: float
    killed_by: str | None

    def line(self) -> str:
        """Return it as it is kept."""
        return f"{self.digest}\t{self.seconds:.0f}\t{self.name}\t{self.killed_by or SURVIVES}"


def digest(mutant: Mutant) -> str:
    """Return a few letters that say what a mutant changes."""
    return hashlib.sha256("\0".join((mutant.file, mutant.old, mutant.new)).encode()).hexdigest()[:8]


def read(file: Path = FILE) -> dict[str, Verdict]:
    """Return the verdicts that there are, by the digest of the mutant."""
    if not file.exists():
        return {}
    rows = (line.split("\t") for line in file.read_text(encoding="utf-8").splitlines())
    return {row[0]: Verdict(row[2], row[0], float(row[1]), None if row[3] == SURVIVES else row[3]) for row in rows}


def write(mutants: Iterable[Mutant], verdicts: dict[str, Verdict], file: Path = FILE) -> None:
    """Write down the verdicts on these mutants, in their order."""
    kept = [verdicts[key] for key in map(digest, mutants) if key in verdicts]
    file.write_text("".join(f"{verdict.line()}\n" for verdict in kept), encoding="utf-8")
