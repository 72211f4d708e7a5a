"""Training on one experience: its progress, optimizers, and rates that fall along a cosine."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from clgym.errors import BadConfig
from clgym.strategy import State

__all__ = ["Position", "named_optimizer", "set_rates"]


def named_optimizer(
    name: str, parameters: Iterable[Tensor], lr: float, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """SGD, Adam or AdamW by name.

    Args:
        name: sgd, adam or adamw.
        parameters: Parameters to train.
        lr: Learning rate.
        momentum: Momentum of SGD.
        weight_decay: L2 penalty; of adamw decoupled decay.

    Raises:
        BadConfig: Momentum is given for another optimizer than SGD.
    """
    if name == "sgd":
        return torch.optim.SGD(parameters, lr, momentum, weight_decay=weight_decay)
    if momentum:
        raise BadConfig(
            expected=f"no momentum with the optimizer {name}, which does not use it",
            found=f"momentum = {momentum:g}",
            fix="Remove --momentum, or give --optimizer sgd",
        )
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[name](parameters, lr, weight_decay=weight_decay)


def set_rates(optimizer: torch.optim.Optimizer, rates: Iterable[float], share: float) -> None:
    """Set each group's rate to rate / 2 (1 + cos(pi share)), ``share`` being the fraction done."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate / 2 * (1 + math.cos(math.pi * share))


class Position:
    """Progress of training on an experience, with the state of its optimizer.

    A strategy that keeps one as an attribute and trains from its position can continue inside an
    experience after its process was killed.

    Attributes:
        experience: Index of the current experience; -1 between two experiences.
        epoch: Index of the current pass.
        step: Index of the next batch of this pass.
        optimizer: The optimizer that takes the steps.
    """

    def __init__(self) -> None:
        """Point at no experience."""
        self._loaded: State | None = None
        self.end()

    def begin(self, experience: int) -> bool:
        """Go to the beginning of an experience, unless a loaded state is inside it.

        Returns:
            Whether the experience begins now.
        """
        if self.experience == experience:
            return False
        self._loaded = None
        self.experience, self.epoch, self.step = experience, 0, 0
        return True

    def take(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """Use a new optimizer, with the loaded state if an experience is continued."""
        if self._loaded is not None:
            optimizer.load_state_dict(self._loaded)
            self._loaded = None
        self.optimizer = optimizer
        return optimizer

    def end(self) -> None:
        """Begin between two experiences."""
        self.experience, self.epoch, self.step = -1, 0, 0
        self.optimizer: torch.optim.Optimizer | None = None

    def state_dict(self) -> State:
        """The position, and inside an experience the optimizer's state."""
        optimizer = self._loaded
        if self.optimizer is not None:
            optimizer = self.optimizer.state_dict()
        names = ("experience", "epoch", "step")
        return {**{name: getattr(self, name) for name in names}, "optimizer": optimizer}

    def load_state_dict(self, state: State) -> None:
        """Restore `state_dict`; the optimizer's state is restored by `take`."""
        self.experience, self.epoch = state["experience"], state["epoch"]
        self.step, self._loaded = state["step"], state["optimizer"]
        self.optimizer = None
