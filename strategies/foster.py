"""FOSTER: a second branch is boosted on what the first one lacks, then both become one again.

Wang, Zhou, Ye, Zhan, "FOSTER: Feature Boosting and Compression for Class-Incremental Learning",
ECCV 2022 (arXiv 2204.04662); code G-U-N/ECCV22-FOSTER 555c7f0. As the protocol of Cha & Cho (arXiv
2403.09066; code csm9493/GTEP 4cb3895) and PyCIL train it, in each experience but the first:

1. Boosting. The network of the past is frozen, and joined by a branch that begins as its copy. One
   head on both, one on the new branch alone (``extra``)::

       CE(logits / weights, y) + lambda_fe CE(extra, y) + lambda_okd KD(old logits)

   The weights are larger for classes with few images, so that these are held back less at test.
2. Compression. A student of one branch, which begins as the frozen one, learns the answers of the
   two, weighted again; it is the network of the past for the next experience.

As in the released code, answers and exemplars come from the two branches; ``evaluate=compressed``
answers with the student. PyCIL's augmentation is the protocol's: the authors' own has AutoAugment
and a cutout besides, which is worth about nine points on CIFAR-100.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, softmax

from clgym.avalanche import ExemplarConfig, ExemplarStrategy, Stage
from clgym.models.distillation import distillation
from clgym.models.expanding import Branches, BranchesClassifier, MethodOf, fresh_linear
from clgym.models.incremental import grown
from clgym.strategy import Experience, StreamInfo, TrainBatch

SPACE = {
    "epochs": [30, 70, 120, 160, 200],
    "milestones": {"values": [2, 3, 4], "when": {"schedule": ["step"]}},
    "lr": [0.05, 0.1, 0.15, 0.2, 0.3],
    "lr_decay": {"values": [0.1, 0.3, 0.5], "when": {"schedule": ["step"]}},
    "batch_size": [32, 64, 128, 256, 512],
    "weight_decay": [0.0001, 0.0005, 0.001, 0.005],
    "schedule": ["step", "cosine"],
    "temperature": [0.5, 1, 1.5, 2, 2.5],
    "lambda_okd": [0.5, 1, 1.5, 2, 3],
    "lambda_fe": [0.5, 1, 1.5, 2, 3],
    "beta1": [0.93, 0.95, 0.97, 0.99],
    "beta2": [0.93, 0.95, 0.97, 0.99],
    "compression_epochs": [30, 70, 120, 160, 200],
}
"""Search space of the protocol paper; a compression has as many milestones as the boosting."""


@dataclass(frozen=True)
class FosterConfig(ExemplarConfig):
    """Options of `Foster`; the defaults are PyCIL's, which are the authors' for CIFAR-100."""

    epochs: Annotated[int, Ge(1)] = 170
    """Number of epochs of the boosting, in each experience after the first."""
    weight_decay: Annotated[float, Ge(0)] = 5e-4
    """Weight decay (L2 penalty) of the boosting; the compression has none."""
    schedule: Literal["step", "cosine"] = "cosine"
    """Course of the learning rate: multiplied by lr_decay at milestones (step), or along a cosine
    to 0 (cosine); in the first experience and in the compression, too."""
    temperature: Annotated[float, Gt(0)] = 2.0
    """Temperature of both distillations."""
    lambda_okd: Annotated[float, Ge(0)] = 1.0
    """Weight of the distillation of the old network."""
    lambda_fe: Annotated[float, Ge(0)] = 1.0
    """Weight of the loss of the new branch's own head."""
    beta1: Annotated[float, Ge(0), Lt(1)] = 0.96
    """How much the boosting holds back classes with many images; 0: not at all."""
    beta1_by_task: tuple[Annotated[float, Ge(0), Lt(1)], ...] = ()
    """Values of beta1 for the experiences after the first, one each, the last for all further ones;
    the authors' for CIFAR-100 are such lists. Empty: beta1 for all."""
    beta2: Annotated[float, Ge(0), Lt(1)] = 0.97
    """How much the compression favours classes with few images; 0: not at all."""
    compression_epochs: Annotated[int, Ge(1)] = 130
    """Number of epochs of the compression."""
    evaluate: Literal["boosted", "compressed"] = "boosted"
    """Network that answers: the one with two branches, or its student."""


def class_weights(counts: Tensor, beta: float) -> Tensor:
    """Effective-number weights of classes, larger for rare ones; their mean is 1.

    Args:
        counts: Training images of each class, [c].
        beta: From 0, which gives equal weights, to below 1.

    Returns:
        float64 [c].
    """
    weights = (1 - beta) / (1 - beta ** counts.double())
    return weights * len(weights) / weights.sum()


def balanced_distillation(student: Tensor, teacher: Tensor, weights: Tensor, t: float) -> Tensor:
    """Cross-entropy of a student with its teacher's weighted probabilities.

    Args:
        student: Logits [n, c]; they are not weighted.
        teacher: Logits [n, c].
        weights: Factors of the teacher's probabilities, [c]; each row is then scaled to sum 1.
        t: Temperature of both.
    """
    wanted = softmax(teacher / t, dim=1) * weights.to(teacher)
    wanted = wanted / wanted.sum(1, keepdim=True)
    return -(wanted * log_softmax(student / t, dim=1)).sum(1).mean()


