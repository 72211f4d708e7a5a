"""Interface to Avalanche: templates with clgym's loader, an adapter for its strategies, patches.

Nothing here imports Avalanche (or torch) until it is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from clgym.avalanche import _lazy_imports

if TYPE_CHECKING:
    from avalanche.training.plugins import SupervisedPlugin

    from clgym.avalanche.adapter import AvalancheStrategy
    from clgym.avalanche.benchmarks import benchmark
    from clgym.avalanche.exemplar import ExemplarConfig, ExemplarStrategy
    from clgym.avalanche.pretraining import Encoder, PretrainingConfig, PretrainingStrategy
    from clgym.avalanche.recipe import Extra, Recipe
    from clgym.avalanche.sgd import HeadsConfig, SGDConfig, SGDStrategy, StepConfig
    from clgym.avalanche.stages import Stage, StagedStrategy
    from clgym.avalanche.template import as_template

__all__ = [
    "AvalancheStrategy",
    "Encoder",
    "ExemplarConfig",
    "ExemplarStrategy",
    "Extra",
    "HeadsConfig",
    "PretrainingConfig",
    "PretrainingStrategy",
    "Recipe",
    "SGDConfig",
    "SGDStrategy",
    "Stage",
    "StagedStrategy",
    "StepConfig",
    "SupervisedPlugin",
    "as_template",
    "benchmark",
]

_lazy_imports.install()


def __getattr__(name: str) -> Any:
    """Load the public names on first use."""
    if name == "SupervisedPlugin":
        # Taken from here, not from Avalanche, so that the import above comes first.
        from avalanche.training.plugins import SupervisedPlugin

        return SupervisedPlugin
    if name not in _HOMES:
        raise AttributeError(f"module 'clgym.avalanche' has no attribute {name!r}")
    return getattr(importlib.import_module(f"clgym.avalanche.{_HOMES[name]}"), name)


_HOMES = {
    "AvalancheStrategy": "adapter",
    "Encoder": "pretraining",
    "ExemplarConfig": "exemplar",
    "ExemplarStrategy": "exemplar",
    "Extra": "recipe",
    "HeadsConfig": "sgd",
    "PretrainingConfig": "pretraining",
    "PretrainingStrategy": "pretraining",
    "Recipe": "recipe",
    "SGDConfig": "sgd",
    "SGDStrategy": "sgd",
    "Stage": "stages",
    "StagedStrategy": "stages",
    "StepConfig": "sgd",
    "as_template": "template",
    "benchmark": "benchmarks",
}
"""Module of each public name."""
