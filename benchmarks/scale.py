"""Time and memory of large studies and large boards, as Markdown tables.

    python benchmarks/scale.py study [--trials 1000]
    python benchmarks/scale.py board [--records 100 1000 10000]

A trial trains nothing: a plugin answers at random, so that what is measured is the protocol. The
records of a board are copies of one run with other options and seeds, which hold by themselves.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PLUGIN = '''"""Answers by the images' sums, times an option."""

from dataclasses import dataclass
from typing import Annotated

import torch

from annotated_types import Interval
from clgym.strategy import Config, Strategy

SPACE = {"factor": {"low": 0.0, "high": 1.0}}


@dataclass(frozen=True)
class QuickConfig(Config):
    """Options."""

    factor: Annotated[float, Interval(ge=0, le=1)] = 0.5
    """Factor of the sums."""


class Quick(Strategy):
    """No learning."""

    Config = QuickConfig
    def setup(self, info):
        super().setup(info)
        self.seen = 0

    def train(self, experience):
        self.seen = experience.columns

    def predict(self, batch):
        sums = batch.images.flatten(1).sum(1, keepdim=True) * self.config.factor
        return torch.cos(sums * torch.arange(1, self.seen + 1))
'''


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure large studies and boards.")
    parser.add_argument("what", choices=["study", "board"])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--records", type=int, nargs="*", default=[100, 1000, 10_000])
    asked = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    with tempfile.TemporaryDirectory() as folder:
        if asked.what == "study":
            study(Path(folder), asked.trials)
        else:
            board(Path(folder), asked.records)


def clgym(*words: str) -> tuple[float, int]:
    """Give a command; seconds, and the largest resident memory of any of its processes in bytes."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "clgym", *words], stdout=said, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            sys.exit(f"{' '.join(words)}:\n{said.read()[-4000:]}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return time.perf_counter() - started, peak


def row(what: str, seconds: float, peak: int, size: int) -> None:
    """One line of the table."""
    print(f"| {what} | {seconds:.1f} s | {peak / 2**20:.0f} MiB | {size / 2**20:.1f} MiB |")
    sys.stdout.flush()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files)


def study(folder: Path, trials: int) -> None:
    """A study, the same command once it is finished, its evaluation and its audit."""
    plugin, out = folder / "quick.py", folder / "study"
    plugin.write_text(PLUGIN)
    own = ("--plugin", str(plugin))
    print("| command | time | peak memory | files |\n|---|---|---|---|")
    fixed = ("--seeds", "0..0", "--trials", str(trials), "--out", str(out), "--workers", "2", *own)
    row(f"`tune`, {trials} trials", *clgym("tune", "quick", "digits-t2", *fixed), size_of(out))
    row("the same again, finished", *clgym("tune", "quick", "digits-t2", *fixed), size_of(out))
    row("`evaluate`", *clgym("evaluate", str(out), *own), size_of(out))
    row("`verify`", *clgym("verify", str(out), *own), size_of(out / "ledger.jsonl"))


def board(folder: Path, counts: list[int]) -> None:
    """Boards of growing size; five seeds a method."""
    run, records = folder / "run", folder / "leaderboards/records"
    clgym("run", "nmc", "split-digits", "--out", str(run), "--threads", "1")
    record = json.loads((run / "record.json").read_text())
    print("| records | time of `clgym board` | peak memory | page |\n|---|---|---|---|")
    made = 0
    for count in sorted(counts):
        for number in range(made, count):
            place = records / f"method-{number // 5}" / f"seed-{number % 5}"
            place.mkdir(parents=True)
            result = record["result"]
            result["seed"] = number % 5
            result["strategy"]["source_hash"] = f"{number // 5:064x}"
            (place / "record.json").write_text(json.dumps(record))
            os.link(run / "predictions.safetensors", place / "predictions.safetensors")
        made = count
        words = ("board", str(folder / "leaderboards"), "--out", str(folder / "site"))
        row(f"{count:,}", *clgym(*words), size_of(folder / "site/index.html"))


if __name__ == "__main__":
    main()
