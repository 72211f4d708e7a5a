"""Cost of the promises: the same commands under several versions of clgym, one after the other.

Each command runs under every tree in turn, for a number of rounds; the order of the trees changes
from round to round. Printed are medians of the wall time and of the processor time of all processes
of a command, and the load of the machine::

    python benchmarks/promises.py --tree before=PATH --tree now=. [--rounds 5] [--only NAME ...]

A tree is a checkout. Needs digits alone; ``--only mnist`` needs MNIST below ``CLGYM_DATA``.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RUNS: dict[str, list[str]] = {
    "a run: nmc, 5 experiences": ["run", "nmc", "split-digits"],
    "a run: replay, mlp, 5 experiences": ["run", "replay", "split-digits"],
    "a run: replay, slim-resnet18, 1 epoch": [
        *("run", "replay", "split-digits", "--network", "slim-resnet18", "--epochs", "1")
    ],
    "a run: source, 1,800 batches of 1": ["run", "source", "digits-c", "--batch-size", "1"],
    "a run: nmc, online, 20 tests inside": ["run", "nmc", "online-digits"],
    "mnist: nmc, 5 experiences": ["run", "nmc", "split-mnist"],
}
STUDY = "verify of a study"


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description="Measure what the promises cost.")
    parser.add_argument("--tree", action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD")
    asked = parser.parse_args()
    trees = {n: Path(p).resolve() for n, p in (t.split("=", 1) for t in asked.tree)}
    names = [n for n in (*RUNS, STUDY) if not asked.only or any(w in n for w in asked.only)]
    names = [n for n in names if n.split(":")[0] != "mnist" or "mnist" in asked.only]
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {asked.rounds} rounds\n")
    print("| command | " + " | ".join(f"{n}: wall, CPU" for n in trees) + " |")
    print("|---" * (1 + len(trees)) + "|")
    for name in names:
        times = measure(name, trees, asked.rounds)
        cells = [f"{w:.2f} s, {c:.2f} s" for w, c in (np.median(times[t], 0) for t in trees)]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


def measure(name: str, trees: dict[str, Path], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Wall and processor seconds of each tree, round by round, after one round to warm up."""
    times: dict[str, list[tuple[float, float]]] = {tree: [] for tree in trees}
    with tempfile.TemporaryDirectory() as folder:
        commands = {t: command_of(name, path, Path(folder, t)) for t, path in trees.items()}
        for number in range(rounds + 1):
            order = list(trees) if number % 2 else list(reversed(trees))
            for tree in order:
                out = Path(folder, f"{tree}-{number}")
                extra = [] if name == STUDY else ["--out", str(out), "--threads", "1"]
                times[tree].append(timed([*commands[tree], *extra], trees[tree]))
    return {tree: found[1:] for tree, found in times.items()}


def command_of(name: str, tree: Path, folder: Path) -> list[str]:
    """The command line, after what it needs was made."""
    if name != STUDY:
        return RUNS[name]
    fixed = ["--epochs", "1", "--trials", "2", "--seeds", "0..0", "--out", str(folder)]
    timed(["tune", "replay", "digits-t2", *fixed], tree)
    timed(["evaluate", str(folder)], tree)
    return ["verify", str(folder)]


def timed(command: list[str], tree: Path) -> tuple[float, float]:
    """Wall seconds, and processor seconds of the command and all its processes."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    line = [sys.executable, "-m", "clgym", *command]
    done = subprocess.run(line, env=environment, cwd="/", capture_output=True, text=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)} under {tree}:\n{done.stderr}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, used


if __name__ == "__main__":
    main()
