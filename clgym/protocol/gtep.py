"""Facts of the GTEP paper: its search spaces, its draws, and the strategies of its methods.

Cha & Cho, "Hyperparameters in Continual Learning: A Reality Check", TMLR 2025 (arXiv 2403.09066).
Spaces are in the order of the authors' draws; the names are those that configs of strategies use.
The rule of milestones is in `clgym.models.schedules`.
"""

import random
from typing import Any

__all__ = [
    "PRETRAINED",
    "SCRATCH",
    "SEEDS",
    "SPACES",
    "TRIALS",
    "draw",
    "leads_with_dummy",
    "space_of",
    "strategy_of",
]

TRIALS, SEEDS = 30, 5

Literal = dict[str, Any]
"""A search space in the form of a strategy's file. ``Any``: lists of values of any type."""

SPACES = ("paper", "paper-lite")
"""Named spaces: the paper's; for methods without pretraining, the same for streams of a tenth of
the images: epochs divided by ten (those of fine-tuning by five), the batch size by four."""
_DIVISORS = {
    "epochs": 10,
    "compression_epochs": 10,
    "fusion_epochs": 10,
    "finetune_epochs": 5,
    "batch_size": 4,
}

_STEP = {"schedule": ["step"]}
_WEIGHTS = [0.5, 1, 1.5, 2, 3]
_TEMPERATURES = [0.5, 1, 1.5, 2, 2.5]
_LONG = [30, 70, 120, 160, 200]


def _base(**changed: Any) -> Literal:
    """Seven options of every method without pretraining; those of steps if they have an effect."""
    return {
        "epochs": _LONG,
        "milestones": {"values": [2, 3, 4], "when": _STEP},
        "lr": [0.05, 0.1, 0.15, 0.2, 0.3],
        "lr_decay": {"values": [0.1, 0.3, 0.5], "when": _STEP},
        "batch_size": [32, 64, 128, 256, 512],
        "weight_decay": [1e-4, 5e-4, 1e-3, 5e-3],
        "schedule": ["step", "cosine"],
        **changed,
    }


_DECAYS = [1e-4, 5e-4, 1e-3, 5e-3, 1e-2]

SCRATCH: dict[str, Literal] = {
    "replay": _base(),
    "icarl": _base(weight_decay=_DECAYS, temperature=_TEMPERATURES, lambda_aux=_WEIGHTS),
    # The authors' WA trains in steps for any drawn schedule, so these two always have an effect.
    "wa": _base(
        milestones=[2, 3, 4],
        lr_decay=[0.1, 0.3, 0.5],
        weight_decay=_DECAYS,
        temperature=_TEMPERATURES,
        lambda_kd=_WEIGHTS,
    ),
    "bic": _base(
        temperature=_TEMPERATURES, lambda_kd=_WEIGHTS, split_ratio=[0.05, 0.1, 0.15, 0.2, 0.3]
    ),
    "podnet": _base(
        lambda_c=[1, 3, 5, 7, 9],
        lambda_f=_WEIGHTS,
        proxies=[10, 20, 30, 50, 100],
        finetune_epochs=[5, 10, 20, 30, 50],
        finetune_lr=[0.001, 0.003, 0.005, 0.007, 0.01],
        adaptive_factor=[True, False],
    ),
    "der": _base(lambda_aux=_WEIGHTS),
    "foster": _base(
        temperature=_TEMPERATURES,
        lambda_okd=_WEIGHTS,
        lambda_fe=_WEIGHTS,
        beta1=[0.93, 0.95, 0.97, 0.99],
        beta2=[0.93, 0.95, 0.97, 0.99],
        compression_epochs=_LONG,
    ),
    "memo": _base(lambda_aux=_WEIGHTS, exemplar_batch=[16, 32, 64, 128, 256]),
    "beef": _base(
        batch_size=[128, 256, 512],
        fusion_epochs=_LONG,
        energy_weight=[0.001, 0.005, 0.01, 0.02, 0.05],
        logit_alignment=[1.1, 1.4, 1.7, 2.0, 2.3],
    ),
}
"""Search spaces by method, with the authors' names."""

_STRATEGIES = {"replay": "exemplar-replay", "der": "expandable"}
"""Strategies with another name than the paper's method: here `replay` is a reservoir that joins
each batch, and `der` is dark experience replay."""

