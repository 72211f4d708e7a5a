"""Early stopping of trials: when they are compared (rungs), and which of them continue.

All functions depend on scores only. A decision is made when all trials have reached a rung, so
neither the number of workers nor the order in which runs end changes it.
"""

import statistics
from collections.abc import Mapping

__all__ = ["PRUNERS", "goes_on", "rungs_of"]

PRUNERS = {
    "none": "every trial learns the whole stream",
    "successive-halving": "after ..., a quarter and half of the experiences (rounded down, from 1 "
    "on), the better half of the trials goes on",
    "median": "after half of the experiences, trials below the median of all stop",
}
"""Description of each rule."""


def rungs_of(rule: str, experiences: int) -> tuple[int, ...]:
    """Numbers of experiences after which trials are compared, ascending.

    Args:
        rule: One of `PRUNERS`.
        experiences: Number of experiences of a whole run; below 2 there are no rungs.
    """
    halves: list[int] = []
    while experiences := experiences // 2:
        halves.insert(0, experiences)
    return {"none": (), "median": tuple(halves[-1:])}.get(rule, tuple(halves))


def goes_on(rule: str, scores: Mapping[int, float]) -> set[int]:
    """Trials that continue after a rung.

    Args:
        rule: ``successive-halving`` or ``median``.
        scores: Score at the rung, by number of the trial, of all trials that reached it.

    Returns:
        Numbers of the trials: with ``successive-halving`` the best (n + 1) // 2 of n trials, the
        lowest numbers first among equal scores; with ``median`` all that are not below the median.
    """
    if not scores:
        return set()
    if rule == "median":
        border = statistics.median(scores.values())
        return {trial for trial, score in scores.items() if score >= border}
    ordered = sorted(scores, key=lambda trial: (-scores[trial], trial))
    return set(ordered[: (len(ordered) + 1) // 2])
