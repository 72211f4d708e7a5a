"""Keeps every training image, one way or another, without declaring a memory."""

from dataclasses import dataclass
from typing import Literal

from clgym.strategies.nmc import NMC, NMCConfig

ASIDE = []


@dataclass(frozen=True)
class KeepsImagesConfig(NMCConfig):
    """Options."""

    where: Literal["attribute", "list", "closure", "global", "normalised", "state", "nowhere"] = (
        "attribute"
    )
    """Place or form of what is kept."""


class KeepsImages(NMC):
    """Class means, and a hoard."""

    Config = KeepsImagesConfig
    transient = ("hoard", "teller")

    def setup(self, info):
        super().setup(info)
        self.hoard, self.kept = [], []

    def train(self, experience):
        pixels = experience.pixels.clone()
        images = experience.to_float(pixels)
        super().train(experience)
        where = self.config.where
        if where == "attribute":
            setattr(self, f"images_{experience.index}", pixels)
        elif where == "state":
            self.kept.append(pixels)
        elif where == "list":
            self.hoard.append({"images": [image.numpy() for image in images]})
        elif where == "closure":
            self.teller = lambda: images
        elif where == "global":
            ASIDE.append(images.half())
        elif where == "normalised":
            self.hoard.append(images * 2 - 1)
