"""Batches of test-time adaptation, compared with the bare forward and backward passes."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clgym.bench.images import CLASSES, write_images
from clgym.bench.measure import Case
from clgym.bench.stepped import SteppedRun
from clgym.gym.request import Request
from clgym.models.cifar_resnet import CifarResNet

__all__ = ["adaptation_cases"]

_SIDE, _PASSES = 32, "its passes alone"

Passes = Callable[[Any, Tensor], Callable[[], None]]
"""Function from a strategy and a batch of images to a function that executes the method's passes.
"""


def adaptation_cases(
    folder: Path, device: str, threads: int, quick: bool
) -> Iterator[Callable[[], list[Case]]]:
    """Yield functions that set up cases: tent, lame, cotta and rmt, each at its own batch size."""
    methods: tuple[tuple[str, int, dict[str, object], Passes], ...] = (
        ("tent", 64, {}, _tent),
        ("lame", 64, {}, _lame),
        ("cotta", 32, {"views": 4 if quick else 32}, _cotta),
        ("rmt", 50 if quick else 200, {"warmup_images": 0}, _rmt),
    )
    for name, size, options, passes in methods:
        yield lambda name=name, size=size, options=options, passes=passes: [
            _case(folder / name, name, size, options, passes, device, threads)
        ]


def _case(
    folder: Path,
    name: str,
    size: int,
    options: dict[str, object],
    passes: Passes,
    device: str,
    threads: int,
) -> Case:
    source = write_images(folder / "images", _SIDE, 3, 2 * size, 2 * size)
    run = SteppedRun(
        Request(
            name,
            "corruptions",
            source=source,
            strategy_config={"model": f"resnet20@{_weights(folder)}", **options},
            scenario_config={"corruptions": "contrast", "batch_size": size},
            device=device,
            threads=threads,
            out=folder / "run",
        )
    )
    strategy = copy.deepcopy(cast(Any, run.strategy))
    run.step(0)
    images = torch.rand(size, 3, _SIDE, _SIDE, device=device)
    return Case(
        f"adaptation of a batch, {name}, ResNet-20, batch {size}",
        _PASSES,
        # Every run inspects batches 0, 1, 3, 7 and so on, so the other batches are measured.
        lambda: run.adapt(4),
        passes(strategy, images),
    )


def _weights(folder: Path) -> Path:
    """Write a file with random weights of a ResNet-20, and return its path."""
    network = CifarResNet(3)
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    head = nn.Linear(64, CLASSES)
    state |= {"linear.weight": head.weight.detach(), "linear.bias": head.bias.detach()}
    save_file(state, path := folder / "resnet20.safetensors")
    return path


def _lame(strategy: Any, images: Tensor) -> Callable[[], None]:
    """A forward pass."""
    network = strategy.model

    @torch.no_grad()
    def forward() -> None:
        network(images)

    return forward


def _tent(strategy: Any, images: Tensor) -> Callable[[], None]:
    """A forward and a backward pass, and the optimizer's step."""
    network, optimizer = strategy.model, strategy.optimizer

    def step() -> None:
        logits = network(images)
        loss = -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _cotta(strategy: Any, images: Tensor) -> Callable[[], None]:
    """A forward pass of the anchor, one of the teacher for each view, and the student's step."""
    labels = torch.arange(len(images), device=images.device) % CLASSES

    def step() -> None:
        loss = cross_entropy(strategy.model(images), labels)
        with torch.no_grad():
            for network in (strategy.anchor, *[strategy.teacher] * strategy.config.views):
                network(images)
        strategy.optimizer.zero_grad()
        loss.backward()
        strategy.optimizer.step()

    return step


def _rmt(strategy: Any, images: Tensor) -> Callable[[], None]:
    """Three forward and backward passes of the student, and a forward pass of the teacher."""
    labels = torch.arange(len(images), device=images.device) % CLASSES

    def step() -> None:
        with torch.no_grad():
            strategy.teacher(images)
        loss = sum(cross_entropy(strategy.model(images), labels) for _ in range(3))
        strategy.optimizer.zero_grad()
        cast(Tensor, loss).backward()

    return step
