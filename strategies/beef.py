"""BEEF: a branch per task with prototypes for old tasks and energies, and two numbers to fuse them.

Wang, Zhou, Liu, Ye, Bian, Zhan, Zhao, "BEEF: Bi-Compatible Class-Incremental Learning via
Energy-Based Expansion and Fusion", ICLR 2023; code G-U-N/ICLR23-BEEF 2903601, without compression,
as it is released. As the protocol of Cha & Cho (arXiv 2403.09066; code csm9493/GTEP 4cb3895) and
PyCIL train it, in each experience:

1. Expansion. A branch, which begins as a copy of the first one, learns by heads of its own: the new
   classes, one output for each earlier experience, and an energy for each class::

       CE(outputs, class or earlier experience) + energy_weight CE(energies of samples, class)

   Samples are images of the batch, turned round and moved three steps down the mass of energies.
2. Fusion, from the second experience on. On equally many images of each class two numbers per
   earlier experience are fitted, which add its output to the logits of its classes.

The released code loses the bias of the old head when it adds these (a sign is wrong), and leaves
the frozen branches but the first in training mode, so that their statistics drift. So does the
protocol, and this by default; ``--variant fixed`` does neither. The cosine of the fusion, which the
released code computes with epochs of another stage, is right in both. Defaults are PyCIL's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, softmax

from clgym.avalanche import ExemplarConfig, ExemplarStrategy, Stage
from clgym.models.expanding import (
    Branches,
    BranchesClassifier,
    MethodOf,
    empty_linear,
    fresh_linear,
)
from clgym.strategy import Experience, TrainBatch

SPACE = {
    "epochs": [30, 70, 120, 160, 200],
    "milestones": {"values": [2, 3, 4], "when": {"schedule": ["step"]}},
    "lr": [0.05, 0.1, 0.15, 0.2, 0.3],
    "lr_decay": {"values": [0.1, 0.3, 0.5], "when": {"schedule": ["step"]}},
    "batch_size": [128, 256, 512],
    "weight_decay": [0.0001, 0.0005, 0.001, 0.005],
    "schedule": ["step", "cosine"],
    "fusion_epochs": [30, 70, 120, 160, 200],
    "energy_weight": [0.001, 0.005, 0.01, 0.02, 0.05],
    "logit_alignment": [1.1, 1.4, 1.7, 2.0, 2.3],
}
"""Search space of the protocol paper; a fusion has as many milestones as the expansion."""

_STEPS, _STEP, _SUPPRESSED, _FUSION_LR = 3, 0.01, 1e-9, 0.05
"""Steps of the sampling and their size; logits of the batch's own outputs in the energy term;
learning rate of the fusion."""


@dataclass(frozen=True)
class BeefConfig(ExemplarConfig):
    """Options of `Beef`; the defaults are PyCIL's, which are the authors'."""

    epochs: Annotated[int, Ge(1)] = 170
    """Number of epochs of the expansion, in each experience after the first."""
    weight_decay: Annotated[float, Ge(0)] = 5e-4
    """Weight decay (L2 penalty) on all parameters, from the second experience on."""
    schedule: Literal["step", "cosine"] = "cosine"
    """Course of the learning rate: multiplied by lr_decay at milestones (step), or along a cosine
    to 0 (cosine); in the first experience and in the fusion, too."""
    network: str = "resnet32"
    """Network to train from scratch: mlp, mobilenetv2, resnet18, resnet18-7x7, resnet18-dst,
    resnet32, resnet50, resnet50-bottleneck, slim-resnet18, slim-resnet18-7x7-pool,
    two-convolutions, vgg11, vgg16."""
    fusion_epochs: Annotated[int, Ge(1)] = 60
    """Number of epochs of the fusion."""
    energy_weight: Annotated[float, Ge(0)] = 0.01
    """Weight of the energies' loss."""
    logit_alignment: Annotated[float, Gt(0)] = 1.7
    """Divisor of the outputs of earlier experiences in the expansion's cross-entropy."""
    sampling_noise: Annotated[float, Ge(0)] = 0.001
    """Standard deviation of the noise that is added to a sample in each step, for images of unit
    variance."""
    variant: Literal["released", "fixed"] = "released"
    """The released code, or the same without two faults: the old head's bias is added to the
    logits, and all frozen branches stay in evaluation mode."""


