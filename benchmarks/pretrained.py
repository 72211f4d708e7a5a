"""Records of the strategies on pretrained networks, for ``leaderboards/records``.

    python benchmarks/pretrained.py --weights FILE [--only WORD] [--list]

Runs are resumable: give the command again and it goes on; finished ones are passed over. Whole
CIFAR-100 with DeiT-Tiny at 224 px for `nmc` and `simplecil` (one pass over 60,000 images, then
seconds); 20 classes of 50 + 50 images at 112 px for all, so that they can be compared at that size.
"""

import argparse
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clgym.runner import Request, run

RECORDS = Path(__file__).parent.parent / "leaderboards" / "records"
SMALL: dict[str, Any] = {"classes": list(range(20)), "increments": [4], "per_class": [50, 50]}


@dataclass(frozen=True)
class Job:
    """One run: name of its record, strategy, stream, what it sets."""

    name: str
    strategy: str
    scenario: str
    options: dict[str, Any] = field(default_factory=dict)
    stream: dict[str, Any] = field(default_factory=dict)


def jobs() -> list[Job]:
    """The quick ones first."""
    small = {"image_size": 112, "fit": "stretch", "normalise": True}
    trained = {**small, "epochs": 10}
    found = [Job(f"{s}-small", s, "b0-inc10-cifar100", small, SMALL) for s in ("nmc", "simplecil")]
    for variant, more in (
        ("adapter", {"lr": 0.05}),
        ("ssf", {"lr": 0.05}),
        ("vpt-deep", {"lr": 0.05, "batch_size": 16}),
    ):
        options = {**trained, **more, "variant": variant}
        found.append(Job(f"aper-{variant}-small", "aper", "b0-inc10-cifar100", options, SMALL))
    found.append(Job("mos-small", "mos", "b0-inc10-cifar100", trained, SMALL))
    whole = {"image_size": 224, "fit": "stretch", "normalise": True}
    found += [Job(f"{s}-deit-tiny-224", s, "split-cifar100", whole) for s in ("nmc", "simplecil")]
    return found


def main() -> None:
    """Run what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="DeiT-Tiny's file")
    parser.add_argument("--only", default="", help="names that contain this word")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=Path, default=Path("runs") / "pretrained")
    given = parser.parse_args()
    for job in jobs():
        if given.only not in job.name:
            continue
        print(job.name, end=" " if not given.list else "\n", flush=True)
        if given.list:
            continue
        start = time.perf_counter()
        backbone = f"deit_tiny_patch16_224@{given.weights.resolve()}"
        record = run(
            Request(
                job.strategy,
                job.scenario,
                strategy_config={"backbone": backbone, **job.options},
                scenario_config=job.stream,
                threads=given.threads,
                device=given.device,
                out=given.work / job.name,
                checkpoint_minutes=1,
            )
        )
        target = RECORDS / job.name
        target.mkdir(parents=True, exist_ok=True)
        for file in ("record.json", "predictions.safetensors"):
            shutil.copyfile(given.work / job.name / file, target / file)
        result = record.result
        average, last = result.average_incremental_accuracy, result.last_accuracy
        print(f"{time.perf_counter() - start:.0f} s, average {average:.2%}, last {last:.2%}")


if __name__ == "__main__":
    main()
