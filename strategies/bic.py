"""BiC: distillation, then a scale and a shift of new classes' logits, fitted on held-out images.

Wu, Chen, Wang, Ye, Liu, Guo, Fu, "Large Scale Incremental Learning", CVPR 2019 (arXiv 1905.13260),
as the protocol of Cha & Cho (arXiv 2403.09066) and PyCIL have it. A corrected logit is
alpha * o + beta, with one pair (alpha, beta) for the classes of each experience; all losses, the
teacher and the answers use corrected logits. From the second experience on:

1. v = floor(split_ratio * memory / old classes) images of each class are set aside.
2. Network and head are trained on the others: cross-entropy + lambda * distillation.
3. The new pair alone is fitted on what was set aside, for as many epochs.

Two things of the protocol's code change the numbers, and are the defaults: stage 3 minimises the
cross-entropy of the softmax (softmax twice), ``--stage2-loss ce`` does it once; and batch
normalisation keeps moving in it, ``--stage2-bn eval`` holds it. Other defaults are PyCIL's.
``avalanche:BiC`` is another implementation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clgym.avalanche import ExemplarConfig, ExemplarStrategy, Stage
from clgym.errors import BadConfig
from clgym.models.distillation import distillation
from clgym.models.incremental import IncrementalClassifier
from clgym.strategy import Experience, TrainBatch

SPACE = {
    "epochs": [30, 70, 120, 160, 200],
    "milestones": {"values": [2, 3, 4], "when": {"schedule": ["step"]}},
    "lr": [0.05, 0.1, 0.15, 0.2, 0.3],
    "lr_decay": {"values": [0.1, 0.3, 0.5], "when": {"schedule": ["step"]}},
    "batch_size": [32, 64, 128, 256, 512],
    "weight_decay": [0.0001, 0.0005, 0.001, 0.005],
    "schedule": ["step", "cosine"],
    "temperature": [0.5, 1, 1.5, 2, 2.5],
    "lambda_kd": [0.5, 1, 1.5, 2, 3],
    "split_ratio": [0.05, 0.1, 0.15, 0.2, 0.3],
}


@dataclass(frozen=True)
class BicConfig(ExemplarConfig):
    """Options of `Bic`."""

    epochs: Annotated[int, Ge(1)] = 170
    """Number of epochs of each experience after the first, for the network and again for the
    pair."""
    lr_drops: tuple[Annotated[float, Ge(0), Le(1)], ...] = (6 / 17, 10 / 17, 14 / 17)
    """Fractions of the epochs at which the learning rate falls, where milestones is 0."""
    temperature: Annotated[float, Gt(0)] = 2.0
    """Temperature of the distillation."""
    lambda_kd: Annotated[float, Gt(0)] | None = None
    """Weight of the distillation, added to the cross-entropy; none: K/C of it and 1 - K/C of the
    cross-entropy, for K old classes of C, as in the paper."""
    split_ratio: Annotated[float, Gt(0), Le(1)] = 0.1
    """Fraction of an old class's exemplars that is set aside for the pair; as many images of each
    new class are."""
    stage2_loss: Literal["double-softmax", "ce"] = "double-softmax"
    """Loss of the pair: cross-entropy of the softmax of the logits, as in the protocol's code, or
    of the logits (ce)."""
    stage2_bn: Literal["train", "eval"] = "train"
    """Mode of batch normalisation while the pair is fitted: train moves its running statistics, as
    in the protocol's code."""


class Correction(nn.Module):
    """Scale and shift of the logits of one experience's classes.

    Attributes:
        first: First of these classes; the buffer ``place`` is the same, for a saved state.
    """

    def __init__(self, first: int) -> None:
        """Begin with the identity."""
        super().__init__()
        self.first = first
        self.alpha = nn.Parameter(torch.ones(1))
        self.beta = nn.Parameter(torch.zeros(1))
        self.register_buffer("place", torch.tensor(first))

    def forward(self, logits: Tensor) -> Tensor:
        """Corrected logits, of this experience's classes."""
        return self.alpha * logits + self.beta


