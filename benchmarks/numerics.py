"""How far options for speed move a run, and what it costs with them, as a Markdown table.

    python benchmarks/numerics.py naive replay derpp [--run split-digits --momentum 0.9 ...]

Each strategy is run once as it is and once with each option; everything after `--run` goes to
`clgym run`. The columns:

* predictions that differ: share of all test predictions, after every experience;
* weights: largest difference of a number in the final state, relative to the largest number of its
  array;
* average: difference of the average incremental accuracy, in points;
* training, processor: seconds of training by the clock, and processor time of the learners, each
  divided by that of the run as it is. One short run on a busy machine: for orders of magnitude.

Repeated runs without an option agree in every bit, so that every difference is the option's.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from clgym.results.layout import STATE
from clgym.results.stored import StoredRun, open_run

VARIANTS = {
    "foreach": ["--optimizer-kernel", "foreach"],
    "fused": ["--optimizer-kernel", "fused"],
    "bf16": ["--arithmetic", "bf16"],
    "channels-last": ["--channels-last"],
    "compile": ["--compile", "--sandbox", "none"],
}


def carry_out(strategy: str, words: list[str], folder: Path) -> StoredRun | None:
    """Run once; None if the options are refused."""
    command = ["clgym", "run", strategy, *words, "--threads", "1", "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{strategy}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return open_run(folder)


def predicted(run: StoredRun) -> np.ndarray:
    """Predicted classes after every experience, one after the other."""
    arrays = run.predictions().arrays
    return np.concatenate([arrays[n] for n in sorted(arrays) if n.endswith("/predicted")])


def moved(one: StoredRun, other: StoredRun) -> float:
    """Largest relative difference of the two final states; NaN if their arrays differ in shape."""
    before, after = (load_file(run.folder / STATE) for run in (one, other))
    found = 0.0
    for name, array in before.items():
        if array.dtype.kind != "f" or not array.size:
            continue
        if name not in after or after[name].shape != array.shape:
            return float("nan")
        scale = np.abs(array).max()
        found = max(found, float(np.abs(array - after[name]).max() / scale) if scale else 0.0)
    return found


def row(name: str, plain: StoredRun, other: StoredRun) -> str:
    """Row of the table: a run with an option, compared with the run as it is."""
    differing = (predicted(plain) != predicted(other)).mean()
    average = [run.result.average_incremental_accuracy or 0 for run in (plain, other)]
    costs = [run.record.cost for run in (plain, other)]
    training = [sum(cost.train_seconds) for cost in costs]
    processor = [cost.cpu_seconds or 0 for cost in costs]
    return (
        f"| {name} | {100 * differing:.2f} % | {moved(plain, other):.0e} "
        f"| {100 * (average[1] - average[0]):+.2f} "
        f"| {training[1] / training[0]:.2f} x | {processor[1] / processor[0]:.2f} x |"
    )


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("strategies", nargs="+", help="Strategies to run.")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--run", nargs=argparse.REMAINDER, default=[], help="For `clgym run`.")
    values = parser.parse_args()
    words = values.run or ["split-digits"]
    print("| run | predictions that differ | weights | average | training | processor |")
    print("|---|---|---|---|---|---|", flush=True)
    for strategy in values.strategies:
        with tempfile.TemporaryDirectory() as folder:
            plain = carry_out(strategy, words, Path(folder, "plain"))
            if plain is None:
                continue
            for name in values.variants:
                other = carry_out(strategy, [*words, *VARIANTS[name]], Path(folder, name))
                if other is not None:
                    print(row(f"{strategy}, {name}", plain, other), flush=True)


if __name__ == "__main__":
    main()
