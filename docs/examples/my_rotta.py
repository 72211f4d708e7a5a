"""A bank at test time: the network adapts on a memory that is balanced over predicted classes.

The bank and its use follow Yuan, Xie, Li, "Robust Test-Time Adaptation in Dynamic Scenarios"
(RoTTA), CVPR 2023, https://arxiv.org/abs/2303.13899; the augmentations, the teacher and the robust
normalisation of the paper are left out. A sample enters the share of its predicted class; a full
share drops its least certain sample. After every ``every`` images, one step lowers the entropy of
predictions on the bank, in which old samples have less weight.
"""

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from clgym.adaptation import AdaptConfig, AdaptStrategy, make_optimizer
from clgym.models.norm import affine_parameters, use_batch_statistics
from clgym.strategy import Needs


@dataclass(frozen=True)
class BankConfig(AdaptConfig):
    """Options of the method."""

    memory_size: Annotated[int, Ge(2)] = 64
    """Samples in the bank."""
    every: Annotated[int, Ge(1)] = 64
    """Images between two steps."""
    lr: Annotated[float, Gt(0)] = 1e-3
    """Learning rate of Adam."""


class Bank(AdaptStrategy[BankConfig]):
    """Scale and shift of normalisation layers adapt on the bank."""

    DETERMINISTIC = True

    @property
    def needs(self) -> Needs:
        """The bank is a memory like any other: declared, enforced, recorded."""
        return replace(super().needs, memory=self.config.memory_size)

    def prepare(self) -> None:
        """Use batch statistics, and train scale and shift only."""
        use_batch_statistics(self.model)
        parameters = [value.requires_grad_() for _, value in affine_parameters(self.model)]
        self.optimizer = make_optimizer("adam", parameters, self.config.lr)
        self.seen = 0

    def step(self, images: Tensor) -> Tensor:
        """Predict, offer the images to the bank, and learn from it after every ``every`` images."""
        with torch.no_grad():
            logits = self.model(images)
        before, self.seen = self.seen, self.seen + len(images)
        for image, row in zip(images, logits.softmax(1), strict=True):
            self._keep(image, row)
        if self.seen // self.config.every > before // self.config.every:
            self._learn()
        return logits

    def _keep(self, image: Tensor, probabilities: Tensor) -> None:
        """Put one image into the share of its class, or leave it out."""
        memory, label = self.info.memory, probabilities.argmax()
        entropy = -(probabilities * probabilities.clamp(min=1e-12).log()).sum()
        sample = {"pixels": image, "labels": label, "entropy": entropy}
        sample["born"] = torch.tensor(float(self.seen), device=image.device)
        columns = {name: value[None] for name, value in sample.items()}
        if len(memory) < memory.capacity:
            return memory.append(**columns)
        shares = memory.rows_by("labels")
        rows = shares.get(int(label), torch.zeros(0, dtype=torch.long))
        if len(rows) * max(len(shares), 1) < memory.capacity:  # a small class takes from a large
            rows = max(shares.values(), key=len)
        worst = rows[memory["entropy"].cpu()[rows].argmax()]
        if memory["entropy"][worst] > entropy or int(memory["labels"][worst]) != int(label):
            memory.put(worst[None], **columns)

    def _learn(self) -> None:
        """Take one step that lowers the entropy on the bank, weighted by age."""
        memory = self.info.memory
        age = (self.seen - memory["born"]) / self.config.memory_size
        weight = torch.exp(-age) / (1 + torch.exp(-age))
        logits = self.model(memory["pixels"])
        loss = (weight * -(logits.softmax(1) * logits.log_softmax(1)).sum(1)).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def reset(self) -> None:
        """Restore the state after `setup`, and empty the bank."""
        super().reset()
        self.info.memory.keep(torch.zeros(0, dtype=torch.long))
