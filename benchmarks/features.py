"""What the cache of frozen features brings: cold and warm runs, many runs, and its own overhead.

    python benchmarks/features.py --backbone NAME@FILE [--per-class 10] [--size 224] [--runs 15]

Runs `nmc` and `simplecil` on all classes of CIFAR-100, so many training and test images of each,
with a cache of its own. Printed: seconds of a bare timm loop over as many batches, of the first run
(of which: learning and answering), of the second, and of many runs over seeds and class orders.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from clgym.data.sources import load_source
from clgym.gym.request import Request
from clgym.gym.run import run


def bare(name: str, size: int, count: int, threads: int) -> float:
    """Seconds of a loop that does nothing but run the network on ready batches of 64."""
    import torch

    from clgym.models.backbones import Frozen, load

    torch.set_num_threads(threads)
    backbone = load(Frozen(name, size, "stretch"))
    batch = torch.rand(64, 3, size, size)
    with torch.no_grad():
        backbone.model(batch)
        start = time.perf_counter()
        for _ in range(-(-count // 64)):
            backbone.model(batch)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--per-class", type=int, default=10)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--runs", type=int, default=15, help="of each strategy")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CLGYM_CACHE"] = str(Path(folder) / "cache")

        inside = {"train": 0.0}

        def seconds(strategy: str, seed: int) -> float:
            request = Request(
                strategy,
                "split-cifar100",
                strategy_config={
                    "backbone": given.backbone,
                    "image_size": given.size,
                    "fit": "stretch",
                    "normalise": True,
                },
                scenario_config={"per_class": [given.per_class, given.per_class]},
                seed=seed,
                order_seed=seed,
                threads=given.threads,
                out=Path(folder) / f"{strategy}-{seed}-{time.monotonic_ns()}",
            )
            start = time.perf_counter()
            cost = run(request).cost
            inside["train"] = sum(cost.train_seconds) + sum(cost.predict_seconds)
            return time.perf_counter() - start

        images = 200 * given.per_class
        alone = bare(given.backbone, given.size, images, given.threads)
        load_source("cifar100")  # decoding is not what is measured
        first = seconds("nmc", 0)
        computing = inside["train"]
        second = seconds("nmc", 0)
        many = sum(seconds(s, i) for s in ("nmc", "simplecil") for i in range(given.runs))
    print(f"{images} images at {given.size} px, {given.threads} threads")
    print(f"bare timm loop   {alone:8.1f} s  {images / alone:.1f} images/s")
    print(f"first run        {first:8.1f} s  {computing / alone:.3f} x the bare loop inside")
    print(f"second run       {second:8.2f} s  {second / first:.2%} of the first")
    print(f"{2 * given.runs} runs          {many:8.1f} s  {(first + many) / first:.2f} x one pass")


if __name__ == "__main__":
    main()
