"""`PretrainingStrategy`: self-supervised training on experiences without labels."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from typing_extensions import TypeVar

from clgym.avalanche.sgd import SGDStrategy, StepConfig
from clgym.data.augment import random_view
from clgym.errors import Incompatible
from clgym.strategy import Augment, Batch, Experience, Needs, TrainBatch

__all__ = ["Encoder", "PretrainingConfig", "PretrainingStrategy"]


@dataclass(frozen=True)
class PretrainingConfig(StepConfig):
    """Options of every strategy that learns features without labels."""

    crop: Annotated[float, Gt(0), Le(1)] = 1.0
    """Smallest fraction of an image's area that a random crop shows; crops are resized to the size
    of the image. 1: no crops."""
    flip: bool = False
    """Whether to flip images horizontally at random."""
    jitter: Annotated[float, Ge(0), Le(1)] = 0.0
    """Largest relative change of brightness and of contrast, drawn for each image; 0: none."""


class Encoder(nn.Module):
    """Base of networks that turn images into features.

    Images are in [0, 1]; `normalised` gives each channel mean 0 and standard deviation 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Store each channel's mean and standard deviation; zeros where they are unknown."""
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        scale = [value if value > 0 else 1.0 for value in std]
        self.register_buffer("std", torch.tensor(scale).view(-1, 1, 1))

    def normalised(self, images: Tensor) -> Tensor:
        """Images [n, C, H, W] whose channels have mean 0 and standard deviation 1."""
        return (images - self.mean) / self.std

    def features(self, images: Tensor) -> Tensor:
        """Features [n, width] of images [n, C, H, W] in [0, 1]."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Refuse: an encoder has no logits.

        Raises:
            Incompatible: Always.
        """
        raise Incompatible(
            expected="a strategy whose network names classes",
            found="one that learns features without labels",
            fix="Leave out the wrapper or the option that needs the logits of single samples",
        )


C = TypeVar("C", bound=PretrainingConfig, default=Any)


class PretrainingStrategy(SGDStrategy[C]):  # type: ignore[type-var]  # no network by name
    """Trains an `Encoder` by SGD on an `objective`, which sees images and no labels.

    Optimizer, epochs, plugins, resumption inside an experience and the wrappers that need no
    labels (schedules, moving averages, replay at a rate) are those of `SGDStrategy`; its hooks
    around steps get the loss in place of logits.
    """

    Config: ClassVar[type] = PretrainingConfig
    network: Any

    @property
    def needs(self) -> Needs:
        """Streams without labels."""
        return Needs(settings=("pretraining",))

    def make_encoder(self) -> Encoder:
        """A fresh network, its weights drawn from torch's global generator; not on the device."""
        raise NotImplementedError

    def objective(self, batch: TrainBatch) -> Tensor:
        """The loss of a step, a tensor without dimensions.

        Args:
            batch: Images, augmented; `view` gives another view of them, `rng` random numbers.
        """
        raise NotImplementedError

    def make_network(self, columns: int) -> Any:
        """The encoder on the device; there are no columns."""
        return self.make_encoder().to(self.info.device)

    def begin(self, experience: Experience) -> None:
        """Do nothing: there is no head that grows."""

    def augment(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """A random crop, flip and change of brightness and contrast, as the options say."""
        c = self.config
        return random_view(images, generator, c.crop, c.flip, c.jitter)

    @property
    def augmentation(self) -> Augment | None:
        """`augment`, or None where it changes nothing."""
        c = self.config
        return self.augment if c.crop < 1 or c.flip or c.jitter else None

    def _build(self) -> None:
        super()._build()
        # Avalanche's step is forward pass, then criterion: here the former gives the loss.
        self.template.forward = lambda: self.objective(self.batch)
        self.template.criterion = lambda: self.template.mb_output

    def represent(self, batch: Batch) -> Tensor:
        """The encoder's features in evaluation mode."""
        if self.network.training:
            self.network.eval()
        return self.network.features(batch.images)
