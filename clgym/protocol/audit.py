"""The audit: the checks that were made, and the problems that they found."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from clgym.errors import ClgymError

__all__ = ["MALFORMED", "Audit"]

MALFORMED = (
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
    AssertionError,
    OSError,
)
"""Exceptions raised when a schema-valid file is inconsistent; reported as audit problems."""


@dataclass
class Audit:
    """Checks made and problems found."""

    checks: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    records: list[str] = field(default_factory=list[str])
    """Folders of the records that are results, without those of tuning runs."""
    folder: str = ""
    """Folder that was audited, which may be the study around the path that was given."""
    head: str | None = None
    """Hash of the ledger's last line, which covers the whole study; None without a ledger."""

    def check(self, name: str, problems: Callable[[], Iterator[str]]) -> None:
        """Carry out one check; an exception counts as a problem."""
        self.checks.append(name)
        try:
            self.problems += [f"{name}: {problem}" for problem in problems()]
        except ClgymError as error:
            self.problems.append(f"{name}: expected {error.expected}; found {error.found}")
        except MALFORMED as error:
            self.problems.append(f"{name}: it cannot be followed ({type(error).__name__}: {error})")
