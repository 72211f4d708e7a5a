"""The methods with exemplars on a part of CIFAR-100, beside naive training: what they promise.

    python benchmarks/exemplars.py [--methods icarl wa ...] [--classes 10] [--per-class 60 40]
        [--increments 2] [--resize 16] [--network slim-resnet18] [--memory 100]
        [--first-epochs 30] [--epochs 15] [--seeds 0]

Runs every method on the same stream and prints the last accuracy of each head, the time, and the
largest number of exemplars after an experience. Then it checks three things: each method ends above
naive training, iCaRL's nearest mean of exemplars above its linear head, and WA above WA without
alignment (which holds where training is long enough that new rows are the longer ones; gamma is
printed by `clgym run`). Exits with 1 if one of them does not hold.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.results.record import LearningResult, Record

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "naive": ("naive", {}),
    "exemplar-replay": ("exemplar-replay", {}),
    "icarl": ("icarl", {}),
    "bic": ("bic", {"split_ratio": 0.2, "lambda_kd": 1.0}),
    "wa": ("wa", {"lambda_kd": 1.0}),
    "wa without alignment": ("wa", {"lambda_kd": 1.0, "align": False}),
    "podnet": ("podnet", {}),
    "expandable": ("expandable", {}),
    "foster": ("foster", {}),
    "memo": ("memo", {}),
    "beef": ("beef", {"network": "resnet32"}),
}
"""Strategy and options by row of the table."""

FURTHER = {"podnet": "finetune_epochs", "foster": "compression_epochs", "beef": "fusion_epochs"}
"""Option with the epochs of a strategy's further stage, which has as many as training."""


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--per-class", type=int, nargs=2, default=(60, 40))
    parser.add_argument("--increments", type=int, default=2)
    parser.add_argument("--resize", type=int, default=16)
    parser.add_argument("--network", default="slim-resnet18")
    parser.add_argument("--memory", type=int, default=100)
    parser.add_argument("--first-epochs", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    return parser.parse_args()


def config_of(given: argparse.Namespace, strategy: str, own: dict[str, Any]) -> dict[str, Any]:
    """Options of one method: those of all, and its own."""
    shared: dict[str, Any] = {"network": given.network, "batch_size": 32, "lr": 0.05}
    if strategy == "naive":
        return {**shared, "epochs": given.epochs, "momentum": 0.9, "augment": "crop-flip"}
    return {
        **shared,
        "first_epochs": given.first_epochs,
        "epochs": given.epochs,
        "milestones": 2,
        "schedule": "step",
        "memory_size": given.memory,
        **({FURTHER[strategy]: given.epochs} if strategy in FURTHER else {}),
        **own,
    }


def carried_out(given: argparse.Namespace, method: str, seed: int, folder: Path) -> Record:
    """One run."""
    strategy, own = METHODS[method]
    return run(
        Request(
            strategy,
            "split-cifar100",
            strategy_config=config_of(given, strategy, own),
            scenario_config={
                "classes": tuple(range(given.classes)),
                "increments": (given.increments,),
                "per_class": tuple(given.per_class),
                "resize": given.resize,
            },
            seed=seed,
            out=folder / f"{method.replace(' ', '-')}-{seed}",
        )
    )


def main() -> int:
    """Run, print, check."""
    given = parsed()
    last: dict[str, dict[str, float]] = {}
    print(f"{'method':<22}{'counts':>8}{'linear':>8}{'nme':>8}{'stored':>8}{'seconds':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for method in given.methods:
            records = [carried_out(given, method, seed, Path(folder)) for seed in given.seeds]
            last[method] = summary(records)
            row = (last[method].get(k, float("nan")) for k in ("counts", "linear", "nme"))
            stored = max(max(r.result.stored_after or [0]) for r in records)  # type: ignore[union-attr]
            seconds = sum(sum(r.cost.train_seconds) for r in records)
            cells = "".join(f"{100 * value:8.1f}" for value in row)
            print(f"{method:<22}{cells}{stored:8}{seconds:9.0f}", flush=True)
            assert stored <= given.memory, "more exemplars than declared"
    return report(last)


def summary(records: list[Record]) -> dict[str, float]:
    """Mean over seeds of the last accuracy, and of that of each head."""
    results = [record.result for record in records]
    found = {"counts": float(np.mean([r.last_accuracy for r in results]))}
    for result in results:
        assert isinstance(result, LearningResult)
        for head, after in (result.heads or {}).items():
            assert after[-1] is not None  # the last experience is always tested
            found[head] = found.get(head, 0.0) + after[-1] / len(results)
    return found


def report(last: dict[str, dict[str, float]]) -> int:
    """Print which of the expectations hold; 1 if one does not."""
    checks: list[tuple[str, bool]] = []
    if "naive" in last:
        floor = last["naive"]["counts"]
        others = ((m, v["counts"]) for m, v in last.items() if m != "naive")
        checks += [(f"{method} above naive", value > floor) for method, value in others]
    if "icarl" in last:
        head = last["icarl"]
        checks.append(("icarl: nme above linear", head["nme"] > head["linear"]))
    if {"wa", "wa without alignment"} <= last.keys():
        aligned, plain = last["wa"]["linear"], last["wa without alignment"]["linear"]
        checks.append(("wa above wa without alignment", aligned > plain))
    for what, holds in checks:
        print(f"{'ok' if holds else 'NOT':<4}{what}")
    return 0 if all(holds for _, holds in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
