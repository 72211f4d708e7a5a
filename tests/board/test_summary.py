"""The table of a paper: means, spreads and marks against SciPy; LaTeX read by a small parser."""

import csv
import io
import re
import statistics
from pathlib import Path
from xml.etree import ElementTree

import pytest
from scipy import stats

from clgym.board.reading.found import load_checked_runs, load_runs
from clgym.board.summary.grid import grid_of
from clgym.board.summary.sides import compare_all
from clgym.board.summary.table import summarize
from clgym.errors import BadConfig, BadRecord, UnknownName
from clgym.results.holm import holm

NASTY = r"a_b & 50% {x} \end{table} $y$ #1 ~^ <script>"


def write_methods(write_run, folder: Path, hits: dict[str, list[int]], **facts) -> Path:
    """One run a seed: of 100 + 100 test images that many are right at the end."""
    for name, counts in hits.items():
        for seed, count in enumerate(counts):
            write_run(
                folder / f"{len(name)}-{name[:6].strip()}" / f"seed-{seed}",
                ((90, None), (count, 80)),
                (100, 100),
                strategy=name,
                seed=seed,
                **facts,
            )
    return folder


HITS = {
    "best": [60, 62, 64, 66, 68],
    "near": [62, 59, 66, 61, 70],
    "far": [20, 25, 22, 27, 21],
}


def last(count: int) -> float:
    return (count + 80) / 200


def test_means_spreads_and_marks(write_run, tmp_path):
    table = summarize(load_runs([write_methods(write_run, tmp_path / "a", HITS)]))
    values = {name: [last(c) for c in counts] for name, counts in HITS.items()}
    p = {
        n: stats.ttest_rel(values["best"], values[n]).pvalue  # type: ignore[attr-defined]
        for n in ("near", "far")
    }
    assert p["far"] * 2 < 0.05 < p["near"]  # Holm with two tests
    standing = {n: table.cells[n, "split-toy", "last"].standing for n in HITS}
    assert standing == {"best": "best", "near": "tied", "far": "worse"}
    for name in HITS:
        cell = table.cells[name, "split-toy", "last"]
        assert cell.n == 5
        assert cell.mean == pytest.approx(statistics.mean(values[name]))
        assert cell.spread == pytest.approx(statistics.stdev(values[name]))


def test_the_interval_is_that_of_student(write_run, tmp_path):
    write_methods(write_run, tmp_path / "a", HITS)
    cell = summarize(load_runs([tmp_path / "a"]), spread="ci95").cells["far", "split-toy", "last"]
    values = [last(c) for c in HITS["far"]]
    low, high = stats.t.interval(0.95, 4, loc=statistics.mean(values), scale=stats.sem(values))
    assert cell.spread == pytest.approx((high - low) / 2)


def test_lower_forgetting_is_better(write_run, tmp_path):
    table = summarize(load_runs([write_methods(write_run, tmp_path / "a", HITS)]))
    forgetting = {n: table.cells[n, "split-toy", "forgetting"] for n in HITS}
    assert forgetting["far"].mean > forgetting["best"].mean
    assert forgetting["best"].standing == "best"


def test_holm_adjusts_step_by_step():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_method_without_common_seeds_is_not_tested(write_run, tmp_path):
    write_methods(write_run, tmp_path / "a", {"best": [60, 62, 64]})
    write_run(tmp_path / "b", ((90, None), (10, 80)), (100, 100), strategy="single", seed=7)
    table = summarize(load_runs([tmp_path]))
    cell = table.cells["single", "split-toy", "last"]
    assert (cell.standing, cell.spread, cell.n) == ("untested", None, 1)
    assert any("single" in note and "seeds are common" in note for note in table.notes)
    assert "n in each cell" in table.caption
    assert "(n=1)" in table.render("markdown") and "(n=3)" in table.render("latex")


def test_a_constant_difference_is_a_significant_one(write_run, tmp_path):
    write_methods(write_run, tmp_path / "a", {"high": [60, 60], "low": [50, 50]})
    cells = summarize(load_runs([tmp_path])).cells
    assert cells["low", "split-toy", "last"].standing == "worse"


def test_options_that_differ_name_the_rows(write_run, tmp_path):
    for rate in (0.1, 0.2):
        write_run(tmp_path / str(rate), config={"lr": rate, "same": 1})
    grid = grid_of(load_runs([tmp_path]))
    assert grid.methods == ("toy (lr 0.1)", "toy (lr 0.2)")


def test_options_that_differ_between_streams_alone_are_one_row(write_run, tmp_path):
    for number, name in enumerate(("split-a", "split-b")):
        write_run(tmp_path / name, scenario=name, config={"memory_size": number})
    grid = grid_of(load_runs([tmp_path]))
    assert (grid.methods, grid.streams) == (("toy",), ("split-a", "split-b"))


def test_streams_of_one_name_are_distinguished(write_run, tmp_path):
    for name in ("toys", "bricks"):
        write_run(tmp_path / name, source=name)
    streams = grid_of(load_runs([tmp_path])).streams
    assert len(set(streams)) == 2 and any("bricks" in stream for stream in streams)


def test_a_record_that_contradicts_itself_is_refused(write_run, edit, tmp_path):
    folder = write_run(tmp_path / "a")
    edit(folder / "record.json", lambda r: r["result"].update(last_accuracy=0.99))
    write_run(tmp_path / "b", config={"lr": 7.0})
    others = [write_run(tmp_path / name, config={"lr": lr}) for lr, name in enumerate("cd")]
    both = [tmp_path / "a", tmp_path / "b"]
    for use in (
        lambda: summarize(load_runs([tmp_path])),
        lambda: compare_all(both),
        lambda: compare_all([*both, *others]),
        lambda: load_checked_runs([tmp_path]),
    ):
        with pytest.raises(BadRecord, match="last_accuracy"):
            use()


