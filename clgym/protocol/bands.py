"""Results that may be too good to be true, compared with the best of the project's own studies.

A flag of this kind is not part of an evaluation's file, since bands change with the project's
studies, while an evaluation must not depend on the release that reads it.
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
"""Fraction of results that are only as good as the band, but flagged by accident."""


@dataclass(frozen=True)
class Band:
    """The best of the project's own studies on a pair."""

    name: str
    """Name of the pair."""
    pair: str
    """Hash of the pair."""
    study: str
    last_accuracy: tuple[float, ...]
    """Last accuracy of each seed, in [0, 1]."""


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
    """Flag for a last accuracy above its pair's band; None if it is within the band or has none.

    A result is above the band if its mean is higher by a one-sided Welch test at 5 %; a single seed
    has no standard deviation and counts as exact.
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
