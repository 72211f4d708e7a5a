"""SLCA: the whole backbone learns slowly; the classifier is aligned on draws from class Gaussians.

Zhang et al., "SLCA: Slow Learner with Classifier Alignment for Continual Learning on a Pre-trained
Model", ICCV 2023, https://arxiv.org/abs/2303.05118; code sun-hailong/LAMDA-PILOT 2647455 (a port;
the authors' own was not read). Each session trains all of a ViT, at a hundredth of the head's
learning rate, and a linear layer for its classes. A Gaussian is kept of every class. From session
2 on, all layers are trained on draws from these, with the means of older classes shrunk and
logits divided by their norm. The next session goes on from the layers before the alignment: the
aligned ones only answer.

Stored: width + width^2 numbers per class (590,592 for a ViT-B/16).
"""

import copy
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clgym.config import Search
from clgym.models.fitting import TrainedConfig, TrainedStrategy, check_new_classes
from clgym.models.heads import SessionHeads
from clgym.models.rates import ScheduleName
from clgym.models.training import set_rates
from clgym.strategy import Batch, Experience, Needs, StreamInfo, TrainBatch

SPACE = {
    "epochs": [5, 10, 20],
    "lr": [0.005, 0.01, 0.02],
    "weight_decay": [0.0005, 0.005],
    "backbone_rate": [0.001, 0.01, 0.1],
    "align_epochs": [3, 5, 10],
}


@dataclass(frozen=True)
class SlcaConfig(TrainedConfig):
    """Options of `Slca`; the defaults are the reference code's for CIFAR-100 in ten tasks."""

    batch_size: Annotated[int, Ge(1)] = 64
    """Images per batch."""
    schedule: Annotated[ScheduleName, Search("step", "cosine", "constant")] = "step"
    """Course of the learning rate over the epochs of a session: constant, step (multiplied by
    lr_decay at each milestone), cosine (falling to min_lr), quarter-cosine (nearly to 0 along the
    falling quarter of a cosine), or released-cosine (the same one epoch late, as in CODA-Prompt's
    code)."""
    drops: tuple[Annotated[int, Ge(0)], ...] = (18,)
    """Epochs, counted from 0, at which step multiplies the rate, in the place of milestones; one
    given twice acts twice."""
    backbone_rate: Annotated[float, Ge(0)] = 0.01
    """Learning rate of the backbone as a share of the head's; 0 freezes it."""
    frozen: str = ""
    """Beginnings of names of backbone parameters that stay as they are, separated by commas
    (``patch_embed,blocks.0.``)."""
    align_epochs: Annotated[int, Ge(0)] = 3
    """Passes of the alignment, each over fresh draws."""
    draws: Annotated[int, Ge(1)] = 256
    """Draws per class and pass, and size of a step of the alignment."""
    logit_norm: Annotated[float, Ge(0)] = 0.1
    """Temperature of the alignment's logits after their division by their norm; 0: neither."""
    shrink: Annotated[float, Ge(0), Le(1)] = 0.1
    """Share of its length that the mean of the oldest classes would lose in the alignment."""
    jitter: Annotated[float, Gt(0)] = 1e-4
    """Value added to every variance of a class, so that its covariance can be inverted."""


