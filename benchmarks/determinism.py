"""Run every strategy in several ways, and compare records and predictions bit by bit.

    python benchmarks/determinism.py [--only WORD ...] [--minutes 60]

Every strategy that needs no weights and no data beside `digits` runs on a small stream with seed 0:

    again      the same command in other processes
    workers    as the second of two seeds that two workers run at the same time
    inline     gym and learner in one process, with the first run's order of test images, which
               would be another one: it follows from everything that describes a run
    resumed    killed in the middle, then the same command until its end

A result is equal if all of the record's `result` is, which holds the SHA-256 of the predictions.
Exit code 1 if one differs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kills import small_run

from clgym import registry
from clgym.errors import ClgymError

FIXED = ("--threads", "1")
INLINE = "import clgym, json, sys; clgym.run(*sys.argv[1:3], **json.loads(sys.argv[3]))"
Result = object
"""A record's block `result`; an error's last line where there is no record."""


def main() -> int:
    """Run, compare and print a table; 1 if something differs."""
    parser = argparse.ArgumentParser(description="Compare the results of equal runs.")
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD")
    parser.add_argument("--minutes", type=float, default=1e6, help="Stop after this long.")
    asked = parser.parse_args()
    ends, differ = time.monotonic() + 60 * asked.minutes, 0
    print("| strategy | " + " | ".join(WAYS) + " |\n|" + "---|" * (1 + len(WAYS)))
    for name in sorted(registry.entries("strategies", ())):
        if time.monotonic() > ends or (asked.only and not any(w in name for w in asked.only)):
            continue
        with tempfile.TemporaryDirectory(prefix="clgym-determinism-") as folder:
            words = compared(name, Path(folder))
        differ += words.count("differs")
        print(f"| {name} | {' | '.join(words)} |", flush=True)
    return 1 if differ else 0


def compared(name: str, folder: Path) -> list[str]:
    """What came of each way, for the table."""
    try:
        words = small_run(name)
    except ClgymError as error:
        return [f"left out: {str(error)[:100]}"]
    started = time.monotonic()
    first = finished(words, folder / "first")
    seconds = time.monotonic() - started
    if isinstance(first, str):
        return [f"left out: {first[:100]}"]
    return [
        "equal" if way(words, folder / key, seconds) == first else "differs"
        for key, way in WAYS.items()
    ]


def command(words: list[str], *more: str) -> list[str]:
    """A command line."""
    return [sys.executable, "-m", "clgym", "run", *words, *FIXED, *more]


def finished(words: list[str], out: Path, *more: str, record: str = "") -> Result:
    """Give a command, and read a record below its folder."""
    line = command(words, "--out", str(out), *more)
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no word"])[-1]
    return json.loads((out / record / "record.json").read_text())["result"]


def again(words: list[str], out: Path, _: float) -> Result:
    """The same command once more."""
    return finished(words, out)


def workers(words: list[str], out: Path, _: float) -> Result:
    """Two seeds at the same time."""
    return finished(words, out, "--seeds", "1,0", "--workers", "2", record="seed-0")


def inline(words: list[str], out: Path, _: float) -> Result:
    """One process for gym and learner, in the first run's order."""
    strategy, scenario, *flags = words
    pairs = zip(flags[::2], flags[1::2], strict=True)
    config = {f[2:].replace("-", "_"): int(v) if v.isdigit() else v for f, v in pairs}
    first = json.loads((out.parent / "first/record.json").read_text())
    given = {
        "config": config,
        "engine": "inline",
        "threads": 1,
        "out": str(out),
        "order_key": first["environment"]["order_key"],
    }
    line = [sys.executable, "-c", INLINE, strategy, scenario, json.dumps(given)]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no word"])[-1]
    return json.loads((out / "record.json").read_text())["result"]


def resumed(words: list[str], out: Path, seconds: float) -> Result:
    """Killed in the middle of its time, and once more a bit later, then continued."""
    saves = ("--checkpoint-minutes", "0.005")
    for share in (0.5, 0.6):
        line = command(words, "--out", str(out), *saves)
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=share * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return finished(words, out, *saves)


WAYS: dict[str, Callable[[list[str], Path, float], Result]] = {
    "again": again,
    "workers": workers,
    "inline": inline,
    "resumed": resumed,
}


if __name__ == "__main__":
    sys.exit(main())
