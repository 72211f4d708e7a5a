"""Draw the figures of the board, of reports and of papers: from plain data to Matplotlib figures.

Accuracies come in as fractions and are drawn as percent. Every seed is a dot of its own, intervals
are drawn where they are known, and no figure tells its methods apart by colour alone.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clgym.board.figures import curves
from clgym.board.figures.canvas import (
    INK,
    SeriesStyle,
    new,
    plain,
    points,
    room_below,
    save,
    series_style,
    styled,
    svg,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "accuracy_against_cost",
    "accuracy_matrix",
    "anytime",
    "error_over_time",
    "expected_best",
    "forgetting",
    "performance_profile",
    "rank_shift",
    "save",
    "svg",
]


def _draw_seeds(axes: "Axes", x: Any, y: Any, style: SeriesStyle) -> None:
    """Draw the values of single seeds behind their mean, with the mean's marker."""
    axes.scatter(x, y, s=12, alpha=0.45, linewidths=0, color=style["color"], marker=style["marker"])


@styled
def rank_shift(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draw the rank on the tuning side against the rank on the evaluation side.

    Args:
        rows: ``name``, ``tuning`` and ``evaluation`` (ranks, 1 is best, ties may share one), and
            ``low`` and ``high``, the interval of the evaluation rank, or None.
    """
    figure, axes = new(1.2 + 0.26 * max(2, len(rows)))
    reach = 0.22 / max(1, len(rows))
    for number, row in enumerate(rows):
        style = series_style(number)
        axes.plot([0, 1], [row["tuning"], row["evaluation"]], **style, clip_on=False)
        if row.get("low") is not None and row.get("high") is not None:
            place = 1.03 + reach * number
            axes.plot([place, place], [row["low"], row["high"]], color=style["color"], linewidth=2)
    for side, key, x, align in ((0, "tuning", -0.08, "right"), (1, "evaluation", 1.3, "left")):
        order = sorted(range(len(rows)), key=lambda i: (rows[i][key], rows[i]["evaluation"]))
        for slot, i in enumerate(order, 1):
            interval = _span(rows[i]) if side else ""
            text = f"{_rank(rows[i][key])}  {plain(rows[i]['name'], 20)}{interval}"
            axes.text(x, slot, text, ha=align, va="center", fontsize=points(9))
    axes.set(xlim=(-0.9, 2.3), ylim=(len(rows) + 0.6, 0.4), yticks=[], xticks=[])
    axes.text(-0.08, 0.2, "rank when tuned", ha="right", weight="bold")
    axes.text(1.3, 0.2, "rank when evaluated", ha="left", weight="bold")
    axes.spines[:].set_visible(False)
    return figure


def _rank(value: float) -> str:
    return f"{value:g}"


def _span(row: Mapping[str, Any]) -> str:
    low, high = row.get("low"), row.get("high")
    if low is None or high is None or low == high:
        return ""
    return f" ({_rank(low)} to {_rank(high)})"


@styled
def anytime(methods: Mapping[str, Sequence[Sequence[float | None]]]) -> "Figure":
    """Draw the accuracy after each experience: dots are seeds, a line joins their means.

    A band reaches one standard deviation (n - 1) up and down.

    Args:
        methods: By name, for each seed the accuracy after each experience; None where not tested,
            which the line passes over.
    """
    figure, axes = new()
    for number, (name, seeds) in enumerate(methods.items()):
        style, table = series_style(number), 100 * np.array(seeds, dtype=float)
        tested = ~np.isnan(table).any(axis=0)
        steps, table = np.flatnonzero(tested) + 1, table[:, tested]
        if len(table) > 1:
            _draw_seeds(axes, np.tile(steps, len(table)), table.ravel(), style)
            _band(axes, steps, table, style["color"])
        axes.plot(steps, table.mean(axis=0), **style, label=plain(name))
    axes.set(xlabel="experiences learned", ylabel="accuracy on classes seen, %")
    _whole_numbers(axes)
    _percent(axes)
    _legend(figure, axes)
    return figure


def _band(axes: "Axes", steps: np.ndarray, table: np.ndarray, colour: str) -> None:
    """One standard deviation (n - 1) around the mean over the rows of a table."""
    mean, deviation = table.mean(axis=0), table.std(axis=0, ddof=1)
    axes.fill_between(
        steps, mean - deviation, mean + deviation, color=colour, alpha=0.15, linewidth=0, zorder=0
    )


@styled
def accuracy_matrix(matrix: Sequence[Sequence[float | None]]) -> "Figure":
    """Draw the accuracy matrix as a heat map with its numbers.

    Args:
        matrix: Row i after experience i, column j on its test rows; None where not measured.
    """
    import matplotlib

    table = 100 * np.array([[np.nan if v is None else v for v in row] for row in matrix])
    size = len(table)
    figure, axes = new(1.0 + min(4.2, 0.9 + 0.4 * size))
    colours = matplotlib.colormaps["cividis"]
    mesh = axes.pcolormesh(table, cmap=colours, vmin=0, vmax=100, edgecolors="none")
    if size <= 25:
        _numbers(axes, table)
    else:  # no number could be read
        figure.colorbar(mesh, ax=axes)
    step = 1 if size <= 12 else 5
    marks = [n for n in range(1, size + 1) if step == 1 or n == 1 or n % step == 0]
    places = [n - 0.5 for n in marks]
    axes.set_xticks(places, [str(n) for n in marks])
    axes.set_yticks(places, [str(n) for n in marks])
    axes.set(
        ylim=(size, 0),
        xlabel="on the test images of experience",
        ylabel="after experience",
        title="accuracy, %",
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _numbers(axes: "Axes", table: np.ndarray) -> None:
    """Write each cell's value into it, not in `INK`: cells keep their colour on a dark page."""
    size = len(table)
    for (i, j), value in np.ndenumerate(table):
        if np.isfinite(value):
            axes.text(
                j + 0.5,
                i + 0.5,
                f"{value:.1f}" if size <= 8 else f"{value:.0f}",
                ha="center",
                va="center",
                color="#ffffff" if value < 55 else "#000000",
                fontsize=points(min(9.0, 110 / size)),
            )


@styled
def forgetting(methods: Mapping[str, Sequence[float]]) -> "Figure":
    """Draw the forgetting of every seed, and the mean.

    Args:
        methods: By name, for each seed the mean drop from the best accuracy, a fraction.
    """
    figure, axes = new(1.0 + 0.32 * max(2, len(methods)))
    for number, seeds in enumerate(methods.values()):
        style, values = series_style(number), 100 * np.array(seeds, dtype=float)
        axes.axhline(number, color=INK, linewidth=0.4, alpha=0.25, zorder=0)
        _draw_seeds(axes, values, np.full(len(values), number), style)
        axes.plot(values.mean(), number, color=style["color"], marker=style["marker"], markersize=7)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(methods)), [plain(name) for name in methods])
    axes.set(ylim=(len(methods) - 0.4, -0.6), xlabel="forgetting, points (lower is better)")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure


