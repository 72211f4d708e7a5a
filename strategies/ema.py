"""Moving average of the weights, with a fixed or a dynamic weight, which answers in their place.

Dynamic: Qiao et al., "Large Continual Instruction Assistant", ICML 2025 (arXiv 2410.10868),
released code JingyangQiao/CoIN efa9cb4. Beside the weights theta that the base trains stands a
shadow s; after every step ``s <- (1 - w) s + w theta``. When an experience ends the weights become
the shadow, which answers, and from which the next experience begins. Per tensor, with L1 norms ``a
= |theta - s|``, ``b = |g|``, ``c = |g - g'|`` (g the gradient of this step, g' of the one before)
and ``d = |theta - theta'|``::

    fixed         w = 1 - decay
    released      w = 2 (1 + b) / (a c)       the weight of the new, as the released code has it
    secant        w = (1 + b) d / (a c)       a curvature that knows the step's length
    secant-keep   w = 1 - (1 + b) d / (a c)   the same ratio as the weight of the old, as derived

Where w is not strictly between 0 and 1, or there is no g', w is ``fallback``: an ordinary average.
The released rule does so for most small tensors: `fallback_share` in the record says how often, and
without that figure and the twin ``--rule fixed`` a result of the dynamic rule says nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from clgym.avalanche import SupervisedPlugin
from clgym.avalanche.wrapper import Wrapper, WrapperConfig
from clgym.strategy import Stateful

SPACE = {"rule": ["fixed", "released"], "decay": [0.9, 0.99, 0.995, 0.999]}

Rule = Literal["fixed", "released", "secant", "secant-keep"]


@dataclass(frozen=True)
class EMAConfig(WrapperConfig):
    """Options of the moving average."""

    rule: Rule = "fixed"
    """What the weight of the new weights is."""
    decay: Annotated[float, Ge(0), Le(1)] = 0.99
    """Fixed rule: share of the shadow that a step keeps."""
    fallback: Annotated[float, Ge(0), Le(1)] = 0.01
    """Dynamic rules: the weight where theirs is out of bounds."""
    scope: Literal["tensor", "global"] = "tensor"
    """One weight for each tensor, or one for all."""
    init: Literal["start", "lazy"] = "start"
    """Begin the shadow with an experience, or, as the released code, after its first step."""
    start_experience: Annotated[int, Ge(0)] = 1
    """Index of the first experience with a shadow."""


class EMA(Wrapper[EMAConfig]):
    """A base strategy whose averaged weights answer."""

    def make_companion(self) -> Any:
        """What keeps the shadow."""
        return _Average(self.config)


class Shadow(Stateful):
    """The averaged weights of one experience.

    Attributes:
        weights: s by name.
    """

    transient = ("config",)

    def __init__(self, config: EMAConfig) -> None:
        """Begin without weights: `start` or the first `update` gives them."""
        self.config = config
        self.weights: dict[str, Tensor] = {}
        self._gradients: dict[str, Tensor] = {}
        self._before: dict[str, Tensor] = {}

    def start(self, weights: Mapping[str, Tensor]) -> None:
        """Begin with ``weights``."""
        self.weights = {name: w.detach().clone() for name, w in weights.items()}
        self._before = {name: w.clone() for name, w in self.weights.items()}
        self._gradients = {}

    def update(
        self, weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor]
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Draw the shadow towards the weights of a step.

        Args:
            weights: theta after the step, by name.
            gradients: What the optimizer used; a weight without one falls back.

        Returns:
            For each tensor w, and whether it is the fallback (always, by the fixed rule).
        """
        if not self.weights:
            self.start(weights)
        used = self._weights_of_the_new(weights, gradients)
        for name, theta in weights.items():
            self.weights[name].lerp_(theta.detach(), used[name][0].to(theta))
        if self.config.rule != "fixed":
            self._gradients = {name: g.detach().clone() for name, g in gradients.items()}
        if self.config.rule.startswith("secant"):
            self._before = {name: theta.detach().clone() for name, theta in weights.items()}
        return used

    def _weights_of_the_new(
        self, weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor]
    ) -> dict[str, tuple[Tensor, Tensor]]:
        config = self.config
        yes = torch.tensor(True)
        if config.rule == "fixed":
            fixed = torch.tensor(1 - config.decay, dtype=torch.float64)
            return dict.fromkeys(weights, (fixed, yes))
        fallback = torch.tensor(config.fallback, dtype=torch.float64), yes
        norms = {
            name: self._norms(name, theta, gradients[name])
            for name, theta in weights.items()
            if name in gradients and name in self._gradients
        }
        if config.scope == "global":
            pooled = torch.stack(list(norms.values())).sum(0) if norms else None
            used = fallback if pooled is None else self._guarded(pooled)
            return dict.fromkeys(weights, used)
        return {n: self._guarded(norms[n]) if n in norms else fallback for n in weights}

    def _norms(self, name: str, theta: Tensor, gradient: Tensor) -> Tensor:
        """a, b, c and d of one tensor, [4]."""
        d = theta - self._before[name] if self.config.rule.startswith("secant") else theta * 0
        old = self._gradients[name]
        parts = (theta - self.weights[name], gradient, gradient - old, d)
        return torch.stack([part.detach().abs().sum() for part in parts]).double()

    def _guarded(self, norms: Tensor) -> tuple[Tensor, Tensor]:
        a, b, c, d = norms
        ratio = (1 + b) / (a * c)  # infinite where nothing moved: out of bounds like the others
        w = {"released": 2 * ratio, "secant": ratio * d, "secant-keep": 1 - ratio * d}[
            self.config.rule
        ]
        inside = (w > 0) & (w < 1)
        return torch.where(inside, w, self.config.fallback), ~inside


class _Average(Stateful, SupervisedPlugin):
    """Keeps the shadow during an experience and hands it over at the end."""

    transient = ("_config",)

    def __init__(self, config: EMAConfig) -> None:
        super().__init__()
        self._config = config
        self.shadow = Shadow(config)
        self.index, self.updates = -1, 0
        self.fallbacks: Tensor | int = 0

    def before_training_exp(self, strategy: Any, **_: Any) -> None:
        """A new shadow; not when an experience is continued."""
        index = strategy.feed.experience.index
        if index == self.index:
            return
        self.index, self.shadow = index, Shadow(self._config)
        if self._config.init == "start":
            self.shadow.start(_trained(strategy.model))

    def after_update(self, strategy: Any, **_: Any) -> None:
        """Average; gradients are still those of the step."""
        if self.index < self._config.start_experience:
            return
        weights = _trained(strategy.model)
        gradients = {n: p.grad for n, p in weights.items() if p.grad is not None}
        with torch.no_grad():
            used = self.shadow.update(weights, gradients)
        self.updates += len(used)
        if self._config.rule != "fixed":  # summed where they are: reading them waits for the device
            self.fallbacks = self.fallbacks + torch.stack([fell for _, fell in used.values()]).sum()

    def after_training_exp(self, strategy: Any, **_: Any) -> None:
        """The weights become the shadow, in place: the optimizer holds them."""
        if self.index < self._config.start_experience:
            return
        with torch.no_grad():
            for name, weight in _trained(strategy.model).items():
                weight.copy_(self.shadow.weights[name])

    @property
    def costs(self) -> dict[str, float]:
        """Share of the dynamic weights that fell back."""
        if self._config.rule == "fixed" or not self.updates:
            return {}
        return {"fallback_share": float(self.fallbacks) / self.updates}


def _trained(model: Any) -> dict[str, Tensor]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}
