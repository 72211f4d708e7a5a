"""What questions, mistakes, finished runs and a first run cost, before and after a change.

Each command is a process of its own, in a folder and with a cache of its own for each side. One
round fills the caches and is not counted; in the others both sides take turns. Figures are medians
of the CPU seconds of the whole process tree (user and system, of all descendants, as the kernel
counts them for whoever waits), and the peak memory of the largest process of the tree::

    python benchmarks/startup.py --before main [--rounds 5] [--only NAME ...] [--json]
"""

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
NMC = ("run", "nmc", "split-digits")
COMMANDS: dict[str, tuple[str, ...]] = {
    "run nmc --help": (*NMC, "--help"),
    "run derpp --help": ("run", "derpp", "split-digits", "--help"),
    "run ema --base derpp --help": ("run", "ema", "split-digits", "--base", "derpp", "--help"),
    "run avalanche:EWC --help": ("run", "avalanche:EWC", "split-digits", "--help"),
    "show derpp": ("show", "derpp"),
    "typo": ("run", "derpp", "split-digits", "--lerning-rate", "0.1"),
    "missing data": ("run", "derpp", "split-cifar100"),
    "incompatible pairing": ("run", "source", "split-digits"),
    "dry run": (*NMC, "--dry-run"),
    "finished run": (*NMC, "--out", "finished"),
    "finished run --json": (*NMC, "--out", "finished", "--json"),
    "show finished run": ("show", "finished"),
    "first run": (*NMC, "--out", "first"),
}


_LAUNCH = """
import os, sys
pid = os.fork()
if not pid:
    quiet = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(quiet, stream)
    os.execv(sys.argv[1], sys.argv[1:])
_, status, used = os.wait4(pid, 0)
print(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss)
"""
"""Starts a command from a small process: the peak of a process is at least that of its parent when
it was forked."""


class Cost(NamedTuple):
    """Cost of one command."""

    cpu: float
    """Seconds of the process tree."""
    memory: float
    """Peak of its largest process in MB."""


class Row(NamedTuple):
    """A command with its medians."""

    name: str
    before: Cost
    after: Cost

    def as_data(self) -> dict[str, object]:
        """The row for JSON."""
        return {"name": self.name, **{k: getattr(self, k)._asdict() for k in ("before", "after")}}


class Side(NamedTuple):
    """Code of one revision, and where its commands run."""

    name: str
    code: Path
    place: Path

    def measure(self, words: tuple[str, ...]) -> Cost:
        """Run a command in a new process."""
        shutil.rmtree(self.place / "first", ignore_errors=True)
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment |= {
            "PYTHONPATH": str(self.code),
            "PYTHONPYCACHEPREFIX": str(self.place / "compiled"),
            "CLGYM_CACHE": str(self.place / "cache"),
            "CLGYM_DATA": str(self.place / "data"),
            "CLGYM_STATE": str(self.place / "state"),
            "OMP_NUM_THREADS": "1",
        }
        line = [sys.executable, "-m", "clgym", *words]
        told = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _LAUNCH, *line],
            cwd=self.place,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        code, seconds, kilobytes = (float(word) for word in told.split())
        if code not in (0, 2):
            raise SystemExit(f"clgym {' '.join(words)} ended with {code:.0f}")
        return Cost(seconds, kilobytes / 1024)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure what starting up costs.")
    parser.add_argument("--before", default="main", metavar="REVISION")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=list(COMMANDS), choices=COMMANDS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        before = Side("before", _code_of(options.before, Path(folder, "code")), Path(folder, "b"))
        sides = [before, Side("after", ROOT, Path(folder, "a"))]
        for side in sides:
            side.place.mkdir()
        costs: dict[str, tuple[list[Cost], list[Cost]]] = {n: ([], []) for n in options.only}
        for number in range(options.rounds + 1):
            for name, found in costs.items():
                for which in (0, 1) if number % 2 else (1, 0):
                    cost = sides[which].measure(COMMANDS[name])
                    if number:
                        found[which].append(cost)
    rows = [_row(name, *found) for name, found in costs.items()]
    if options.json:
        print(json.dumps([row.as_data() for row in rows], indent=1))
        return
    print(f"{'':30}{'CPU s before':>14}{'after':>8}{'MB before':>12}{'after':>7}")
    for row in rows:
        before, after = row.before, row.after
        seconds = f"{before.cpu:14.2f}{after.cpu:8.2f}"
        print(f"{row.name:30}{seconds}{before.memory:12.0f}{after.memory:7.0f}")


def _code_of(revision: str, folder: Path) -> Path:
    """The files of a revision in a folder of their own."""
    line = ["git", "-C", str(ROOT), "archive", revision]
    packed = subprocess.run(line, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def _row(name: str, before: list[Cost], after: list[Cost]) -> Row:
    return Row(
        name, *(Cost(*map(statistics.median, zip(*c, strict=True))) for c in (before, after))
    )


if __name__ == "__main__":
    main()
