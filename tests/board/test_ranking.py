"""Friedman and Nemenyi against closed forms and the table of Demsar (2006)."""

import json
from pathlib import Path

import pytest

from clgym.board.reading.found import load_runs
from clgym.board.summary.grid import grid_of
from clgym.board.summary.ranking import cliques, critical_difference, rank_grid
from clgym.board.summary.sides import compare_all
from clgym.errors import BadConfig, BadRecord
from clgym.results.compare import Comparison

# q_0.05 of Demsar's table 5a, by the number of methods.
QUANTILES = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 10: 3.164}
HITS = {
    "a": [70, 72, 68, 71, 69, 73],
    "b": [60, 75, 61, 62, 70, 63],
    "c": [10, 12, 11, 13, 9, 14],
}


def write_all(write_run, folder: Path, hits=None, scenario="split-toy", seeds=None) -> Path:
    for name, counts in (hits or HITS).items():
        for seed, count in zip(seeds or range(9), counts, strict=False):
            write_run(
                folder / name / f"seed-{seed}",
                ((90, None), (count, 80)),
                (100, 100),
                strategy=name,
                seed=seed,
                scenario=scenario,
            )
    return folder


@pytest.mark.parametrize("methods", QUANTILES)
def test_the_critical_difference_is_that_of_the_table(methods):
    expected = QUANTILES[methods] * (methods * (methods + 1) / (6 * 14)) ** 0.5
    assert critical_difference(methods, 14) == pytest.approx(expected, abs=2e-3)


def test_ranks_and_statistic_follow_the_formulas(write_run, tmp_path):
    found = rank_grid(grid_of(load_runs([write_all(write_run, tmp_path)])))
    assert found.methods == ("a", "b", "c")
    assert found.mean_ranks == pytest.approx([8 / 6, 10 / 6, 3.0])  # b is first in two of six
    n, k = 6, 3
    squares = sum(rank**2 for rank in found.mean_ranks)
    expected = 12 * n / (k * (k + 1)) * (squares - k * (k + 1) ** 2 / 4)
    assert found.statistic == pytest.approx(expected)
    assert found.p == pytest.approx(2.718281828459045 ** (-expected / 2))  # chi-squared, 2 degrees
    assert found.blocks[0] == "seed 0" and len(found.blocks) == 6
    assert found.critical_difference == pytest.approx(QUANTILES[3] * (12 / 36) ** 0.5, abs=1e-3)
    assert found.groups == (("a", "b"), ("b", "c"))
    assert {(p.a, p.b): p.p < 0.05 for p in found.pairs} == {
        ("a", "b"): False,
        ("a", "c"): True,
        ("b", "c"): False,
    }


def test_the_p_value_of_a_pair_at_the_critical_difference_is_the_level(write_run, tmp_path):
    found = rank_grid(grid_of(load_runs([write_all(write_run, tmp_path)])))
    for pair in found.pairs:
        assert (abs(pair.difference) >= found.critical_difference) == (pair.p <= 0.05)


def test_ties_share_their_rank_and_equal_methods_do_not_differ(write_run, tmp_path):
    equal = {name: [50, 60, 70] for name in "abc"}
    found = rank_grid(grid_of(load_runs([write_all(write_run, tmp_path, equal)])))
    assert found.mean_ranks == (2.0, 2.0, 2.0)
    assert (found.statistic, found.p) == (0.0, 1.0)
    assert found.groups == (("a", "b", "c"),)
    assert any("only 3 blocks" in note for note in found.notes)


def test_several_streams_are_the_blocks(write_run, tmp_path):
    for scenario in ("split-x", "split-y"):
        write_all(write_run, tmp_path / scenario, scenario=scenario)
    found = rank_grid(grid_of(load_runs([tmp_path])))
    assert found.blocks == ("split-x", "split-y")
    assert found.means[0] == pytest.approx((sum(HITS["a"]) / 6 + 80) / 200)


def test_seeds_that_some_method_lacks_are_left_out_and_named(write_run, tmp_path):
    hits = {**HITS, "c": HITS["c"][:3]}
    found = rank_grid(grid_of(load_runs([write_all(write_run, tmp_path, hits)])))
    assert len(found.blocks) == 3
    assert any("seed 3; seed 4; seed 5" in note for note in found.notes)


def test_lower_forgetting_is_better(write_run, tmp_path):
    found = compare_all([write_all(write_run, tmp_path)], "forgetting")
    assert not isinstance(found, Comparison) and found.methods == ("a", "b", "c")


def test_groups_are_the_largest_ones():
    assert cliques([1.0, 1.5, 2.0, 4.0], 1.1) == [(0, 2)]
    assert cliques([1.0, 2.0, 3.0, 4.0], 1.5) == [(0, 1), (1, 2), (2, 3)]
    assert cliques([1.0, 3.0], 1.5) == []


def test_two_sides_are_compared_in_pairs(write_run, tmp_path):
    write_all(write_run, tmp_path, {name: HITS[name] for name in "ab"})
    found = compare_all([tmp_path])
    assert isinstance(found, Comparison) and (found.a, found.b) == ("a", "b")
    assert found == compare_all([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(BadConfig, match="for two sides"):
        compare_all([tmp_path], "last")


def test_sides_that_cannot_be_ranked_are_refused(write_run, tmp_path):
    with pytest.raises(BadRecord, match="two sides or more"):
        compare_all([write_all(write_run, tmp_path / "one", {"a": [1, 2]})])
    for number, name in enumerate("abc"):
        write_all(write_run, tmp_path / "apart", {name: [50, 60]}, seeds=(number, number + 5))
    with pytest.raises(BadRecord, match="0 common blocks"):
        compare_all([tmp_path / "apart"])


def test_the_command_shows_ranks_and_draws_them(cli, write_run, tmp_path):
    write_all(write_run, tmp_path / "runs")
    code, out, err = cli("compare", tmp_path / "runs", "--plot", tmp_path / "cd.svg")
    assert code == 0, err
    assert "Friedman" in out and "Nemenyi" in out
    assert "not significantly different: a, b" in out
    assert (tmp_path / "cd.svg").read_text().count("<path") > 3
    code, out, _ = cli("compare", *(tmp_path / "runs" / n for n in "abc"), "--json")
    assert json.loads(out)["methods"] == ["a", "b", "c"]
    code, _, err = cli(
        "compare", tmp_path / "runs/a", tmp_path / "runs/b", "--plot", tmp_path / "x.svg"
    )
    assert code == 2 and "three sides or more" in err


def test_sides_without_a_common_stream_are_refused_by_name(write_run, tmp_path):
    names = ("toys", "bricks", "dolls")
    folders = [write_run(tmp_path / name, source=name, strategy=name) for name in names]
    with pytest.raises(BadRecord, match="0 common blocks"):
        compare_all(folders)
