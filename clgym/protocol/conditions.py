"""What separated the learners of a study's trials from the gym, according to its ledger."""

from collections.abc import Iterable, Iterator
from typing import Literal

from clgym.protocol.ledger import LedgerEntry
from clgym.protocol.plan import Certificate

__all__ = ["Lack", "condition_problems", "lacks_of"]

Lack = Literal["process", "sandbox"]


def lacks_of(entries: Iterable[LedgerEntry]) -> tuple[Lack, ...]:
    """What some of the trials' runs were made without: ``process``, ``sandbox``.

    A failed run has no record that says how it was made, and a run of a killed session may be
    finished by a later one: what the user asked for in the session counts as well.

    Args:
        entries: Lines of the ledger.
    """
    found: set[Lack] = set()
    asked: set[Lack] = set()
    for entry in entries:
        if entry.kind == "session":
            asked = set(_lacks_in(entry))
        elif entry.kind in ("trial", "run"):
            found |= asked | set(_lacks_in(entry))
    return tuple(sorted(found))


def _lacks_in(entry: LedgerEntry) -> Iterator[Lack]:
    if entry.body.get("engine") == "inline":
        yield "process"  # and with it a sandbox
    elif entry.body.get("sandbox") == "none":
        yield "sandbox"


def condition_problems(certificate: Certificate, entries: Iterable[LedgerEntry]) -> Iterator[str]:
    """Compare what a certificate says of the trials' conditions with the ledger."""
    stated = certificate.envelope.trials_without
    if certificate.body.plan.by_hand is not None and stated != lacks_of(entries):
        yield "envelope.trials_without does not follow from the ledger"
