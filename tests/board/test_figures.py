"""Figures: what they show, that their files never change, and that they leave no trace."""

import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.lines import Line2D

from clgym.board.figures import drawing
from clgym.board.figures.canvas import series_style
from clgym.errors import BadConfig, BadOutput

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
    }


@pytest.fixture(scope="module")
def drawn() -> dict:
    return every()


def points(line: Line2D) -> list[list[float]]:
    """Its x, and its y."""
    return [np.asarray(values).tolist() for values in (line.get_xdata(), line.get_ydata())]


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
    with pytest.raises(BadConfig, match=r"\.svg or \.pdf.*figure\.png"):
        drawing.save(drawn["forgetting"], tmp_path / "figure.png")
    with pytest.raises(BadOutput):
        drawing.save(drawn["forgetting"], tmp_path / "none" / "figure.svg")
    assert not list(tmp_path.iterdir())
