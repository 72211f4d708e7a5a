"""PODNet: distillation of pooled maps, a cosine head with several proxies, balanced fine-tuning.

Douillard, Cord, Ollion, Robert, Valle, "PODNet: Pooled Outputs Distillation for Small-Tasks
Incremental Learning", ECCV 2020 (arXiv 2004.13513), as the protocol of Cha & Cho (arXiv 2403.09066)
and PyCIL have it. The last block of the backbone has no final ReLU. A class has p proxies; its
logit is sigma times the mean of its cosines, weighted by their softmax. The loss is NCA's, and from
the second experience on, with g = sqrt(all classes / new classes)::

    NCA + g * lambda_f * POD-flat + g * lambda_c * POD-spatial

After training the whole network is fine-tuned, on the same loss, on equally many images of each
class: the exemplars, and as many new images by herding. Proxies of old classes are never trained.
Defaults are PyCIL's. ``--variant original`` has three things of the authors' own code
(arthurdouillard/incremental_learning.pytorch c09fc54): squared distances in the place of cosines,
sigma in the loss alone, and proxies of new classes at the centres of k-means of their features.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from torch import Tensor, nn

from clgym.avalanche import ExemplarConfig, ExemplarStrategy, Stage
from clgym.models import networks
from clgym.models.distillation import cosine_distance, pooled_distance
from clgym.strategy import Experience, StreamInfo, TrainBatch

SPACE = {
    "epochs": [30, 70, 120, 160, 200],
    "milestones": {"values": [2, 3, 4], "when": {"schedule": ["step"]}},
    "lr": [0.05, 0.1, 0.15, 0.2, 0.3],
    "lr_decay": {"values": [0.1, 0.3, 0.5], "when": {"schedule": ["step"]}},
    "batch_size": [32, 64, 128, 256, 512],
    "weight_decay": [0.0001, 0.0005, 0.001, 0.005],
    "schedule": ["step", "cosine"],
    "lambda_c": [1, 3, 5, 7, 9],
    "lambda_f": [0.5, 1, 1.5, 2, 3],
    "proxies": [10, 20, 30, 50, 100],
    "finetune_epochs": [5, 10, 20, 30, 50],
    "finetune_lr": [0.001, 0.003, 0.005, 0.007, 0.01],
    "adaptive_factor": [True, False],
}


@dataclass(frozen=True)
class PodnetConfig(ExemplarConfig):
    """Options of `Podnet`."""

    epochs: Annotated[int, Ge(1)] = 160
    """Number of epochs of each experience after the first, without fine-tuning."""
    weight_decay: Annotated[float, Ge(0)] = 5e-4
    """Weight decay (L2 penalty) on all parameters, from the second experience on."""
    schedule: Literal["step", "cosine"] = "cosine"
    """Course of the learning rate: multiplied by lr_decay at milestones (step), or along a cosine
    to 0 (cosine); in the first experience and in fine-tuning, too."""
    network: networks.StagedName = "resnet18"  # type: ignore[assignment]
    """Network to train from scratch, one whose maps can be read: resnet18, slim-resnet18, resnet32,
    two-convolutions."""
    lambda_c: Annotated[float, Ge(0)] = 5.0
    """Weight of the distillation of pooled maps (POD-spatial)."""
    lambda_f: Annotated[float, Ge(0)] = 1.0
    """Weight of the distillation of features (POD-flat)."""
    proxies: Annotated[int, Ge(1)] = 10
    """Number of proxies of each class."""
    finetune_epochs: Annotated[int, Ge(1)] = 20
    """Number of epochs of fine-tuning."""
    finetune_lr: Annotated[float, Gt(0)] = 0.005
    """Learning rate of fine-tuning."""
    variant: Literal["protocol", "original"] = "protocol"
    """Code whose head is used: the protocol's, with cosines and random proxies; or the authors'
    own, with negative squared distances, sigma in the loss alone and imprinted proxies."""
    adaptive_factor: bool = True
    """Whether the distillation's weights are multiplied by sqrt(all classes / new classes)."""


