"""`clgym plot`: what it draws of which records, and what it refuses."""

import shutil

import numpy as np
import pytest

from clgym.board.figures.plots import KINDS, confusions, draw, mean_matrix, wrong
from clgym.board.reading.found import arranged, load_runs
from clgym.errors import BadConfig, BadRecord, UnknownName


def test_figures_available_for_runs_of_two_methods(cli, runs, tmp_path):
    code, out, _ = cli("plot", runs / "nmc", runs / "means", "--out", tmp_path / "figures")
    lines = out.splitlines()
    assert code == 0
    assert {
        f"{tmp_path}/figures/accuracy-matrix-nmc.svg: accuracy matrix of nmc, mean of 2 runs",
        f"{tmp_path}/figures/accuracy-matrix-means.svg: accuracy matrix of means",
        f"{tmp_path}/figures/anytime.svg: accuracy after each experience of split-digits",
    } <= set(lines)
    files = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert files == sorted(line.partition(": ")[0].rpartition("/")[2] for line in lines)
    assert {name.split(".")[0] for name in files} == {
        "accuracy-matrix-nmc",
        "accuracy-matrix-means",
        "task-accuracy-nmc",
        "task-accuracy-means",
        "confusion-matrix-nmc",
        "confusion-matrix-means",
        "last-accuracy",
        "anytime",
        "forgetting",
        "accuracy-against-cost",
    }


def test_only_the_requested_figure_is_drawn_with_equal_bytes(cli, runs, tmp_path):
    words = ("plot", runs / "means", "--kind", "anytime", "--format", "pdf", "--out")
    for out in ("one", "two"):
        assert cli(*words, tmp_path / out)[0] == 0
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["anytime.pdf"]
    first = (tmp_path / "one/anytime.pdf").read_bytes()
    assert first == (tmp_path / "two/anytime.pdf").read_bytes()


@pytest.mark.parametrize(
    ("words", "problem", "parts"),
    [
        (
            ("nmc", "--kind", "expected-best"),
            "cannot draw the figure",
            ["a sealed study", "1 method, 2 runs"],
        ),
        (("nmc", "--kind", "error-over-time"), "cannot draw the figure", ["an adaptation stream"]),
        (("nmc", "--kind", "anytmie"), "unknown name", ["Did you mean 'anytime'?"]),
        (("nmc", "nmc/seed-1"), "cannot use the record", ["two of nmc with seed 1"]),
        (("nothing",), "cannot use the record", ["nothing"]),
    ],
)
def test_plot_commands_that_cannot_be_drawn_are_refused(
    cli, runs, tmp_path, monkeypatch, words, problem, parts
):
    monkeypatch.chdir(runs)
    code, out, err = cli("plot", *words, "--out", tmp_path / "figures")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {problem}: expected ")
    assert all(part in err for part in parts), err
    assert not (tmp_path / "figures").exists()


def test_the_help_lists_every_kind_of_figure(capsys):
    from clgym.cli import plot

    assert all(f"\n  {kind} " in str(plot.__doc__) for kind in KINDS)


def test_a_matrix_is_the_mean_over_the_seeds(runs):
    (method,) = load_runs([runs / "nmc"])
    tables = [np.array(r.accuracy_matrix, dtype=float) for r in method.results]
    found = np.array(mean_matrix(method), dtype=float)
    assert np.allclose(found, (tables[0] + tables[1]) / 2, equal_nan=True)
    assert np.isnan(found[0, 1])


def test_one_strategy_with_other_options_is_another_method(runs, edit):
    shutil.copytree(runs / "means", runs / "other")
    edit(runs / "other", lambda r: r["result"]["strategy"]["config"].update(power=3.0))
    methods = load_runs([runs / "means", runs / "other", runs / "nmc"])
    assert [m.name for m in methods] == ["means (power 2.0)", "means (power 3.0)", "nmc"]


def test_other_images_are_another_figure(runs, edit):
    edit(runs / "means", lambda r: r["result"]["sources"][0].update(fingerprint="0" * 64))
    plots = draw(load_runs([runs / "means", runs / "nmc"]), ["anytime"])
    assert len(plots) == 2  # the same name of the stream, and yet not the same question
    assert plots[0].about != plots[1].about


