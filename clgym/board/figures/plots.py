"""Choose and prepare the figures that the records of some methods allow."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clgym.board.figures import drawing, outcomes
from clgym.board.figures.canvas import FigureStyle, drawn_in
from clgym.board.figures.profiles import Standing, profile_of
from clgym.board.reading.entries import options_text
from clgym.board.reading.found import Method
from clgym.board.stats import interval, ranks
from clgym.errors import ClgymError, UnknownName, near
from clgym.files import canonical_json, sha256, writing
from clgym.results.grouping import stream_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["KINDS", "CannotDraw", "Plot", "draw", "mean_matrix", "wrong", "write"]


class CannotDraw(ClgymError):
    """A figure that cannot be drawn from the records at hand."""

    problem = "cannot draw the figure"


@dataclass(frozen=True)
class Plot:
    """A figure, not drawn yet."""

    kind: str
    about: str
    """Method or stream that distinguishes the figure from others of its kind."""
    words: str
    draw: Callable[[], "Figure"]


def draw(methods: Sequence[Method], kinds: Sequence[str] = ()) -> list[Plot]:
    """Prepare the figures that can be drawn.

    Args:
        methods: Methods that the user named.
        kinds: Names of `KINDS`; none means all that the records allow.

    Raises:
        UnknownName: A kind does not exist.
        CannotDraw: The records do not allow a requested kind, or any kind at all.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UnknownName(
                expected=f"a figure ({', '.join(KINDS)})",
                found=repr(kind),
                fix=f"{near(kind, KINDS)}`clgym plot --help` describes them",
            )
    plots: list[Plot] = []
    for kind in kinds or KINDS:
        needs, make = KINDS[kind]
        made = list(make(methods))
        if kinds and not made:
            raise CannotDraw(
                expected=f"{needs}, to draw {kind}",
                found=_inventory(methods),
                fix="Give further records, or leave out --kind to draw what these allow",
            )
        plots += made
    if not plots:
        raise CannotDraw(
            expected="records from which a figure can be drawn",
            found=_inventory(methods),
            fix="Give runs of two or more experiences, or a sealed study",
        )
    return plots


def write(
    plots: Sequence[Plot], out: Path, ending: str, style: FigureStyle | None = None
) -> Iterator[tuple[Path, Plot]]:
    """Draw and write the figures; the file's name states kind and subject."""
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    alone = {plot.kind for plot in plots if [p.kind for p in plots].count(plot.kind) == 1}
    for plot in plots:
        name = plot.kind if plot.kind in alone else f"{plot.kind}-{_file_name(plot.about)}"
        while name in taken:
            name += "-"
        taken.add(name)
        path = out / f"{name}.{ending}"
        with drawn_in(style or FigureStyle()):
            drawing.save(plot.draw(), path)
        yield path, plot


def _file_name(text: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in text).strip("-")[:60] or "x"


def _inventory(methods: Sequence[Method]) -> str:
    """A short description of the given records, for messages."""
    runs = sum(len(method.runs) for method in methods)
    studies = sum(method.study is not None for method in methods)
    parts = [f"{len(methods)} method{'s' * (len(methods) != 1)}", f"{runs} run{'s' * (runs != 1)}"]
    kinds = sorted({run.scenario.setting for method in methods for run in method.results})
    parts += [f"{studies} stud{'y' if studies == 1 else 'ies'}"] if studies else []
    return ", ".join([*parts, *kinds])


# --- data of each kind of figure --- --------------------------------------------------------------


def _learning(method: Method) -> bool:
    """Whether it has runs over several experiences."""
    return bool(method.runs) and len(method.results[0].accuracy_matrix) > 1


def _followed(method: Method) -> bool:
    """Whether its learner was tested after several experiences, so that there is a curve."""
    after = method.results[0].accuracy_after if _learning(method) else []
    return sum(value is not None for value in after) > 1


def _by_stream(methods: Sequence[Method]) -> dict[str, list[Method]]:
    """Methods whose runs can be compared, by the name of the stream."""
    groups: dict[str, list[Method]] = {}
    names: dict[str, str] = {}
    for method in methods:
        if method.runs:
            stream = stream_of(method.results[0])
            key = sha256(canonical_json(stream))
            groups.setdefault(key, []).append(method)
            names[key] = method.study.plan.pair.name if method.study else str(stream["name"])
    several = len(set(names.values())) < len(names)
    return {f"{names[k]} {k[:6]}" if several else names[k]: v for k, v in groups.items()}