class Output(NamedTuple):
    """What the network returns for a batch."""

    maps: list[Tensor]
    """Activations [n, channels, height, width] of each stage of the backbone."""
    features: Tensor
    logits: Tensor


class ProxyHead(nn.Module):
    """A head with several proxies a class: cosines, or negative squared distances.

    Attributes:
        old_weight: Proxies of classes of earlier experiences [old classes * p, d]; rows of one
            class stand together.
        new_weight: Those of the present experience's classes.
        sigma: Scale of the logits.
        out_features: Number of classes.
    """

    def __init__(self, width: int, proxies: int, original: bool = False) -> None:
        """Begin without a class; ``original``: distances, and `sigma` for the loss alone."""
        super().__init__()
        self.width, self.proxies, self.out_features = width, proxies, 0
        self.original = original
        self.old_weight = nn.Parameter(torch.empty(0, width))
        self.new_weight = nn.Parameter(torch.empty(0, width))
        self.sigma = nn.Parameter(torch.ones(1))

    def grow(self, columns: int) -> None:
        """All proxies become old ones; those of new classes are drawn from U(+-1/sqrt(d))."""
        count = (columns - self.out_features) * self.proxies
        bound = 1 / math.sqrt(self.width)
        both = torch.cat([self.old_weight, self.new_weight]).detach()
        self.old_weight = nn.Parameter(both)
        self.new_weight = nn.Parameter(both.new_empty(count, self.width).uniform_(-bound, bound))
        self.out_features = columns

    def forward(self, features: Tensor) -> Tensor:
        """Logits [n, classes] of features [n, d]."""
        weight = torch.cat([self.old_weight, self.new_weight])
        similar = F.linear(F.normalize(features), F.normalize(weight))
        if self.original:
            similar = 2 * similar - 2  # minus the squared distance of unit vectors
        by_class = similar.unflatten(1, (self.out_features, self.proxies))
        logits = (by_class.softmax(2) * by_class).sum(2)
        return logits if self.original else self.sigma * logits

    def imprint(self, features: list[Tensor], seed: int) -> None:
        """Put the new proxies at the centres of clusters of each new class's unit features.

        Their length is the mean length of the old proxies.

        Args:
            features: [n, d] of all images of each new class, at least as many as proxies.
            seed: Decides where the clustering starts.
        """
        length = torch.linalg.vector_norm(self.old_weight, dim=1).mean()
        found = [_centres(F.normalize(f), self.proxies, seed) for f in features]
        with torch.no_grad():
            self.new_weight.copy_(length * torch.cat(found))

    def _load_from_state_dict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state_dict: Any, prefix: str, *rest: Any
    ) -> None:
        """Have as many proxies as the state first."""
        for name in ("old_weight", "new_weight"):
            setattr(self, name, nn.Parameter(torch.empty_like(state_dict[prefix + name])))
        self.out_features = (len(self.old_weight) + len(self.new_weight)) // self.proxies
        super()._load_from_state_dict(state_dict, prefix, *rest)


