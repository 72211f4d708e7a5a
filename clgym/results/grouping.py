"""Grouping of runs by stream, by method and by seed."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from clgym.files import canonical_json, sha256
from clgym.results.record import AdaptationResult, Result

__all__ = ["Seeds", "by_seed", "classifier_of", "identity", "method_of", "seeds_of", "stream_of"]

Seeds = tuple[int, int]
"""Seed of the learner and seed of the class order; -1 stands for the preset's order."""
_Run = TypeVar("_Run")


def seeds_of(result: Result) -> Seeds:
    """Return the seeds that identify a run among those of its method."""
    return result.seed, -1 if result.order_seed is None else result.order_seed


def by_seed(runs: Iterable[_Run], result: Callable[[_Run], Result]) -> dict[Seeds, list[_Run]]:
    """Group the runs of one method by their seeds.

    Args:
        runs: Runs of one method, in any order.
        result: Returns the result of a run.

    Returns:
        The runs by seeds, in the order of the seeds; a list longer than 1 holds several runs of
        the same seeds.
    """
    groups: dict[Seeds, list[_Run]] = {}
    for run in runs:
        groups.setdefault(seeds_of(result(run)), []).append(run)
    return dict(sorted(groups.items()))


def identity(value: Any) -> str:
    """Return a short, stable name for a JSON value."""
    return sha256(canonical_json(value))[:12]


def classifier_of(result: Result) -> str | None:
    """Return the hash of the classifier that a run started from; None if it made its own."""
    return result.adaptation.model.sha256 if isinstance(result, AdaptationResult) else None


def stream_of(result: Result) -> dict[str, object]:
    """Return the facts that runs on one stream share, without the digest: it depends on the order.

    A given classifier is identified by its hash, since files of one name may hold different ones.
    """
    facts = result.adaptation
    return {
        "name": result.scenario.name,
        "setting": result.scenario.setting,
        "options": {k: v for k, v in result.scenario.config.items() if k != "order_seed"},
        "sources": [[source.name, source.fingerprint] for source in result.sources],
        "scored on": result.scored_on,
        "part": result.part,
        "model": None if facts is None else [facts.model.name, classifier_of(result)],
        "batch size": None if facts is None else facts.batch_size,
    }


def method_of(result: Result) -> str:
    """Return a text of the facts that runs share if they differ only in their seeds."""
    facts: dict[str, object] = {
        "strategy": result.strategy.model_dump(mode="json"),
        "stream": stream_of(result),
    }
    if result.backbone is not None:  # a name may refer to other weights on another machine
        facts["backbone"] = result.backbone.weights
    if result.numerics is not None:  # predictions in bfloat16 differ from those in single precision
        facts["numerics"] = result.numerics.words()
    return identity(facts)
