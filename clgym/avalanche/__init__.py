"""The one seam to Avalanche: templates with our loader, an adapter for its strategies, patches.

Nothing here imports Avalanche (or torch) until it is used.
"""

from typing import TYPE_CHECKING, Any

from clgym.avalanche import _lazy_imports

if TYPE_CHECKING:
    from avalanche.training.plugins import SupervisedPlugin

    from clgym.avalanche.benchmarks import benchmark
    from clgym.avalanche.exemplar import ExemplarConfig, ExemplarStrategy
    from clgym.avalanche.sgd import HeadsConfig, SGDConfig, SGDStrategy
    from clgym.avalanche.stages import Stage, StagedStrategy
    from clgym.avalanche.template import as_template

__all__ = [
    "ExemplarConfig",
    "ExemplarStrategy",
    "HeadsConfig",
    "SGDConfig",
    "SGDStrategy",
    "Stage",
    "StagedStrategy",
    "SupervisedPlugin",
    "as_template",
    "benchmark",
]

_lazy_imports.install()


def __getattr__(name: str) -> Any:
    """Load the public names on first use."""
    if name in ("HeadsConfig", "SGDConfig", "SGDStrategy"):
        from clgym.avalanche import sgd

        return getattr(sgd, name)
    if name in ("ExemplarConfig", "ExemplarStrategy"):
        from clgym.avalanche import exemplar

        return getattr(exemplar, name)
    if name in ("Stage", "StagedStrategy"):
        from clgym.avalanche import stages

        return getattr(stages, name)
    if name == "as_template":
        from clgym.avalanche.template import as_template

        return as_template
    if name == "benchmark":
        from clgym.avalanche.benchmarks import benchmark

        return benchmark
    if name == "SupervisedPlugin":
        # Taken from here, not from Avalanche, so that the import above comes first.
        from avalanche.training.plugins import SupervisedPlugin

        return SupervisedPlugin
    raise AttributeError(f"module 'clgym.avalanche' has no attribute {name!r}")
