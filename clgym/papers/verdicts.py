"""Comparison of claimed and measured values, and the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from clgym.papers.claims import Claim
from clgym.papers.measures import MEASURES, Measure
from clgym.papers.status import ClaimStatus, Verdict
from clgym.results.agreement import rank_agreement
from clgym.results.compare import Difference, SamplePair, over_samples, over_seeds
from clgym.results.grouping import Seeds, seeds_of
from clgym.results.stored import StoredRun

__all__ = ["Measured", "judge", "not_run"]


@dataclass(frozen=True)
class Measured:
    """Result of a run or a study."""

    runs: tuple[StoredRun, ...]
    """The runs, one for each seed, in any order."""
    tuning_score: float | None = None
    """Tuning score of a study, as a fraction."""

    def values(self, measure: Measure) -> list[float]:
        """Values of the measure, one for each seed; none if a seed lacks it."""
        found = [measure.of(run.record) for run in self.runs]
        known = [value for value in found if value is not None]
        return known if len(known) == len(found) else []

    @property
    def seeds(self) -> list[Seeds]:
        """Seeds of the learner and of the class order of each run."""
        return [seeds_of(run.result) for run in self.runs]

    def in_order(self) -> "Measured":
        """The same with its runs in the order of their seeds."""
        return replace(self, runs=tuple(sorted(self.runs, key=lambda run: seeds_of(run.result))))


def judge(claim: Claim, measured: Mapping[str, Measured]) -> ClaimStatus:
    """Compare one claim with the results of its runs.

    Args:
        claim: Claim whose runs are all finished.
        measured: By name of the run or study.
    """
    if claim.of is not None:
        return _number(claim, measured[claim.of])
    if claim.ranks:
        return _ranks(claim, [measured[name] for name in claim.ranks])
    assert claim.better is not None and claim.worse is not None
    return _order(claim, measured[claim.better], measured[claim.worse])


def not_run(claim: Claim, why: str) -> ClaimStatus:
    """The status of a claim that could not be tested."""
    return _status(claim, "-", "not run", why)


def _status(claim: Claim, measured: str, verdict: Verdict, why: str = "") -> ClaimStatus:
    tolerance = f"{claim.tolerance:g}" if claim.of is not None else "-"
    return ClaimStatus(
        claim=_words(claim),
        claimed=_claimed(claim),
        measured=measured,
        tolerance=tolerance,
        verdict=verdict,
        why=why,
        where=claim.where,
        known=claim.known,
    )


def _words(claim: Claim) -> str:
    name = claim.measure.replace("_", " ")
    if claim.of is not None:
        return f"{name} of {claim.of}"
    if claim.ranks:
        return f"{name} of {len(claim.ranks)} strategies, tuning against evaluation"
    relation = "above" if MEASURES[claim.measure].higher_is_better else "below"
    return f"{name} of {claim.better} {relation} {claim.worse}"


def _claimed(claim: Claim) -> str:
    unit = MEASURES[claim.measure].unit
    if claim.value is not None:
        return f"{claim.value:g} {unit}".strip()
    if claim.gap is not None:
        return f"by {claim.gap:g} points"
    return "correlated, not equal" if claim.ranks else "the order"


def _number(claim: Claim, found: Measured) -> ClaimStatus:
    measure = MEASURES[claim.measure]
    values = found.values(measure)
    if not values or claim.value is None:
        return not_run(claim, f"its records have no {claim.measure.replace('_', ' ')}")
    mean = float(np.mean(values))
    apart = mean - claim.value
    text = f"{mean:.3f} {measure.unit}".strip() if abs(mean) < 10 else f"{mean:.2f} {measure.unit}"
    # Measured values are floats in percent: a tolerance of 0 means equal up to rounding errors.
    if abs(apart) <= claim.tolerance + 1e-9:
        return _status(claim, text, "reproduced")
    return _status(claim, text, "differs", f"by {apart:+.2f}")


def _order(claim: Claim, better: Measured, worse: Measured) -> ClaimStatus:
    measure = MEASURES[claim.measure]
    sign = 1 if measure.higher_is_better else -1
    better, worse = better.in_order(), worse.in_order()  # runs of one seed are compared
    ones, others = better.values(measure), worse.values(measure)
    if not ones or len(ones) != len(others):
        return not_run(claim, f"its records have no {claim.measure.replace('_', ' ')}")
    text = f"{np.mean(ones):.2f} and {np.mean(others):.2f}"
    if better.seeds != worse.seeds:
        found, over = Difference(0.0, None, None, None, 0), "over different seeds, no pairs"
    elif len(ones) > 1:
        found, over = over_seeds(ones, others), f"over {len(ones)} seeds"
    else:
        found = _over_images(better, worse, claim.measure)
        over = "over test images, one seed"
        if found is None:
            found, over = over_seeds(ones, others), "one seed"
    mean = sign * float(np.mean(ones) - np.mean(others))
    why = f"by {mean:+.2f}{_interval(found, sign)} {over}"
    ends = [sign * end for end in (found.low, found.high) if end is not None]
    decided = bool(ends) and (min(ends) > 0 or max(ends) < 0)
    return _status(claim, text, _VERDICTS[mean > 0, decided], why)


_VERDICTS: dict[tuple[bool, bool], Verdict] = {
    (True, True): "order reproduced",
    (True, False): "order as claimed, within noise",
    (False, False): "order not as claimed, within noise",
    (False, True): "order not reproduced",
}
"""Verdicts by whether the means are in the claimed order, and whether the interval excludes
zero."""


def _interval(found: Difference, sign: int) -> str:
    if found.low is None or found.high is None:
        return ""
    low, high = sorted((sign * found.low, sign * found.high))
    return f" [{low:+.2f}, {high:+.2f}]"


def _over_images(better: Measured, worse: Measured, name: str) -> Difference | None:
    """Difference over the images that both predicted, in points of the measure.

    None if the images are not the same, or do not determine the measure: an average over
    experiences, or forgetting, depends on more than the predictions at the end.
    """
    if name not in (*_OF_ADAPTATION, "last_accuracy"):
        return None
    sides = [_right(found.runs[0], name) for found in (better, worse)]
    if any(side is None for side in sides):
        return None
    (rows, one), (other_rows, other) = sides  # type: ignore[misc]
    if not np.array_equal(rows, other_rows):
        return None
    sign = 1 if MEASURES[name].higher_is_better else -1
    found = over_samples(SamplePair(int((one & ~other).sum()), int((other & ~one).sum()), len(one)))
    assert found.low is not None and found.high is not None
    low, high = sorted((100 * sign * found.low, 100 * sign * found.high))
    return Difference(100 * sign * found.mean, low, high, found.p, found.n)


def _right(run: StoredRun, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """The predicted rows of a measure's phase, and which of them were predicted correctly."""
    if not run.has_predictions:
        return None
    predictions, result = run.predictions(), run.result
    if name in _OF_ADAPTATION or result.kind == "adaptation":
        parts = [segment.by_image() for segment in predictions.segments()]
    else:
        parts = [predictions.after(len(result.accuracy_matrix) - 1)]
    rows = np.concatenate([part.row for part in parts])
    return rows, np.concatenate([part.hits for part in parts])


_OF_ADAPTATION = ("mean_error", "pooled_error")


def _ranks(claim: Claim, studies: Sequence[Measured]) -> ClaimStatus:
    """Judge a claim on ranks; "correlated, not equal" holds for a correlation between 0 and 1."""
    measure = MEASURES["last_accuracy"], MEASURES["average_incremental_accuracy"]
    tuning = [study.tuning_score for study in studies]
    if any(score is None for score in tuning):
        return not_run(claim, "a study has no tuning score")
    if not all(study.values(m) for m in measure for study in studies):
        return not_run(claim, "a record lacks the measures of the ranks")
    evaluation = [float(np.mean([np.mean(study.values(m)) for m in measure])) for study in studies]
    found = rank_agreement([score or 0.0 for score in tuning], evaluation)
    if found is None:
        return not_run(claim, "all strategies have the same rank, so there is no correlation")
    correlation = found.spearman.value
    text = f"{correlation:.2f} over {len(studies)} strategies"
    both = f"Spearman's correlation {found.spearman}, Kendall's tau-b {found.kendall}"
    if correlation <= 0:
        return _status(claim, text, "order not reproduced", f"the ranks are not correlated: {both}")
    if correlation > 1 - 1e-9:
        return _status(claim, text, "order as claimed, within noise", "the ranks are equal here")
    return _status(claim, text, "order reproduced", both)
