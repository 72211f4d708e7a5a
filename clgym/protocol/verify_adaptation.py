"""The audit of what an adaptation stream measured: every error again from the stored answers."""

from collections.abc import Iterator, Mapping

import numpy as np

from clgym.results.online_errors import scores
from clgym.results.record import Result

__all__ = ["adaptation_problems"]


def adaptation_problems(result: Result, answers: Mapping[str, np.ndarray]) -> Iterator[str]:
    """What in a record's adaptation block does not follow from its predictions.

    Args:
        result: With an adaptation block.
        answers: Of the predictions file, by name.
    """
    found = result.adaptation
    assert found is not None
    alone = result.scenario.setting == "adaptation"
    prefix = "" if alone else "shift/"
    columns = {
        name: [answers[f"{prefix}{i}/{name}"] for i in range(len(found.segments))]
        for name in ("domain", "label", "predicted", "confidence")
    }
    again = scores(
        [segment.name for segment in found.segments],
        columns["domain"],
        _domain_names(columns["domain"], list(found.domains)),
        columns["label"],
        columns["predicted"],
        columns["confidence"],
        result.class_order,
    )
    stored = found.model_dump()
    for name, value in again.items():
        if stored[name] != value:
            yield f"result.adaptation.{name} does not follow from the predictions"
    if alone and result.accuracy_matrix != [[1 - again["mean_error"]]]:
        yield "result.accuracy_matrix does not follow from the predictions"
    if alone and result.test_counts != [sum(map(len, columns["label"]))]:
        yield "result.test_counts does not follow from the predictions"


def _domain_names(domains: list[np.ndarray], names: list[str]) -> list[str]:
    """By number: a record names the domains that came, in the order of their numbers."""
    numbers = np.unique(np.concatenate(domains)).tolist()
    by_number = dict(zip(numbers, names, strict=True))
    return [by_number.get(number, "") for number in range(max(numbers) + 1)]
