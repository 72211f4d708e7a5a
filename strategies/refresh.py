"""Refresh learning: unlearn a little on each new batch, then let any SGD strategy learn it.

Wang, Li, Shen, Huang, "A Unified and General Framework for Continual Learning", ICLR 2024 (arXiv
2403.13249). ``--base NAME`` says what learns; before each of its steps the weights are moved *up*
the loss of the new samples. With g the gradient of their cross-entropy, z standard normal, phi a
Fisher estimate, and norms taken per tensor, the authors' code does::

    p += delta * (|p| g / |g| + noise * z) / (1 + fisher_weight * phi)             rule "released"

and the paper says, up to the damping that inverting phi needs::

    p += gamma * g / (phi + damping) + noise * sqrt(2 gamma / (phi + damping)) * z     rule "paper"

After each experience ``phi = fisher_decay * phi + sum_i pi_i (d log pi_i / dp)^2 / N``, pi_i being
the probability of sample i's own label and N the batches of one epoch times their size. In the
released rule phi, far below 1000, weighs next to nothing. In the paper's, a gamma near the learning
rate takes back what the step learns.

Unlearning moves weights only: running statistics, the optimizer's momentum, the memory and the
base's random numbers stay as they are. The noise has a generator of its own, where the authors draw
from the global one, so delta = 0 gives the base strategy's very bits.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clgym.avalanche import SupervisedPlugin
from clgym.avalanche.loop import evaluate_loss, hooks_of
from clgym.avalanche.wrapper import Wrapper, WrapperConfig
from clgym.config import Wrapped
from clgym.models.fisher import fisher_sum, fitted
from clgym.strategy import Needs, Stateful, torch_generator


@dataclass(frozen=True)
class RefreshConfig(WrapperConfig):
    """Options of refresh learning; those of the base follow as ``base.OPTION``."""

    base: Wrapped = Wrapped("derpp")
    """Strategy that learns: any that trains by SGD."""
    rule: Literal["released", "paper"] = "released"
    """How to unlearn: as in the authors' code, or preconditioned as in the paper."""
    loss: Literal["new", "full"] = "new"
    """What to ascend: cross-entropy of the new samples, or the base's whole loss."""
    steps: Annotated[int, Ge(1)] = 1
    """Unlearning steps before each step of the base."""
    delta: Annotated[float, Ge(0)] = 1e-5
    """Released rule: length of a step, relative to each tensor's norm."""
    gamma: Annotated[float, Ge(0)] = 0.02
    """Paper's rule: length of a step."""
    noise: Annotated[float, Ge(0)] = 1e-3
    """Factor of the noise."""
    fisher_weight: Annotated[float, Ge(0)] = 1e-3
    """Released rule: how much a Fisher estimate holds a weight back."""
    damping: Annotated[float, Gt(0)] = 1.0
    """Paper's rule: added to the Fisher estimate before it is inverted."""
    fisher_decay: Annotated[float, Ge(0), Le(1)] = 1e-5
    """Share of the Fisher estimate that an experience leaves to the next."""
    fisher_samples: Annotated[int, Ge(0)] | None = None
    """Samples of each experience in the Fisher pass; none means all, 0 no pass."""
    bn_mode: Literal["eval", "train"] = "eval"
    """Batch normalisation in the Fisher pass: stored statistics, or each sample's own."""


class Refresh(Wrapper[RefreshConfig]):
    """A base strategy with a `Refresher` before its plugins."""

    @property
    def needs(self) -> Needs:
        """What the base needs; the Fisher pass sees the rows once more."""
        needs = self.base.needs
        return replace(needs, rereads=needs.rereads or self.config.fisher_samples != 0)

    def make_companion(self) -> "Refresher":
        """What unlearns."""
        return Refresher(self.config, self.info.seed)


