"""The DER of class-incremental learning (expandable representation): a new branch for every task.

Yan, Xie, He, "DER: Dynamically Expandable Representation for Class Incremental Learning", CVPR 2021
(arXiv 2103.16788), as the protocol of Cha & Cho (arXiv 2403.09066; code csm9493/GTEP 4cb3895) and
PyCIL have it: without the paper's channel masks and pruning, which the authors' own code lacks too,
and with weight aligning in the place of its second stage. This is the protocol's "DER"; the
strategy `der` is dark experience replay, another method.

In each experience but the first a copy of the newest branch is trained beside the frozen ones; one
head reads the features of all branches, an auxiliary one those of the newest::

    CE(logits, y) + lambda_aux CE(auxiliary logits, 0 for old classes, 1, 2, ... for new ones)

Then the head's rows of new classes are scaled to the length of the old ones'. Memory and test time
grow with every experience. Defaults are PyCIL's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Le
from torch import Tensor

from clgym.avalanche import ExemplarConfig, ExemplarStrategy, Stage
from clgym.models.expanding import Branches, ExpandingClassifier, MethodOf
from clgym.models.incremental import align_new_rows
from clgym.strategy import Experience, TrainBatch

SPACE = {
    "epochs": [30, 70, 120, 160, 200],
    "milestones": {"values": [2, 3, 4], "when": {"schedule": ["step"]}},
    "lr": [0.05, 0.1, 0.15, 0.2, 0.3],
    "lr_decay": {"values": [0.1, 0.3, 0.5], "when": {"schedule": ["step"]}},
    "batch_size": [32, 64, 128, 256, 512],
    "weight_decay": [0.0001, 0.0005, 0.001, 0.005],
    "schedule": ["step", "cosine"],
    "lambda_aux": [0.5, 1, 1.5, 2, 3],
}


@dataclass(frozen=True)
class ExpandableConfig(ExemplarConfig):
    """Options of `Expandable`."""

    epochs: Annotated[int, Ge(1)] = 170
    """Number of epochs of each experience after the first."""
    lr_drops: tuple[Annotated[float, Ge(0), Le(1)], ...] = (8 / 17, 12 / 17, 15 / 17)
    """Fractions of the epochs at which the learning rate falls, where milestones is 0."""
    lambda_aux: Annotated[float, Ge(0)] = 1.0
    """Weight of the auxiliary head's loss."""
    align: bool = True
    """Whether the head is aligned after training."""


class Expandable(ExemplarStrategy[ExpandableConfig]):
    """A branch per task, an auxiliary loss, and weight aligning.

    Attributes:
        gamma: Factor of the last alignment; above 1 where the new rows are the shorter ones.
    """

    CHECK_CONFIG: ClassVar[dict[str, Any]] = {
        **ExemplarStrategy.CHECK_CONFIG,
        "network": "two-convolutions",
    }
    network: ExpandingClassifier  # type: ignore[assignment] # its own kind
    gamma: float | None = None

    def classifier(self) -> ExpandingClassifier:
        """A fresh network of one branch, without a class."""
        return ExpandingClassifier(Branches(*self.make_backbone()), self.info.mean, self.info.std)

    def stages(self, experience: Experience) -> Sequence[Stage]:
        """One stage: the newest branch and the heads."""
        network, trained = MethodOf(self.network, "features"), self.network.trained()
        return [self.training_stage(experience, network=network, parameters=trained)]

    def objective(self, batch: TrainBatch, output: Tensor) -> Tensor:
        """The loss of a batch, of the features of all branches.

        The first experience has no auxiliary head.
        """
        return self.network.expansion_loss(output, batch.labels, self.config.lambda_aux)

    def after_experience(self, experience: Experience) -> None:
        """Align the head; then exemplars and their means."""
        if self.known and self.config.align:
            self.gamma = align_new_rows(self.network.head.weight, self.known)
        super().after_experience(experience)
