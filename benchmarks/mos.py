"""Lazy retrieval of MOS against all adapters: the same answers, how much faster.

    python benchmarks/mos.py --backbone NAME@FILE [--size 64] [--per-class 20] [--test 400]

Trains `mos` on ten tasks of two CIFAR-100 classes (few images, one epoch), then answers the test
images twice: with the adapters that each image visits, and with all ten for every image.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from clgym.data.sources import load_source
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.learner.trained import Trained
from clgym.models.heads import cosine_logits
from clgym.strategy import Batch


def _decide(strategy: Any, features: torch.Tensor) -> torch.Tensor:
    """Predictions from the features [n, 10, d] of all adapters: the rule, image by image."""
    found = []
    for own in features:
        logits = guess = cosine_logits(own[:1], strategy.prototypes)[0]
        task = int(strategy.task_of[guess.argmax()])
        for _ in range(4):
            logits = strategy.head(own[task])
            asked, task = task, int(strategy.task_of[logits.argmax()])
            if task == asked:
                break
        found.append((logits.softmax(0) + (len(own) * guess).softmax(0)).argmax())
    return torch.stack(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--per-class", type=int, default=20)
    parser.add_argument("--test", type=int, default=400)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        run(
            Request(
                "mos",
                "split-cifar100",
                strategy_config={
                    "backbone": given.backbone,
                    "image_size": given.size,
                    "fit": "stretch",
                    "normalise": True,
                    "epochs": 3,
                    "align_epochs": 3,
                    "batch_size": 16,
                },
                scenario_config={
                    "classes": list(range(20)),
                    "increments": [2],
                    "per_class": [given.per_class, given.per_class],
                },
                out=out,
            )
        )
        strategy: Any = Trained.load(out, "cpu").strategy
    source = load_source("cifar100")
    rows = [i for i, label in enumerate(source.test.labels) if label < 20][: given.test]
    pixels = torch.from_numpy(source.test.images[rows]).permute(0, 3, 1, 2)
    batches = [pixels[i : i + 64].float() / 255 for i in range(0, len(pixels), 64)]
    visits, seconds, answers = 0, {"lazy": 0.0, "all": 0.0}, {"lazy": [], "all": []}
    with torch.no_grad():
        for images in batches:
            start = time.perf_counter()
            answers["lazy"].append(strategy.predict(Batch(images)).argmax(1))
            seconds["lazy"] += time.perf_counter() - start
            fed = strategy.backbone.prepare(images)
            visited = strategy.retrieve(fed)[2]
            needed = [{0, *(v for v in row if v >= 0)} for row in visited.tolist()]
            visits += sum(map(len, needed))
            start = time.perf_counter()
            every = [strategy.stored(fed, torch.full((len(fed),), t)) for t in range(10)]
            seconds["all"] += time.perf_counter() - start
            answers["all"].append(_decide(strategy, torch.stack(every, dim=1)))
    same = torch.equal(torch.cat(answers["lazy"]), torch.cat(answers["all"]))
    print(f"{len(rows)} images, {visits / len(rows):.2f} adapters each")
    print(f"lazy {seconds['lazy']:.1f} s, all ten {seconds['all']:.1f} s: ", end="")
    print(f"{seconds['all'] / seconds['lazy']:.2f} x, {'same' if same else 'OTHER'} predictions")


if __name__ == "__main__":
    main()