@styled
def accuracy_against_cost(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draw accuracy against total time, tuning included, with the Pareto front.

    Args:
        rows: ``name``, ``seconds`` (of the evaluation runs), ``tuning_seconds`` (or None where
            nothing was tuned), ``accuracy``, and its interval ``low`` and ``high``, or None.
    """
    figure, axes = new()
    points = [
        (max(1e-3, row["seconds"] + (row.get("tuning_seconds") or 0.0)), 100 * row["accuracy"])
        for row in rows
    ]
    front = [points[i] for i in curves.pareto(points)]
    axes.plot(
        [x for x, _ in front],
        [y for _, y in front],
        color=INK,
        linewidth=0.9,
        drawstyle="steps-post",
        label="Pareto front: no method is better and cheaper",
    )
    for number, (row, (cost, accuracy)) in enumerate(zip(rows, points, strict=True)):
        style = series_style(number)
        if row.get("low") is not None and row.get("high") is not None:
            ends = [100 * row["low"], 100 * row["high"]]
            axes.plot([cost, cost], ends, color=style["color"], linewidth=1)
        if row.get("tuning_seconds"):
            alone = max(1e-3, row["seconds"])
            axes.plot([alone, cost], [accuracy] * 2, color=style["color"], linewidth=0.8, ls=":")
            axes.plot(alone, accuracy, marker="|", color=style["color"], markersize=7)
        style["linestyle"] = "none"
        axes.plot(cost, accuracy, **style, label=plain(row["name"]))
    axes.set(xscale="log", xlabel="time of all runs (tick: without tuning)", ylabel="accuracy, %")
    _durations(axes)
    _percent(axes)
    _legend(figure, axes)
    return figure


@styled
def expected_best(methods: Mapping[str, Sequence[float | None]]) -> "Figure":
    """Expected best tuning score against the number of trials (Dodge et al. 2019).

    Args:
        methods: By name, the score of each trial in their order; None for a failed one, which
            counts as 0. Dots are the trials themselves.
    """
    figure, axes = new()
    for number, (name, scores) in enumerate(methods.items()):
        style = series_style(number)
        budget = np.arange(1, len(scores) + 1)
        known = [(n, 100 * s) for n, s in zip(budget, scores, strict=True) if s is not None]
        _draw_seeds(axes, [n for n, _ in known], [s for _, s in known], style)
        axes.plot(
            budget,
            100 * curves.expected_best(scores),
            **style,
            markevery=max(1, len(scores) // 12),
            label=plain(name),
        )
    axes.set(xlabel="trials", ylabel="expected best tuning score, %")
    _whole_numbers(axes)
    _percent(axes)
    _legend(figure, axes)
    return figure


@styled
def performance_profile(
    methods: Mapping[str, Mapping[str, float]], best: Mapping[str, float]
) -> "Figure":
    """Share of streams on which a method's error is within a factor of the lowest one.

    Args:
        methods: Accuracy by method and stream; every method has every stream.
        best: Best accuracy by stream, over all rows of the table, drawn or not.
    """
    figure, axes = new()
    ratios = curves.shortfalls(methods, best)
    finite = [r for row in ratios.values() for r in row if np.isfinite(r)]
    most = max([1.5, *finite]) * 1.1
    for number, (name, row) in enumerate(ratios.items()):
        at = np.array([1.0, *sorted({r for r in row if 1 < r < most}), most])
        share = 100 * curves.profile(row, at)
        axes.plot(at, share, **series_style(number), drawstyle="steps-post", label=plain(name))
    axes.set(
        xscale="log" if most > 8 else "linear",
        xlabel="error / lowest error, at most",
        ylabel="share of streams, %",
        ylim=(-3, 103),
    )
    _legend(figure, axes)
    return figure


@styled
def error_over_time(
    methods: Mapping[str, Sequence[Sequence[bool]]], segments: Sequence[str], window: int = 0
) -> "Figure":
    """Draw the online error along an adaptation stream, averaged over windows.

    Args:
        methods: By name, for each segment whether each prediction was wrong, in order.
        segments: Names of the segments.
        window: Number of predictions that are averaged; 0 means a fifth of the longest segment.
    """
    figure, axes = new()
    longest = max((len(f) for flags in methods.values() for f in flags), default=1)
    size = window or max(1, -(-longest // 5))
    for number, (name, flags) in enumerate(methods.items()):
        found = [curves.windows(segment, size) for segment in flags]
        places = np.concatenate([s + middle for s, (middle, _) in enumerate(found)])
        errors = 100 * np.concatenate([mean for _, mean in found])
        every = max(1, len(errors) // 12)
        style = {**series_style(number), "linewidth": 1.1, "markersize": 4}
        axes.plot(places, errors, **style, markevery=(number % every, every), label=plain(name))
    for border in range(1, len(segments)):
        axes.axvline(border, color=INK, linewidth=0.5, alpha=0.25, zorder=0)
    axes.set_xticks(
        np.arange(len(segments)) + 0.5,
        [plain(name, 22) for name in segments],
        rotation=90 if len(segments) > 4 else 0,
        fontsize=points(8),
    )
    axes.tick_params(axis="x", length=0)
    axes.set(xlim=(0, len(segments)), ylabel=f"error in windows of {size:,} predictions, %")
    _percent(axes)
    _legend(figure, axes)
    return figure


def _percent(axes: "Axes") -> None:
    """Leave room around the values, but stay within 0 and 100 percent."""
    axes.margins(y=0.08)
    low, high = axes.get_ylim()
    axes.set_ylim(max(-2.0, low), min(102.0, high))
    axes.grid(axis="y", color=INK, alpha=0.15, linewidth=0.5)


def _durations(axes: "Axes") -> None:
    """Set the ticks of a time axis to readable durations."""
    from matplotlib.ticker import NullLocator

    axes.margins(x=0.08)
    low, high = axes.get_xlim()
    shown = [at for at in _TIMES if low <= at <= high]
    if len(shown) > _MOST_TIMES:
        shown = [at for at in shown if at in _MAIN_TIMES]
    units = dict(_TIMES)
    if len(shown) < 2:  # the range is narrow
        units = _narrow_times(low, high)
        shown = list(units)
    axes.set_xticks(shown, [units[at] for at in shown])
    axes.xaxis.set_minor_locator(NullLocator())


def _narrow_times(low: float, high: float) -> dict[float, str]:
    """Round times within a range of less than one step of `_TIMES`, in seconds."""
    from matplotlib.ticker import MaxNLocator

    name, unit = next((n, u) for n, u in _UNITS if high >= u or u == _UNITS[-1][1])
    ticks = MaxNLocator(4).tick_values(low / unit, high / unit)
    return {float(t * unit): f"{t:g} {name}" for t in ticks if low <= t * unit <= high}


_UNITS = (("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3))


def _time_ticks() -> dict[float, str]:
    """Readable times in seconds, ascending."""
    found = {10.0**n: f"{10.0 ** (n + 3):g} ms" for n in (-3, -2)}
    found |= {s: f"{s:g} s" for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30)}
    found |= {60 * m: f"{m} min" for m in (1, 2, 5, 10, 20, 30)}
    return found | {3600 * h: f"{h} h" for h in (1, 2, 5, 10, 20, 50, 100, 1000)}


_TIMES = _time_ticks()
_MAIN_TIMES = (1e-3, 1e-2, 0.1, 1, 10, 60, 600, 3600, 36_000, 360_000, 3_600_000)
_MOST_TIMES = 6
"""Maximum number of ticks of a time axis; with more only the main ones are drawn."""


def _whole_numbers(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _legend(figure: "Figure", axes: "Axes") -> None:
    """Draw the legend below the axes, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    columns = 1 if max(map(len, labels)) > 32 else 2 if max(map(len, labels)) > 16 else 3
    room_below(figure, 0.19 * -(-len(labels) // columns))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=3)
