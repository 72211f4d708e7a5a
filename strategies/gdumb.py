"""GDumb: a memory balanced greedily over classes, and a network trained from scratch on it alone.

Prabhu, Torr, Dokania, "GDumb: A Simple Approach that Questions Our Progress in Continual Learning",
ECCV 2020 (https://doi.org/10.1007/978-3-030-58536-5_31), algorithm 1. A sample is kept if its class
is new or has fewer samples than memory / number of classes; where the memory is full it takes the
place of a random sample of the largest class (the lowest of several). Each image of the stream is
read once. After each experience a fresh network is trained on the memory with SGD, whose learning
rate follows the cosine schedule with restarts of the paper: cycles of 1, 2, 4, ... passes.

Written from the paper; no number of it was reproduced. Left out of its recipe: CutMix, and the pass
of warm-up.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torch.nn.functional import cross_entropy

from clgym.config import Search
from clgym.data.augment import AUGMENTATIONS
from clgym.models import networks
from clgym.strategy import Batch, Config, Experience, Needs, Strategy, StreamInfo, TrainBatch


@dataclass(frozen=True)
class GDumbConfig(Config):
    """Options of GDumb."""

    memory_size: Annotated[int, Ge(1)] = 500
    """Samples kept, balanced over the classes seen."""
    passes: Annotated[int, Ge(1), Search(31, 63, 127)] = 63
    """Passes over the memory, after each experience."""
    lr: Annotated[float, Gt(0), Search(0.01, 0.05, 0.1)] = 0.05
    """Learning rate at the beginning of each cycle."""
    min_lr: Annotated[float, Ge(0)] = 0.0005
    """Learning rate that each cycle approaches."""
    momentum: Annotated[float, Ge(0), Le(1)] = 0.9
    """Momentum of SGD."""
    weight_decay: Annotated[float, Ge(0), Search(0.0, 0.000001, 0.0001)] = 0.000001
    """Weight decay (L2 penalty)."""
    batch_size: Annotated[int, Ge(1), Search(10, 16, 32)] = 16
    """Samples of the memory per step."""
    network: str = "mlp"
    """Network to train from scratch: mlp, slim-resnet18, resnet18, resnet32, vgg11 and others."""
    hidden: tuple[Annotated[int, Ge(1)], ...] = networks.HIDDEN
    """Units of each hidden layer of the network mlp."""
    augment: Literal["none", "crop-flip"] = "none"
    """Augmentation of training batches: random crop (padding 4) and horizontal flip."""


class GDumb(Strategy[GDumbConfig]):
    """A greedy sampler and a dumb learner."""

    CHECK_CONFIG = {"passes": 3}

    @property
    def needs(self) -> Needs:
        """A memory of ``memory_size`` samples."""
        return Needs(memory=self.config.memory_size)

    def setup(self, info: StreamInfo) -> None:
        """Build the network."""
        super().setup(info)
        self.network = self._fresh_network(1)

    def train(self, experience: Experience) -> None:
        """Sample the stream, then learn from the memory alone."""
        for batch in experience.batches(256, silent=True):
            self.sample(batch)
        self.network = self._fresh_network(experience.columns)
        optimizer = torch.optim.SGD(
            self.network.parameters(),
            self.config.lr,
            self.config.momentum,
            weight_decay=self.config.weight_decay,
        )
        self.network.train()
        for number in range(self.config.passes):
            optimizer.param_groups[0]["lr"] = self.rate(number)
            loss = self._one_pass(experience, number, optimizer)
            experience.log(memory_loss=loss, learning_rate=self.rate(number))
        self.network.eval()

    def sample(self, batch: TrainBatch) -> None:
        """Offer labelled images to the memory, one after the other."""
        memory, draws = self.info.memory, self.rng("displaced")
        held = {label: rows.tolist() for label, rows in memory.rows_by().items()}
        count, taken = len(memory), dict[int, int]()  # row of the memory: image of the batch
        for image, label in enumerate(batch.labels.tolist()):
            if label in held and len(held[label]) >= memory.capacity / len(held):
                continue
            if count < memory.capacity:
                row, count = count, count + 1
            else:
                largest = held[min(held, key=lambda c: (-len(held[c]), c))]
                row = largest.pop(int(torch.randint(len(largest), (1,), generator=draws)))
            held.setdefault(label, []).append(row)
            taken[row] = image
        self._store(batch, taken)

    def _store(self, batch: TrainBatch, taken: dict[int, int]) -> None:
        memory, before = self.info.memory, len(self.info.memory)
        for rows in (
            sorted(row for row in taken if row < before),
            sorted(row for row in taken if row >= before),
        ):
            images = torch.tensor([taken[row] for row in rows], device=batch.labels.device)
            if rows and rows[0] < before:
                columns = {"pixels": batch.pixels[images], "labels": batch.labels[images]}
                memory.put(torch.tensor(rows), **columns)
            elif rows:
                memory.append(pixels=batch.pixels[images], labels=batch.labels[images])

    def rate(self, number: int) -> float:
        """The learning rate of a pass, counted from 0: SGDR with cycles of 1, 2, 4, ... passes."""
        cycle = (number + 1).bit_length() - 1
        done = (number + 1 - 2**cycle) / 2**cycle
        low, high = self.config.min_lr, self.config.lr
        return low + (high - low) / 2 * (1 + math.cos(math.pi * done))

    def _one_pass(
        self, experience: Experience, number: int, optimizer: torch.optim.Optimizer
    ) -> float:
        """All samples of the memory once; the mean loss of the steps."""
        memory, size = self.info.memory, self.config.batch_size
        augment = AUGMENTATIONS[self.config.augment]
        order = torch.randperm(len(memory), generator=experience.generator("order", epoch=number))
        losses: list[Tensor] = []
        for step, rows in enumerate(_batches(order.to(self.info.device), size)):
            images = experience.to_float(memory["pixels"][rows])
            if augment is not None:
                draws = experience.generator("augmentation", epoch=number, step=step)
                images = augment(images, draws)
            loss = cross_entropy(self.network(images), memory["labels"][rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    def _fresh_network(self, columns: int) -> networks.Classifier:
        c, info = self.config, self.info
        shape, mean, std = info.image_shape, info.mean, info.std
        network = networks.build(c.network, shape, columns, mean, std, c.hidden)
        return network.to(info.device).eval()

    def predict(self, batch: Batch) -> Tensor:
        """Logits of the network, for the classes seen."""
        return self.network(batch.images)


def _batches(order: Tensor, size: int) -> list[Tensor]:
    """An order in parts of a size; a last one of one sample, without statistics, joins another."""
    parts = list(order.split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts
