"""Figures of learning streams: accuracies of experiences over time, confusions, last accuracy."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from clgym.board.figures.canvas import INK, new, plain, points, room_below, series_style, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["confusion_matrix", "last_accuracy", "task_accuracy"]

_NAMED = 25
"""Maximum number of classes or experiences that are named one by one."""


@styled
def task_accuracy(matrices: Sequence[Sequence[Sequence[float | None]]]) -> "Figure":
    """Draw the accuracy on each experience from the moment it is learned, while others arrive.

    Lines are means over seeds; a band reaches one standard deviation (n - 1) up and down.

    Args:
        matrices: For each seed the accuracy matrix: row i after experience i, column j on its test
            rows; None where not measured.
    """
    import matplotlib
    from matplotlib.ticker import MaxNLocator

    table = 100 * np.array(matrices, dtype=float)  # None becomes NaN
    size = table.shape[1]
    figure, axes = new()
    colours = matplotlib.colormaps["cividis"](np.linspace(0, 0.9, size))
    for j in range(size):
        tested = ~np.isnan(table[:, j:, j]).any(axis=0)  # the line passes over what was not tested
        steps, values = np.flatnonzero(tested) + j + 1, table[:, j:, j][:, tested]
        style = {**series_style(j), "color": colours[j], "markersize": 4 if size <= 10 else 2}
        axes.plot(steps, values.mean(axis=0), **style, label=str(j + 1))
        if len(values) > 1:
            mean, deviation = values.mean(axis=0), values.std(axis=0, ddof=1)
            ends = (mean - deviation, mean + deviation)
            axes.fill_between(steps, *ends, color=colours[j], alpha=0.12, linewidth=0)
    axes.set(xlabel="experiences learned", ylabel="accuracy, %", ylim=(-2, 102))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", color=INK, alpha=0.15, linewidth=0.5)
    if size <= _NAMED:
        columns = min(size, 6)
        room_below(figure, 0.19 * (1 - (-size // columns)))
        title = "on the test images of experience"
        figure.legend(loc="outside lower center", ncols=columns, title=title, handlelength=2)
    return figure


@styled
def confusion_matrix(counts: np.ndarray, classes: Sequence[str]) -> "Figure":
    """Draw the predicted classes of each true class, as percent of its test images.

    Args:
        counts: int [C, C], number of test images by true class (row) and predicted class (column).
        classes: Names of the classes, in the order in which they were learned.
    """
    import matplotlib

    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(100.0 * counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    size = len(classes)
    figure, axes = new(1.2 + min(4.2, 0.9 + 0.35 * size))
    colours = matplotlib.colormaps["cividis"]
    mesh = axes.pcolormesh(share, cmap=colours, vmin=0, vmax=100, edgecolors="none")
    for (i, j), value in np.ndenumerate(share) if size <= 12 else ():
        if np.isfinite(value) and value >= 0.5:
            colour = "#ffffff" if value < 55 else "#000000"
            size_here = points(min(8.0, 80 / size))
            place = {"ha": "center", "va": "center", "color": colour, "fontsize": size_here}
            axes.text(j + 0.5, i + 0.5, f"{value:.0f}", **place)
    if size > 12:
        figure.colorbar(mesh, ax=axes, label="% of the true class")
    names = [plain(name.rpartition("/")[2], 16) for name in classes] if size <= _NAMED else []
    places = [n + 0.5 for n in range(len(names))]
    axes.set_xticks(places, names, rotation=90, fontsize=points(8))
    axes.set_yticks(places, names, fontsize=points(8))
    order = "" if names else " (in the order of learning)"
    axes.set(ylim=(size, 0), xlabel=f"predicted class{order}", ylabel=f"true class{order}")
    axes.set_title("test images of the true class, %")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


@styled
def last_accuracy(
    methods: Mapping[str, Sequence[float]], intervals: Mapping[str, tuple[float, float] | None]
) -> "Figure":
    """Draw the last accuracy as bars from 0, with a dot per seed and an interval of the mean.

    Args:
        methods: By name, for each seed the last accuracy.
        intervals: By name the ends of the interval, or None.
    """
    figure, axes = new(1.0 + 0.36 * max(2, len(methods)))
    for number, (name, seeds) in enumerate(methods.items()):
        style, values = series_style(number), 100 * np.array(seeds, dtype=float)
        axes.barh(number, values.mean(), height=0.6, color=style["color"], alpha=0.55)
        spots = np.full(len(values), number + 0.18)
        axes.scatter(values, spots, s=10, color=INK, alpha=0.5, linewidths=0, zorder=3)
        if (ends := intervals[name]) is not None:
            axes.plot([100 * end for end in ends], [number] * 2, color=INK, marker="|")
    axes.set_yticks(range(len(methods)), [plain(name) for name in methods])
    axes.set(xlim=(0, 100), ylim=(len(methods) - 0.4, -0.6), xlabel="last accuracy, %")
    axes.grid(axis="x", color=INK, alpha=0.15, linewidth=0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure
