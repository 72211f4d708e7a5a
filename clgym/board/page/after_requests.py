"""Measures after requests to forget, as the board's tables show them: one number per run."""

from collections.abc import Callable, Sequence

from clgym.results.record import DeletionRequestFacts, Result

__all__ = ["REQUEST_MEASURES", "measures_after_requests"]

REQUEST_MEASURES = {
    "forgotten": "Accuracy on what was forgotten, %",
    "retained": "Accuracy on the rest, %",
    "membership": "Membership AUC, %",
    "distance": "Predictions that differ from the reference, %",
}
"""Title of each measure's column."""
_OF_REQUEST: dict[str, Callable[[DeletionRequestFacts], float | None]] = {
    "forgotten": lambda request: request.after.forgotten_accuracy,
    "retained": lambda request: request.after.retained_accuracy,
    "membership": lambda request: request.after.membership_auc,
    "distance": lambda request: request.distance and request.distance.disagreement_forgotten,
}


def measures_after_requests(results: Sequence[Result]) -> dict[str, list[float | None]]:
    """Each measure of each run, as a fraction: the mean over the run's requests.

    ``distance`` is the fraction of the forgotten training rows whose prediction differs from the
    reference's. None where a request lacks the measure, or the run had none.
    """
    return {name: [_mean(name, result) for result in results] for name in REQUEST_MEASURES}


def _mean(name: str, result: Result) -> float | None:
    facts = getattr(result, "deletion", None)
    values = [_OF_REQUEST[name](request) for request in facts.requests] if facts else []
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
