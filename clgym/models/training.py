"""SGD over one experience: where it stands, and a learning rate that falls along a cosine."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from clgym.errors import BadConfig
from clgym.models.norm import single_images_refused
from clgym.strategy import Augment, Experience, State, TrainBatch

__all__ = ["CosineSGD", "Position", "named_optimizer", "set_rates"]


def named_optimizer(
    name: str, parameters: Iterable[Tensor], lr: float, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """SGD, Adam or AdamW by name.

    Args:
        name: sgd, adam or adamw.
        parameters: What it moves.
        lr: Learning rate.
        momentum: Momentum of SGD.
        weight_decay: L2 penalty; of adamw decoupled decay.

    Raises:
        BadConfig: momentum for another optimizer than SGD.
    """
    if name == "sgd":
        return torch.optim.SGD(parameters, lr, momentum, weight_decay=weight_decay)
    if momentum:
        raise BadConfig(
            expected=f"no momentum with the optimizer {name}, which has constants of its own",
            found=f"momentum = {momentum:g}",
            fix="Remove --momentum, or give --optimizer sgd",
        )
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[name](parameters, lr, weight_decay=weight_decay)


def set_rates(optimizer: torch.optim.Optimizer, rates: Iterable[float], share: float) -> None:
    """Set each group's rate to rate / 2 (1 + cos(pi share)); ``share`` of training is over."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate / 2 * (1 + math.cos(math.pi * share))


class Position:
    """How far training on an experience has come, with the state of its optimizer.

    A strategy that has one as an attribute and trains from where it points goes on inside an
    experience after a kill.

    Attributes:
        experience: The one under way; -1 between two of them.
        epoch: The pass to go on in.
        step: The batch of it that is next.
        optimizer: The one that takes the steps.
    """

    def __init__(self) -> None:
        """Point at no experience."""
        self._loaded: State | None = None
        self.end()

    def begin(self, experience: int) -> bool:
        """Point at the beginning of an experience, unless a loaded state is inside it.

        Returns:
            Whether it begins now.
        """
        if self.experience == experience:
            return False
        self._loaded = None
        self.experience, self.epoch, self.step = experience, 0, 0
        return True

    def take(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Let a fresh optimizer take the steps, in the state of the one that is continued."""
        if self._loaded is not None:
            optimizer.load_state_dict(self._loaded)
            self._loaded = None
        self.optimizer = optimizer
        return optimizer

    def end(self) -> None:
        """Point at no experience."""
        self.experience, self.epoch, self.step = -1, 0, 0
        self.optimizer: torch.optim.Optimizer | None = None

    def state_dict(self) -> State:
        """Where it points, and the optimizer's state while an experience is under way."""
        optimizer = self._loaded
        if self.optimizer is not None:
            optimizer = self.optimizer.state_dict()
        names = ("experience", "epoch", "step")
        return {**{name: getattr(self, name) for name in names}, "optimizer": optimizer}

    def load_state_dict(self, state: State) -> None:
        """Restore `state_dict`; the optimizer's state waits for `take`."""
        self.experience, self.epoch = state["experience"], state["epoch"]
        self.step, self._loaded = state["step"], state["optimizer"]
        self.optimizer = None


class CosineSGD:
    """SGD over one experience with rate lr / 2 (1 + cos(pi epoch / epochs)), no warm-up.

    It offers the gym a safe point after every step, and goes on from there after a kill: a strategy
    keeps it as an attribute.

    Attributes:
        position: How far the experience has come.
    """

    def __init__(
        self,
        *,
        momentum: float,
        weight_decay: float,
        epochs: int,
        batch_size: int,
        augment: Augment | None = None,
    ) -> None:
        """Prepare ``epochs`` passes over an experience."""
        self.position = Position()
        self._options: dict[str, Any] = {"momentum": momentum, "weight_decay": weight_decay}
        self._epochs, self._batch_size, self._augment = epochs, batch_size, augment

    def run(
        self,
        experience: Experience,
        groups: Iterable[dict[str, object]],
        loss_of: Callable[[TrainBatch], Tensor],
        after_step: Callable[[], None] = lambda: None,
    ) -> None:
        """Train, from where a loaded state left it.

        Args:
            experience: What to train on.
            groups: Parameter groups with ``params`` and ``lr`` each.
            loss_of: The loss of a batch.
            after_step: Called when the optimizer has moved.

        Raises:
            Incompatible: a single image in a batch, under batch normalisation.
        """
        self.position.begin(experience.index)
        optimizer = torch.optim.SGD(list(groups), **self._options)
        rates = [group["lr"] for group in optimizer.param_groups]
        self.position.take(optimizer)
        with single_images_refused(len(experience), self._batch_size):
            while self.position.epoch < self._epochs:
                set_rates(optimizer, rates, self.position.epoch / self._epochs)
                self._pass(experience, optimizer, loss_of, after_step)
        self.position.end()

    def _pass(
        self,
        experience: Experience,
        optimizer: torch.optim.Optimizer,
        loss_of: Callable[[TrainBatch], Tensor],
        after_step: Callable[[], None],
    ) -> None:
        here = self.position
        for batch in experience.batches(
            self._batch_size,
            epoch=here.epoch,
            epochs=self._epochs,
            augment=self._augment,
            start=here.step,
        ):
            loss = loss_of(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            after_step()
            here.step += 1
            experience.loss = loss.detach()
            experience.safe_point()
        here.epoch, here.step = here.epoch + 1, 0

    def state_dict(self) -> State:
        """Position and optimizer."""
        return self.position.state_dict()

    def load_state_dict(self, state: State) -> None:
        """Restore `state_dict`."""
        self.position.load_state_dict(state)
