"""Figures: what they show, that their files never change, and that they leave no trace."""

import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from clgym.board.figures import drawing, outcomes
from clgym.board.figures.canvas import FigureStyle, drawn_in, series_style
from clgym.board.figures.diagram import critical_difference
from clgym.errors import BadConfig, BadOutput

ENDS = dict.fromkeys(
    ["naive", "replay", "a $x$ <script>alert(1)</script>", "two\nlines\x07"], (0.1, 0.5)
)
NAMES = ["naive", "replay", "a $x$ <script>alert(1)</script>", "two\nlines\x07"]


def _rows() -> list[dict]:
    return [
        {
            "name": name,
            "tuning": 1 + n,
            "evaluation": 4 - n,
            "low": 3 - n,
            "high": 4.5 - n if n else None,
            "seconds": 10.0**n,
            "tuning_seconds": None if n == 1 else 40.0,
            "accuracy": 0.2 * n,
        }
        for n, name in enumerate(NAMES)
    ]


def _costs() -> list[dict]:
    return [
        {**row, "low": row["accuracy"] - 0.02, "high": row["accuracy"] + 0.02} for row in _rows()
    ]


def every() -> dict:
    """One of each kind, from data that hold every oddity a record may have."""
    draw = np.random.default_rng(0)
    table = [[0.5 if j <= i else None for j in range(3)] for i in range(3)]
    return {
        "rank_shift": drawing.rank_shift(_rows()),
        "anytime": drawing.anytime({n: draw.random((3, 4)).tolist() for n in NAMES}),
        "accuracy_matrix": drawing.accuracy_matrix(table),
        "forgetting": drawing.forgetting({n: draw.random(3).tolist() for n in NAMES}),
        "accuracy_against_cost": drawing.accuracy_against_cost(_costs()),
        "expected_best": drawing.expected_best({n: [0.2, None, 0.4] for n in NAMES}),
        "performance_profile": drawing.performance_profile(
            {n: {"x": 0.1 * i, "y": 0.5} for i, n in enumerate(NAMES)}, {"x": 0.9, "y": 0.6}
        ),
        "error_over_time": drawing.error_over_time(
            {n: [[True, False, True], [False]] for n in NAMES}, ["fog", "snow & ice"]
        ),
        "task_accuracy": outcomes.task_accuracy([table, table]),
        "confusion_matrix": outcomes.confusion_matrix(np.eye(4, dtype=int), NAMES),
        "last_accuracy": outcomes.last_accuracy({n: [0.2, 0.4] for n in NAMES}, ENDS),
        "critical_difference": critical_difference(
            dict(zip(NAMES, (1.25, 2, 2.75, 4), strict=True)), 1.6, [[0, 1, 2], [2, 3]]
        ),
    }


@pytest.fixture(scope="module")
def drawn() -> dict:
    return every()


def points(line: Line2D) -> list[list[float]]:
    """Its x, and its y."""
    return [np.asarray(values).tolist() for values in (line.get_xdata(), line.get_ydata())]


def band_ends(axes, place: float) -> tuple[float, float]:
    """Lower and upper end of the first band at a place."""
    band = next(c for c in axes.collections if isinstance(c, PolyCollection))
    corners = np.asarray(band.get_paths()[0].vertices)
    heights = corners[corners[:, 0] == place][:, 1]
    return float(heights.min()), float(heights.max())


def texts(markup: str) -> str:
    return " ".join("".join(ElementTree.fromstring(markup).itertext()).split())


def test_the_same_data_give_the_same_bytes_in_another_process(drawn, tmp_path):
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from test_figures import every; from clgym.board.figures.drawing import save\n"
        "figures = every()\n"
        "for name in sys.argv[3:]:\n"
        "    for kind in ('svg', 'pdf'): save(figures[name], Path(sys.argv[2]) / f'{name}.{kind}')"
    )
    names = ("accuracy_matrix", "error_over_time")  # fills and texts; lines, dots and a legend
    here = __file__.rpartition("/")[0]
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, here, tmp_path, *names], check=True
    )
    for name in names:
        for kind in ("svg", "pdf"):
            own = tmp_path / f"own.{kind}"
            drawing.save(drawn[name], own)
            assert own.read_bytes() == (tmp_path / f"{name}.{kind}").read_bytes(), name
            assert b"Date" not in own.read_bytes()


