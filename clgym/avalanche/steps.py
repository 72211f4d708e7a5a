"""Tools for the hooks of a method: the batch, the network's logits, draws from the memory."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from typing_extensions import TypeVar

from clgym.avalanche.heads import Heads, logits_of_tasks, match_loss
from clgym.data.augment import AUGMENTATIONS
from clgym.strategy import Augment, Config, Experience, Strategy, TrainBatch

__all__ = ["StepTools"]

C = TypeVar("C", bound=Config, default=Any)


class StepTools(Strategy[C]):
    """Base of `SGDStrategy`, which has the hooks.

    Attributes:
        template: The Avalanche strategy, which takes the steps.
        network: The classifier that is trained.
    """

    template: Any
    network: Any

    @property
    def heads(self) -> Heads:
        """Heads that the config sets on task-incremental streams; one head on all others."""
        tasks = self.info.setting == "task-incremental"
        return getattr(self.config, "heads", "shared") if tasks else "shared"

    @property
    def batch(self) -> TrainBatch:
        """The batch of the step under way."""
        return self.template.train_batch

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the experience under way."""
        return self.template.optimizer

    @property
    def augmentation(self) -> Augment | None:
        """Augmentation of training images; None if there is none."""
        config: Any = self.config  # an `SGDConfig`, which another file defines
        return AUGMENTATIONS[config.augment]

    def forward(self, batch: TrainBatch) -> Tensor:
        """The network's logits [n, columns], each sample's for its own task."""
        return logits_of_tasks(self.network, batch.images, batch.tasks)

    def recall(self, size: int, *name: str) -> TrainBatch | None:
        """Draw from the memory, with images augmented as new ones are.

        Args:
            size: Maximum number of samples.
            name: Distinguishes several draws of one step; the streams are ``rng("replay", *name)``.

        Returns:
            The samples with all columns that are stored with them; None while there are none.
        """
        if not len(self.info.memory):
            return None
        drawn = self.info.memory.draw(size, self.rng("replay", *name))
        images = self.experience.to_float(drawn["pixels"])
        return TrainBatch(
            self.augmented(images, "replay", *name),
            drawn.get("labels"),
            tasks=drawn.get("tasks"),
            pixels=drawn["pixels"],
            columns=drawn,
        )

    def remember(self, batch: TrainBatch, **columns: Tensor) -> None:
        """Offer samples to the memory's reservoir: pixels, and tasks where heads know them.

        Args:
            batch: New samples; their pixels are stored, not augmented.
            columns: What else to store: ``labels=batch.labels``, logits, features, [n, ...] each.
        """
        tasks = {} if self.heads == "shared" else {"tasks": batch.tasks}
        held = {"pixels": batch.pixels, **columns, **tasks}
        self.info.memory.add(self.rng("reservoir"), **held)

    def match(self, batch: TrainBatch, logits: str | Tensor = "logits") -> Tensor:
        """Mean squared distance of the network's logits to given ones, over each sample's task.

        Args:
            batch: The samples.
            logits: [n, columns], or the column of the memory that holds them.
        """
        wanted = batch[logits] if isinstance(logits, str) else logits
        return match_loss(self.network, self.forward(batch), wanted)

    def augmented(self, images: Tensor, *name: str) -> Tensor:
        """Images of a memory, augmented as new ones are.

        Args:
            images: float [n, C, H, W] in [0, 1].
            name: Name of the draw, see `rng`; it may equal the name by which images were drawn.
        """
        augment = self.augmentation
        return images if augment is None else augment(images, self.rng(*name, "augmentation"))

    def view(self, batch: TrainBatch, *name: str) -> Tensor:
        """Another view of the images: a new augmentation of the stored pixels.

        Args:
            batch: New samples, and those of the memory that have joined them.
            name: Distinguishes several views of one batch.

        Returns:
            float [n, C, H, W], in the order of the batch.
        """
        parts = [batch.new] if batch.old is None else [batch.new, batch.old]
        images = torch.cat([self.experience.to_float(part.pixels) for part in parts])
        return self.augmented(images, "view", *name)

    def reread(self, experience: Experience) -> Iterator[TrainBatch]:
        """The rows once more, augmented as in training; declare ``Needs(rereads=True)``."""
        config: Any = self.config
        size, epochs = config.batch_size, config.epochs
        return experience.batches(size, epoch=epochs, augment=self.augmentation, silent=True)
