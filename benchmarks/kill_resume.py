"""Kill a run at random moments, continue it, compare its result with an undisturbed one.

    python benchmarks/kill_resume.py --kills 10 -- replay split-mnist

Each round starts the command, sends SIGKILL to the gym (its worker follows) at a random moment
of the undisturbed run's length, then gives the same command again. A round whose run had ended
before the kill does not count. Exit code 1 if any result differs.
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
from pathlib import Path


def command(out: Path, words: list[str]) -> list[str]:
    """The run as a user types it; a save every 0.6 s, so that kills fall between saves."""
    run = [sys.executable, "-m", "clgym", "run", *words]
    return [*run, "--out", str(out), "--checkpoint-minutes", "0.01"]


def undisturbed(out: Path, words: list[str]) -> float:
    """Run to the end; seconds it took."""
    started = time.monotonic()
    nowhere = subprocess.DEVNULL
    subprocess.run(command(out, words), check=True, stdout=nowhere, stderr=nowhere)
    return time.monotonic() - started


def killed(out: Path, words: list[str], after: float) -> bool:
    """Start, kill the gym after so many seconds; False if it had ended by then."""
    process = subprocess.Popen(
        command(out, words), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        process.wait(timeout=after)
        return False
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return True


def result_of(out: Path) -> dict:
    """The deterministic part of a run's record."""
    return json.loads((out / "record.json").read_text())["result"]


def main() -> int:
    """Run the harness; 0 if every result is equal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("run", nargs="+", help="STRATEGY SCENARIO and their flags")
    options = parser.parse_args()
    moments = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="clgym-kill-"))
    seconds = undisturbed(folder / "whole", options.run)
    wanted = result_of(folder / "whole")
    sys.stdout.write(f"undisturbed: {seconds:.1f} s\n")
    kills = differing = 0
    while kills < options.kills:
        after = moments.uniform(0, seconds)
        out = folder / f"cut-{after:.3f}"
        if not killed(out, options.run, after):
            continue
        kills += 1
        stood = sorted(p.name for p in out.glob("*")) if out.exists() else []
        undisturbed(out, options.run)
        equal = result_of(out) == wanted
        differing += not equal
        verdict = "equal" if equal else "DIFFERENT"
        sys.stdout.write(f"killed after {after:5.1f} s  {verdict}  {', '.join(stood)}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{kills - differing} of {kills} equal\n")
    shutil.rmtree(folder)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
