"""Training steps and evaluation, compared with a bare loop and with Avalanche's own loop."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, cast

import torch

from clgym.bench.images import CLASSES, write_images
from clgym.bench.measure import Case
from clgym.bench.rivals import BenchImages, avalanche_run, bare_answers, bare_epoch, quiet
from clgym.bench.stepped import SteppedRun
from clgym.gym.request import Request
from clgym.gym.testing import PREDICT_BATCH

__all__ = ["learning_cases"]

_AVALANCHE, _BARE = "Avalanche's own loop", "bare loop"


class _Setup:
    """A started strategy, with its images in memory for the other side of the comparison."""

    def __init__(
        self,
        folder: Path,
        name: str,
        device: str,
        threads: int,
        *,
        size: int = 32,
        steps: int = 100,
        test: int = 10,
        side: int = 28,
        channels: int = 1,
        increments: int = CLASSES,
        **config: object,
    ) -> None:
        count = size * steps * CLASSES // increments
        source = write_images(folder / "images", side, channels, count, test)
        self.size, self.steps = size, steps
        options = {"batch_size": size, "epochs": 1, **config}
        self.run = SteppedRun(
            Request(
                name,
                "class-incremental",
                source=source,
                strategy_config=options,
                scenario_config={"increments": [increments]},
                device=device,
                threads=threads,
                out=folder / "run",
            )
        )
        self.strategy = cast(Any, self.run.strategy)
        self.device = device

    def network(self) -> torch.nn.Module:
        """The network of clgym's side, with a head for all classes."""
        network = copy.deepcopy(self.strategy.network)
        network.grow(CLASSES)
        return network

    def images(self, split: Literal["train", "test"], experience: int = 0) -> BenchImages:
        """Images of an experience in memory, with their class indices."""
        images, labels = self.run.images(split, experience)
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
        return BenchImages(pixels, torch.from_numpy(labels), self.device)


def learning_cases(
    folder: Path, device: str, threads: int, quick: bool, steps: int | None = None
) -> Iterator[Callable[[], list[Case]]]:
    """Yield functions that set up cases one after the other, which saves memory.

    ``steps``: number of steps of the MLP in one call; None: 100 if quick, else 200.
    """
    place = (device, threads)
    steps = steps or (100 if quick else 200)
    yield lambda: _training(_Setup(folder / "mlp-32", "naive", *place, steps=steps), "MLP")
    yield lambda: _training(
        _Setup(folder / "mlp-128", "naive", *place, size=128, steps=steps), "MLP"
    )
    yield lambda: _replay(folder / "replay", place, steps)
    yield lambda: _training(
        _Setup(
            folder / "resnet", "naive", *place, steps=2 if quick else 4, side=32, channels=3,
            network="slim-resnet18",
        ),
        "slim ResNet-18",
    )  # fmt: skip
    yield lambda: _evaluation(folder / "answers", place, 5_000 if quick else 20_000)
    yield lambda: _evaluation(
        folder / "answers-resnet", place, 256 if quick else 512, side=32, channels=3,
        network="slim-resnet18",
    )  # fmt: skip


def _training(setup: _Setup, network: str) -> list[Case]:
    name = f"training step, {network}, batch {setup.size}"
    images = setup.images("train")
    ours: Callable[[], None] = lambda: setup.run.step(0)  # noqa: E731
    cases = [Case(name, _BARE, ours, bare_epoch(setup.network(), images, setup.size), setup.steps)]
    if network == "MLP":
        made, stream = avalanche_run(setup.network(), images, setup.size)
        cases.append(Case(name, _AVALANCHE, ours, _trained(made, stream[0]), setup.steps))
    return cases


def _trained(made: Any, experience: Any) -> Callable[[], None]:
    def train() -> None:
        with quiet():
            made.train(experience)

    return train


def _replay(folder: Path, place: tuple[str, int], steps: int) -> list[Case]:
    """Replay on a second experience, with a memory full of images of the first one."""
    setup = _Setup(folder, "replay", *place, steps=steps, increments=5, memory_size=500)
    setup.run.step(0)
    name, first, images = (
        "training step, replay, batch 32 + 32",
        *map(lambda index: setup.images("train", index), range(2)),
    )
    memory = BenchImages(first.pixels[:500], first.labels[:500], setup.device)
    bare = bare_epoch(setup.network(), images, setup.size, memory)
    both = BenchImages(
        torch.cat([first.pixels, images.pixels]), torch.cat([first.labels, images.labels]), place[0]
    )
    made, stream = avalanche_run(setup.network(), both, setup.size, memory_size=500, parts=2)
    _trained(made, stream[0])()
    ours: Callable[[], None] = lambda: setup.run.step(1)  # noqa: E731
    return [
        Case(name, _BARE, ours, bare, steps),
        Case(name, _AVALANCHE, ours, _trained(made, stream[1]), steps),
    ]


def _evaluation(folder: Path, place: tuple[str, int], count: int, **options: Any) -> list[Case]:
    setup = _Setup(folder, "naive", *place, steps=2, test=count, **options)
    setup.run.step(0)
    kind = "slim ResNet-18" if options else "MLP"
    name, images = f"evaluation of a batch, {kind}, batch {PREDICT_BATCH}", setup.images("test")
    network, batches = setup.network(), -(-count // PREDICT_BATCH)
    ours: Callable[[], Any] = lambda: setup.run.answer(0)  # noqa: E731
    cases = [Case(name, _BARE, ours, bare_answers(network, images, PREDICT_BATCH), batches)]
    if not options:
        made, stream = avalanche_run(setup.network(), images, setup.size)

        def evaluate() -> None:
            with quiet():
                made.eval(stream)

        _trained(made, stream[0])()
        cases.append(Case(name, _AVALANCHE, ours, evaluate, batches))
    return cases
