"""Common base of strategies on pretrained networks: options and features."""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor
from typing_extensions import TypeVar

from clgym.errors import Incompatible
from clgym.models.backbones import Backbone, Frozen, load
from clgym.models.heads import ClassMeans, cosine_logits
from clgym.strategy import Batch, Config, Experience, Needs, Strategy, StreamInfo

__all__ = ["ClassMeanStrategy", "PretrainedConfig", "PretrainedStrategy"]


@dataclass(frozen=True)
class PretrainedConfig(Config):
    """Options of every strategy that builds on a pretrained network."""

    backbone: str = "vit_base_patch16_224.augreg_in21k"
    """Pretrained network: timm's full tag (after `clgym fetch TAG`), NAME@random, or NAME@FILE with
    a path or the name of a file in the data root's weights/."""
    image_size: Annotated[int, Ge(1)] = 224
    """Side in pixels of the network's input images."""
    fit: Literal["stretch", "crop"] = "crop"
    """Resizing of images: stretch (bilinear to that side), or crop (shorter side to 8/7 of it,
    bicubic, then a centre crop)."""
    normalise: bool = False
    """Normalise images as in pretraining; the papers use the range [0, 1] instead."""
    batch_size: Annotated[int, Ge(1)] = 256
    """Number of images per batch."""


C = TypeVar("C", bound=PretrainedConfig, default=Any)


class PretrainedStrategy(Strategy[C]):
    """A strategy that declares a frozen backbone; without a backbone, features are the pixels.

    Attributes:
        backbone: The network itself, loaded at first use.
    """

    Config: ClassVar[type] = PretrainedConfig
    transient = ("backbone",)

    @property
    def frozen(self) -> Frozen:
        """The backbone and the format of its input."""
        c = self.config
        return Frozen(c.backbone, c.image_size, c.fit, c.normalise)

    @property
    def needs(self) -> Needs:
        """The backbone, and its features of every image; nothing without one."""
        return Needs(backbone=self.frozen, features=True) if self.config.backbone else Needs()

    def setup(self, info: StreamInfo) -> None:
        """Refuse images that the backbone cannot take.

        Raises:
            Incompatible: The images have neither 1 nor 3 channels.
        """
        super().setup(info)
        if info.image_shape[0] not in (1, 3):
            raise Incompatible(
                expected="images of 1 or 3 channels, for a pretrained network",
                found=f"{info.image_shape[0]} channels",
                fix="Use another scenario",
            )

    @cached_property
    def backbone(self) -> Backbone:
        """The network, on the device."""
        return load(self.frozen, self.info.device)

    def features(self, batch: Batch) -> Tensor:
        """Features [n, d] of the frozen backbone, from the gym or computed here; or the pixels."""
        if batch.features is not None:
            return batch.features
        return self.backbone(batch.images) if self.config.backbone else batch.images.flatten(1)


class ClassMeanStrategy(PretrainedStrategy[C]):
    """Keeps for each class the mean of the vectors that `embed` returns for its images.

    Attributes:
        classes: The class means, as sums and counts.
    """

    def setup(self, info: StreamInfo) -> None:
        """Begin with no class."""
        super().setup(info)
        self.classes = ClassMeans(info.device)

    def embed(self, batch: Batch) -> Tensor:
        """Vectors that are averaged and compared, float [n, d]: the features."""
        return self.features(batch)

    @torch.no_grad()
    def train(self, experience: Experience) -> None:
        """Count every image once into its class's mean."""
        for batch in experience.batches(self.config.batch_size, shuffle=False):
            self.classes.update(self.embed(batch), batch.labels, experience.columns)

    def predict(self, batch: Batch) -> Tensor:
        """Cosines [n, columns]; a class without an image gets -inf, since cosines may be < 0."""
        features = self.embed(batch)
        weight = self.classes.means.to(features.dtype)
        return cosine_logits(features, weight).nan_to_num(nan=-torch.inf)
