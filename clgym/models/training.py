"""Training on one experience: where it stands, and rates that fall along a cosine."""

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
