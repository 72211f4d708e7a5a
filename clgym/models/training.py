"""SGD over one experience with a learning rate that falls along a cosine, epoch by epoch."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from clgym.models.norm import single_images_refused
from clgym.strategy import Augment, Batch, Experience, State

__all__ = ["CosineSGD", "set_rates"]


def set_rates(optimizer: torch.optim.Optimizer, rates: Iterable[float], share: float) -> None:
    """Set each group's rate to rate / 2 (1 + cos(pi share)); ``share`` of training is over."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate / 2 * (1 + math.cos(math.pi * share))


class CosineSGD:
    """SGD over one experience with rate lr / 2 (1 + cos(pi epoch / epochs)), no warm-up.

    It offers the gym a safe point after every step. A strategy that keeps `state_dict` in its own
    state, and hands it back through `load_state_dict`, goes on inside an experience.

    Attributes:
        optimizer: Over the groups given, each with its own rate.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, object]],
        *,
        momentum: float,
        weight_decay: float,
        epochs: int,
        batch_size: int,
        augment: Augment | None = None,
    ) -> None:
        """Prepare ``epochs`` passes over parameter groups with ``params`` and ``lr`` each."""
        self.optimizer = torch.optim.SGD(list(groups), momentum=momentum, weight_decay=weight_decay)
        self._epochs, self._batch_size, self._augment = epochs, batch_size, augment
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self._epoch = self._step = 0

    def run(
        self,
        experience: Experience,
        loss_of: Callable[[Batch], Tensor],
        after_step: Callable[[], None] = lambda: None,
    ) -> None:
        """Train, from where `load_state_dict` left it.

        Args:
            experience: What to train on.
            loss_of: The loss of a batch.
            after_step: Called when the optimizer has moved.

        Raises:
            Incompatible: a single image in a batch, under batch normalisation.
        """
        with single_images_refused(len(experience), self._batch_size):
            self._run(experience, loss_of, after_step)

    def _run(
        self,
        experience: Experience,
        loss_of: Callable[[Batch], Tensor],
        after_step: Callable[[], None],
    ) -> None:
        steps = experience.steps(self._batch_size)
        while self._epoch < self._epochs:
            set_rates(self.optimizer, self._rates, self._epoch / self._epochs)
            batches = experience.batches(
                self._batch_size, epoch=self._epoch, augment=self._augment, start=self._step
            )
            for batch in batches:
                loss = loss_of(batch)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                after_step()
                self._step += 1
                self._report(experience, steps, float(loss.detach()))
                experience.safe_point()
            self._epoch, self._step = self._epoch + 1, 0

    def _report(self, experience: Experience, steps: int, loss: float) -> None:
        rows = min(self._step * self._batch_size, len(experience))
        experience.report(
            epoch=self._epoch,
            epochs=self._epochs,
            step=self._step,
            steps=steps,
            loss=loss,
            images=self._epoch * len(experience) + rows,
        )

    def state_dict(self) -> State:
        """Optimizer and position."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "position": [self._epoch, self._step],
        }

    def load_state_dict(self, state: State) -> None:
        """Restore `state_dict`."""
        self.optimizer.load_state_dict(state["optimizer"])
        self._epoch, self._step = state["position"]