class Refresher(Stateful, SupervisedPlugin):
    """Unlearns before each step and estimates the Fisher information after each experience.

    It must come before the strategy's own plugins, so that it sees new samples only and that what
    they measure is measured at the weights of the base's step.

    Attributes:
        fisher: phi by parameter name, shaped as the parameters were; empty at first.
        step: Unlearning steps done; the key of the noise.
        costs: Seconds of the unlearning steps and of the Fisher passes, as the host saw them.
    """

    transient = ("config",)

    def __init__(self, config: RefreshConfig, seed: int) -> None:
        """Begin without a Fisher estimate; ``seed`` keys the noise."""
        super().__init__()
        self.config, self._seed = config, seed
        self.fisher: dict[str, Tensor] = {}
        self.step = 0
        self.costs = {"unlearn_seconds": 0.0, "fisher_seconds": 0.0}
        self._inside = False

    def before_training_iteration(self, strategy: Any, **_: Any) -> None:
        """Unlearn the new samples."""
        if self._inside:  # the "full" loss calls all plugins
            return
        started = time.perf_counter()
        for _step in range(self.config.steps):
            self.unlearn(strategy)
        self.costs["unlearn_seconds"] += time.perf_counter() - started

    def unlearn(self, strategy: Any) -> None:
        """One step up the loss, written straight into the weights."""
        named = {n: p for n, p in strategy.model.named_parameters() if p.requires_grad}
        with _scratch(strategy.model):
            loss = self._full_loss(strategy) if self.config.loss == "full" else _new_loss(strategy)
            found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        parameters, gradients = {}, {}
        for (name, parameter), gradient in zip(named.items(), found, strict=True):
            if gradient is not None:
                parameters[name], gradients[name] = parameter, gradient
        fisher = {
            name: fitted(phi, named[name]) for name, phi in self.fisher.items() if name in named
        }
        ascend(parameters, gradients, fisher, self.draw(parameters), self.config)
        self.step += 1

    def draw(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Standard normal noise for each parameter; depends on the seed and the step alone."""
        if not parameters or not self.config.noise:
            return {}
        device = next(iter(parameters.values())).device
        name = "strategy", "unlearning noise"
        generator = torch_generator(self._seed, *name, step=self.step, device=device)
        return {
            name: torch.empty_like(p).normal_(generator=generator) for name, p in parameters.items()
        }

    def _full_loss(self, strategy: Any) -> Tensor:
        """The base's own loss: its hooks run once more, from the batch as it came."""
        kept, self._inside = strategy.mbatch, True
        try:
            for hook in hooks_of(strategy, "before_training_iteration"):
                hook(strategy)
            return evaluate_loss(strategy)
        finally:
            strategy.mbatch, self._inside = kept, False

    def after_training_exp(self, strategy: Any, **_: Any) -> None:
        """Estimate phi over the experience, images augmented as in training."""
        feed, limit = strategy.feed, self.config.fisher_samples
        started = time.perf_counter()
        rows = len(feed.experience) if limit is None else min(limit, len(feed.experience))
        if rows == 0:
            return
        batches = feed.experience.batches(
            feed.size, epoch=feed.epochs, augment=feed.augment, silent=True
        )
        total: dict[str, Tensor] = {}
        left = rows
        while left > 0:
            batch = next(batches)
            part = fisher_sum(
                strategy.model, batch.images[:left], batch.labels[:left], self.config.bn_mode
            )
            total = {name: total[name] + f for name, f in part.items()} if total else part
            left -= len(batch)
        self.decay(strategy.model, total, -(-rows // feed.size) * feed.size)
        self.costs["fisher_seconds"] += time.perf_counter() - started

    def decay(self, model: nn.Module, total: Mapping[str, Tensor], count: int) -> None:
        """Let ``total / count`` follow on what is left of the old estimate."""
        old = {
            n: fitted(self.fisher[n], p) for n, p in model.named_parameters() if n in self.fisher
        }
        share = self.config.fisher_decay
        self.fisher = {
            name: f / count + (share * old[name] if name in old else 0.0)
            for name, f in total.items()
        }


@torch.no_grad()
def ascend(
    parameters: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    fisher: Mapping[str, Tensor],
    noise: Mapping[str, Tensor],
    config: RefreshConfig,
) -> None:
    """One unlearning step, in place; the rules are in the module's docstring.

    Args:
        parameters: What is moved.
        gradients: Of the loss, for each parameter.
        fisher: phi; a missing one counts as zeros.
        noise: z; a missing one counts as zeros.
        config: Rule and constants.
    """
    for name, p in parameters.items():
        g, phi, z = gradients[name], fisher.get(name), noise.get(name)
        if config.rule == "paper":
            inverse = 1 / ((torch.zeros_like(p) if phi is None else phi) + config.damping)
            change = config.gamma * inverse * g
            if z is not None:
                change += config.noise * (2 * config.gamma * inverse).sqrt() * z
            p.add_(change)
            continue
        change = g * (p.norm() / (g.norm() + 1e-20))
        if z is not None:
            change.add_(z, alpha=config.noise)
        if phi is not None:
            change.div_(1 + config.fisher_weight * phi)
        p.add_(change, alpha=config.delta)


def _new_loss(strategy: Any) -> Tensor:
    """Cross-entropy of the new samples over all outputs."""
    n = strategy.n_new
    return cross_entropy(strategy.model(strategy.mbatch[0][:n]), strategy.mbatch[1][:n])


@contextmanager
def _scratch(model: nn.Module) -> Iterator[None]:
    """Put buffers (running statistics) and random numbers back afterwards."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = {p.device for p in model.parameters() if p.is_cuda}
    with torch.random.fork_rng(devices=[d.index for d in devices]):
        yield
    for buffer, value in before:
        buffer.copy_(value)
