"""Run a list of checks and report each outcome: what was found, and how to fix it."""

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from clgym.errors import ClgymError

__all__ = ["Check", "CheckFailed", "Failed", "Finding", "Skipped", "findings", "passed"]

Status = Literal["passed", "failed", "known failure", "skipped"]


class CheckFailed(ClgymError):
    """A plugin that fails checks that it does not declare as known failures."""

    problem = "failed checks"


class Failed(Exception):
    """A failed check: what was found, and a fix."""

    def __init__(self, found: str, fix: str) -> None:
        """Take two phrases without a final full stop."""
        super().__init__(found)
        self.found, self.fix = found, fix


class Skipped(Exception):
    """A check does not apply; the message says why."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    check: str
    status: Status
    found: str
    fix: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Check:
    """A named check: a function that returns what it found, or raises `Failed` or `Skipped`."""

    run: Callable[[Any], str]
    vital: bool = False
    """Whether later checks are meaningless if this one fails."""

    @property
    def name(self) -> str:
        """The function's name, with hyphens."""
        return self.run.__name__.replace("_", "-")

    @property
    def purpose(self) -> str:
        """The first line of the function's docstring."""
        return (self.run.__doc__ or "").split("\n", 1)[0]


def findings(
    checks: Sequence[Check], subject: Any, known: Mapping[str, str], only: Sequence[str] = ()
) -> Iterator[Finding]:
    """Run the checks in order.

    Args:
        checks: Checks to run.
        subject: Argument of every check.
        known: Reasons of declared failures, by name of the check.
        only: Names of checks to restrict to; () means all.
    """
    broken = ""
    for check in checks:
        if only and check.name not in only:
            continue
        if broken:
            yield Finding(check.name, "skipped", f"not run, since {broken} failed")
            continue
        finding = _judge(check, subject, known.get(check.name))
        if check.vital and finding.status in ("failed", "known failure"):
            broken = check.name
        yield finding


def _judge(check: Check, subject: Any, reason: str | None) -> Finding:
    started = time.perf_counter()
    status: Status = "passed"
    fix = ""
    try:
        found = check.run(subject)
    except Skipped as skipped:
        status, found = "skipped", str(skipped)
    except Failed as failed:
        status, found, fix = "failed", failed.found, failed.fix
    except Exception as error:
        status, found, fix = "failed", _where(error), "Correct the code that raised it"
    if reason is not None and status == "failed":
        status, found, fix = "known failure", f"{reason} ({found})", ""
    elif reason is not None and status == "passed":
        status, found = "failed", "it passes, though KNOWN_FAILURES declares that it fails"
        fix = "Remove it from KNOWN_FAILURES"
    return Finding(check.name, status, found, fix, time.perf_counter() - started)


def _where(error: Exception) -> str:
    """An exception with the line that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{last.filename.rsplit('/', 1)[-1]}:{last.lineno}"
    return f"{type(error).__name__}: {' '.join(str(error).split())} ({place})"


def passed(name: str, results: Iterator[Finding]) -> list[Finding]:
    """Return all findings, if none is a failure.

    Raises:
        CheckFailed: Some checks failed; the message lists them.
    """
    found = list(results)
    bad = [f for f in found if f.status == "failed"]
    if bad:
        told = "; ".join(f"{f.check}: {f.found}. {f.fix}" for f in bad)
        raise CheckFailed(
            expected=f"{name} to pass its {len(found)} checks",
            found=f"{len(bad)} failed: {told}",
            fix="Run `clgym check` for details; declare permanent failures in KNOWN_FAILURES",
        )
    return found