def test_a_page_can_hold_all_of_them(drawn):
    page = "".join(drawing.svg(figure, f"the {name}") for name, figure in drawn.items())
    tree = ElementTree.fromstring(f"<div>{page}</div>")
    ids = [element.get("id") for element in tree.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    linked = {
        value.partition("#")[2].rstrip(")")
        for element in tree.iter()
        for value in element.attrib.values()
        if value.startswith(("#", "url(#"))
    }
    assert linked
    assert linked <= set(ids)
    assert "currentColor" in page
    assert (
        drawing.svg(drawn["anytime"], 'a "label" <').count('aria-label="a &quot;label&quot;') == 1
    )
    for forbidden in ("<script", "<style", "<?xml", "<!DOCTYPE", "\x07"):
        assert forbidden not in page


def test_names_are_drawn_as_they_are(drawn):
    for name in ("anytime", "forgetting", "accuracy_against_cost", "expected_best"):
        words = texts(drawing.svg(drawn[name]))
        assert "a $x$ <script>alert(1)</scr\u2026" in words, name
        assert "two lines\ufffd" in words, name


def test_methods_differ_in_more_than_colour():
    looks = [series_style(n) for n in range(40)]
    assert len({(style["marker"], style["linestyle"]) for style in looks}) == 40
    line = drawing.anytime({f"m{n}": [[0.1, 0.2]] for n in range(4)}).axes[0].lines[3]
    assert line.get_marker() == looks[3]["marker"]


def test_ranks_are_placed_where_they_belong(drawn):
    lines = drawn["rank_shift"].axes[0].lines
    shifts = [y for x, y in map(points, lines) if x[0] == 0]
    assert shifts == [[1, 4], [2, 3], [3, 2], [4, 1]]
    intervals = [y for x, y in map(points, lines) if x[0] > 1]
    assert intervals == [[2, 3.5], [1, 2.5], [0, 1.5]]  # the first has no upper end


def test_seeds_are_dots_and_the_line_is_their_mean():
    seeds = [[0.5, 0.25], [0.75, 0.5]]
    axes = drawing.anytime({"m": seeds}).axes[0]
    assert points(axes.lines[0]) == [[1, 2], [62.5, 37.5]]
    dots = np.asarray(axes.collections[0].get_offsets()).tolist()
    assert sorted(dots) == [[1, 50], [1, 75], [2, 25], [2, 50]]
    strip = drawing.forgetting({"m": [0.1, 0.3]}).axes[0].collections[0]
    assert np.asarray(strip.get_offsets())[:, 0].tolist() == pytest.approx([10, 30])


def test_the_matrix_says_its_numbers_and_leaves_out_what_was_not_measured():
    figure = drawing.accuracy_matrix([[0.875, None], [0.25, 1.0]])
    said = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    assert said == {(0.5, 0.5): "87.5", (0.5, 1.5): "25.0", (1.5, 1.5): "100.0"}
    large = drawing.accuracy_matrix(np.full((40, 40), 0.5).tolist())
    assert not large.axes[0].texts
    assert len(large.axes) == 2  # the scale in their place


def test_the_cost_of_tuning_is_part_of_the_cost():
    axes = drawing.accuracy_against_cost(_costs()).axes[0]
    places = {line.get_label(): points(line)[0] for line in axes.lines}
    assert [places[name][0] for name in NAMES[:2]] == [41.0, 10.0]
    assert points(axes.lines[0]) == [[10, 140, 1040], [pytest.approx(y) for y in (20, 40, 60)]]


def test_errors_are_averaged_inside_their_segment():
    flags = [[True, True, False, False], [False, False, False, True]]
    line = drawing.error_over_time({"m": flags}, ["fog", "snow"], window=2).axes[0].lines[0]
    assert points(line) == [[0.25, 0.75, 1.25, 1.75], [100, 0, 0, 50]]


def test_each_experience_is_a_line_from_where_it_was_learned():
    seeds = [[[0.9, None], [0.5, 0.7]], [[0.8, 0.1], [0.3, 0.6]]]
    axes = outcomes.task_accuracy(seeds).axes[0]
    first, second = map(points, axes.lines)
    assert first == [[1, 2], pytest.approx([85, 40])]
    assert second == [[2], pytest.approx([65])]
    reach = np.std([50, 30], ddof=1)
    assert band_ends(axes, 2) == pytest.approx((40 - reach, 40 + reach))


def test_bands_reach_one_standard_deviation():
    seeds = [[0.5, 0.2], [0.7, 0.2], [0.3, 0.2]]
    axes = drawing.anytime({"m": seeds}).axes[0]
    assert band_ends(axes, 1) == pytest.approx((30, 70))
    assert band_ends(axes, 2) == pytest.approx((20, 20))


def test_confusions_are_shares_of_the_true_class():
    counts = np.array([[3, 1], [0, 5]])
    figure = outcomes.confusion_matrix(counts, ["digits/4", "digits/7"])
    said = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    assert said == {(0.5, 0.5): "75", (1.5, 0.5): "25", (1.5, 1.5): "100"}
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["4", "7"]


def test_bars_begin_at_zero():
    figure = outcomes.last_accuracy({"m": [0.2, 0.4]}, {"m": (0.1, 0.5)})
    axes = figure.axes[0]
    left, right = axes.patches[0].get_extents().transformed(axes.transData.inverted()).intervalx
    assert left == pytest.approx(0, abs=1e-9) and right == pytest.approx(30)
    assert axes.get_xlim() == (0, 100)
    assert points(axes.lines[0])[0] == [10, 50]


def test_ranks_are_marked_on_the_line_and_groups_joined():
    figure = critical_difference({"a": 1.25, "b": 2.0, "c": 2.75}, 1.2, [[0, 1], [1, 2]])
    lines = [points(line) for line in figure.axes[0].lines]
    assert [x for x, _ in lines if len(x) == 1] == [[1.25], [2.0], [2.75]]
    assert [
        [pytest.approx(v) for v in x] for x, y in lines if len(x) == 2 and y[0] == y[1] < 0
    ] == [[1.21, 2.04], [1.96, 2.79]]
    assert "a (1.25)" in [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ((20, 8000), ["1 min", "10 min", "1 h"]),
        ((40, 700), ["1 min", "2 min", "5 min", "10 min"]),
        ((3.4, 4.9), ["4 s"]),
    ],
)
def test_ticks_of_time_are_round(seconds, expected):
    rows = [{"name": str(s), "seconds": s, "accuracy": 0.5} for s in seconds]
    axes = drawing.accuracy_against_cost(rows).axes[0]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert set(expected) <= set(labels) and 2 <= len(labels) <= 8


