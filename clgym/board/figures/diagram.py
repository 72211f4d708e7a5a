"""The critical-difference diagram of Demsar (2006)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from clgym.board.figures.canvas import INK, new, plain, points, series_style, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["critical_difference"]

_ROW = 0.55
"""Distance between two lines of text, in units of the vertical axis."""


@styled
def critical_difference(
    ranks: Mapping[str, float], reach: float, groups: Sequence[Sequence[int]]
) -> "Figure":
    """Draw mean ranks on a line, with a bar below methods that do not differ significantly.

    Args:
        ranks: Mean rank by name, ascending; 1 is best.
        reach: Critical difference between two mean ranks.
        groups: Places in ``ranks`` of each group of methods without a significant difference.
    """
    names, values, count = list(ranks), list(ranks.values()), len(ranks)
    left = (count + 1) // 2
    bottom = 0.45 + 0.3 * len(groups) + _ROW * left
    figure, axes = new(0.9 + 0.42 * bottom)
    axes.plot([1, count], [0, 0], color=INK, linewidth=1)
    for rank in range(1, count + 1):
        axes.plot([rank, rank], [0, 0.12], color=INK, linewidth=1)
        axes.text(rank, 0.2, str(rank), ha="center", va="bottom", fontsize=points(9))
    axes.plot([1, 1 + reach], [0.95, 0.95], color=INK, linewidth=1.6, marker="|")
    axes.text(
        1, 1.05, f"critical difference {reach:.2f}", ha="left", va="bottom", fontsize=points(9)
    )
    below = 0.3 + 0.3 * len(groups)
    for place, (name, value) in enumerate(zip(names, values, strict=True)):
        first = place < left
        row = place if first else count - 1 - place
        _label(axes, name, value, -below - _ROW * row, (0.6, "right") if first else _end(count))
        axes.plot(value, 0, **{**series_style(place), "linestyle": "none"}, clip_on=False)
    for number, group in enumerate(groups, 1):
        ends = [values[group[0]] - 0.04, values[group[-1]] + 0.04]
        axes.plot(ends, [-0.3 * number + 0.05] * 2, color=INK, linewidth=3, solid_capstyle="butt")
    axes.set(xlim=(0.55 - 0.5 * count / 3, count + 0.45 + 0.5 * count / 3), ylim=(-bottom, 1.5))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return figure


def _end(count: int) -> tuple[float, str]:
    """Place and alignment of the labels on the right."""
    return count + 0.4, "left"


def _label(axes: "Axes", name: str, rank: float, height: float, side: tuple[float, str]) -> None:
    """A name beside the line, joined with its rank."""
    end, align = side
    axes.plot([rank, rank, end], [0, height, height], color=INK, linewidth=0.8)
    gap = -0.06 if align == "right" else 0.06
    text = f"{plain(name, 22)} ({rank:.2f})"
    axes.text(end + gap, height, text, ha=align, va="center", fontsize=points(9))
