"""MEMO: shared lower blocks that go on learning, and a copy of the upper block for every task.

Zhou, Wang, Ye, Zhan, "A Model or 603 Exemplars: Towards Memory-Efficient Class-Incremental
Learning", ICLR 2023 (arXiv 2205.13218); code wangkiw/ICLR23-MEMO d261c11. As the protocol of Cha &
Cho (arXiv 2403.09066; code csm9493/GTEP 4cb3895) and PyCIL train it. The network is cut before its
last stage: one base of all tasks, and a branch for each.

In each experience but the first a copy of the newest branch is trained, and the base: it gets
gradients through all branches, the frozen ones too, so that their inputs change. Losses and weight
aligning are those of `expandable`::

    CE(logits, y) + lambda_aux CE(auxiliary logits, 0 for old classes, 1, 2, ... for new ones)

The protocol's network has the stem for ImageNet, 7x7 with stride 2 and pooling, on images of 32
pixels too, where its branches see maps of 2 x 2: ``--stem 3x3`` is what the other methods have, and
the two do not belong in one table. Defaults are PyCIL's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Le
from torch import Tensor

from clgym.avalanche import ExemplarConfig, ExemplarStrategy, Stage
from clgym.errors import BadConfig
from clgym.models import networks
from clgym.models.expanding import Branches, ExpandingClassifier, MethodOf
from clgym.models.incremental import align_new_rows
from clgym.models.staged import StagedNetwork
from clgym.strategy import Experience, StreamInfo, TrainBatch

SPACE = {
    "epochs": [30, 70, 120, 160, 200],
    "milestones": {"values": [2, 3, 4], "when": {"schedule": ["step"]}},
    "lr": [0.05, 0.1, 0.15, 0.2, 0.3],
    "lr_decay": {"values": [0.1, 0.3, 0.5], "when": {"schedule": ["step"]}},
    "batch_size": [32, 64, 128, 256, 512],
    "weight_decay": [0.0001, 0.0005, 0.001, 0.005],
    "schedule": ["step", "cosine"],
    "lambda_aux": [0.5, 1, 1.5, 2, 3],
    "exemplar_batch": [16, 32, 64, 128, 256],
}


@dataclass(frozen=True)
class MemoConfig(ExemplarConfig):
    """Options of `Memo`."""

    epochs: Annotated[int, Ge(1)] = 170
    """Number of epochs of each experience after the first."""
    lr_drops: tuple[Annotated[float, Ge(0), Le(1)], ...] = (8 / 17, 12 / 17, 15 / 17)
    """Fractions of the epochs at which the learning rate falls, where milestones is 0."""
    stem: networks.StemName = "7x7-pool"
    """First convolution of resnet18 and slim-resnet18: 3x3 with stride 1, the same and a
    max-pooling of stride 2 (3x3-pool), or 7x7 with stride 2 and such a pooling (7x7-pool). The
    protocol has 7x7-pool for MEMO on CIFAR, too."""
    lambda_aux: Annotated[float, Ge(0)] = 1.0
    """Weight of the auxiliary head's loss."""
    exemplar_batch: Annotated[int, Ge(1)] = 64
    """Images whose features are computed together for the choice of exemplars. It cannot change
    results beyond rounding; the protocol's search space has it all the same."""
    train_base: bool = True
    """Whether the base learns after the first experience; if not, it stays in evaluation mode."""
    align: bool = True
    """Whether the head is aligned after training."""


class Memo(ExemplarStrategy[MemoConfig]):
    """A base for all tasks, a branch per task, an auxiliary loss, and weight aligning.

    Attributes:
        gamma: Factor of the last alignment; above 1 where the new rows are the shorter ones.
    """

    CHECK_CONFIG: ClassVar[dict[str, Any]] = {
        **ExemplarStrategy.CHECK_CONFIG,
        "network": "two-convolutions",
        "stem": "3x3",
    }
    network: ExpandingClassifier  # type: ignore[assignment] # its own kind
    gamma: float | None = None

    def setup(self, info: StreamInfo) -> None:
        """Build the network."""
        super().setup(info)
        self.extraction_batch = self.config.exemplar_batch

    def classifier(self) -> ExpandingClassifier:
        """A fresh network of a base and one branch, without a class.

        Raises:
            BadConfig: the network has no stages.
        """
        backbone, width = self.make_backbone()
        if not isinstance(backbone, StagedNetwork):
            raise BadConfig(
                expected="a network with stages, before the last of which it is cut",
                found=self.config.network,
                fix="Give --network resnet18, slim-resnet18, resnet32 or two-convolutions",
            )
        base, branch = backbone.split()
        return ExpandingClassifier(Branches(branch, width, base), self.info.mean, self.info.std)

    def stages(self, experience: Experience) -> Sequence[Stage]:
        """One stage: the base, the newest branch and the heads."""
        if self.known and not self.config.train_base:
            self.network.backbone.freeze_base()
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
