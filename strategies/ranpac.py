"""RanPAC: ridge regression on a random projection of features that the first session adapted.

McDonnell et al., "RanPAC: Random Projections and Pre-trained Models for Continual Learning",
NeurIPS 2023, https://arxiv.org/abs/2307.02251; code RanPAC/RanPAC 012927f. Session 1 trains a small
module in a frozen ViT with a cosine classifier, which is then thrown away. From then on features go
through a fixed Gaussian projection W and ReLU; G, the sum of h h^T, and Q, the sum of h y^T, are
kept, and the classifier is (G + lambda I)^-1 Q. Each session chooses lambda by the error on a fifth
of its own rows, from one factorisation for all seventeen values. G and Q do not depend on order or
number of sessions, only lambda does.

Memory: G has M x M numbers: 0.8 GB at M = 10,000 in float64, 0.4 GB in float32. A session's
projected features take n x M numbers more while it is learned.

Where the released code of LAMDA-PILOT differs: ``--head cosine`` divides each row of the classifier
by its length; the authors' code does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clgym.config import Search
from clgym.models import peft
from clgym.models.fitting import TrainedConfig, TrainedStrategy
from clgym.models.heads import CosineHead, cosine_logits
from clgym.models.ridge import STRENGTHS, hold_out_errors, project, ridge_weights
from clgym.strategy import Batch, Experience, Needs, StreamInfo, TrainBatch, torch_generator


@dataclass(frozen=True)
class RanPACConfig(TrainedConfig):
    """Options of `RanPAC`; the defaults are the authors' for CIFAR-100."""

    adapt: Literal["adapter", "ssf", "vpt-shallow", "vpt-deep", "none"] = "adapter"
    """Module that the first session trains; none: the features stay those of the backbone."""
    rank: Annotated[int, Ge(1), Search(4, 8, 16, 32, 64)] = 64
    """Width of an adapter's bottleneck."""
    prompts: Annotated[int, Ge(1)] = 5
    """Number of prompt tokens, with vpt-deep for each block."""
    dropout: Annotated[float, Ge(0), Le(1)] = 0.1
    """Dropout inside adapters, in training."""
    projection: Annotated[int, Ge(0), Search(5000, 10000, 15000, 20000)] = 10000
    """Width M of the random projection; 0: no projection. The Gram matrix takes 8 M^2 bytes in
    float64 (0.8 GB at 10,000), 4 M^2 in float32."""
    head: Literal["linear", "cosine"] = "linear"
    """Score of a class: the product of its row with the projected features (paper), or the cosine
    of the two (LAMDA-PILOT's code)."""
    precision: Literal["float32", "float64"] = "float64"
    """Floating-point type of statistics and solutions. In float32 the errors of strengths below 1
    are rounding noise where a session has fewer rows than the projection has columns."""