class CorrectedClassifier(IncrementalClassifier):
    """A classifier whose logits pass a correction for each experience.

    Attributes:
        corrections: By experience.
    """

    def __init__(self, *parts: Any) -> None:
        """Begin without a class; for the arguments see `IncrementalClassifier`."""
        super().__init__(*parts)
        self.corrections = nn.ModuleList()

    def grow(self, columns: int) -> None:
        """Widen the head; its new logits get a correction of their own."""
        if columns > self.columns:
            self.corrections.append(Correction(self.columns).to(self.head.weight))
        super().grow(columns)

    def logits(self, features: Tensor) -> Tensor:
        """Corrected logits [n, columns] of features."""
        return self.corrected(self.head(features))

    def corrected(self, logits: Tensor) -> Tensor:
        """All logits [n, columns], each by the correction of its experience."""
        found: list[Any] = list(self.corrections)
        ends = [*(c.first for c in found[1:]), self.columns]
        parts = [c(logits[:, c.first : end]) for c, end in zip(found, ends, strict=True)]
        return torch.cat(parts, dim=1)

    def _load_from_state_dict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state_dict: Any, prefix: str, *rest: Any
    ) -> None:
        """Have the corrections of the state; torch loads them after this."""
        super()._load_from_state_dict(state_dict, prefix, *rest)
        places = [k for k in state_dict if k.startswith(f"{prefix}corrections.") and "place" in k]
        made = [Correction(int(state_dict[key])).to(self.head.weight) for key in places]
        self.corrections = nn.ModuleList(made)


class Bic(ExemplarStrategy[BicConfig]):
    """Distillation, then bias correction."""

    TEACHER = True
    CHECK_CONFIG: ClassVar[dict[str, Any]] = {
        **ExemplarStrategy.CHECK_CONFIG,
        "memory_size": 48,
        "split_ratio": 0.3,
    }

    def classifier(self) -> Any:
        """A network with corrections."""
        return CorrectedClassifier(*self.make_backbone(), self.info.mean, self.info.std)

    def before_experience(self, experience: Experience) -> None:
        """Refuse hyper-parameters that leave nothing to fit the correction on.

        Raises:
            BadConfig: no image would be set aside.
        """
        if self.known and self.set_aside < 1:
            c = self.config
            raise BadConfig(
                expected="at least one image of each class to fit the correction on",
                found=f"split_ratio {c.split_ratio:g} of {c.memory_size} exemplars of "
                f"{self.known} classes",
                fix="Give a larger --split-ratio or --memory-size",
            )

    @property
    def set_aside(self) -> int:
        """Images of each class for the correction, from the second experience on."""
        return int(self.config.split_ratio * self.config.memory_size / self.known)

    def objective(self, batch: TrainBatch, output: Any) -> Tensor:
        """CE + lambda_kd * KD of corrected logits, or both weighted by K/C."""
        entropy = super().objective(batch, output)
        if not self.known:
            return entropy
        taught = self.taught(batch)
        kd = distillation(output, taught, self.config.temperature)
        if self.config.lambda_kd is not None:
            return entropy + self.config.lambda_kd * kd
        share = self.known / output.shape[1]
        return (1 - share) * entropy + share * kd

    def correction_loss(self, batch: TrainBatch, output: Tensor) -> Tensor:
        """The loss of the pair."""
        if self.config.stage2_loss == "double-softmax":
            output = torch.softmax(output, dim=1)
        return cross_entropy(output, batch.labels)

    def stages(self, experience: Experience) -> Sequence[Stage]:
        """The network; from the second experience on on fewer images, and then the pair."""
        net: Any = self.network
        trained = [*net.backbone.parameters(), *net.head.parameters()]
        if not self.known:
            return [self.training_stage(experience, parameters=trained)]
        whole = self.with_exemplars(experience)
        aside = self.validation_rows(whole)
        rest = torch.ones(len(whole), dtype=torch.bool, device=aside.device)
        rest[aside] = False
        return [
            self.training_stage(
                experience, parameters=trained, data=lambda: whole.part(rest.nonzero()[:, 0])
            ),
            self.training_stage(
                experience,
                parameters=list(net.corrections[-1].parameters()),
                loss=self.correction_loss,
                data=lambda: whole.part(aside),
                training=self.config.stage2_bn == "train",
            ),
        ]

    def validation_rows(self, whole: Experience) -> Tensor:
        """Rows that are set aside, drawn by class: the same number of every class.

        Of a class with too few images one is left to train on.

        Args:
            whole: New images and exemplars.
        """
        drawn = []
        for label in range(whole.columns):
            rows = (whole.labels == label).nonzero()[:, 0]
            order = torch.randperm(
                len(rows), generator=whole.generator("validation", f"class {label}")
            )
            drawn.append(rows[order[: min(self.set_aside, len(rows) - 1)].to(rows.device)])
        return torch.cat(drawn)
