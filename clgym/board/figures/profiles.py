"""Choose the methods and streams of a performance profile, and the best result of each stream.

The best result of a stream is taken over all its rows. The methods that are drawn all have results
on all the streams that are drawn, since a method without a run on a stream has not lost there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["LEAST", "Profile", "Standing", "profile_of"]

LEAST = 3
"""Minimum number of methods and of shared streams for a performance profile."""


@dataclass(frozen=True)
class Standing:
    """A method's result on one stream."""

    strategy: str
    options: str
    """Options as text, which distinguish the variants of a strategy in all tables."""
    setting: str
    accuracy: float


@dataclass(frozen=True)
class Profile:
    """The content of a performance profile."""

    methods: dict[str, dict[str, float]]
    """Accuracy by strategy and stream; all have the same streams."""
    best: dict[str, float]
    """Best accuracy by stream, over all rows, drawn or not."""
    known: int
    """Number of strategies with a result on any of the streams, drawn or not."""


def profile_of(rows: Sequence[Standing], most: int, least: int = LEAST) -> Profile | None:
    """The largest block of methods and streams; None where there is none.

    Args:
        rows: All results.
        most: Maximum number of methods that can be drawn.
        least: Minimum number of methods, and of streams, in a block.
    """
    methods = _one_each(rows)
    block = max(
        (_grown(methods, first, most, least) for first in sorted(methods)),
        key=lambda found: len(found[0]) * len(found[1]),
        default=([], []),
    )
    names, settings = block
    if not names:
        return None
    best = {s: max(row.accuracy for row in rows if row.setting == s) for s in settings}
    known = {row.strategy for row in rows if row.setting in best}
    return Profile({n: {s: methods[n][s] for s in settings} for n in names}, best, len(known))


def _one_each(rows: Sequence[Standing]) -> dict[str, dict[str, float]]:
    """Choose one variant of each strategy per stream, without regard to scores.

    It is the one whose options occur on most streams; among equals, the first by its options' text.
    """
    places: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        places.setdefault((row.strategy, row.options), set()).add(row.setting)
    found: dict[str, dict[str, float]] = {}
    for row in sorted(rows, key=lambda r: (-len(places[r.strategy, r.options]), r.options)):
        found.setdefault(row.strategy, {}).setdefault(row.setting, row.accuracy)
    return found


def _grown(
    methods: dict[str, dict[str, float]], first: str, most: int, least: int
) -> tuple[list[str], list[str]]:
    """Grow a block from one method, each time by the one that leaves most shared streams.

    Returns the methods and streams of the largest block on the way.
    """
    names, settings = [first], set(methods[first])
    left = set(methods) - {first}
    best: tuple[list[str], list[str]] = ([], [])
    while left and len(names) < most:
        following = min(left, key=lambda name: (-len(settings & methods[name].keys()), name))
        left.remove(following)
        names.append(following)
        settings &= methods[following].keys()
        enough = min(len(names), len(settings)) >= least
        if enough and len(names) * len(settings) >= len(best[0]) * len(best[1]):
            best = sorted(names), sorted(settings)
    return best
