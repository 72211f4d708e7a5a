"""Results that may be too good to be true: held against the best that the project itself reached.

A flag of this kind is no part of an evaluation's file: the bands grow with the project's studies,
and an evaluation says the same whichever release reads it.
"""

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, cast

import numpy as np

from clgym.protocol.outcome import Evaluation

__all__ = ["Band", "above_band", "bands"]

LEVEL = 0.05
"""Share of results as good as the band's own that are flagged by accident."""


@dataclass(frozen=True)
class Band:
    """The best study of the project's own on a pair."""

    name: str
    """Name of the pair."""
    pair: str
    """Hash of the pair."""
    study: str
    last_accuracy: tuple[float, ...]
    """In [0, 1], of each seed."""


@cache
def bands() -> dict[str, Band]:
    """The bands of this release, by the pair's hash."""
    content = tomllib.loads(files("clgym.protocol").joinpath("bands.toml").read_text())
    return {
        entry["pair"]: Band(
            entry["name"], entry["pair"], entry["study"], tuple(entry["last_accuracy"])
        )
        for entry in content["band"]
    }


def above_band(evaluation: Evaluation) -> str | None:
    """What to say of a last accuracy above its pair's band; None within it, or without a band.

    Above is a result whose mean is higher than the band's by a one-sided Welch test at 5 %; a
    single seed has no deviation and counts as exact.
    """
    band = bands().get(evaluation.pair_hash)
    found = [s.last_accuracy for s in evaluation.seeds if s.last_accuracy is not None]
    if band is None or not found or not _higher(found, band.last_accuracy):
        return None
    best = 100 * float(np.mean(band.last_accuracy))
    return (
        f"last accuracy is above the reference band of {band.name} (best own study: {best:.2f} %): "
        "repeat it before you rely on it"
    )


def _higher(found: Sequence[float], known: Sequence[float]) -> bool:
    if np.mean(found) <= np.mean(known):
        return False
    if np.ptp(found) == np.ptp(known) == 0 or len(found) == 1:
        return bool(np.min(found) > np.max(known))
    # Here: most results need no test.
    from scipy import stats  # pyright: ignore[reportMissingTypeStubs]

    test = cast("Callable[..., Any]", stats.ttest_ind)  # pyright: ignore[reportUnknownMemberType]
    return bool(test(found, known, equal_var=False, alternative="greater").pvalue < LEVEL)
