"""EASE: an adapter per task spans a subspace of its own; old classes are completed in new ones.

Zhou, Sun, Ye, Zhan, "Expandable Subspace Ensemble for Pre-Trained Model-Based Class-Incremental
Learning", CVPR 2024, https://arxiv.org/abs/2403.12030; code sun-hailong/LAMDA-PILOT 2647455. Each
session trains a new adapter in a frozen ViT with a cosine classifier, which is thrown away. A class
has one prototype per subspace, its mean feature there. Those of old classes in newer subspaces,
where their images are gone, are put together from the newer classes' prototypes, weighted by the
softmax of their cosines in the old class's own subspace. A class is scored by the cosine in its own
subspace, plus ``--alpha`` times the mean of those in the others.

Prediction takes a pass through the network per session, prototypes one more per session: a stream
of T sessions costs T^2 / 2 passes over a session's images.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from clgym.config import Search
from clgym.models.fitting import TrainedConfig, TrainedStrategy, check_new_classes, session_loss
from clgym.models.heads import CosineHead
from clgym.models.peft import AdapterBank, Adapters
from clgym.strategy import Batch, Experience, Needs, StreamInfo, TrainBatch


@dataclass(frozen=True)
class EaseConfig(TrainedConfig):
    """Options of `Ease`; the defaults are the authors' for CIFAR-100 in sessions of five."""

    lr: Annotated[float, Gt(0), Search(0.01, 0.02, 0.03, 0.04, 0.05)] = 0.025
    """Learning rate at the beginning of a session."""
    later_epochs: Annotated[int, Ge(1)] | None = None
    """Passes over sessions after the first; none: as many as in the first. The released code uses
    other numbers there if the first session is larger than the others."""
    later_lr: Annotated[float, Gt(0)] | None = None
    """Learning rate of sessions after the first; none: that of the first."""
    rank: Annotated[int, Ge(1), Search(4, 8, 16, 32, 64)] = 64
    """Width of an adapter's bottleneck."""
    dropout: Annotated[float, Ge(0), Le(1)] = 0.1
    """Dropout inside the adapter in training."""
    alpha: Annotated[float, Ge(0), Search(0.01, 0.05, 0.1, 0.15, 0.2)] = 0.1
    """Weight of the subspaces that are not a class's own."""


