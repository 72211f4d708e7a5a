"""InfLoRA: low-rank branches that are designed, before training, not to act on old tasks' inputs.

Liang, Li, "InfLoRA: Interference-Free Low-Rank Adaptation for Continual Learning", CVPR 2024,
https://arxiv.org/abs/2404.00228; code liangyanshuo/InfLoRA e08b00e. In every attention layer keys
and values get a branch B A per task. A is fixed before the task: it spans the strongest directions
of the task's inputs that past tasks leave free. Trained are B and a linear layer for the task's
classes, by the cross-entropy over these. After the task its inputs are measured once more, and the
memory of used (or of free) directions grows: DualGPM. Branches are merged into the weights.

Where more than half of all directions are used after the first task, the released code stops with
an error of its own; here the memory becomes that of the free directions, as later in the stream.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clgym.config import Search
from clgym.data.augment import random_resized_crop_flip
from clgym.models.fitting import Optimizer, TrainedConfig, TrainedStrategy, check_new_classes
from clgym.models.heads import SessionHeads
from clgym.models.lowrank import DenseChanges, LinearChanges, PackedLowRank, target_layers
from clgym.models.rates import ScheduleName
from clgym.models.subspaces import DirectionMemory, RunningCovariance, design
from clgym.strategy import Batch, Experience, Needs, StreamInfo, TrainBatch

SPACE = {
    "epochs": [10, 20, 50],
    "lr": [0.0001, 0.0005, 0.001],
    "rank": [5, 10, 20],
    "first_share": [0.9, 0.95, 0.98],
}

_log = logging.getLogger(__name__)

_KEYS_AND_VALUES = (1, 2)


@dataclass(frozen=True)
class InfLoraConfig(TrainedConfig):
    """Options of `InfLora`; the defaults are the authors' for CIFAR-100 in ten tasks."""

    optimizer: Optimizer = "adam"
    """Optimiser, made anew for every session."""
    lr: Annotated[float, Gt(0)] = 5e-4
    """Learning rate at the beginning of a session."""
    batch_size: Annotated[int, Ge(1)] = 128
    """Images per batch."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """Weight decay of branches and head."""
    schedule: Annotated[ScheduleName, Search("step", "cosine", "constant")] = "quarter-cosine"
    """Course of the learning rate over the epochs of a session: constant, step (multiplied by
    lr_decay at each milestone), cosine (falling to min_lr), quarter-cosine (nearly to 0 along the
    falling quarter of a cosine), or released-cosine (the same one epoch late, as in CODA-Prompt's
    code)."""
    rank: Annotated[int, Ge(1)] = 10
    """Rank of a task's branch."""
    first_share: Annotated[float, Ge(0), Le(1)] = 0.95
    """Share of the inputs' energy that counts as used after the first task."""
    last_share: Annotated[float, Ge(0), Le(1)] = 1.0
    """Share that it would reach, in equal steps, one task after the last."""


