"""Common base of strategies on pretrained networks: options and features."""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from torch import Tensor
from typing_extensions import TypeVar

from clgym.config import Range
from clgym.errors import Incompatible
from clgym.models.backbones import Backbone, Frozen, load
from clgym.strategy import Batch, Config, Needs, Strategy, StreamInfo

__all__ = ["PretrainedConfig", "PretrainedStrategy"]


@dataclass(frozen=True)
class PretrainedConfig(Config):
    """Options of every strategy that builds on a pretrained network."""

    backbone: str = "vit_base_patch16_224.augreg_in21k"
    """Pretrained network: timm's full tag (after `clgym fetch TAG`), NAME@random, or NAME@FILE with
    a path or the name of a file in the data root's weights/."""
    image_size: Annotated[int, Range(1)] = 224
    """Side in pixels of the network's input."""
    fit: Literal["stretch", "crop"] = "crop"
    """Resizing of images: stretch (bilinear to that side), or crop (shorter side to 8/7 of it,
    bicubic, then a centre crop)."""
    normalise: bool = False
    """Normalise images as in pretraining; the papers use the range [0, 1] instead."""
    batch_size: Annotated[int, Range(1)] = 256
    """Images per batch."""


C = TypeVar("C", bound=PretrainedConfig, default=Any)


class PretrainedStrategy(Strategy[C]):
    """A strategy that declares a frozen backbone.

    Attributes:
        backbone: The network itself; loaded when first asked for.
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
        """The backbone, and its features of every image."""
        return Needs(backbone=self.frozen, features=True)

    def setup(self, info: StreamInfo) -> None:
        """Refuse images that the backbone cannot take.

        Raises:
            Incompatible: neither grey nor colour images.
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
        """The frozen backbone's features, [n, d]: the gym's, else computed here."""
        if batch.features is not None:
            return batch.features
        return self.backbone(batch.images)
