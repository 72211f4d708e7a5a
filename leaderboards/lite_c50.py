"""The paper's question at a size that runs on two cores: do tuning ranks hold on other data?

    python leaderboards/lite_c50.py --workers 2 --out studies/lite-c50

Tunes five strategies with one budget on CIFAR-100 labels 0-49 and evaluates them on labels 50-99
(pair ``lite-c50``: five experiences of ten classes, part of the images, a small network). Then it
prints rank in tuning against rank in evaluation, with intervals. What is done already is not done
again: stop it and start it as you like. `--device cuda --pair-option network='"slim-resnet18"'`
takes a larger network, under a pair name of its own.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

STRATEGIES = ("naive", "replay", "derpp", "avalanche:EWC", "avalanche:LwF")
REFERENCE = "nmc"
"""Has nothing to tune: evaluated with its defaults."""
RESAMPLES = 2000


def clgym(*words: str) -> None:
    """One command, as a user types it."""
    subprocess.run([sys.executable, "-m", "clgym", *words], check=True, stdout=subprocess.DEVNULL)


def study(name: str, mode: str, options: argparse.Namespace, more: list[str]) -> Path:
    """Tune and evaluate one strategy, or go on with that; where its files lie."""
    out = options.out / name.replace(":", "-")
    where = ["--workers", str(options.workers), "--devices", options.device]
    began = time.monotonic()
    clgym("tune", name, "lite-c50", "--mode", mode, "--out", str(out), *where, *more)
    results = sorted(out.glob("evaluations/*/evaluation.json"))
    if not results:
        clgym("evaluate", str(out), *where)
    print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return out


def evaluation_of(out: Path) -> dict:
    """The first evaluation's file."""
    return json.loads((out / "evaluations/1/evaluation.json").read_text())


def scores_of(evaluation: dict) -> np.ndarray:
    """Of each seed: mean of last and average incremental accuracy, in percent."""
    pairs = [(s["last_accuracy"], s["average_incremental_accuracy"]) for s in evaluation["seeds"]]
    return 100 * np.mean(np.array(pairs, dtype=float), axis=1)


def ranks(values: np.ndarray) -> np.ndarray:
    """1 for the highest, along the first axis."""
    return 1 + np.argsort(np.argsort(-values, axis=0), axis=0)


def interval(values: np.ndarray) -> tuple[float, float]:
    """Bounds that hold 95 % of the values."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def table(outs: dict[str, Path]) -> str:
    """Tuning rank, evaluation rank with its interval over seeds, and how both agree."""
    evaluations = {name: evaluation_of(out) for name, out in outs.items()}
    tuned = [name for name, e in evaluations.items() if e["tuning_score"] is not None]
    tuning = np.array([100 * evaluations[name]["tuning_score"] for name in tuned])
    seeds = np.stack([scores_of(evaluations[name]) for name in tuned])
    # Seeds are shared by the strategies: they are drawn together.
    generator = np.random.default_rng(0)
    drawn = generator.integers(0, seeds.shape[1], (RESAMPLES, seeds.shape[1]))
    means = seeds[:, drawn].mean(axis=2)
    before, after, spread = ranks(tuning), ranks(seeds.mean(axis=1)), ranks(means)
    lines = ["| strategy | tuning % | rank | evaluation % | 95 % interval | rank | 95 % interval |"]
    lines.append("|---|---|---|---|---|---|---|")
    for i in np.argsort(after):
        low, high = interval(means[i])
        first, last = interval(spread[i])
        lines.append(
            f"| {tuned[i]} | {tuning[i]:.2f} | {before[i]} | {seeds[i].mean():.2f} | "
            f"{low:.2f} to {high:.2f} | {after[i]} | {first:.0f} to {last:.0f} |"
        )
    for name in outs.keys() - set(tuned):
        mean = scores_of(evaluations[name]).mean()
        lines.append(f"| {name} (defaults) | - | - | {mean:.2f} | - | - | - |")
    agreement = np.corrcoef(before, after)[0, 1]
    lines.append(f"\nSpearman correlation of the ranks: {agreement:.2f}")
    e = evaluations[tuned[0]]
    lines.append(f"{e['budget']['started']} settings x {len(e['seeds'])} seeds each, mode transfer")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("studies/lite-c50"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options, more = parser.parse_known_args()
    began = time.monotonic()
    outs = {name: study(name, "transfer", options, more) for name in STRATEGIES}
    outs[REFERENCE] = study(REFERENCE, "default", options, more)
    print(table(outs))
    print(f"{(time.monotonic() - began) / 60:.1f} minutes in this session")


if __name__ == "__main__":
    main()
