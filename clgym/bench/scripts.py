"""Whole programs that are measured from outside; `python -m clgym.bench.scripts NAME WORDS...`.

The last line that a program prints is a JSON object with costs that it measured itself.
"""

import contextlib
import io
import json
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from clgym.learner.peak_memory import forget_peak, peak_bytes

__all__ = ["main"]


def main(words: Sequence[str]) -> int:
    """Carry out one of the programs."""
    forget_peak()
    name, *rest = words
    seen = {"torch": _torch, "clgym": _clgym, "avalanche": _avalanche}[name](rest)
    sys.stdout.write(json.dumps({"peak_bytes": peak_bytes(), **seen}) + "\n")
    return 0


def _torch(words: Sequence[str]) -> dict[str, float]:
    """Import torch."""
    import torch

    return {"threads": torch.get_num_threads()}


def _clgym(words: Sequence[str]) -> dict[str, float]:
    """A command of clgym; for a run, the costs of its record are reported, too."""
    sys.argv = ["clgym", *words]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            runpy.run_module("clgym", run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    from clgym.results.layout import is_run
    from clgym.results.stored import open_run

    folder = Path(words[words.index("--out") + 1])
    if not is_run(folder):
        return {}
    cost = open_run(folder).record.cost
    return {
        "learner_bytes": cost.peak_memory_bytes,
        "inside_seconds": sum(cost.train_seconds) + sum(cost.predict_seconds),
    }


def _avalanche(words: Sequence[str]) -> dict[str, float]:
    """Replay as a script with Avalanche runs it: after each experience all classes are tested."""
    import numpy as np
    import torch

    from clgym.bench.rivals import BenchImages, avalanche_run, quiet
    from clgym.models import networks

    folder, parts, threads = Path(words[0]), int(words[1]), int(words[2])
    torch.set_num_threads(threads)
    halves = []
    for split in ("train", "test"):
        with np.load(folder / f"{split}.npz") as file:
            pixels = torch.from_numpy(file["images"]).permute(0, 3, 1, 2)
            halves.append(BenchImages(pixels, torch.from_numpy(file["labels"]), "cpu"))
    train, test = halves
    shape = (train.pixels.shape[1], *train.pixels.shape[2:])
    network = networks.build("mlp", shape, 10, (0.5,), (0.3,))
    made, stream = avalanche_run(network, train, 32, memory_size=500, parts=parts)
    tests = avalanche_run(network, test, 32, parts=parts)[1]
    with quiet():
        for index, experience in enumerate(stream):
            made.train(experience)
            made.eval(tests[: index + 1])
    return {}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
