"""Refresh learning, DST and CLR on real images at sizes that two processor cores can do.

Every run goes on where it was stopped, and what is finished is not run again::

    python leaderboards/lite_networks.py [--only refresh clr dst] [--runs runs/lite] [--toy]

Records are copied to ``leaderboards/records/``; ``--toy`` runs everything at a tiny size, for a
trial, and copies nothing. Needs CIFAR-10, CIFAR-100, MNIST and PACS under ``CLGYM_DATA``, and for
CLR MobileNetV2 in ``weights/mobilenetv2_100.tf_imagenet1k.safetensors`` below it.
"""

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scipy import stats

from clgym.record import Record
from clgym.request import Request
from clgym.runner import run

RECORDS = Path(__file__).parent / "records"
SEEDS = (0, 1, 2)


def main() -> None:
    """Run what is asked for and print what it shows."""
    parser = argparse.ArgumentParser(description="Lite evidence of the trained networks.")
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--runs", type=Path, default=Path("runs/lite"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--toy", action="store_true")
    options = parser.parse_args()
    for part in options.only:
        records: dict[str, Record] = {}
        for name, request in PARTS[part](options.toy):
            out = options.runs / ("toy" if options.toy else "full") / name
            started = time.perf_counter()
            records[name] = run(Request(**request, out=out, threads=options.threads))
            seconds = time.perf_counter() - started
            result = records[name].result
            print(
                f"{name:40} accuracy {100 * result.last_accuracy:6.2f} %  "
                f"forgetting {100 * (result.forgetting or 0):6.2f}  {seconds:6.0f} s",
                flush=True,
            )
            if not options.toy:
                RECORDS.mkdir(exist_ok=True)
                shutil.copy(out / "record.json", RECORDS / f"lite-{name}.json")
        SUMMARIES[part](records)


Runs = Iterator[tuple[str, dict[str, Any]]]


def refresh_runs(toy: bool) -> Runs:
    """Split CIFAR-10, 100 images a class, 5 epochs, reduced ResNet-18: bases with and without."""
    size: dict[str, Any] = {"per_class": (8, 5) if toy else (100, 100)}
    scenario = {**size, "network": "slim-resnet18", "memory_size": 200}
    bases = {"derpp": {"lr": 0.03, "alpha": 0.1, "beta": 0.5}, "replay": {"lr": 0.1}}
    for base, options in bases.items():
        own = {**options, "epochs": 1 if toy else 5, "augment": "crop-flip"}
        under = {f"base.{key}": value for key, value in own.items()}
        for seed in SEEDS[: 1 if toy else None]:
            common = {"scenario": "split-cifar10", "scenario_config": scenario, "seed": seed}
            yield f"{base}-s{seed}", {"strategy": base, "strategy_config": own, **common}
            config = {"base": base, "fisher_samples": 8 if toy else 100, **under}
            yield (
                f"refresh-{base}-s{seed}",
                {"strategy": "refresh", "strategy_config": config, **common},
            )


def refresh_summary(records: dict[str, Record]) -> None:
    """Refresh minus base, the seeds paired."""
    for base in ("derpp", "replay"):
        gains = [
            100
            * (r.result.last_accuracy - records[name.removeprefix("refresh-")].result.last_accuracy)
            for name, r in records.items()
            if name.startswith(f"refresh-{base}")
        ]
        print(f"refresh minus {base}: {interval(gains)} points")


def dst_runs(toy: bool) -> Runs:
    """Four tasks of ten CIFAR-100 classes, 50 images a class, 80 and 90 % sparse."""
    scenario = {
        "classes": tuple(range(8 if toy else 40)),
        "increments": (4 if toy else 10,),
        "per_class": (4, 4) if toy else (50, 50),
        "network": "slim-resnet18",
    }
    for density in (0.2, 0.1):
        for init in ("erk", "uniform"):
            for seed in SEEDS[: 1 if toy else None]:
                config = {
                    "density": density,
                    "init": init,
                    "epochs": 1 if toy else 10,
                    "batch_size": 32,
                    "update_every": 20,
                    "augment": "crop-flip",
                }
                yield (
                    f"dst-{init}-{round(100 * (1 - density))}-s{seed}",
                    {
                        "strategy": "dst",
                        "scenario": "task-cifar100",
                        "strategy_config": config,
                        "scenario_config": scenario,
                        "seed": seed,
                    },
                )


def dst_summary(records: dict[str, Record]) -> None:
    """ERK minus uniform at each sparsity, the seeds paired; forgetting must be zero."""
    for sparsity in (80, 90):
        gains = [
            100
            * (
                r.result.last_accuracy
                - records[name.replace("erk", "uniform")].result.last_accuracy
            )
            for name, r in records.items()
            if name.startswith(f"dst-erk-{sparsity}")
        ]
        print(f"ERK minus uniform at {sparsity} %: {interval(gains)} points")
    worst = max(abs(r.result.forgetting or 0.0) for r in records.values())
    print(f"largest forgetting of all runs: {worst}")


def clr_runs(toy: bool) -> Runs:
    """Eight tasks from five data sets, 400 images each, on MobileNetV2; and its wider variant."""
    weights = Path(os.environ["CLGYM_DATA"]) / "weights/mobilenetv2_100.tf_imagenet1k.safetensors"
    for variant in ("clr", "full"):
        config = {
            "backbone": f"mobilenetv2_100@{weights}",
            "image_size": 32 if toy else 64,
            "variant": variant,
            "epochs": 1 if toy else 6,
        }
        yield (
            f"clr-{variant}-s0",
            {
                "strategy": "clr",
                "scenario": "multi-small",
                "strategy_config": config,
                "scenario_config": {"images": (40, 40) if toy else (400, 200)},
            },
        )


def clr_summary(records: dict[str, Record]) -> None:
    """Accuracy by task, what a task adds, and that nothing changes afterwards."""
    for name, record in records.items():
        matrix, own = record.result.accuracy_matrix, record.cost.own
        tasks = " ".join(f"{100 * (row[i] or 0):.1f}" for i, row in enumerate(matrix))
        same = all(row[j] == matrix[j][j] for i, row in enumerate(matrix) for j in range(i))
        print(f"{name}: by task {tasks}; + {own['growth_percent']:.3f} % a task; unchanged: {same}")


def _points(one: Record, other: Record) -> float:
    return 100 * (one.result.last_accuracy - other.result.last_accuracy)


def interval(values: list[float]) -> str:
    """Mean and 95 % interval (Student's t)."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:+.2f}"
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"


PARTS = {"refresh": refresh_runs, "dst": dst_runs, "clr": clr_runs}
SUMMARIES = {"refresh": refresh_summary, "dst": dst_summary, "clr": clr_summary}

if __name__ == "__main__":
    main()