def mean_matrix(method: Method) -> list[list[float | None]]:
    """The accuracy matrix, averaged over the runs."""
    tables = np.array([r.accuracy_matrix for r in method.results], dtype=float)
    return [[None if np.isnan(v) else float(v) for v in row] for row in tables.mean(axis=0)]


def _matrices(methods: Sequence[Method]) -> Iterator[Plot]:
    for m in filter(_learning, methods):
        matrix = mean_matrix(m)
        words = f"accuracy matrix of {m.name}{_over(m)}"
        yield Plot("accuracy-matrix", m.name, words, lambda x=matrix: drawing.accuracy_matrix(x))


def _task_accuracies(methods: Sequence[Method]) -> Iterator[Plot]:
    for m in filter(_followed, methods):
        table = [r.accuracy_matrix for r in m.results]
        words = f"accuracy of {m.name} on each experience while others arrive{_over(m)}"
        yield Plot("task-accuracy", m.name, words, lambda t=table: outcomes.task_accuracy(t))


def _confusions(methods: Sequence[Method]) -> Iterator[Plot]:
    for m in methods:
        if m.runs and m.results[0].kind != "adaptation" and all(r.has_predictions for r in m.runs):
            words = f"confusion matrix of {m.name} after the last experience{_summed(m)}"
            yield Plot(
                "confusion-matrix",
                m.name,
                words,
                lambda m=m: outcomes.confusion_matrix(*confusions(m)),
            )


def confusions(method: Method) -> tuple[np.ndarray, list[str]]:
    """Predictions after the last experience, counted over all runs of a method.

    Returns:
        Counts, int64 [C, C], by true and predicted class, and the names of the classes in the order
        of the first run; counts of runs with other class orders are permuted to this order.

    Raises:
        BadRecord: The predictions cannot be read.
    """
    names = method.results[0].class_order
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    for run in method.runs:
        rows = run.predictions().after(len(run.result.accuracy_matrix) - 1)
        place = np.array([names.index(name) for name in run.result.class_order])
        np.add.at(counts, (place[rows.label], place[rows.predicted]), 1)
    return counts, names


def _summed(method: Method) -> str:
    return f", images of {len(method.runs)} runs" if len(method.runs) > 1 else ""


def _last_accuracies(methods: Sequence[Method]) -> Iterator[Plot]:
    for stream, group in _by_stream([m for m in methods if _learning(m)]).items():
        table = {m.name: [r.last_accuracy for r in m.results] for m in group}
        ends = {name: _student(values) for name, values in table.items()}
        words = f"last accuracy on {stream}, with 95 % intervals of the mean (Student's t)"
        yield Plot(
            "last-accuracy", stream, words, lambda t=table, e=ends: outcomes.last_accuracy(t, e)
        )