class InfLora(TrainedStrategy[InfLoraConfig]):
    """Designed low-rank branches on keys and values.

    Attributes:
        branches: Branches of the present task, one per attention layer.
        active: Whether they count in the answers.
        merged: Branches of finished tasks.
        memories: Directions of each attention layer's inputs.
        heads: A linear layer per task.
    """

    CHECK_CONFIG = {
        "backbone": "vit_tiny_patch16_224[img_size=8,patch_size=4,embed_dim=16,depth=1,num_heads=2]"
        "@random",
        "image_size": 8,
        "fit": "stretch",
        "rank": 2,
        "lr": 0.01,
        "epochs": 1,
    }

    @property
    def needs(self) -> Needs:
        """Images before and after training, and the number of tasks, for the thresholds."""
        return replace(super().needs, rereads=True, total_experiences=True)

    def setup(self, info: StreamInfo) -> None:
        """Make branches that begin as nothing.

        Raises:
            Incompatible: the backbone is no ViT.
        """
        super().setup(info)
        width, layers = self.backbone.width, target_layers(self.backbone.model, "qkv")
        made = {name: self._new_branch() for name in layers}
        self.branches = LinearChanges(made).to(info.device)
        self.active = False
        self.merged = DenseChanges()
        self.memories = [DirectionMemory(width) for _ in layers]
        self.heads = SessionHeads(width).to(info.device)
        self.seen = 0

    def _new_branch(self) -> PackedLowRank:
        branch = PackedLowRank(self.backbone.width, self.config.rank, _KEYS_AND_VALUES)
        branch.down.requires_grad_(False)
        return branch

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Let the backbone compute with all branches."""
        with self.merged.on(self.backbone.model):
            if not self.active:
                yield
                return
            with self.branches.on(self.backbone.model):
                yield

    def trained(self) -> list[nn.Parameter]:
        """All parameters that take a gradient in a session."""
        ups = [p for p in self.branches.parameters() if p.requires_grad]
        return [*ups, *self.heads.layers[-1].parameters()]

    def train(self, experience: Experience) -> None:
        """Design the branches, train them, take the task's inputs into the memories, merge."""
        if self.training.begin(experience):
            self.begin(experience)
        layer = self.heads.layers[-1]

        def loss(batch: TrainBatch) -> Tensor:
            with self.attached():
                features = self.backbone.model(self.backbone.normalised(batch.images))
            return cross_entropy(layer(features), batch.labels - experience.classes[0])

        self.training.run(experience, self.trained(), loss)
        c, total = self.config, self.info.total_experiences
        assert total is not None
        threshold = c.first_share + (c.last_share - c.first_share) * experience.index / total
        after = self.covariances(experience, c.epochs + 1)
        for memory, covariance in zip(self.memories, after, strict=True):
            memory.update(covariance, threshold)
        self.merged.merge_all(self.branches)
        self.active = False

    @torch.no_grad()
    def begin(self, experience: Experience) -> None:
        """Design A of each branch, set B to zero, and give the new classes a head."""
        size = check_new_classes(experience, self.seen)
        self.seen = experience.columns
        before = self.covariances(experience, self.config.epochs)
        for name, memory, covariance in zip(
            self.branches.names, self.memories, before, strict=True
        ):
            rows, defined = design(memory.admitted(covariance), self.config.rank)
            if defined < self.config.rank:
                _log.warning(
                    "experience %d: %d of %d directions are free in %s; the branch has no others",
                    *(experience.index, defined, self.config.rank, name),
                )
            branch = self.branches[name]
            branch.down.copy_(rows.to(branch.down).expand_as(branch.down))
            branch.up.zero_()
        self.active = True
        self.heads.add(size)

    @torch.no_grad()
    def covariances(self, experience: Experience, epoch: int) -> list[Tensor]:
        """Covariances of each attention layer's inputs, over one pass.

        On the CPU, float64 [width, width].
        """
        c, vit = self.config, self.backbone.model
        found = [RunningCovariance() for _ in self.memories]

        def counting(covariance: RunningCovariance) -> Any:
            return lambda module, args: covariance.add(args[0])

        hooks = [
            vit.get_submodule(name).register_forward_pre_hook(counting(covariance))
            for name, covariance in zip(self.branches.names, found, strict=True)
        ]
        try:
            for batch in experience.batches(
                c.batch_size,
                epoch=epoch,
                silent=True,
                augment=lambda x, key: random_resized_crop_flip(x, c.image_size, key),
            ):
                with self.attached():
                    vit(self.backbone.normalised(batch.images))
        finally:
            for hook in hooks:
                hook.remove()
        return [covariance.mean.cpu() for covariance in found]

    def predict(self, batch: Batch) -> Tensor:
        """Logits [n, columns] of the classes seen."""
        with self.attached():
            features = self.backbone.model(self.backbone.prepare(batch.images))
        return self.heads(features)
