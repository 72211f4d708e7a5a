"""Profiles across tables and counts of claims, on boards made by hand, against NumPy."""

import re

import numpy as np
import pytest

from clgym.board.figures import curves
from clgym.board.figures.profiles import Standing, profile_of
from clgym.board.page.charts import across_charts
from clgym.board.page.render import render
from clgym.board.page.tables import tables_of
from clgym.board.reading.records import read_board
from clgym.papers.status import ClaimStatus, PaperStatus, RowStatus, write_status

COUNT = 20
# Right answers of 20 after one experience, by strategy and options; None: not run there.
HITS = {
    ("lame", "knn"): (10, 10, 10, 12, None),
    ("lame", "rbf"): (19, 3, 3, None, None),
    ("source", ""): (9, 9, 9, 9, 9),
    ("bn", ""): (12, 8, 9, 10, 11),
    ("cotta", ""): (15, None, None, None, None),  # in one table, and best there but for one
    ("tent", ""): (None, None, None, 11, 12),
}
STREAMS = ("s0", "s1", "s2", "s3", "s4")


@pytest.fixture
def board(board_folder, write_run):
    """Five tables of runs by hand; three strategies share four of them."""
    for (strategy, variant), hits in HITS.items():
        for stream, right in zip(STREAMS, hits, strict=True):
            if right is not None:
                write_run(
                    board_folder / f"records/{strategy}-{variant}-{stream}",
                    hits=[[right]],
                    counts=[COUNT],
                    strategy=strategy,
                    scenario=stream,
                    config={"variant": variant, "network": f"of-{stream}"},
                )
    return board_folder


def _oracle(drawn: list[tuple[str, str]], tables: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Ratios of errors to the lowest of all rows of each table."""
    error = np.array(
        [[np.nan if h is None else 1 - h / COUNT for h in row] for row in HITS.values()]
    )
    lowest = np.nanmin(error, axis=0)
    rows = {key: i for i, key in enumerate(HITS)}
    columns = list(tables)
    return {key[0]: (error[rows[key]] / lowest)[columns] for key in drawn}


def _profile(folder):
    tables = tables_of(read_board(folder))
    titles = {table.id: table.title for table in tables}
    rows = [
        Standing(r.entry.strategy, str(r.entry.config["variant"]), titles[t.id], r.mean)
        for t in tables
        for r in t.rows
        if r.mean is not None
    ]
    return profile_of(rows, 7)


def test_a_profile_is_measured_against_the_best_of_all_rows(board):
    found = _profile(board)
    assert found is not None
    # lame's variant by where it stands (four tables against three), though rbf wins one of them.
    wanted = _oracle([("bn", ""), ("lame", "knn"), ("source", "")], (0, 1, 2, 3))
    assert list(found.methods) == list(wanted) and list(found.best) == ["s0", "s1", "s2", "s3"]
    ratios = curves.shortfalls(found.methods, found.best)
    for name, row in wanted.items():
        np.testing.assert_allclose(ratios[name], row, rtol=1e-9)
    assert ratios["lame"][0] == pytest.approx(10.0)  # 10 wrong against 1 of rbf


def test_the_figure_counts_what_it_draws(board):
    (chart,) = across_charts(tables_of(read_board(board)))
    assert chart.title.startswith("Performance profile: 3 of 5 methods over 4 learning streams (")


def test_the_page_says_the_same(board, tmp_path):
    render(board, tmp_path / "site")
    page = (tmp_path / "site/index.html").read_text()
    assert len(re.findall("<figcaption>Performance profile: 3 of 5 methods", page)) == 1


def test_no_profile_without_three_methods_in_three_tables(board, tmp_path):
    import shutil

    for stream in ("s2", "s3"):
        for folder in (board / "records").glob(f"bn-*-{stream}"):
            shutil.rmtree(folder)
    assert _profile(board) is None
    assert across_charts(tables_of(read_board(board))) == []


def test_scores_never_choose_the_variant():
    """Whatever the accuracies are, the same variant is drawn."""
    generator = np.random.default_rng(0)
    for _ in range(50):
        rows, wanted = [], {}
        for setting in "xyz":
            for strategy in "abc":
                for options in ("p", "q"):
                    accuracy = float(generator.random())
                    rows.append(Standing(strategy, options, setting, accuracy))
                    if options == "p":
                        wanted[strategy, setting] = accuracy
        rows.append(Standing("a", "q", "w", 0.5))
        found = profile_of([rows[i] for i in generator.permutation(len(rows))], 7)
        assert found is not None
        for (strategy, setting), accuracy in wanted.items():
            if strategy != "a":
                assert found.methods[strategy][setting] == accuracy
        chosen = {r.setting: r.accuracy for r in rows if (r.strategy, r.options) == ("a", "q")}
        assert found.methods["a"] == {s: chosen[s] for s in "xyz"}
        best = {s: max(r.accuracy for r in rows if r.setting == s) for s in "xyz"}
        assert found.best == best


def test_a_block_is_found_behind_a_method_that_shares_nothing():
    rows = [Standing("alone", "", str(n), 0.5) for n in range(9)]
    rows += [Standing(name, "", f"shared-{n}", 0.5) for name in "bcd" for n in range(3)]
    found = profile_of(rows, 7)
    assert found is not None and list(found.methods) == ["b", "c", "d"]
    assert profile_of(rows, 2) is None  # no room for three


# --- claims --------------------------------------------------------------------------------------


def _claim(verdict: str, known: str, tolerance: str) -> ClaimStatus:
    return ClaimStatus(
        claim=f"{verdict} {known} {tolerance}",
        claimed="1",
        measured="1",
        tolerance=tolerance,
        verdict=verdict,  # type: ignore[arg-type]
        where="there",
        known=known,  # type: ignore[arg-type]
    )


def test_claims_are_counted_apart(board_folder, write_run, tmp_path):
    """Scales, kinds of claims, and where each is known from, all apart."""
    write_run(board_folder / "records/a")
    lite = [
        _claim("reproduced", "verified", "0.5"),
        _claim("differs", "verified", "0.5"),
        _claim("reproduced", "log", "0.5"),
        _claim("reproduced", "inferred", "0"),
        _claim("order reproduced", "remembered", "-"),
        _claim("order as claimed, within noise", "remembered", "-"),
        _claim("order reproduced", "inferred", "-"),
        _claim("not run", "verified", "0.5"),
    ]
    full = [_claim("differs", "verified", "1"), _claim("not run", "inferred", "-")]
    rows = (
        RowStatus(row="small", scale="lite", about="small", claims=tuple(lite)),
        RowStatus(row="large", scale="full", about="large", claims=tuple(full)),
    )
    status = PaperStatus(paper="paper", title="A paper", link="https://example.org", rows=rows)
    write_status(board_folder / "status/paper.json", status)
    render(board_folder, tmp_path / "site")
    text = (board_folder / "README.md").read_text()
    assert (
        "full scale: 0 of 1 numbers; "
        "lite scale: 2 of 3 numbers, 2 of 3 orders, 1 of 1 by construction."
    ) in text
    lines = [
        "| full | number | verified | 1 | 0 |",
        "| lite | number | log | 1 | 1 |",
        "| lite | number | verified | 2 | 1 |",
        "| lite | order | inferred | 1 | 1 |",
        "| lite | order | remembered | 2 | 1 |",
        "| lite | by construction | inferred | 1 | 1 |",
    ]
    assert "\n".join(lines) in text
    page = (tmp_path / "site/index.html").read_text()
    assert "tested claims reproduced" not in page and "2 of 3 orders" in page
