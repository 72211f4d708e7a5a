"""How much sooner two workers finish a study of equal trials than one: wall time, same certificate.

    python benchmarks/workers.py --workers 1 2 -- naive digits-t2 --trials 8 --epochs 40

Without words of its own it takes digits with a longer training, so that the start of the processes
does not decide. One torch thread a run on both sides. Exit code 1 if two workers need more than 0.6
of the time of one.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STUDY = "naive digits-t2 --trials 8 --seeds 0..1 --lr 0.05 --batch-size 4 --epochs {epochs}"
LIMIT = 0.6


def timed(out: Path, words: list[str], workers: int) -> tuple[float, str]:
    """Seconds of a study, and its certificate's hash."""
    began = time.monotonic()
    study = [sys.executable, "-m", "clgym", "tune", *words, "--workers", str(workers)]
    subprocess.run(
        [*study, "--out", str(out)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    certificate = json.loads((out / "certificate.json").read_text())
    return time.monotonic() - began, certificate["hash"]


def main() -> int:
    """Measure; 0 if two workers are quick enough."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--epochs", type=int, default=60, help="Of the study that is built in.")
    parser.add_argument("study", nargs="*", help="STRATEGY PAIR and their flags")
    options = parser.parse_args()
    words = options.study or STUDY.format(epochs=options.epochs).split()
    seconds, hashes = {}, set()
    with tempfile.TemporaryDirectory(prefix="clgym-workers-") as folder:
        for workers in options.workers:
            out = Path(folder) / str(workers) / "study"
            seconds[workers], digest = timed(out, words, workers)
            hashes.add(digest)
            share = seconds[workers] / seconds[options.workers[0]]
            print(
                f"{workers} workers: {seconds[workers]:.1f} s, {share:.2f} of the first", flush=True
            )
    print("one certificate" if len(hashes) == 1 else f"DIFFERENT certificates: {hashes}")
    slow = {1, 2} <= seconds.keys() and seconds[2] > LIMIT * seconds[1]
    return 1 if slow or len(hashes) > 1 else 0


if __name__ == "__main__":
    sys.exit(main())