def _student(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of a mean by Student's t; None for one value."""
    from clgym.results.compare import over_seeds

    found = over_seeds(values, [0.0] * len(values))
    return None if found.low is None or found.high is None else (found.low, found.high)


def _over(method: Method) -> str:
    return f", mean of {len(method.runs)} runs" if len(method.runs) > 1 else ""


def _anytime(methods: Sequence[Method]) -> Iterator[Plot]:
    for stream, group in _by_stream([m for m in methods if _followed(m)]).items():
        table = {m.name: [r.accuracy_after for r in m.results] for m in group}
        words = f"accuracy after each experience of {stream}"
        yield Plot("anytime", stream, words, lambda t=table: drawing.anytime(t))


def _forgetting(methods: Sequence[Method]) -> Iterator[Plot]:
    for stream, group in _by_stream([m for m in methods if _learning(m)]).items():
        found = {
            m.name: [r.forgetting for r in m.results if r.forgetting is not None] for m in group
        }
        table = {name: values for name, values in found.items() if values}
        if table:
            words = f"forgetting on {stream}, seed by seed"
            yield Plot("forgetting", stream, words, lambda t=table: drawing.forgetting(t))


def _cost(methods: Sequence[Method]) -> Iterator[Plot]:
    for stream, group in _by_stream(methods).items():
        if len(group) > 1:
            rows = [_cost_row(m) for m in group]
            words = f"accuracy against time on {stream}, tuning included"
            yield Plot(
                "accuracy-against-cost",
                stream,
                words,
                lambda r=rows: drawing.accuracy_against_cost(r),
            )


def _cost_row(method: Method) -> dict[str, object]:
    lasts = [r.last_accuracy for r in method.results]
    low, high = interval([lasts]) or (None, None)
    return {
        "name": method.name,
        "seconds": sum(run.record.cost.wall_seconds for run in method.runs),
        "tuning_seconds": method.study and method.study.tuning_seconds,
        "accuracy": float(np.mean(lasts)),
        "low": low,
        "high": high,
    }


def _studies(methods: Sequence[Method]) -> dict[str, list[Method]]:
    """Methods by pair, mode and criterion of their studies: scores of one group can be compared."""
    groups: dict[str, list[Method]] = {}
    for method in methods:
        if method.study is not None and method.study.trials:
            plan = method.study.plan
            key = f"{plan.pair.name}, {plan.mode}, {plan.criterion} on {plan.score_on} rows"
            groups.setdefault(key, []).append(method)
    return groups


def _expected_best(methods: Sequence[Method]) -> Iterator[Plot]:
    for pair, group in _studies(methods).items():
        table = {m.name: m.study.trials for m in group if m.study and len(m.study.trials) > 1}
        if table:
            words = f"expected best score against trials ({pair})"
            yield Plot("expected-best", pair, words, lambda t=table: drawing.expected_best(t))


def _rank_shift(methods: Sequence[Method]) -> Iterator[Plot]:
    for pair, group in _studies(methods).items():
        able = [m for m in group if m.runs and _tuned(m) is not None]
        if len(able) > 1:
            rows = _rank_rows(able)
            words = f"tuning rank against evaluation rank ({pair})"
            yield Plot("rank-shift", pair, words, lambda r=rows: drawing.rank_shift(r))


def _tuned(method: Method) -> float | None:
    """Score of the chosen hyper-parameters on the tuning side."""
    evaluations = method.study.evaluations if method.study else []
    return evaluations[-1].tuning_score if evaluations else None


def _rank_rows(methods: Sequence[Method]) -> list[dict[str, object]]:
    from scipy.stats import rankdata

    scores: list[dict[Hashable, float]] = [
        {r.seed: r.last_accuracy for r in m.results} for m in methods
    ]
    means = [float(np.mean(list(s.values()))) for s in scores]
    tuning = rankdata([-(_tuned(m) or 0.0) for m in methods], "min")
    evaluation = rankdata([-mean for mean in means], "min")
    return [
        {
            "name": m.name,
            "tuning": float(tuning[i]),
            "evaluation": float(evaluation[i]),
            "low": found and found.low,
            "high": found and found.high,
        }
        for i, (m, found) in enumerate(zip(methods, ranks(scores), strict=True))
    ]


def _profile(methods: Sequence[Method]) -> Iterator[Plot]:
    rows = []
    for stream, group in _by_stream(methods).items():
        for m in group:
            facts = m.results[0].strategy
            accuracy = float(np.mean([r.last_accuracy for r in m.results]))
            rows.append(Standing(facts.name, options_text(facts.config), stream, accuracy))
    profile = profile_of(rows, len(rows), least=2)
    if profile is not None:
        words = f"performance profile over {len(profile.best)} streams"
        yield Plot(
            "performance-profile",
            "",
            words,
            lambda: drawing.performance_profile(profile.methods, profile.best),
        )


def wrong(method: Method) -> list[list[bool]]:
    """Whether each prediction of the first run was wrong, in order, by segment."""
    return [(~rows.hits).tolist() for rows in method.runs[0].predictions().segments()]


def _errors(methods: Sequence[Method]) -> Iterator[Plot]:
    adapting = [m for m in methods if m.runs and m.results[0].adaptation is not None]
    for stream, group in _by_stream(adapting).items():
        facts = group[0].results[0].adaptation
        names = [s.name for s in facts.segments] if facts else []
        words = f"error along {stream}, first seed"
        yield Plot(
            "error-over-time",
            stream,
            words,
            lambda g=group, n=names: drawing.error_over_time({m.name: wrong(m) for m in g}, n),
        )


KINDS: dict[str, tuple[str, Callable[[Sequence[Method]], Iterator[Plot]]]] = {
    "accuracy-matrix": ("a run of two or more experiences", _matrices),
    "task-accuracy": ("a run of two or more experiences", _task_accuracies),
    "confusion-matrix": ("a learning run with its predictions", _confusions),
    "anytime": ("a run of two or more experiences", _anytime),
    "last-accuracy": ("a run of two or more experiences", _last_accuracies),
    "forgetting": ("a run of two or more experiences", _forgetting),
    "accuracy-against-cost": ("two methods on one stream", _cost),
    "rank-shift": ("two studies of one pair and mode, evaluated", _rank_shift),
    "expected-best": ("a sealed study of two or more trials for all seeds", _expected_best),
    "performance-profile": ("two methods on two streams", _profile),
    "error-over-time": ("a run on an adaptation stream", _errors),
}
"""Figures by name: what they need, and the function that makes them, in the order of `clgym plot`.
"""