class ProxyClassifier(networks.Classifier):
    """A backbone that gives its maps, and a `ProxyHead`."""

    def __init__(self, backbone: nn.Module, head: ProxyHead, *scale: Any) -> None:
        """Put a head on ``backbone``; ``scale``: means and deviations of the channels."""
        super().__init__(backbone, head.width, 1, *scale)
        self.head: Any = head

    def grow(self, columns: int) -> None:
        """Proxies for new classes."""
        if columns > self.columns:
            self.head.grow(columns)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Activations of each stage, of images in [0, 1]."""
        backbone: Any = self.backbone
        return backbone.maps((images - self.mean) / self.std)

    def forward(self, images: Tensor) -> Any:
        """Maps, features and logits; `features` and `logits` give the parts."""
        maps = self.maps(images)
        features = maps[-1].mean((2, 3))
        return Output(maps, features, self.head(features))


class Podnet(ExemplarStrategy[PodnetConfig]):
    """Pooled-output distillation, then balanced fine-tuning.

    Attributes:
        selection: Rows of the experience by new class, for fine-tuning; empty before it.
    """

    TEACHER = True
    RECTIFIED = False
    CHECK_CONFIG: ClassVar[dict[str, Any]] = {
        **ExemplarStrategy.CHECK_CONFIG,
        "network": "two-convolutions",
        "proxies": 2,
        "finetune_epochs": 1,
    }

    def setup(self, info: StreamInfo) -> None:
        """Build the networks."""
        super().setup(info)
        self.selection: dict[int, Tensor] = {}

    def classifier(self) -> Any:
        """A network with proxies."""
        backbone, width = self.make_backbone()
        head = ProxyHead(width, self.config.proxies, self.config.variant == "original")
        return ProxyClassifier(backbone, head, self.info.mean, self.info.std)

    def before_experience(self, experience: Experience) -> None:
        """Imprint the new classes' proxies, in the authors' variant."""
        if self.known and self.config.variant == "original":
            new = range(self.known, experience.columns)
            pixels = [experience.pixels[experience.labels == label] for label in new]
            features = [self.features_of(experience, part) for part in pixels]
            seed = experience.generator("imprinting").initial_seed() % 2**32
            head: Any = self.network.head
            head.imprint(features, seed)

    def objective(self, batch: TrainBatch, output: Output) -> Tensor:
        """NCA, and from the second experience on the two distillations."""
        head: Any = self.network.head
        scale = head.sigma if self.config.variant == "original" else 1.0
        loss = nca(scale * output.logits, batch.labels)
        if not self.known:
            return loss
        taught = self.taught(batch)
        c, classes = self.config, output.logits.shape[1]
        factor = math.sqrt(classes / (classes - self.known)) if c.adaptive_factor else 1.0
        flat = cosine_distance(output.features, taught.features)
        spatial = pooled_distance(output.maps, taught.maps)
        return loss + factor * c.lambda_f * flat + factor * c.lambda_c * spatial

    def stages(self, experience: Experience) -> Sequence[Stage]:
        """Training; from the second experience on fine-tuning, too."""
        head = self.network.head
        trained = [*self.network.backbone.parameters(), head.new_weight, head.sigma]
        training = self.training_stage(experience, parameters=trained)
        if not self.known:
            return [training]
        c = self.config
        finetuning = self.training_stage(
            experience,
            parameters=trained,
            epochs=c.finetune_epochs,
            rate=self.schedule("finetune", c.finetune_epochs, c.finetune_lr),
            data=lambda: self.balanced(experience),
            begin=lambda: self.select(experience),
        )
        return [training, finetuning]

    def select(self, experience: Experience) -> None:
        """Rank new images by the network just trained; old classes have memory_size / K each."""
        self.selection = self.ranked(experience, self.config.memory_size // self.known)

    def balanced(self, experience: Experience) -> Experience:
        """The selected new images and all exemplars."""
        return self.with_exemplars(experience.part(torch.cat(list(self.selection.values()))))

    def after_experience(self, experience: Experience) -> None:
        """Choose exemplars anew by the fine-tuned network."""
        self.selection = {}
        super().after_experience(experience)


def _centres(vectors: Tensor, count: int, seed: int) -> Tensor:
    """Centres [count, d] of clusters of vectors [n, d] by k-means."""
    if count == 1:
        return F.normalize(vectors.mean(0, keepdim=True))
    from sklearn.cluster import KMeans  # slow to import: only where it is used

    means = KMeans(
        count,
        n_init=10,  # type: ignore[arg-type]  # its stubs know "auto" alone
        random_state=seed,
    ).fit(vectors.cpu().numpy())
    return torch.from_numpy(means.cluster_centers_).to(vectors)


def nca(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of PODNet's code, a relative of NCA's, mean over the batch.

    With M the largest logit, log(1 + sum over the wrong classes of exp(z_j - M)) - (z_y - M): the
    true class stays in the sum, with 1 in the place of its exponential. So M matters, and its
    gradient. The code's margin is taken from every logit, and cancels.
    """
    shifted = logits - logits.max(1, keepdim=True).values
    right = shifted.gather(1, labels[:, None])
    exponents = shifted.scatter(1, labels[:, None], 0.0)
    return (torch.logsumexp(exponents, 1) - right[:, 0]).mean()
