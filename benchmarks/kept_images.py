"""What it costs to look for past images in a strategy's reach, and to count what it holds.

The look is `signatures` of the new images and the `search` among what the strategy reaches. The
other parts count parameters: the first answer is followed operation by operation (`dataflow`), and
what is held is added up (`count`).

    python benchmarks/kept_images.py [--repeats 3] [--runs digits cifar100]

Each run is carried out with and without the look in turn, in one process and on one thread. Printed
are the medians of the processor time of a whole run, and the median share of it that was spent in
the look itself, which other work on the machine does not disturb. The aim is at most 1 % of a run
of ordinary length; a run of a second spends more.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from torch import Tensor

from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.learner.holdings import Bookkeeper
from clgym.learner.oversight import Oversight
from clgym.messages import Holdings

RUNS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "digits": ("naive", "split-digits", {"epochs": 10}, {}),
    "cifar100": (
        "replay",
        "split-cifar100",
        {"network": "slim-resnet18", "memory_size": 500, "epochs": 1},
        {"classes": tuple(range(20)), "per_class": (200, 20), "increments": (10,)},
    ),
}
"""Strategy and scenario with their options."""
NOTHING = Holdings(trainable=0, total=0, buffers=0, stored={}, backbone=False)


class Blind(Oversight):
    """Looks at nothing."""

    def note_experience(self, index: int, pixels: Tensor) -> None:
        """No signatures."""

    def predict(self, batch: Any) -> Tensor:
        """The answer as it is."""
        return self._strategy.predict(batch)

    def holdings(self) -> Holdings:
        """No count."""
        return NOTHING

    def kept_images(self, *aside: object) -> dict[str, int]:
        """No look."""
        return {}


class Timed(Oversight):
    """Adds up the processor time of each part of the look."""

    spent: dict[str, float] = {}

    def note_experience(self, index: int, pixels: Tensor) -> None:
        """Signatures of the new images."""
        self._timed("signatures", lambda: super(Timed, self).note_experience(index, pixels))

    def holdings(self) -> Holdings:
        """Count of parameters and bytes."""
        return self._timed("count", super().holdings)

    def kept_images(self, *aside: object) -> dict[str, int]:
        """Look for images."""
        return self._timed("search", lambda: super(Timed, self).kept_images(*aside))

    def _timed(self, part: str, work: Callable[[], Any]) -> Any:
        started = time.process_time()
        made = work()
        self.spent[part] = self.spent.get(part, 0) + time.process_time() - started
        return made


def timed_observe() -> AbstractContextManager[Any]:
    """The first answer after training, which is followed operation by operation: its excess."""
    observe = Bookkeeper.observe

    def timed(self: Bookkeeper, strategy: Any, ask: Any, **options: Any) -> Any:
        started = time.process_time()
        ask()
        plain = time.process_time()
        made = observe(self, strategy, ask, **options)
        excess = (time.process_time() - plain) - (plain - started)
        Timed.spent["dataflow"] = Timed.spent.get("dataflow", 0) + max(excess, 0)
        Timed.spent["asked twice"] = Timed.spent.get("asked twice", 0) + plain - started
        return made

    return patch.object(Bookkeeper, "observe", timed)


def seconds_of(name: str, seed: int, overseer: type[Oversight], folder: Path) -> float:
    """Processor time of one run."""
    strategy, scenario, config, options = RUNS[name]
    started = time.process_time()
    with patch("clgym.learner.entrance.Oversight", overseer):
        run(
            Request(
                strategy,
                scenario,
                strategy_config=config,
                scenario_config=options,
                seed=seed,
                out=folder / f"{name}-{seed}-{overseer.__name__}",
                threads=1,
                engine="inline",
            )
        )
    return time.process_time() - started


def main() -> None:
    """Run in turn and print a line for each kind of run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--runs", nargs="+", default=list(RUNS), choices=list(RUNS))
    given = parser.parse_args()
    heads = f"{'without, s':>12}{'with, s':>10}{'look, s':>10}{'share':>9}{'look and count':>16}"
    print(f"{'run':<10}{heads}  seconds of each part")
    with tempfile.TemporaryDirectory() as folder:
        for name in given.runs:
            seconds_of(name, given.repeats, Blind, Path(folder))  # imports, caches
            without, whole, looks = [], [], []
            for seed in range(given.repeats):
                without.append(seconds_of(name, seed, Blind, Path(folder)))
                Timed.spent = {}
                with timed_observe():
                    took = seconds_of(name, seed, Timed, Path(folder))
                whole.append(took - Timed.spent.pop("asked twice", 0))
                looks.append(dict(Timed.spent))
            spent = [look["signatures"] + look["search"] for look in looks]
            share = median(s / w for s, w in zip(spent, whole, strict=True))
            both = median(sum(look.values()) / w for look, w in zip(looks, whole, strict=True))
            parts = ", ".join(f"{k} {median(x[k] for x in looks):.3f}" for k in looks[0])
            row = f"{median(without):12.2f}{median(whole):10.2f}{median(spent):10.3f}"
            print(f"{name:<10}{row}{share:9.2%}{both:16.2%}  {parts}", flush=True)


if __name__ == "__main__":
    main()
