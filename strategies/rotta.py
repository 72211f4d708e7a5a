"""RoTTA: robust statistics, a balanced bank of recent certain images, a slow teacher.

Yuan, Xie, Li, "Robust Test-Time Adaptation in Dynamic Scenarios", CVPR 2023,
https://arxiv.org/abs/2303.13899, with the values of its section 4. The teacher answers, normalised
by statistics that follow the bank slowly. Each image then enters the bank (CSTU) under the class
that the teacher gave it, if there is room, or if its class (while that is below its share: one of
the largest classes) has an image of a higher score, which leaves::

    1 / (1 + exp(-age / capacity)) + entropy / log(classes)

After every ``interval`` images the student takes one step on the whole bank: the cross-entropy of
its answers to augmented images against the teacher's to the plain ones, each weighted by
exp(-a) / (1 + exp(-a)), a = age / capacity; only scale and shift of normalisation learn. Then the
teacher moves towards the student.

Written from the paper; no number of it was reproduced. The augmentation is that of `cotta`. An
image that leaves gives its place in the bank to the new one, so that exact ties of scores may be
broken otherwise than in the authors' lists.
"""

import copy
import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from clgym.adaptation import AdaptConfig, AdaptStrategy, move_average
from clgym.config import Search
from clgym.data.view import random_view
from clgym.models.norm import batch_norms
from clgym.strategy import Needs


@dataclass(frozen=True)
class RottaConfig(AdaptConfig):
    """Options of `Rotta`."""

    memory_size: Annotated[int, Ge(2)] = 64
    """Images in the bank."""
    interval: Annotated[int, Ge(1)] = 64
    """Images from one update to the next."""
    lr: Annotated[float, Ge(0), Search(low=1e-5, high=1e-2, log=True)] = 1e-3
    """Learning rate of Adam."""
    statistics: Annotated[float, Ge(0), Le(1), Search(0.01, 0.05, 0.1)] = 0.05
    """Share of the bank's statistics in those of the normalisation, at each update."""
    momentum: Annotated[float, Ge(0), Le(1), Search(0.99, 0.999)] = 0.999
    """Decay of the teacher's exponential moving average."""
    timeliness: Annotated[float, Ge(0)] = 1.0
    """Weight of an image's age in its score."""
    uncertainty: Annotated[float, Ge(0)] = 1.0
    """Weight of the entropy of its answer."""