class Ease(TrainedStrategy[EaseConfig]):
    """Adapters per task and prototypes per subspace.

    Attributes:
        current: Adapter of the present session.
        proxy: Cosine classifier of its training; it has no rows at other times.
        bank: Stored adapters, one per session.
        prototypes: [classes seen, sessions, width]; completed where a class is older.
        session_of: int64 [classes seen].
    """

    CHECK_CONFIG = {
        "backbone": "vit_tiny_patch16_224[img_size=8,patch_size=4,embed_dim=16,depth=1,num_heads=2]"
        "@random",
        "image_size": 8,
        "fit": "stretch",
        "rank": 4,
        "epochs": 1,
    }

    @property
    def needs(self) -> Needs:
        """The backbone, and the images once more: the prototypes are taken after training."""
        return Needs(
            backbone=self.frozen, rereads=True, settings=("class-incremental", "task-incremental")
        )

    def setup(self, info: StreamInfo) -> None:
        """Begin without a subspace."""
        super().setup(info)
        width = self.backbone.width
        self.current = self._new_adapter()
        self.proxy = CosineHead(width, 0).to(info.device)
        self.bank = AdapterBank()
        self.prototypes = self.proxy.weight.new_zeros(0, 0, width)
        self.session_of = torch.zeros(0, dtype=torch.long, device=info.device)

    def _new_adapter(self) -> Adapters:
        c = self.config
        adapter = Adapters(self.backbone.model, c.rank, c.dropout)
        return adapter.to(self.info.device).eval()

    def trained(self) -> list[nn.Parameter]:
        """All parameters that take a gradient in a session."""
        return [*self.current.parameters(), *self.proxy.parameters()]

    def train(self, experience: Experience) -> None:
        """Train an adapter, store it, then find and complete prototypes."""
        check_new_classes(experience, len(self.session_of))
        if self.training.begin(experience):
            self.begin(experience)
        self.fit_adapter(experience)
        self.bank.add(self.current)
        self.measure(experience)

    def begin(self, experience: Experience) -> None:
        """Draw a new adapter and a cosine classifier."""
        self.current.load_state_dict(self._new_adapter().state_dict())
        self.proxy.resize(len(experience.classes))

    def fit_adapter(self, experience: Experience) -> None:
        """Cross-entropy over the experience's classes."""
        c = self.config
        later: dict[str, Any] = {}
        if experience.index > 0:
            later = {"epochs": c.later_epochs or c.epochs, "lr": c.later_lr or c.lr}
        columns = range(len(experience.classes))

        def loss(batch: TrainBatch) -> Tensor:
            with self.current.on(self.backbone.model):
                features = self.backbone.model(self.backbone.normalised(batch.images))
            labels = batch.labels - experience.classes[0]
            return session_loss(self.proxy(features), labels, columns)

        self.current.train()
        self.training.run(experience, self.trained(), loss, **later)
        self.current.eval()
        self.proxy.resize(0)

    @torch.no_grad()
    def measure(self, experience: Experience) -> None:
        """Means of the new classes in all subspaces; then the old classes in the newest."""
        sessions = len(self.bank)
        new = []
        for column in experience.classes:
            images = experience.pixels[experience.labels == column]
            parts = images.split(self.config.batch_size)
            found = [self.subspaces(self.backbone.prepare(experience.to_float(p))) for p in parts]
            new.append(torch.cat(found).mean(0))
        old = F.pad(self.prototypes, (0, 0, 0, sessions - self.prototypes.shape[1]))
        self.prototypes = torch.cat([old, torch.stack(new)])
        added = self.session_of.new_full((len(new),), experience.index)
        self.session_of = torch.cat([self.session_of, added])
        self.prototypes = complete(self.prototypes, self.session_of)

    def subspaces(self, images: Tensor) -> Tensor:
        """Features [n, sessions, width] of images as the network is fed."""
        found = []
        for number in range(len(self.bank)):
            which = torch.full((len(images),), number, device=images.device)
            with self.bank.on(self.backbone.model, which):
                found.append(self.backbone.model(images))
        return torch.stack(found, dim=1)

    def predict(self, batch: Batch) -> Tensor:
        """Scores [n, columns] of the classes seen."""
        features = self.subspaces(self.backbone.prepare(batch.images))
        return scores(features, self.prototypes, self.session_of, self.config.alpha)


def complete(known: Tensor, session_of: Tensor) -> Tensor:
    """Prototypes of old classes in newer subspaces, from those of newer classes.

    Args:
        known: [classes, sessions, width]; only blocks up to a class's own session are read.
        session_of: int64 [classes].

    Returns:
        [classes, sessions, width] with all blocks filled.
    """
    filled = known.clone()
    for own in range(known.shape[1]):
        olds = session_of == own
        for block in range(own + 1, known.shape[1]):
            newer = session_of >= block  # these have been measured in both subspaces
            here = F.normalize(known[olds, own]) @ F.normalize(known[newer, own]).T
            filled[olds, block] = here.softmax(1) @ known[newer, block]
    return filled


def scores(features: Tensor, prototypes: Tensor, session_of: Tensor, alpha: float) -> Tensor:
    """Cosine in a class's own subspace plus ``alpha`` times the mean of the others, [n, classes].

    Args:
        features: [n, sessions, width].
        prototypes: [classes, sessions, width].
        session_of: int64 [classes].
        alpha: Weight of the other subspaces together.
    """
    cosines = torch.einsum(
        "nsd,csd->ncs", F.normalize(features, dim=2), F.normalize(prototypes, dim=2)
    )
    own = cosines.gather(2, session_of[None, :, None].expand(len(features), -1, 1)).squeeze(2)
    others = max(prototypes.shape[1] - 1, 1)
    return own + alpha / others * (cosines.sum(2) - own)
