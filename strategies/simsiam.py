"""SimSiam: two views of an image predict each other, without negative pairs.

After Chen, He, "Exploring Simple Siamese Representation Learning", CVPR 2021 (arXiv 2011.10566),
written from the paper's equations and its pseudo-code (Algorithm 1). With z the projection of a
view and p the prediction from it, ``L = (D(p1, z2) + D(p2, z1)) / 2`` and ``D(p, z) = -cos(p, z)``,
in which z takes no gradient. Projector and predictor are the paper's, at ``--projection`` in the
place of 2048; features are the backbone's. No result of a paper is reproduced:

* views are crops, flips and changes of brightness and contrast, as the options say; the paper has
  changes of hue, grey images and blur besides;
* one learning rate for all weights, which the paper keeps constant for the predictor alone;
* the networks are those of the stream's preset.
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from clgym.avalanche import Encoder, PretrainingConfig, PretrainingStrategy
from clgym.models import networks
from clgym.strategy import StreamInfo, TrainBatch

SPACE = {"lr": [0.01, 0.03, 0.1], "crop": [0.2, 0.5], "epochs": [5, 10, 20]}


@dataclass(frozen=True)
class SimSiamConfig(PretrainingConfig):
    """Options of SimSiam."""

    lr: Annotated[float, Gt(0)] = 0.05
    """Learning rate."""
    momentum: Annotated[float, Ge(0), Le(1)] = 0.9
    """Momentum of SGD; its state starts afresh with every experience."""
    weight_decay: Annotated[float, Ge(0)] = 0.0001
    """Weight decay (L2 penalty)."""
    epochs: Annotated[int, Ge(1)] = 10
    """Number of epochs per experience."""
    batch_size: Annotated[int, Ge(2)] = 64
    """New samples per step. A last batch of one image, which batch normalisation cannot process,
    joins the batch before it."""
    crop: Annotated[float, Gt(0), Le(1)] = 0.5
    """Least share of an image's area that a random crop shows, which is resized to the whole; 1:
    no crops."""
    jitter: Annotated[float, Ge(0), Le(1)] = 0.4
    """Largest relative change of brightness and of contrast, drawn for each image; 0: none."""
    network: str = "mlp"
    """Network to train from scratch; the same names as those of naive."""
    hidden: tuple[Annotated[int, Ge(1)], ...] = networks.HIDDEN
    """Units of each hidden layer of the network mlp."""
    projection: Annotated[int, Ge(4)] = 256
    """Width of the projections; the predictor's hidden layer has a quarter of it."""


class SiameseNetwork(Encoder):
    """Backbone, projector and predictor."""

    def __init__(self, config: SimSiamConfig, info: StreamInfo) -> None:
        """Build them; weights come from torch's global generator."""
        super().__init__(info.mean, info.std)
        # With a head of one unit, of which only the width is used.
        made = networks.build(config.network, info.image_shape, 1, hidden=config.hidden)
        width, d = made.head.in_features, config.projection
        self.backbone = made.backbone
        self.projector = nn.Sequential(
            *_layer(width, d), *_layer(d, d), nn.Linear(d, d), nn.BatchNorm1d(d, affine=False)
        )
        self.predictor = nn.Sequential(*_layer(d, d // 4), nn.Linear(d // 4, d))

    def features(self, images: Tensor) -> Tensor:
        """The backbone's features, [n, width]."""
        return self.backbone(self.normalised(images))

    def projected(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Projections z and predictions p of a view, [n, d] each."""
        z = self.projector(self.features(images))
        return z, self.predictor(z)


class SimSiam(PretrainingStrategy[SimSiamConfig]):
    """SimSiam on one experience after the other."""

    def make_encoder(self) -> Encoder:
        """Backbone, projector and predictor."""
        return SiameseNetwork(self.config, self.info)

    def objective(self, batch: TrainBatch) -> Tensor:
        """Distance of each view's prediction to the other one's projection."""
        (z1, p1), (z2, p2) = map(
            self.network.projected, (batch.images, self.view(batch, "second view"))
        )
        return (distance(p1, z2) + distance(p2, z1)) / 2


def distance(predicted: Tensor, projected: Tensor) -> Tensor:
    """Negative cosine, mean over the batch; the projection takes no gradient, []."""
    return -cosine_similarity(predicted, projected.detach(), dim=1).mean()


def _layer(before: int, after: int) -> tuple[nn.Module, ...]:
    return nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU()
