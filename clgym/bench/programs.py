"""Whole programs in turn: start-up, a run, a trial of a study, memory of gym and learner."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from clgym.bench.images import write_images
from clgym.bench.measure import Measurement, summarised
from clgym.errors import ClgymError

__all__ = ["Program", "programs"]

MIB = 2**20


class BenchFailed(ClgymError):
    """A measured program has failed."""

    problem = "the measured program failed"


class Program:
    """Runs programs and adds up the costs of them and their child processes."""

    def __init__(self, folder: Path) -> None:
        """Write outputs below ``folder``."""
        self._folder, self._numbers = folder, itertools.count()

    def fresh(self) -> Path:
        """A folder that does not exist yet."""
        return self._folder / f"out-{next(self._numbers)}"

    def cost(self, *words: str, **variables: str) -> dict[str, float]:
        """Processor seconds of a program with its children (``cpu``), and costs that it reports.

        Args:
            *words: Words of its command line; see `clgym.bench.scripts`.
            **variables: Environment variables.

        Raises:
            BenchFailed: The program failed.
        """
        command = [sys.executable, "-m", "clgym.bench.scripts", *words]
        before = os.times()
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, **variables}
        )
        after = os.times()
        if done.returncode:
            raise BenchFailed(
                expected=f"`{' '.join(words)}` to succeed",
                found=" ".join(done.stderr.split())[-400:] or f"exit code {done.returncode}",
                fix="Run it separately to see the reason",
            )
        spent = (after.children_user - before.children_user) + (
            after.children_system - before.children_system
        )
        return {"cpu": spent, **json.loads(done.stdout.splitlines()[-1])}


def programs(folder: Path, device: str, threads: int, quick: bool) -> Iterator[list[Measurement]]:
    """Measure all programs, one kind after the other; a study is left out if ``quick``."""
    run = Program(folder)
    words = ("--threads", str(threads), "--device", device)
    rounds = 1 if quick else 3
    yield [_start_up(run, words, rounds)]
    yield _whole_run(run, folder, words, threads, rounds, 2_000 if quick else 20_000)
    yield [_trial(run, (1, 3) if quick else (2, 12), rounds)]


def _in_turn(
    rounds: int, ours: Callable[[], dict[str, float]], theirs: Callable[[], dict[str, float]]
) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Results of both sides, a pair for each round."""
    return [(ours(), theirs()) for _ in range(rounds)]


def _cpu(pairs: Sequence[tuple[dict[str, float], dict[str, float]]]) -> list[tuple[float, float]]:
    return [(ours["cpu"], theirs["cpu"]) for ours, theirs in pairs]


def _start_up(run: Program, words: Sequence[str], rounds: int) -> Measurement:
    """Measure a small run whose learning takes almost no time."""
    pairs = _in_turn(
        rounds + 1,  # the first run fills the cache and is not counted
        lambda: run.cost("clgym", "run", "nmc", "split-digits", "--out", str(run.fresh()), *words),
        lambda: run.cost("torch"),
    )
    name = "start-up: `clgym run nmc split-digits`"
    return summarised(name, "import torch", "s", _cpu(pairs[1:]))


def _whole_run(
    run: Program, folder: Path, words: Sequence[str], threads: int, rounds: int, images: int
) -> list[Measurement]:
    """Measure replay over five experiences of images of 28 pixels."""
    source = write_images(folder / "whole", 28, 1, images, 2_000)
    options = ("--increments", "2", "--memory-size", "500", "--batch-size", "32", "--epochs", "1")
    pairs = _in_turn(
        rounds + 1,
        lambda: run.cost(
            "clgym", "run", "replay", "class-incremental", "--source", source, *options,
            "--out", str(run.fresh()), *words,
        ),
        lambda: run.cost("avalanche", str(folder / "whole"), "5", str(threads)),
    )[1:]  # fmt: skip
    rival = "the same in a script with Avalanche"
    memory = [
        (f"peak memory of the {side}, {images:,} images", key)
        for side, key in (("gym", "peak_bytes"), ("learner", "learner_bytes"))
    ]
    return [
        summarised(f"whole run: replay, MLP, {images:,} images", rival, "s", _cpu(pairs)),
        *(
            summarised(
                name, rival, "MiB", [(o[key] / MIB, t["peak_bytes"] / MIB) for o, t in pairs]
            )
            for name, key in memory
        ),
    ]


def _trial(run: Program, counts: tuple[int, int], rounds: int) -> Measurement:
    """Measure one more trial of a study, compared with a separate run for each trial."""
    few, many = counts

    def study(trials: int) -> float:
        out = ("--out", str(run.fresh()))
        words = ("replay", "digits-t2", "--trials", str(trials), "--seeds", "0", *out)
        return run.cost("clgym", "tune", *words)["cpu"]

    def trial() -> dict[str, float]:
        return {"cpu": (study(many) - study(few)) / (many - few)}

    def alone() -> dict[str, float]:
        words = ("replay", "split-digits", "--threads", "1", "--out", str(run.fresh()))
        return run.cost("clgym", "run", *words)

    name = "one more trial of a study: replay on digits"
    return summarised(name, "a run of its own", "s", _cpu(_in_turn(rounds, trial, alone)))