def test_a_figure_has_the_size_that_is_asked_for(tmp_path):
    from PIL import Image

    def draw() -> Figure:
        return drawing.anytime({n: [[0.1, 0.2]] for n in NAMES})

    plain = draw()
    with drawn_in(FigureStyle.parse("3.5x2.5")):
        figure = draw()
        drawing.save(figure, tmp_path / "figure.png")
    assert figure.get_size_inches().tolist() == [3.5, 2.5]
    assert Image.open(tmp_path / "figure.png").size == (1050, 750)
    with drawn_in(FigureStyle.parse("single-column")):
        narrow = draw()
    assert narrow.get_figwidth() == 3.3 and plain.get_figwidth() == 5.0
    assert narrow.axes[0].xaxis.label.get_fontsize() == 8
    with drawn_in(FigureStyle.parse(None, 14)):
        assert draw().axes[0].xaxis.label.get_fontsize() == 14


@pytest.mark.parametrize("size", ["wide", "3x", "0.5x2", "100x100"])
def test_sizes_that_are_none_are_refused(size):
    with pytest.raises(BadConfig, match="--size"):
        FigureStyle.parse(size)


def test_drawing_leaves_the_settings_of_the_process_alone():
    script = (
        "import matplotlib; matplotlib.rcParams['font.size'] = 31\n"
        "import sys; from clgym.board.figures import drawing\n"
        "drawing.svg(drawing.forgetting({'m': [0.1]}))\n"
        "assert matplotlib.rcParams['font.size'] == 31\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_figure_that_cannot_be_written_is_refused(drawn, tmp_path):
    with pytest.raises(BadConfig, match=r"\.svg, \.pdf or \.png.*figure\.jpg"):
        drawing.save(drawn["forgetting"], tmp_path / "figure.jpg")
    with pytest.raises(BadOutput):
        drawing.save(drawn["forgetting"], tmp_path / "none" / "figure.svg")
    assert not list(tmp_path.iterdir())
