"""Weights of the samples of a batch by their losses: a softmax over where each loss stands.

Sow, Woisetschläger, Bulusu, Wang, Jacobsen, Liang, "Dynamic Loss-Based Sample Reweighting for
Improved Large Language Model Pretraining", ICLR 2025 (arXiv 2502.06733), released code
sowmaster/Sample-Level-Loss-Reweighting-ICLR-2025 edd6f15. The losses l of a batch, without
gradient, are mapped onto h within [-1, 1] by their least and largest, and weigh ``softmax(F(h) /
r)``::

    linupper    F = min(h + 1, 1)     low losses count less, high ones are capped
    quadratic   F = 1 - h^2           those in the middle count most
    extremes    F = |h|               those at both ends
    upper       F = (h + 1) / 2       high losses, without a cap

Equal weights give the plain mean, so the scale of the gradient stays. Only the base's mean
cross-entropies are weighted, that of a second draw from the memory too, by its own samples;
penalties and distillation keep their scale. Within a batch new and old samples are weighted apart,
each group with its share of the batch; ``--scope batch`` lets old samples lose weight to new ones,
which is another method.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clgym.avalanche import SupervisedPlugin
from clgym.avalanche.wrapper import Wrapper, WrapperConfig
from clgym.errors import Incompatible
from clgym.strategy import Stateful, StreamInfo

SPACE = {
    "curve": ["linupper", "quadratic", "upper"],
    "sharpness": [0.2, 0.5, 1.0, 2.0],
}

Curve = Literal["linupper", "quadratic", "extremes", "upper"]
WARMUP_SHARPNESS = 100.0
"""r of the warm-up ``high_r``, at which weights are all but equal."""


@dataclass(frozen=True)
class ReweightConfig(WrapperConfig):
    """Options of loss-based weights."""

    curve: Curve = "linupper"
    """Which losses count more."""
    sharpness: Annotated[float, Gt(0)] = 1.0
    """r: small values favour few samples, large ones make all alike."""
    warmup: Literal["uniform", "high_r"] = "uniform"
    """Training at first: the plain mean, or r = 100 for one step less, as in the large-scale
    code."""
    warmup_steps: Annotated[int, Ge(0)] = 0
    """Steps of the warm-up."""
    warmup_each: bool = True
    """Warm up in every experience, whose new classes have large losses, rather than once."""
    scope: Literal["group", "batch"] = "group"
    """Compare samples within the new and within the old, or all together."""


class Reweight(Wrapper[ReweightConfig]):
    """A base strategy whose cross-entropy weighs its samples."""

    def make_companion(self) -> Any:
        """What counts the steps."""
        return _Weigh(self.config)

    def setup(self, info: StreamInfo) -> None:
        """Set up the base and put the weighted loss in the place of its cross-entropy."""
        super().setup(info)
        self.learner.criterion = self.companion.loss


class _Weigh(Stateful, SupervisedPlugin):
    transient = ("_config", "_template", "_plain")
    _template: Any
    _plain: Any = None

    def __init__(self, config: ReweightConfig) -> None:
        super().__init__()
        self._config = config
        self.step, self.index = 0, -1
        self._asked = False

    def before_training_exp(self, strategy: Any, **_: Any) -> None:
        """Begin the warm-up; not when an experience is continued."""
        self._template = strategy
        if isinstance(strategy._criterion, nn.CrossEntropyLoss):  # one of Avalanche's own
            self._plain, strategy._criterion = strategy._criterion, self.loss
        index = strategy.feed.experience.index
        if index != self.index and self._config.warmup_each:
            self.step = 0
        self.index = index

    def after_training_exp(self, strategy: Any, **_: Any) -> None:
        """Leave the template as it was: what is saved of it knows no wrapper."""
        if self._plain is not None:
            strategy._criterion, self._plain = self._plain, None

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The weighted cross-entropy of a batch, [].

        Args:
            logits: [n, columns]; of the whole batch, new samples first, or of some samples alone,
                as those of a second draw from the memory.
            labels: int64 [n].
        """
        self._asked = True
        r = self.sharpness()
        if r is None:
            return cross_entropy(logits, labels)
        losses = cross_entropy(logits, labels, reduction="none")
        grouped = self._config.scope == "group" and labels is self._template.mb_y
        new = self._template.n_new if grouped else len(losses)
        groups = [part for part in (losses[:new], losses[new:]) if len(part)]
        parts = [
            len(part) / len(losses) * (weights_of(part, self._config.curve, r) * part).sum()
            for part in groups
        ]
        return torch.stack(parts).sum()

    def sharpness(self) -> float | None:
        """R of the present step; None for the plain mean."""
        config = self._config
        if config.warmup == "uniform":
            return None if self.step < config.warmup_steps else config.sharpness
        return WARMUP_SHARPNESS if self.step + 1 < config.warmup_steps else config.sharpness

    def after_update(self, strategy: Any, **_: Any) -> None:
        """A step is over.

        Raises:
            Incompatible: the base did not ask for its samples' cross-entropy.
        """
        if not self._asked:
            raise Incompatible(
                expected="a base whose loss is the cross-entropy of its samples",
                found="one that has another loss, of which no sample was weighted",
                fix="Give --base another strategy, such as replay or derpp",
            )
        self.step += 1


def weights_of(losses: Tensor, curve: Curve, r: float, delta: float = 1.0) -> Tensor:
    """Weights of samples, of sum 1 and without gradient, [n].

    Args:
        losses: [n].
        curve: F, see above; with ``delta`` other than 1 the bounds of h are -delta and delta.
        r: Temperature, above 0.
        delta: Half the length of the range that losses are mapped onto.
    """
    losses = losses.detach()
    low, high = losses.min(), losses.max()
    h = (2 * delta * losses - delta * (high + low)) / (high - low).clamp(min=1e-6)
    f = {
        "linupper": lambda: (h + delta).clamp(max=delta),
        "quadratic": lambda: 1 - h.square() / delta**2,
        "extremes": lambda: h.abs(),
        "upper": lambda: (h + delta) / 2,
    }[curve]()
    return (f / r).softmax(0)