def test_measures_that_no_record_has_are_refused(write_run, tmp_path):
    write_run(tmp_path / "a")
    with pytest.raises(BadConfig, match="none of 1 records"):
        summarize(load_runs([tmp_path]), measures=["error"])
    with pytest.raises(UnknownName, match="Did you mean 'last'"):
        summarize(load_runs([tmp_path]), measures=["lst"])


def test_rows_and_columns_change_places(write_run, tmp_path):
    write_methods(write_run, tmp_path / "a", HITS)
    one, other = (summarize(load_runs([tmp_path]), rows=rows) for rows in ("strategy", "scenario"))
    assert (one.rows, one.columns) == (other.columns, other.rows)
    assert one.cells["far", "split-toy", "last"] == other.cells["split-toy", "far", "last"]


# --- formats -------------------------------------------------------------------------------------

COMMANDS = {
    "usepackage", "begin", "end", "centering", "caption", "toprule", "midrule", "bottomrule",
    "cmidrule", "multicolumn", "textbf", "underline", "pm", "par", "footnotesize",
    "textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar",
}  # fmt: skip


def parse_latex(text: str) -> list[list[str]]:
    """Cells of each line of the table; fails on what LaTeX would stop at."""
    lines = [re.sub(r"(?<!\\)%.*", "", line) for line in text.splitlines()]
    source = "\n".join(lines)
    assert set(re.findall(r"\\([A-Za-z]+)", source)) <= COMMANDS
    open_environments: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", source):
        if kind == "begin":
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert not open_environments
    bare = re.sub(r"\\[\\{}$&%#_]", "", source)
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0
    assert not set("#_^~<>|") & set(bare)
    width = re.search(r"\\begin\{tabular\}\{([lrc]+)\}", source)
    assert width
    rows = [line[:-2] for line in lines if line.endswith(r"\\")]
    cells = [re.split(r"(?<!\\)&", row) for row in rows]
    for row in cells:
        spans = [re.match(r"\s*\\multicolumn\{(\d+)\}", cell) for cell in row]
        assert sum(int(span[1]) if span else 1 for span in spans) == len(width[1])
    return [[cell.strip() for cell in row] for row in cells]


def test_latex_can_be_compiled(write_run, tmp_path):
    write_methods(write_run, tmp_path / "a", {**HITS, NASTY: [30, 31, 32, 33, 34]})
    write_methods(write_run, tmp_path / "b", HITS, scenario="split_other")
    text = summarize(load_runs([tmp_path])).render("latex")
    head, titles, *rows = parse_latex(text)
    assert head[1:] == [r"\multicolumn{3}{c}{split-toy}", r"\multicolumn{3}{c}{split\_other}"]
    assert titles[0] == "Strategy" and len(titles) == 7
    found = {row[0]: row[1:] for row in rows}
    assert found["best"][0] == r"\textbf{72.00 $\pm$ 1.58}"
    assert found["near"][0].startswith(r"\underline{71.80")
    nasty = next(name for name in found if "script" in name)
    assert found[nasty][3:] == ["--"] * 3
    assert r"\end{table}" not in nasty


def test_names_are_shown_and_never_obeyed(write_run, tmp_path):
    write_methods(write_run, tmp_path / "a", {NASTY: [30, 31]})
    table = summarize(load_runs([tmp_path]))
    page = table.render("html")
    assert "<script>" not in page
    tree = ElementTree.fromstring(f"<div>{page}</div>")
    assert NASTY in "".join(tree.itertext())
    row = next(line for line in table.render("markdown").splitlines() if "script" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == 5 and r"\<script\>" in row


def test_csv_has_every_digit(write_run, tmp_path):
    write_methods(write_run, tmp_path / "a", HITS)
    table = summarize(load_runs([tmp_path]))
    rows = list(csv.DictReader(io.StringIO(table.render("csv"))))
    cells = {(r["strategy"], r["scenario"], r["measure"]): r for r in rows}
    assert len(rows) == 9
    for key, cell in table.cells.items():
        assert float(cells[key]["mean"]) == cell.mean and cells[key]["standing"] == cell.standing


def test_negative_numbers_have_a_minus_sign_in_latex(write_run, tmp_path):
    write_methods(write_run, tmp_path / "a", {"far": [20, 30]})
    text = summarize(load_runs([tmp_path]), measures=["backward"]).render("latex")
    assert parse_latex(text)[1][1].startswith("$-$65.00")


def test_the_command_prints_every_format(cli, write_run, tmp_path):
    write_methods(write_run, tmp_path / "a", HITS)
    code, out, _ = cli("table", tmp_path)
    assert code == 0 and "72.00 ± 1.58" in out and "Holm" in out.replace("\n", "")
    for kind in ("markdown", "latex", "csv", "html"):
        code, out, _ = cli("table", tmp_path, "--format", kind, "--measure", "last")
        assert code == 0 and "near" in out
    code, out, _ = cli("table", tmp_path, "--columns", "strategy", "--format", "csv")
    assert out.startswith("scenario,strategy,")
    code, _, err = cli("table", tmp_path, "--rows", "strategy", "--columns", "strategy")
    assert code == 2 and "rows and columns that differ" in err
    code, _, err = cli("table", tmp_path / "nothing")
    assert code == 2 and "cannot use the record" in err