def boosting_terms(
    logits: Tensor, extra: Tensor, old: Tensor, labels: Tensor, weights: Tensor, t: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The three terms of the boosting loss, not weighted yet.

    Args:
        logits: Logits of the whole head, [n, c].
        extra: Logits of the trained branch's own head, [n, c].
        old: Logits of the previous experience's network, [n, known]; without a gradient.
        labels: Classes, int64 [n].
        weights: Divisors of the columns of ``logits``, [c].
        t: Temperature of the distillation.

    Returns:
        Cross-entropy of the balanced logits; cross-entropy of ``extra``; distillation of ``old``.
    """
    balanced = cross_entropy(logits / weights.to(logits), labels)
    return balanced, cross_entropy(extra, labels), distillation(logits, old, t)


class BoostedClassifier(BranchesClassifier):
    """One branch, or two of which the first is frozen.

    Attributes:
        old_head: Head of the previous experience on the frozen branch; frozen. None with one
            branch.
        extra: Head of all classes on the trained branch alone; None with one branch.
    """

    heads, frozen_heads = ("head", "old_head", "extra"), ("old_head",)
    old_head: nn.Linear | None
    extra: nn.Linear | None

    def grow(self, columns: int) -> None:
        """Make ready for ``columns`` classes: with a second branch, except for the first ones."""
        width = self.backbone.width
        if columns <= self.columns:
            return
        if self.columns:
            self.old_head = self.head.requires_grad_(False)
            self.backbone.add()
            self.extra = fresh_linear(width, columns, self.mean)
        self.head = grown(self.head, columns, len(self.backbone) * width)

    def old_logits(self, features: Tensor) -> Tensor:
        """Logits [n, known] of the previous experience's network, of features [n, 2 d]."""
        assert self.old_head is not None
        return self.old_head(features[:, : self.backbone.width])

    def extra_logits(self, features: Tensor) -> Tensor:
        """Logits [n, c] of the trained branch alone, of features [n, 2 d]."""
        assert self.extra is not None
        return self.extra(self.own(features))

    def student(self) -> "BoostedClassifier":
        """A network of one branch: a copy of the frozen one, whose head knows the old classes."""
        assert self.old_head is not None
        first = copy.deepcopy(self.backbone.branches[0]).requires_grad_(True)
        student = BoostedClassifier(Branches(first, self.backbone.width))
        student.mean, student.std = self.mean, self.std
        student.head = grown(self.old_head, self.columns)
        return student


class Foster(ExemplarStrategy[FosterConfig]):
    """Boosting, then compression.

    Attributes:
        student: The compressed network; until there is one, that of the first experience.
    """

    CHECK_CONFIG: ClassVar[dict[str, Any]] = {
        **ExemplarStrategy.CHECK_CONFIG,
        "network": "two-convolutions",
        "compression_epochs": 2,
    }
    network: BoostedClassifier  # type: ignore[assignment] # its own kind
    student: BoostedClassifier

    def setup(self, info: StreamInfo) -> None:
        """Build the network and its student."""
        super().setup(info)
        self.student = copy.deepcopy(self.network)

    def classifier(self) -> BoostedClassifier:
        """A fresh network of one branch, without a class."""
        return BoostedClassifier(Branches(*self.make_backbone()), self.info.mean, self.info.std)

    def begin(self, experience: Experience) -> None:
        """Go on from the student, and make the next one.

        It is made here, where the boosting has not begun: the frozen branch does not change.
        """
        if self.known:
            self.network.load_state_dict(self.student.state_dict())
        super().begin(experience)
        if self.known:
            self.student = self.network.student()

    def stages(self, experience: Experience) -> Sequence[Stage]:
        """Boosting and compression; the first experience has the common stage alone."""
        if not self.known:
            return [self.training_stage(experience)]
        c, network, student = self.config, self.network, self.student
        betas = c.beta1_by_task
        beta1 = betas[min(experience.index, len(betas)) - 1] if betas else c.beta1
        boosting = self.training_stage(
            experience,
            network=MethodOf(network, "features"),
            parameters=network.trained(),
            loss=partial(self.boosting_loss, weights=self.weights(experience, beta1)),
        )
        compression = self.training_stage(
            experience,
            epochs=c.compression_epochs,
            rate=self.schedule("compress", c.compression_epochs, c.lr),
            weight_decay=0.0,
            network=student,
            loss=partial(self.compression_loss, weights=self.weights(experience, c.beta2)),
        )
        return [boosting, compression]

    def weights(self, experience: Experience, beta: float) -> Tensor:
        """`class_weights` by the exemplars of old classes and the images of new ones."""
        counts = torch.bincount(experience.labels, minlength=experience.columns)
        counts[: self.known] = self.config.memory_size // self.known
        return class_weights(counts, beta)

    def boosting_loss(self, batch: TrainBatch, features: Tensor, weights: Tensor) -> Tensor:
        """The loss of a batch in the first stage, of the features of both branches."""
        c, network = self.config, self.network
        balanced, own, distilled = boosting_terms(
            network.logits(features),
            network.extra_logits(features),
            network.old_logits(features),
            batch.labels,
            weights,
            c.temperature,
        )
        return balanced + c.lambda_fe * own + c.lambda_okd * distilled

    def compression_loss(self, batch: TrainBatch, logits: Tensor, weights: Tensor) -> Tensor:
        """The loss of a batch in the second stage, of the student's logits."""
        if self.network.training:
            self.network.eval()
        with torch.no_grad():
            taught = self.network(batch.images)
        return balanced_distillation(logits, taught, weights, self.config.temperature)

    def after_experience(self, experience: Experience) -> None:
        """Choose exemplars by the two branches; ``compressed``: answer with the student."""
        first = not self.known
        super().after_experience(experience)
        if first:
            self.student.load_state_dict(self.network.state_dict())
        elif self.config.evaluate == "compressed":
            self.network.load_state_dict(self.student.state_dict())
            self.means = self.exemplar_means(experience)
