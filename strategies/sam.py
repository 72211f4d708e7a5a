"""Sharpness-aware minimisation: every step follows the gradient from a point uphill.

Foret, Kleiner, Mobahi, Neyshabur, "Sharpness-Aware Minimization for Efficiently Improving
Generalization", ICLR 2021 (arXiv 2010.01412); adaptive: Kwon, Kim, Park, Choi, "ASAM", ICML 2021
(arXiv 2102.11600). With L the base's whole loss of a batch, old samples included, and g its
gradient::

    e = rho g / (|g| + 1e-12)              sam:  |g| over all tensors together
    e = rho w^2 g / (|w g| + 1e-12)        adaptive
    w <- step of the base's optimizer from w, with the gradient of L at w + e

Both passes see the same samples and the same random numbers. Running statistics move in the first
only. Weight decay and momentum are the optimizer's and take no part in e; what changes gradients
(projection, clipping) changes the second one. rho = 0 gives the base's very bits. A step costs two
forward and backward passes: compare with the base at twice its epochs as well.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clgym.avalanche import SupervisedPlugin
from clgym.avalanche.loop import evaluate_loss
from clgym.avalanche.wrapper import Wrapper, WrapperConfig
from clgym.strategy import Stateful

SPACE = {"rho": [0.01, 0.02, 0.05, 0.1, 0.2]}


@dataclass(frozen=True)
class SAMConfig(WrapperConfig):
    """Options of sharpness-aware minimisation."""

    rho: Annotated[float, Ge(0)] = 0.05
    """Length of the step uphill; adaptive steps want about ten times as much."""
    adaptive: bool = False
    """Scale the step uphill by each weight's own size."""
    loss: Literal["full", "new"] = "full"
    """What to climb: the base's whole loss, or the cross-entropy of the new samples alone."""


class SAM(Wrapper[SAMConfig]):
    """A base strategy whose steps follow the gradient from uphill."""

    def make_companion(self) -> Any:
        """What climbs and comes back."""
        return _Climb(self.config)


class _Climb(Stateful, SupervisedPlugin):
    """Holds nothing from one step to the next."""

    transient = ("_config", "_random", "_inside")

    def __init__(self, config: SAMConfig) -> None:
        super().__init__()
        self._config = config
        self._random: Any = None
        self._inside = False

    def before_forward(self, strategy: Any, **_: Any) -> None:
        """Remember the random numbers of the first pass."""
        if not self._inside:
            self._random = _random_state(strategy.device)

    def after_backward(self, strategy: Any, **_: Any) -> None:
        """Put the gradient at w + e in the place of that at w."""
        if self._inside or not self._config.rho:
            return
        named = {
            name: (p, self._config.rho)
            for name, p in strategy.model.named_parameters()
            if p.grad is not None
        }
        gradients = self._gradients(strategy, [p for p, _ in named.values()])
        moves = uphill(
            {name: p for name, (p, _) in named.items()},
            dict(zip(named, gradients, strict=True)),
            {name: rho for name, (_, rho) in named.items()},
            adaptive=self._config.adaptive,
        )
        first = strategy.loss, strategy.mb_output
        self._inside = True
        try:
            weights = {name: p for name, (p, _) in named.items()}
            again = _repeated(strategy.model, strategy.device, self._random)
            with _moved(weights, moves), again:
                strategy.optimizer.zero_grad()
                evaluate_loss(strategy)
                strategy.backward()
        finally:
            self._inside = False
            strategy.loss, strategy.mb_output = first  # what is reported is the unmoved weights'

    def _gradients(self, strategy: Any, parameters: list[nn.Parameter]) -> list[Tensor]:
        if self._config.loss == "full":
            return [p.grad for p in parameters if p.grad is not None]
        images, labels = (part[: strategy.n_new] for part in strategy.mbatch[:2])
        with _repeated(strategy.model, strategy.device, self._random):
            loss = cross_entropy(strategy.model(images), labels)
            return list(torch.autograd.grad(loss, parameters, materialize_grads=True))


def uphill(
    weights: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    rho: Mapping[str, float],
    *,
    adaptive: bool = False,
) -> dict[str, Tensor]:
    """The step e for each weight; its length is shared by all, whatever group they are in.

    Args:
        weights: w by name.
        gradients: Of the loss at w, shaped like the weights.
        rho: Length of the step, for each weight's group.
        adaptive: Whether weights scale their own steps.
    """
    scaled = {n: weights[n].detach().abs() * g if adaptive else g for n, g in gradients.items()}
    norms = [s.norm() for s in scaled.values()]
    length = torch.stack([norm.to(norms[0].device) for norm in norms]).norm() + 1e-12
    return {
        name: (rho[name] / length).to(g) * (weights[name].detach().square() * g if adaptive else g)
        for name, g in gradients.items()
    }


@contextmanager
def _moved(weights: Mapping[str, Tensor], moves: Mapping[str, Tensor]) -> Iterator[None]:
    """The weights elsewhere; copied back afterwards, for adding and subtracting would round."""
    kept = {name: w.detach().clone() for name, w in weights.items()}
    with torch.no_grad():
        for name, w in weights.items():
            w.add_(moves[name])
    yield
    with torch.no_grad():
        for name, w in weights.items():
            w.copy_(kept[name])


@contextmanager
def _repeated(model: nn.Module, device: Any, random: Any) -> Iterator[None]:
    """The random numbers of the first pass again; buffers and the present numbers come back."""
    buffers = [(b, b.clone()) for b in model.buffers()]
    now = _random_state(device)
    _set_random_state(device, random)
    yield
    _set_random_state(device, now)
    for buffer, value in buffers:
        buffer.copy_(value)


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), on_gpu


def _set_random_state(device: torch.device, state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
