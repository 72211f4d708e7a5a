"""Common base of the prompt methods: query, head for all classes, and the choice from a pool."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor, nn
from typing_extensions import TypeVar

from clgym.config import Search
from clgym.models.fitting import Optimizer, TrainedConfig, TrainedStrategy, session_loss
from clgym.models.prompts import PromptPool
from clgym.models.rates import ScheduleName
from clgym.strategy import Batch, Experience, Needs, StreamInfo, TrainBatch
from clgym.text import Json

__all__ = ["PooledConfig", "PooledStrategy", "Prompted", "PromptConfig", "PromptStrategy"]


@dataclass(frozen=True)
class PromptConfig(TrainedConfig):
    """Options of every prompt method."""

    optimizer: Optimizer = "adam"
    """Optimiser, created anew for every session. Weight decay under adam moves parameters without a
    gradient (rows of old classes, prompts not chosen) by about lr per step towards 0."""
    weight_decay: Annotated[float, Ge(0), Search(0.0, 0.0001, 0.0005)] = 0.0
    """Weight decay of prompts, keys and head."""
    query: Literal["cached", "augmented"] = "cached"
    """Image from which the frozen network computes the query in training: cached (the stored image,
    once for all epochs, from the feature cache), or augmented (as in the papers' code, with a
    second pass through the network in every step).
    """


@dataclass(frozen=True)
class PooledConfig(PromptConfig):
    """Options of the methods that choose prompts from a pool by keys."""

    schedule: Annotated[ScheduleName, Search("step", "cosine", "constant")] = "constant"
    """Course of the learning rate over the epochs of a session: constant, step (multiplied by
    lr_decay at each milestone), cosine (falling to min_lr), quarter-cosine (nearly to 0 along the
    falling quarter of a cosine), or released-cosine (the same one epoch late, as in CODA-Prompt's
    code)."""
    min_lr: Annotated[float, Ge(0)] = 1e-5
    """Learning rate that cosine falls to."""
    schedule_scope: Literal["every-session", "released"] = "every-session"
    """Sessions that follow the schedule: all of them, or, as in the released code, the first one
    only, the later ones at the full rate."""
    selection: Literal["per-sample", "batch-vote"] = "per-sample"
    """Choice of prompts: per-sample (the best ones for each image), or, as in the released code,
    batch-vote (those with most votes in the batch, for all of its images). With batch-vote a
    prediction depends on the other images of its batch, which the gym shuffles."""
    pull: Annotated[float, Ge(0), Search(0.1, 0.3, 0.5)] = 0.1
    """Weight of the similarity between queries and chosen keys in the loss."""


C = TypeVar("C", bound=PromptConfig, default=Any)


class PromptStrategy(TrainedStrategy[C]):
    """Prompts for a frozen ViT and one linear head.

    Attributes:
        head: Linear layer with a row for every class of the stream.
        seen: Number of classes that have been seen.
    """

    Config: ClassVar[type] = PromptConfig
    CHECK_CONFIG: ClassVar[dict[str, Json]] = {
        "backbone": "vit_tiny_patch16_224[img_size=8,patch_size=4,embed_dim=16,depth=5,num_heads=2]"
        "@random",
        "image_size": 8,
        "fit": "stretch",
        "epochs": 1,
    }
    head: nn.Linear

    @property
    def needs(self) -> Needs:
        """The backbone, its features as queries, and the number of classes for the head."""
        return Needs(
            backbone=self.frozen,
            features=True,
            total_classes=True,
            settings=("class-incremental", "task-incremental", "domain-incremental"),
        )

    def setup(self, info: StreamInfo) -> None:
        """Make the head, whose weights are drawn from torch's global generator."""
        super().setup(info)
        assert info.total_columns is not None
        self.head = nn.Linear(self.backbone.width, info.total_columns).to(info.device)
        self.seen = 0

    @torch.no_grad()
    def query(self, batch: Batch) -> Tensor:
        """Features [n, width] of the frozen network, for a training batch."""
        if self.config.query == "augmented":
            return self.backbone.model(self.backbone.normalised(batch.images))
        return self.features(batch)


class Prompted(NamedTuple):
    """Output of a network with chosen prompts for a batch."""

    logits: Tensor
    """Logits [n, columns] for all classes of the stream."""
    similarity: Tensor
    """Cosines of queries and keys, [n, pool]."""
    chosen: Tensor
    """Numbers of the prompts used, int64 [n, count]."""


P = TypeVar("P", bound=PooledConfig, default=Any)


class PooledStrategy(PromptStrategy[P]):
    """A prompt method that chooses from one pool.

    Attributes:
        pool: Prompts and keys.
    """

    Config: ClassVar[type] = PooledConfig
    pool: PromptPool

    def setup(self, info: StreamInfo) -> None:
        """Draw the head as the method's code does."""
        super().setup(info)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def prompted(self, images: Tensor, query: Tensor, chosen: Tensor | None = None) -> Prompted:
        """Compute logits with prompts.

        Args:
            images: Input of the network, [n, C, H, W].
            query: Features of the frozen network, [n, width].
            chosen: int64 [n, count]; None: by the similarity of queries and keys.
        """
        raise NotImplementedError

    def assigned(self, batch: Batch, index: int) -> Tensor | None:
        """Prompts that a training batch of experience ``index`` must use; None: by similarity."""
        return None

    def trained(self) -> list[nn.Parameter]:
        """All parameters that take a gradient."""
        return [*self.pool.parameters(), *self.head.parameters()]

    def train(self, experience: Experience) -> None:
        """Cross-entropy over the experience's classes, minus the pull of keys towards queries."""
        self.seen = experience.columns

        def loss(batch: TrainBatch) -> Tensor:
            made = self.prompted(
                self.backbone.normalised(batch.images),
                self.query(batch),
                self.assigned(batch, experience.index),
            )
            pulled = self.pool.pull(made.similarity, made.chosen)
            entropy = session_loss(made.logits, batch.labels, experience.classes)
            return entropy - self.config.pull * pulled

        late = experience.index > 0 and self.config.schedule_scope == "released"
        changed: dict[str, Any] = {"schedule": "constant"} if late else {}  # values of options
        self.training.run(experience, self.trained(), loss, **changed)

    def predict(self, batch: Batch) -> Tensor:
        """Logits [n, columns] of the classes seen."""
        images = self.backbone.prepare(batch.images)
        return self.prompted(images, self.features(batch)).logits[:, : self.seen]
