"""What a training plug-in adds to a step of the strategy inside it: ratios to the plain step.

    python benchmarks/plugin_steps.py [--only NAME ...] [--rounds 15] [--steps 8] [--json]

The plain strategy and the wrapped one train on the same random images in turn, their order
alternating. A round is one experience of a few steps each, so what a plug-in does at the end of an
experience counts, too. Printed is the median over rounds of the ratio of processor times, with its
middle half, and the aim. No data set is needed.
"""

import argparse
import json
import time
from typing import Any

import numpy as np
import torch

from clgym.api import make_strategy
from clgym.strategy import Experience, Memory, StreamInfo

CASES: dict[str, tuple[str, dict[str, Any], float]] = {
    "plain": ("naive", {}, 1.0),
    "ema fixed": ("ema", {"rule": "fixed"}, 1.05),
    "ema dynamic": ("ema", {"rule": "released"}, 1.05),
    "sam": ("sam", {}, 2.1),
    "schedule": ("lr-schedule", {"kind": "rewarmed-cosine"}, 1.0),
    "schedule, no branch": ("lr-schedule", {"kind": "infinite", "resume": "chain"}, 1.0),
    "reweight": ("reweight", {}, 1.05),
}
"""By name: strategy, its options, and the aim: at most so many plain steps."""
SHAPE, CLASSES = (3, 32, 32), 10


class Trainee:
    """A strategy that trains on one experience after another, of the same images."""

    def __init__(self, name: str, options: dict[str, Any], network: str, steps: int) -> None:
        """Set it up for experiences of so many steps."""
        inside = "" if name == "naive" else "base."
        config = {f"{inside}network": network, f"{inside}batch_size": 32, f"{inside}lr": 0.01}
        self.strategy = make_strategy(name, **config, **options)
        mean, std = (0.5,) * 3, (0.25,) * 3
        self.strategy.setup(
            StreamInfo(
                SHAPE, "class-incremental", torch.device("cpu"), 0, mean, std, memory=Memory(0)
            )
        )
        self._rows, self._index = 32 * steps, 0

    def train(self) -> float:
        """Train on one experience; the processor's seconds."""
        draws = torch.Generator().manual_seed(self._index)
        images = torch.randint(0, 256, (self._rows, *SHAPE), dtype=torch.uint8, generator=draws)
        experience = Experience(
            self._index,
            images,
            torch.arange(self._rows) % CLASSES,
            classes=tuple(range(CLASSES)),
            columns=CLASSES,
            seed=0,
            scale=1 / 255,
        )
        self._index += 1
        started = time.process_time()
        self.strategy.train(experience)
        spent = time.process_time() - started
        experience.close()
        return spent


def measure(name: str, rounds: int, network: str, steps: int) -> dict[str, Any]:
    """Ratios of a plug-in's steps to plain ones."""
    strategy, options, aim = CASES[name]
    pair = (Trainee(strategy, options, network, steps), Trainee("naive", {}, network, steps))
    spent = np.empty((rounds + 1, 2))
    for number, row in enumerate(spent):
        for place in (0, 1) if number % 2 else (1, 0):
            row[place] = pair[place].train()
    ratios = spent[1:, 0] / spent[1:, 1]  # the first round warms up
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return {
        "name": name,
        "ratio": round(float(middle), 3),
        "middle_half": [round(float(low), 3), round(float(high), 3)],
        "plain_step_ms": round(1000 * float(np.median(spent[1:, 1])) / steps, 2),
        "aim": aim,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure what training plug-ins add to a step.")
    parser.add_argument("--only", nargs="*", default=[], choices=CASES, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--network", default="slim-resnet18")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    names = given.only or list(CASES)
    rows = [measure(name, given.rounds, given.network, given.steps) for name in names]
    if given.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'plug-in':22}{'ratio':>8}{'middle half':>18}{'plain step':>14}  aim")
    for row in rows:
        low, high = row["middle_half"]
        step = f"{row['plain_step_ms']:.1f} ms"
        span = f"{low:.3f} to {high:.3f}"
        print(f"{row['name']:22}{row['ratio']:8.3f}{span:>18}{step:>14}  {row['aim']:.2f}")


if __name__ == "__main__":
    main()
