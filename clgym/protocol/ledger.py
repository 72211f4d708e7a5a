"""The ledger of a study: append-only JSON lines, each chained to the one before by its hash.

A line is ``{"body", "hash", "kind", "prev", "seq", "time"}``; ``hash`` is the SHA-256 of the
canonical JSON of the others. A line is flushed to the disk before anything depends on it.
"""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clgym._moved import report_renamed
from clgym.errors import Tampered
from clgym.files import canonical_json, sha256, writing

__all__ = ["INTERRUPTED", "EntryBody", "Ledger", "LedgerEntry", "read_ledger"]

report_renamed(__name__)

NAME = "ledger.jsonl"
START = "0" * 64
"""Value to which the first line is chained."""
INTERRUPTED = "interrupted"
"""Kind of the line for a run that an error ended without a result, and that is begun again."""


EntryBody = dict[str, Any]
"""Body of an entry. ``Any``: its fields depend on the entry's kind, and it is read from JSON."""


@dataclass(frozen=True)
class LedgerEntry:
    """One line of the ledger."""

    seq: int
    prev: str
    kind: str
    time: float
    body: EntryBody
    hash: str

    @staticmethod
    def of(seq: int, prev: str, kind: str, when: float, body: EntryBody) -> "LedgerEntry":
        """Make an entry with its hash."""
        facts = {"seq": seq, "prev": prev, "kind": kind, "time": when, "body": body}
        return LedgerEntry(seq, prev, kind, when, body, sha256(canonical_json(facts)))


def read_ledger(path: Path) -> list[LedgerEntry]:
    """Read and check the chain; an incomplete last line, left by a crash, is ignored.

    Raises:
        Tampered: A line is not a valid entry, or its hash does not agree.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Tampered(
            expected=f"a ledger at {path}", found=str(error.strerror), fix="Give a study's folder"
        ) from error
    entries: list[LedgerEntry] = []
    for number, line in enumerate(data.split(b"\n")[:-1]):
        entry = _parsed(line, number)
        prev = entries[-1].hash if entries else START
        again = LedgerEntry.of(number, prev, entry.kind, entry.time, entry.body)
        wrong = [
            name for name in ("seq", "prev", "hash") if getattr(again, name) != getattr(entry, name)
        ]
        if wrong or canonical_json(vars(entry)) != line:
            raise _broken(number, f"its {wrong[0] if wrong else 'form'} is not valid")
        entries.append(entry)
    return entries


def _parsed(line: bytes, number: int) -> LedgerEntry:
    try:
        return LedgerEntry(**json.loads(line))
    except (ValueError, TypeError) as error:
        raise _broken(number, f"it is no entry ({type(error).__name__})") from None


def _broken(number: int, what: str) -> Tampered:
    return Tampered(
        expected=f"line {number + 1} of the ledger as it was written",
        found=what,
        fix="Run the study again, since it can no longer be trusted",
    )


class Ledger:
    """A ledger that can be written by one process at a time; see `clgym.files.locked`."""

    def __init__(self, folder: Path, name: str = NAME) -> None:
        """Open the ledger called ``name`` in a folder, or begin one."""
        self.path = folder / name
        there = self.path.exists()
        self.entries = read_ledger(self.path) if there else []
        self._cut_off = there and not self.path.read_bytes().endswith(b"\n")

    @property
    def head(self) -> str:
        """Hash of the last entry."""
        return self.entries[-1].hash if self.entries else START

    def append(self, kind: str, **body: Any) -> LedgerEntry:
        """Write an entry and flush it to the disk.

        Raises:
            BadOutput: The operating system refused.
        """
        body = json.loads(canonical_json(body))
        entry = LedgerEntry.of(len(self.entries), self.head, kind, round(time.time(), 3), body)
        if self._cut_off:  # remove an incomplete line that a crash left
            os.truncate(self.path, self.path.read_bytes().rfind(b"\n") + 1)
            self._cut_off = False
        with writing(self.path), self.path.open("ab") as file:
            file.write(canonical_json(vars(entry)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.entries.append(entry)
        return entry

    def of(self, kind: str) -> list[LedgerEntry]:
        """Entries of a kind, in order."""
        return [entry for entry in self.entries if entry.kind == kind]