_NO_DUMMY = ("replay",)
"""Methods without the first draw from a list of one element, which all others make."""


def _pretrained(epochs: list[int], lr: list[float], decay: list[float], **own: Any) -> Literal:
    return {
        "epochs": epochs,
        "milestones": {"values": [2, 3, 4], "when": _STEP},
        "lr": lr,
        "lr_decay": {"values": [0.1, 0.3, 0.5], "when": _STEP},
        "batch_size": [8, 16, 24, 48, 64, 128],
        "weight_decay": decay,
        "schedule": ["step", "cosine", "constant"],
        "optimizer": ["sgd", "adam", "adamw"],
        **own,
    }


def _prompts(**own: Any) -> Literal:
    rates = [0.000875, 0.001375, 0.001875, 0.002375, 0.0025]
    return _pretrained([3, 5, 10, 15, 20, 25], rates, [0, 1e-4, 5e-4], **own)


def _adapters(**own: Any) -> Literal:
    rates, decays = [0.01, 0.02, 0.03, 0.04, 0.05], [1e-4, 5e-4, 1e-3, 5e-3]
    sizes = {"rank": [4, 8, 16, 32, 64]}
    return _pretrained([5, 10, 15, 20, 25, 30], rates, decays, **sizes, **own)


PRETRAINED: dict[str, Literal] = {
    "l2p": _prompts(
        pool=[10, 15, 20, 25, 30],
        length=[2, 4, 6, 8, 10],
        top_k=[2, 4, 6, 8, 10],
        pull=[0.1, 0.3, 0.5],
    ),
    "dualprompt": _prompts(
        pool=[10, 15, 20, 25, 30],
        expert_length=[5, 10, 15, 20, 30],
        general_length=[5, 10, 15, 20, 30],
        top_k=[1],
        pull=[0.1, 0.3, 0.5],
    ),
    "coda-prompt": _prompts(
        schedule=["step", "released-cosine", "constant"],  # the cosine of its code lags one epoch
        pool=[30, 50, 100, 200, 300],
        length=[4, 8, 16, 24, 32],
        ortho=[0.2, 0.1, 0.01, 0.001, 0],
    ),
    "aper": _adapters(),
    "ranpac": _adapters(projection=[5000, 10000, 15000, 20000]),
    "ease": _adapters(alpha=[0.01, 0.05, 0.1, 0.15, 0.2]),
}
"""Search spaces for which the authors' draws were not seeded and cannot be repeated."""


def draw(
    space: list[tuple[str, tuple[Any, ...]]], trial: int, dummy: bool = True
) -> dict[str, object]:
    """Draw one trial like the authors, without applying conditions.

    Args:
        space: Names and values in the order of the draws.
        trial: Number of the trial, which seeds Python's generator.
        dummy: Whether a draw from a list of one element comes first, which advances the generator.
    """
    generator = random.Random(trial)
    if dummy:
        generator.choice([0])
    values: dict[str, object] = {}
    for name, choices in space:
        if choices == (True, False):
            values[name] = generator.random() > 0.5
        else:
            values[name] = generator.choice(choices)
    return values


def strategy_of(method: str) -> str:
    """Name of the strategy that implements a method of the paper."""
    return _STRATEGIES.get(method, method)


def _method_of(strategy: str) -> str | None:
    """Name of the paper's method that a strategy implements; None for other strategies."""
    name = strategy.rpartition(":")[2].lower().replace("_", "-")
    return {strategy_of(method): method for method in {**SCRATCH, **PRETRAINED}}.get(name)


def space_of(strategy: str, name: str = "paper") -> Literal | None:
    """The paper's search space for a strategy; None for those that the paper does not study.

    Args:
        strategy: Its name.
        name: One of `SPACES`.
    """
    method = _method_of(strategy)
    if method is None or (name == "paper-lite" and method not in SCRATCH):
        return None
    space = {**SCRATCH, **PRETRAINED}[method]
    if name == "paper":
        return space
    divided = {key: [n // by for n in space[key]] for key, by in _DIVISORS.items() if key in space}
    return {**space, **divided}


def leads_with_dummy(strategy: str) -> bool:
    """Whether the authors' script for a strategy's method discards a first draw."""
    return _method_of(strategy) not in _NO_DUMMY
