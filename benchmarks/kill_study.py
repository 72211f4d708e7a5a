"""Kill workers and coordinators of a study at random moments; compare its certificate.

    python benchmarks/kill_study.py --kills 20 -- replay digits-t2 --trials 8 --workers 2

First the study undisturbed. Then again and again: it is started, a worker is killed at a random
moment, then the coordinator, and the same command is given until it ends. A round costs two kills.
A moment is a random length of the ledger and a random while after it, so that the kills spread over
the study however busy the machine is. Exit code 1 if a certificate differs, or if a run is lost or
counted twice.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path


def command(out: Path, words: list[str]) -> list[str]:
    """The study as a user types it."""
    return [sys.executable, "-m", "clgym", "tune", *words, "--out", str(out)]


def start(out: Path, words: list[str]) -> subprocess.Popen:
    """Start it, quietly."""
    return subprocess.Popen(
        command(out, words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def finish(out: Path, words: list[str]) -> float:
    """Give the command until it succeeds; seconds it took."""
    began = time.monotonic()
    subprocess.run(command(out, words), check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def workers_of(pid: int) -> list[int]:
    """Processes of a coordinator, and theirs: study workers and learners."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    own = [int(word) for word in path.read_text().split()] if path.exists() else []
    return own + [inner for child in own for inner in workers_of(child)]


def entries(out: Path) -> list[dict]:
    """The ledger's whole lines."""
    path = out / "ledger.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def reaches(process: subprocess.Popen, out: Path, length: int, seconds: float) -> bool:
    """Wait for so many entries and so long after them; False if the study ended first."""
    while len(entries(out)) < length:
        if process.poll() is not None:
            return False
        time.sleep(0.02)
    try:
        process.wait(timeout=seconds)
        return False
    except subprocess.TimeoutExpired:
        return True


def round_of_kills(out: Path, words: list[str], length: int, moments: random.Random) -> list[str]:
    """One study with a dead worker and a dead coordinator; what was done to it."""
    told = []
    first, second = sorted(moments.randrange(length) for _ in range(2))
    process = start(out, words)
    if reaches(process, out, first, moments.uniform(0, 2)):
        victims = workers_of(process.pid)
        if victims:
            os.kill(moments.choice(victims), signal.SIGKILL)
            told.append(f"worker at entry {len(entries(out))}")
    if reaches(process, out, second, moments.uniform(0, 2)):
        process.kill()
        told.append(f"coordinator at entry {len(entries(out))}")
    process.wait()
    finish(out, words)
    return told


def body_of(out: Path) -> dict:
    """The certificate's deterministic part."""
    return json.loads((out / "certificate.json").read_text())["body"]


def counted_twice_or_lost(out: Path) -> bool:
    """Whether the ledger has not exactly one end for each run."""
    runs = Counter(entry["body"]["key"] for entry in entries(out) if entry["kind"] == "run")
    wanted = sum(len(trial["runs"]) for trial in body_of(out)["trials"])
    return len(runs) != wanted or set(runs.values()) != {1}


def main() -> int:
    """Run the harness; 0 if every certificate is equal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("study", nargs="+", help="STRATEGY PAIR and their flags")
    options = parser.parse_args()
    moments = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="clgym-kill-study-"))
    seconds = finish(folder / "whole" / "study", options.study)
    wanted = body_of(folder / "whole" / "study")
    length = len(entries(folder / "whole" / "study"))
    print(f"undisturbed: {seconds:.1f} s, {length} entries", flush=True)
    kills = differing = 0
    while kills < options.kills:
        out = folder / f"cut-{kills}" / "study"
        told = round_of_kills(out, options.study, length, moments)
        kills += max(len(told), 1)
        good = body_of(out) == wanted and not counted_twice_or_lost(out)
        differing += not good
        print(f"{'equal' if good else 'DIFFERENT'}: {', '.join(told) or 'ended first'}", flush=True)
    print(f"{kills} kills, {differing} studies differ")
    shutil.rmtree(folder)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