class Slca(TrainedStrategy[SlcaConfig]):
    """A slow backbone, a head per session, Gaussians of the classes.

    Attributes:
        network: Copy of the backbone that is trained.
        heads: Layers as training left them.
        aligned: Layers that answer.
        means: [classes seen, width].
        covariances: [classes seen, width, width].
        session_sizes: Number of classes of each session.
    """

    CHECK_CONFIG = {
        "backbone": "vit_tiny_patch16_224[img_size=8,patch_size=4,embed_dim=16,depth=1,num_heads=2]"
        "@random",
        "image_size": 8,
        "fit": "stretch",
        "epochs": 1,
        "align_epochs": 1,
        "draws": 16,
    }

    @property
    def needs(self) -> Needs:
        """The backbone, and the images once more: statistics are taken after training."""
        return replace(super().needs, rereads=True)

    def setup(self, info: StreamInfo) -> None:
        """Copy the backbone."""
        super().setup(info)
        width = self.backbone.width
        self.network = copy.deepcopy(self.backbone.model)
        kept = [name.strip() for name in self.config.frozen.split(",") if name.strip()]
        for name, parameter in self.network.named_parameters():
            slow = self.config.backbone_rate > 0 and not name.startswith(tuple(kept))
            parameter.requires_grad_(slow)
        self.heads = SessionHeads(width).to(info.device)
        self.aligned = SessionHeads(width).to(info.device)
        self.means = next(self.network.parameters()).new_zeros(0, width)
        self.covariances = self.means.new_zeros(0, width, width)
        self.session_sizes: list[int] = []

    def trained(self) -> list[nn.Parameter]:
        """All parameters that take a gradient in the session's first stage."""
        slow = [p for p in self.network.parameters() if p.requires_grad]
        return [*slow, *self.heads.layers[-1].parameters()]

    def train(self, experience: Experience) -> None:
        """Train slowly, measure the new classes, align the layers."""
        if self.training.begin(experience):
            check_new_classes(experience, sum(self.session_sizes))
            self.begin(experience)
        self.fit_network(experience)
        self.measure(experience)
        self.aligned = copy.deepcopy(self.heads)
        if len(self.session_sizes) > 1:
            self.align(experience)

    def begin(self, experience: Experience) -> None:
        """Add a layer for the new classes."""
        self.session_sizes.append(len(experience.classes))
        self.heads.add(len(experience.classes))
        self.aligned = copy.deepcopy(self.heads)

    def fit_network(self, experience: Experience) -> None:
        """Stage 1: cross-entropy over the session's classes."""
        c, layer = self.config, self.heads.layers[-1]
        slow = [p for p in self.network.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": list(layer.parameters()), "lr": c.lr}]
        if slow:
            groups.append({"params": slow, "lr": c.backbone_rate * c.lr})

        def loss(batch: TrainBatch) -> Tensor:
            features = self.network(self.backbone.normalised(batch.images))
            return cross_entropy(layer(features), batch.labels - experience.classes[0])

        self.network.train()
        self.training.run(experience, groups, loss)
        self.network.eval()

    @torch.no_grad()
    def measure(self, experience: Experience) -> None:
        """Mean and covariance of the new classes, which are never computed again."""
        found = []
        for column in experience.classes:
            images = experience.pixels[experience.labels == column]
            parts = images.split(self.config.batch_size)
            features = [self.embedded(experience.to_float(part)) for part in parts]
            found.append(self.moments(torch.cat(features)))
        means, covariances = zip(*found, strict=True)
        self.means = torch.cat([self.means, torch.stack(means)])
        self.covariances = torch.cat([self.covariances, torch.stack(covariances)])

    def embedded(self, images: Tensor) -> Tensor:
        """Features [n, width] of images in [0, 1] that are not augmented."""
        return self.network(self.backbone.prepare(images))

    def moments(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and unbiased covariance of features [n, width], with the jitter."""
        mean = features.double().mean(0)
        centred = features.double() - mean
        covariance = centred.T @ centred / max(len(features) - 1, 1)
        covariance.diagonal().add_(self.config.jitter)
        return mean.to(features), covariance.to(features)

    def sampling_means(self) -> Tensor:
        """Means that draws of the alignment lie around, [classes seen, width]: old ones shrunk."""
        latest = len(self.session_sizes)
        place = torch.arange(len(self.means), device=self.means.device) // self.session_sizes[-1]
        share = 1 - self.config.shrink * (1 - (place + 1) / latest)
        return self.means * share[:, None].to(self.means)

    def align(self, experience: Experience) -> None:
        """Stage 2: train all layers, and nothing else, on draws from the classes' Gaussians."""
        c, seen = self.config, len(self.means)
        optimizer = torch.optim.SGD(
            self.aligned.parameters(), c.lr, c.momentum, weight_decay=c.weight_decay
        )
        for epoch in range(c.align_epochs):
            set_rates(optimizer, [c.lr], epoch / c.align_epochs)
            samples, order = self.draw(experience, epoch)
            labels = torch.arange(seen, device=samples.device).repeat_interleave(samples.shape[1])
            for part in order.split(samples.shape[1]):
                logits = self.aligned(samples.flatten(0, 1)[part])
                loss = cross_entropy(self.normed(logits), labels[part])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                experience.report(loss=float(loss.detach()))

    def normed(self, logits: Tensor) -> Tensor:
        """Logits over the mean of the sessions' norms, and over the temperature."""
        if not self.config.logit_norm:
            return logits
        parts = logits.split(self.session_sizes, dim=1)
        norms = torch.stack([part.norm(dim=1) + 1e-7 for part in parts], dim=1)
        return logits / norms.mean(1, keepdim=True) / self.config.logit_norm

    def draw(self, experience: Experience, epoch: int) -> tuple[Tensor, Tensor]:
        """Fresh vectors of every class seen [seen, draws, width], and an order of them all."""
        count, width = self.means.shape
        generator = experience.generator("vectors of the classes", epoch=epoch)
        noise = torch.randn(count, self.config.draws, width, generator=generator).to(self.means)
        roots = torch.linalg.cholesky(self.covariances.double()).to(self.means)
        order = torch.randperm(count * self.config.draws, generator=generator)
        samples = self.sampling_means()[:, None] + noise @ roots.transpose(1, 2)
        return samples, order.to(samples.device)

    def predict(self, batch: Batch) -> Tensor:
        """Logits [n, columns] of the classes seen, from the aligned layers."""
        return self.aligned(self.embedded(batch.images))