class RanPAC(TrainedStrategy[RanPACConfig]):
    """Ridge regression on projected features.

    Attributes:
        module: Trained in session 1; None without adaptation.
        proxy: Cosine classifier of that training; it has no rows at other times.
        projection: W, [width, M]; None without a projection.
        gram: G, [M, M].
        cross: Q, [M, classes seen].
        weights: Rows of the classifier, [classes seen, M].
        strength: Ridge strength of the last session.
    """

    CHECK_CONFIG = {
        "backbone": "vit_tiny_patch16_224[img_size=8,patch_size=4,embed_dim=16,depth=1,num_heads=2]"
        "@random",
        "image_size": 8,
        "fit": "stretch",
        "rank": 4,
        "epochs": 1,
        "projection": 32,
    }
    transient = ("projection",)  # drawn again from its name

    @property
    def needs(self) -> Needs:
        """The backbone; its cached features where nothing is trained, else images once more."""
        frozen = self.config.adapt == "none"
        every = ("class-incremental", "task-incremental", "domain-incremental")
        return replace(super().needs, features=frozen, rereads=not frozen, settings=every)

    @property
    def passes(self) -> int:
        """One pass without adaptation; else the first session's."""
        return 1 if self.config.adapt == "none" else self.config.epochs

    def setup(self, info: StreamInfo) -> None:
        """Make the module and draw the projection, which depends on seed and width alone."""
        super().setup(info)
        c, width = self.config, self.backbone.width
        self.module = self._make_module()
        self.proxy = CosineHead(width, 0).to(info.device)
        name = f"random projection of {width} features to {c.projection}"
        key = torch_generator(info.seed, "strategy", name)
        drawn = torch.randn(width, c.projection, generator=key) if c.projection else None
        self.projection = None if drawn is None else self._exact(drawn)
        size = c.projection or width
        self.gram = self._exact(torch.zeros(size, size))
        self.cross = self._exact(torch.zeros(size, 0))
        self.weights = self._exact(torch.zeros(0, size))
        self.strength = 0.0

    def _exact(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.info.device, getattr(torch, self.config.precision))

    def _make_module(self) -> peft.Part | None:
        c = self.config
        if c.adapt == "none":
            return None
        vit = self.backbone.model
        makers: Mapping[str, Any] = {
            "adapter": lambda: peft.Adapters(vit, c.rank, c.dropout),
            "ssf": lambda: peft.ScaleShift(vit),
            "vpt-shallow": lambda: peft.ShallowPrompts(vit, c.prompts),
            "vpt-deep": lambda: peft.DeepPrompts(vit, c.prompts),
        }
        return makers[c.adapt]().to(self.info.device).eval()

    def train(self, experience: Experience) -> None:
        """Adapt in the first session; then add the session's rows and solve."""
        if experience.index == 0 and self.module is not None:
            self.adapt_network(experience)
        rows, targets = self.rows(experience)
        self.strength = STRENGTHS[int(hold_out_errors(rows, targets).argmin())]
        self.add(rows, targets)
        self.weights = ridge_weights(self.gram, self.cross, self.strength)

    def adapt_network(self, experience: Experience) -> None:
        """Train module and cosine classifier by cross-entropy over the first classes."""
        module, proxy = self.module, self.proxy
        assert module is not None
        if self.training.begin(experience):
            self.begin(experience)

        def loss(batch: TrainBatch) -> Tensor:
            features = self.adapted(self.backbone.normalised(batch.images))
            return cross_entropy(proxy(features), batch.labels)

        module.train()
        self.training.run(experience, [*module.parameters(), *proxy.parameters()], loss)
        module.eval()
        proxy.resize(0)

    def begin(self, experience: Experience) -> None:
        """Draw the cosine classifier of the first session."""
        self.proxy.resize(experience.columns)

    def trained(self) -> list[nn.Parameter]:
        """All parameters that take a gradient in the first session."""
        return [] if self.module is None else [*self.module.parameters(), *self.proxy.parameters()]

    def adapted(self, images: Tensor) -> Tensor:
        """Features [n, width] through the module, of images as the network is fed."""
        assert self.module is not None
        with self.module.on(self.backbone.model):
            return self.backbone.model(images)

    def represent(self, batch: Batch) -> Tensor:
        """Projected features [n, M] of images that are not augmented."""
        if self.module is None:
            features = self.features(batch)
        else:
            features = self.adapted(self.backbone.prepare(batch.images))
        return project(self._exact(features), self.projection)

    @torch.no_grad()
    def rows(self, experience: Experience) -> tuple[Tensor, Tensor]:
        """Projected features [n, M] and one-hot labels [n, classes seen], in a random order."""
        made, labels = [], []
        passes = self.config.epochs if self.module is not None and not experience.index else 0
        for batch in experience.batches(self.config.batch_size, epoch=passes):
            made.append(self.represent(batch))
            labels.append(batch.labels)
        hot = F.one_hot(torch.cat(labels), experience.columns)
        return torch.cat(made), self._exact(hot)

    def add(self, rows: Tensor, targets: Tensor) -> None:
        """Add rows [n, M] and targets [n, classes seen] to the statistics."""
        self.gram += rows.T @ rows
        self.cross = F.pad(self.cross, (0, targets.shape[1] - self.cross.shape[1]))
        self.cross += rows.T @ targets

    def predict(self, batch: Batch) -> Tensor:
        """Scores [n, columns] of the classes seen."""
        rows = self.represent(batch)
        if self.config.head == "cosine":
            return cosine_logits(rows, self.weights)
        return rows @ self.weights.T