class Rotta(AdaptStrategy[RottaConfig]):
    """Robust batch normalisation, category-balanced sampling, time-aware robust training."""

    CHECK_CONFIG = {"interval": 8, "memory_size": 8}
    batch_matters: ClassVar[bool] = False

    @property
    def needs(self) -> Needs:
        """A classifier, and a bank of past images."""
        return replace(super().needs, memory=self.config.memory_size)

    def prepare(self) -> None:
        """Robust statistics in every normalisation layer; a student and its teacher."""
        batch_norms(self.model, "rotta")  # refuse networks without any
        make_robust(self.model, self.config.statistics)
        self.teacher = copy.deepcopy(self.model)
        layers = [m for m in self.model.modules() if isinstance(m, RobustNorm)]
        parameters = [p.requires_grad_() for layer in layers for p in layer.parameters()]
        self.optimizer = torch.optim.Adam(parameters, self.config.lr)
        self.arrived = 0

    def answer(self, images: Tensor) -> Tensor:
        """The teacher's logits."""
        return self.teacher(images)

    def step(self, images: Tensor) -> Tensor:
        """Answer, then take the images into the bank, with an update whenever it is due."""
        with torch.no_grad():
            logits = self.answer(images)
        probabilities = logits.softmax(1)
        entropy = -(probabilities * (probabilities + 1e-6).log()).sum(1)
        for number, label in enumerate(logits.argmax(1).tolist()):
            self.offer(images[number : number + 1], label, float(entropy[number]))
            self.arrived += 1
            if self.arrived % self.config.interval == 0:
                self.update()
        return logits

    def offer(self, image: Tensor, label: int, entropy: float) -> None:
        """Offer an image [1, C, H, W] to the bank, with the class it was given; all grow older."""
        bank, classes = self.info.memory, self.model.columns
        columns = {
            "images": image,
            "labels": torch.tensor([label]),
            "entropy": torch.tensor([entropy], dtype=torch.float64),
            "age": torch.zeros(1, dtype=torch.int64),
        }
        held = {c: rows.tolist() for c, rows in bank.rows_by().items()}
        own = held.get(label, [])
        if len(own) < bank.capacity / classes and len(bank) < bank.capacity:
            bank.append(**columns)
        else:
            largest = max(map(len, held.values()))
            crowded = [rows for rows in held.values() if len(rows) == largest]
            among = own if len(own) >= bank.capacity / classes else sum(crowded, [])
            scores = self.scores(bank["age"], bank["entropy"]).tolist()
            worst = max(among, key=lambda row: (scores[row], row))
            if scores[worst] > float(self.scores(torch.zeros(1), columns["entropy"])):
                bank.put(torch.tensor([worst]), **columns)
        if len(bank):
            bank["age"].add_(1)

    def scores(self, age: Tensor, entropy: Tensor) -> Tensor:
        """How dispensable images are, float64 [n]: old ones and those with uncertain answers."""
        c, classes = self.config, self.model.columns
        old = torch.sigmoid(age.double() / c.memory_size)
        return c.timeliness * old + c.uncertainty * entropy / math.log(classes)

    def update(self) -> None:
        """One step of the student on the whole bank, then one of the teacher towards it."""
        bank = self.info.memory
        self.model.train()
        self.teacher.train()
        images, age = bank["images"], bank["age"].float().to(self.info.device)
        with torch.no_grad():
            target = self.teacher(images).softmax(1)
        answers = self.model(self.view(images)).log_softmax(1)
        weight = torch.sigmoid(-age / self.config.memory_size)  # exp(-a) / (1 + exp(-a))
        loss = (weight * -(target * answers).sum(1)).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        move_average(self.teacher, self.model, self.config.momentum)
        self.model.eval()
        self.teacher.eval()
        self.log(loss=float(loss.detach()), bank=len(bank))

    def view(self, images: Tensor) -> Tensor:
        """An augmented copy of the bank."""
        return random_view(images)


class RobustNorm(nn.Module):
    """Batch normalisation by statistics that follow the batches slowly, in training mode only."""

    mean: Tensor
    var: Tensor

    def __init__(self, layer: Any, share: float) -> None:
        """Take the place of a batch-normalisation layer, with its parameters and statistics."""
        super().__init__()
        self.share, self.eps = share, layer.eps
        self.weight, self.bias = layer.weight, layer.bias
        self.register_buffer("mean", layer.running_mean.clone())
        self.register_buffer("var", layer.running_var.clone())
        self.train(layer.training)

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalise [n, channels, ...]; gradients flow through the batch's share."""
        mean, var = self.mean, self.var
        if self.training:
            dims = [0, *range(2, inputs.ndim)]
            fresh_var, fresh_mean = torch.var_mean(inputs, dim=dims, correction=0)
            mean = (1 - self.share) * mean + self.share * fresh_mean
            var = (1 - self.share) * var + self.share * fresh_var
            self.mean.copy_(mean.detach())
            self.var.copy_(var.detach())
        shape = (1, -1, *[1] * (inputs.ndim - 2))
        scaled = (inputs - mean.view(shape)) / (var.view(shape) + self.eps).sqrt()
        if self.weight is None:
            return scaled
        return scaled * self.weight.view(shape) + self.bias.view(shape)


def make_robust(network: nn.Module, share: float) -> None:
    """Put a `RobustNorm` in the place of every batch-normalisation layer inside a network."""
    for name, layer in network.named_children():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            setattr(network, name, RobustNorm(layer, share))
        else:
            make_robust(layer, share)