class BeefClassifier(BranchesClassifier):
    """Branches, of which the newest has heads of its own; all but ``head`` are fresh in each task.

    Attributes:
        head: Merged head of the past: the old classes on the frozen branches; frozen. Its bias is
            added where ``fixed``.
        new_head: Logits of the present task's classes.
        past: One logit for each previous task (backward prototypes); None in the first task.
        energies: One energy logit for each class seen (forward prototypes).
        alpha, beta: The pair of each previous task, which fits its logit to the old head's.
        task_of: Task of every class seen, int64 [c].
    """

    heads, frozen_heads = ("head", "new_head", "past", "energies"), ("head",)
    new_head: nn.Linear | None
    past: nn.Linear | None
    energies: nn.Linear | None
    task_of: Tensor

    def __init__(
        self,
        branch: nn.Module,
        width: int,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        *,
        fixed: bool = False,
    ) -> None:
        """Begin without a class.

        Args:
            branch: The first branch.
            width: Number of its features.
            mean: Per channel, of images in [0, 1].
            std: Per channel.
            fixed: Without the two faults of the released code: the old head's bias is added to
                the logits, and all frozen branches stay in evaluation mode.
        """
        still: Literal["all", "first"] = "all" if fixed else "first"
        super().__init__(Branches(branch, width, still=still), mean, std)
        self.fixed = fixed
        self.alpha, self.beta = nn.Parameter(torch.zeros(0)), nn.Parameter(torch.zeros(0))
        self.register_buffer("task_of", torch.zeros(0, dtype=torch.long))

    @property
    def columns(self) -> int:
        """Number of classes seen."""
        return len(self.task_of)

    @property
    def known(self) -> int:
        """Number of classes of earlier tasks."""
        return self.columns - (0 if self.new_head is None else self.new_head.out_features)

    def grow(self, columns: int) -> None:
        """Make ready for a task that brings the number of classes to ``columns``.

        The heads are merged, a copy of the first branch is added, and heads are made for it.
        """
        known, like, width = self.columns, self.mean, self.backbone.width
        if columns <= known:
            return
        if known:
            self.head = self.merged_head()
            self.backbone.add(source=0)
        task = len(self.backbone) - 1
        self.past = fresh_linear(width, task, like) if task else None
        self.new_head = fresh_linear(width, columns - known, like)
        self.energies = fresh_linear(width, columns, like)
        self.alpha, self.beta = (nn.Parameter(like.new_zeros(task)) for _ in range(2))
        self.task_of = torch.cat([self.task_of, self.task_of.new_full((columns - known,), task)])

    def newest(self, images: Tensor) -> Tensor:
        """Features [n, d] of the newest branch.

        Args:
            images: In [0, 1], [n, C, H, W].
        """
        return self._newest(self.normalised(images))

    def _newest(self, images: Tensor) -> Tensor:
        if self.training and not self.fixed:
            with torch.no_grad():  # nothing reads these; their running statistics move
                for branch in self.backbone.branches[1:-1]:
                    branch(images)
        return self.backbone.last(images)

    def logits(self, features: Tensor) -> Tensor:
        """Logits [n, c] of all classes seen, of features [n, tasks * d].

        Those of an old class: the old head's, plus the fused logit of its task.
        """
        assert self.new_head is not None
        own, width = self.own(features), self.backbone.width
        if self.past is None:
            return self.new_head(own)
        bias = self.head.bias if self.fixed else None
        old = linear(features[:, :-width], self.head.weight, bias)
        tasks = (1 + self.alpha) * self.past(own) + self.beta
        return torch.cat([old + tasks[:, self.task_of[: self.known]], self.new_head(own)], dim=1)

    @torch.no_grad()
    def merged_head(self) -> nn.Linear:
        """The frozen head of the next task: what `logits` computes, as one layer."""
        assert self.new_head is not None
        width = self.backbone.width
        merged = empty_linear(len(self.backbone) * width, self.columns, self.mean)
        merged.requires_grad_(False)
        weight, bias, known = merged.weight, merged.bias, self.known
        weight[known:, :-width] = 0
        weight[known:, -width:], bias[known:] = self.new_head.weight, self.new_head.bias
        if self.past is not None:
            tasks = self.task_of[:known]
            factor, shift = 1 + self.alpha[tasks], self.beta[tasks]
            weight[:known, :-width] = self.head.weight
            weight[:known, -width:] = factor[:, None] * self.past.weight[tasks]
            bias[:known] = self.head.bias + factor * self.past.bias[tasks] + shift
        return merged

    def train_logits(self, own: Tensor) -> Tensor:
        """Logits [n, tasks + new] of the previous tasks and the new classes.

        Args:
            own: Features of the newest branch, [n, d].
        """
        assert self.new_head is not None
        new = self.new_head(own)
        return new if self.past is None else torch.cat([self.past(own), new], dim=1)

    def joint_logits(self, own: Tensor) -> Tensor:
        """`train_logits` and behind them the energies of all classes seen, [n, tasks + new + c]."""
        assert self.energies is not None
        return torch.cat([self.train_logits(own), self.energies(own)], dim=1)

    def train_targets(self, labels: Tensor) -> Tensor:
        """Outputs of `train_logits` that labels belong to: the task of an old class, or the class.

        Args:
            labels: Classes, int64 [n].
        """
        new = labels - self.known + len(self.backbone) - 1
        return torch.where(labels < self.known, self.task_of[labels], new)

    # --- energies -------------------------------------------------------------------------------

    def samples(self, images: Tensor, noise: Iterable[Tensor]) -> Tensor:
        """Images turned by 180 degrees, then moved to where the energies have less of the softmax.

        The newest branch is asked in evaluation mode; its running statistics stay.

        Args:
            images: Normalised images, [n, C, H, W].
            noise: What is added after each step, in order: as many tensors as steps.
        """
        last, training = self.backbone.last, self.backbone.last.training
        last.eval()
        moved = images.detach().flip((2, 3))
        for added in noise:
            moved.requires_grad_()
            probabilities = softmax(self.joint_logits(last(moved)), dim=1)
            assert self.energies is not None
            mass = probabilities[:, -self.energies.out_features :].sum().log()
            (slope,) = torch.autograd.grad(mass, moved)
            moved = (moved - _STEP * slope + added).detach()
        last.train(training)
        return moved

    def energy_loss(self, samples: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of samples with the energies of their images' classes.

        The logits of all classes and tasks of the batch are suppressed, in all rows.

        Args:
            samples: See `samples`, [n, C, H, W].
            labels: Classes of the images that they come from, int64 [n].
        """
        joint = self.joint_logits(self._newest(samples))
        present = self.train_targets(labels).unique()
        energies = joint.shape[1] - self.columns
        return cross_entropy(joint.index_fill(1, present, _SUPPRESSED), energies + labels)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        for name in ("alpha", "beta"):
            value = state_dict[f"{prefix}{name}"]
            setattr(self, name, nn.Parameter(self.mean.new_zeros(len(value))))
        self.task_of = self.task_of.new_zeros(len(state_dict[f"{prefix}task_of"]))
        super()._load_from_state_dict(state_dict, prefix, *args)


def aligned(logits: Tensor, tasks: int, divisor: float) -> Tensor:
    """Logits [n, tasks + new] whose first ``tasks`` columns are divided by ``divisor``."""
    return torch.cat([logits[:, :tasks] / divisor, logits[:, tasks:]], dim=1)


class Beef(ExemplarStrategy[BeefConfig]):
    """Expansion with energies, then fusion."""

    CHECK_CONFIG: ClassVar[dict[str, Any]] = {
        **ExemplarStrategy.CHECK_CONFIG,
        "network": "two-convolutions",
        "fusion_epochs": 2,
    }
    network: BeefClassifier  # type: ignore[assignment] # its own kind

    def classifier(self) -> BeefClassifier:
        """A fresh network of one branch, without a class."""
        fixed = self.config.variant == "fixed"
        return BeefClassifier(*self.make_backbone(), self.info.mean, self.info.std, fixed=fixed)

    def stages(self, experience: Experience) -> Sequence[Stage]:
        """Expansion and fusion; the first experience has the former alone."""
        c, network = self.config, self.network
        learning = (network.backbone.last, network.new_head, network.past, network.energies)
        expansion = self.training_stage(
            experience,
            network=MethodOf(network, "newest"),
            parameters=[p for part in learning if part is not None for p in part.parameters()],
            loss=self.expansion_loss,
        )
        if not self.known:
            return [expansion]
        fusion = self.training_stage(
            experience,
            epochs=c.fusion_epochs,
            rate=self.schedule("fusion", c.fusion_epochs, _FUSION_LR),
            parameters=[network.alpha, network.beta],
            data=lambda: self.with_exemplars(experience.part(self.validation_rows(experience))),
        )
        return [expansion, fusion]

    def expansion_loss(self, batch: TrainBatch, own: Tensor) -> Tensor:
        """The loss of a batch in the first stage, of the newest branch's features."""
        c, network, labels = self.config, self.network, batch.labels
        logits = network.train_logits(own)
        tasks = len(network.backbone) - 1
        outputs = aligned(logits, tasks, c.logit_alignment)
        loss = cross_entropy(outputs, network.train_targets(labels))
        images = network.normalised(batch.images)
        samples = network.samples(images, self.noise(images))
        return loss + c.energy_weight * network.energy_loss(samples, labels)

    def noise(self, images: Tensor) -> Tensor:
        """Noise of all steps of the sampling, [steps, n, C, H, W]."""
        shape = (_STEPS, *images.shape)
        drawn = torch.randn(shape, generator=self.rng("sampling"))
        return self.config.sampling_noise * drawn.to(images)

    def validation_rows(self, experience: Experience) -> Tensor:
        """Rows of the new images that the fusion sees: as many of each class as exemplars."""
        share, rows = self.config.memory_size // self.known, []
        for label in range(self.known, experience.columns):
            own = (experience.labels == label).nonzero()[:, 0]
            draws = experience.generator("validation", f"class {label}")
            rows.append(own[torch.randperm(len(own), generator=draws)[:share].to(own.device)])
        return torch.cat(rows)