def test_a_profile_needs_two_streams(runs, edit):
    for name in ("means", "nmc/seed-0"):
        shutil.copytree(runs / name, runs / f"second-{name[0]}")
        edit(runs / f"second-{name[0]}", lambda r: r["result"]["scenario"].update(name="other"))
    places = [runs / name for name in ("means", "nmc", "second-m", "second-n")]
    (plot,) = draw(load_runs(places), ["performance-profile"])
    assert plot.words == "performance profile over 2 streams"
    assert len(plot.draw().axes[0].lines) == 2


def test_error_over_time_of_an_adaptation_stream(adapting, by_class):
    methods = load_runs([adapting])
    flags = [answer for segment in wrong(methods[0]) for answer in segment]
    pooled = methods[0].results[0].adaptation
    assert pooled is not None
    assert np.mean(flags) == pytest.approx(pooled.pooled_error)
    (plot,) = draw(methods, ["error-over-time"])
    assert [tick.get_text() for tick in plot.draw().axes[0].get_xticklabels()] == [
        "fog-5",
        "snow-5",
    ]


def test_changed_predictions_are_not_drawn(adapting):
    file = adapting / "predictions.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(BadRecord, match="other content"):
        draw(load_runs([adapting]), ["error-over-time"])[0].draw()


@pytest.mark.slow
def test_figures_available_for_studies(study, runs, tmp_path):
    other = shutil.copytree(study, tmp_path / "again")
    plots = {plot.kind: plot for plot in draw(load_runs([study, other]))}
    assert {"rank-shift", "expected-best", "accuracy-against-cost"} <= set(plots)
    (method,) = load_runs([study])
    assert method.study is not None
    axes = plots["expected-best"].draw().axes[0]
    worse, better = sorted(score for score in method.study.trials if score is not None)
    curve = np.asarray(axes.lines[0].get_ydata())
    assert curve.tolist() == pytest.approx(
        [100 * (worse + better) / 2, 100 * (worse + 3 * better) / 4]
    )
    cost = plots["accuracy-against-cost"].draw().axes[0]
    spent = method.study.tuning_seconds + method.runs[0].record.cost.wall_seconds
    assert any(np.asarray(line.get_xdata())[0] == pytest.approx(spent) for line in cost.lines)


def test_confusions_are_counted_over_seeds_by_the_names_of_the_classes(runs):
    from safetensors.numpy import load_file

    method = load_runs([runs / "nmc"])[0]
    counts, names = confusions(method)
    expected = {}
    for run in method.runs:
        arrays = load_file(run.folder / "predictions.safetensors")
        order = run.result.class_order
        last = len(run.result.accuracy_matrix) - 1
        for label, predicted in zip(
            arrays[f"{last}/label"], arrays[f"{last}/predicted"], strict=True
        ):
            key = order[label], order[predicted]
            expected[key] = expected.get(key, 0) + 1
    assert {
        (names[i], names[j]): int(counts[i, j]) for i, j in zip(*counts.nonzero(), strict=True)
    } == expected


def test_methods_are_renamed_and_ordered(cli, runs, tmp_path):
    methods = load_runs([runs / "nmc", runs / "means"])
    found = arranged(methods, {"means": "Mean images"}, ["Mean images"])
    assert [m.name for m in found] == ["Mean images", "nmc"]
    assert [m.name for m in arranged(methods, {}, ["means", "nmc"])] == ["means", "nmc"]
    with pytest.raises(UnknownName, match="'nmcc'.*Did you mean 'nmc'"):
        arranged(methods, {"nmcc": "x"}, [])
    with pytest.raises(BadConfig, match="different label"):
        arranged(methods, {"means": "nmc"}, [])
    words = ("plot", runs / "nmc", runs / "means", "--kind", "anytime", "--out", tmp_path)
    looks = ("--labels", "nmc=NMC", "--size", "single-column", "--format", "png")
    assert cli(*words, *looks)[0] == 0 and (tmp_path / "anytime.png").is_file()
    code, _, err = cli(*words, "--labels", "nmc")
    assert code == 2 and "NAME=LABEL" in err
