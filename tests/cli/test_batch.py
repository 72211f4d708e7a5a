"""Several strategies, paired orders, parallel runs, and lists of runs in a file."""

import json
import os
from pathlib import Path

import pytest

import clgym
from clgym.cli._batch import paired
from clgym.gym.plan import resolve
from clgym.gym.request import Request
from factories import copy_plugin


def outcome(folder: Path) -> dict:
    result = json.loads((folder / "record.json").read_text())["result"]
    return {key: result[key] for key in ("seed", "order_seed", "class_order", "accuracy_matrix")}


@pytest.mark.slow
def test_several_strategies_with_paired_orders_in_parallel(cli, here, tmp_path):
    means = copy_plugin("means", tmp_path)
    words = (
        "run",
        "nmc",
        means,
        "split-digits",
        "--seeds",
        "0,1",
        "--order-seeds",
        "5,7",
        "--workers",
        "2",
        "--out",
        "out",
    )
    code, out, err = cli(*words)
    assert code == 0, err
    assert "nmc, seed 2 of 2" in err and "Last accuracy" in out and "records: out/means" in out
    folders = sorted(p.parent for p in Path("out").rglob("record.json"))
    assert list(map(str, folders)) == [
        f"out/{name}/seed-{seed}" for name in ("means", "nmc") for seed in (0, 1)
    ]
    # The same runs one by one give the same results.
    alone = clgym.run("nmc", "split-digits", seed=1, order_seed=7, threads=1, out=here / "alone")
    assert outcome(Path("out/nmc/seed-1")) == outcome(here / "alone")
    assert alone.result.order_seed == 7
    written = {p: p.stat().st_mtime_ns for p in Path("out").rglob("record.json")}
    code, _, err = cli(*words)
    assert code == 0 and "4 of 4 runs were already finished" in err
    assert written == {p: p.stat().st_mtime_ns for p in written}


@pytest.mark.slow
def test_a_dry_run_lists_the_runs_and_writes_nothing(cli, here):
    code, out, _ = cli(
        "run",
        "nmc",
        "naive",
        "split-digits",
        "--seeds",
        "0,1",
        "--order-seeds",
        "3,4",
        "--dry-run",
        "--json",
    )
    rows = json.loads(out)
    assert code == 0
    assert [(r["strategy"], r["seed"], r["order_seed"], r["finished"]) for r in rows] == [
        (name, seed, seed + 3, False) for name in ("nmc", "naive") for seed in (0, 1)
    ]
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--memory-size", "5"), ["--memory-size, which naive does not have"]),
        (("--lr", "0.1", "--workers", "2"), ["--lr, which nmc does not have"]),
        (("--seeds", "0..2", "--order-seeds", "0,1"), ["3 seeds and 2 order seeds"]),
        (("--order-seeds", "0,1"), ["--order-seeds with --seeds"]),
        (("--seeds", "0,1", "--log", "csv"), ["one strategy", "--log csv"]),
        (("--seeds", "0,1", "--workers", "0"), ["at least one worker"]),
        (("--workers", "2", "--workers-per-device", "2"), ["without --workers; found --workers 2"]),
        (("--workers-per-device", "0"), ["--workers-per-device of at least 1"]),
    ],
)
def test_mistakes_are_named_before_anything_runs(cli, here, words, parts):
    code, _, err = cli("run", "naive", "nmc", "split-digits", *words)
    assert code == 2, err
    for part in parts:
        assert part in err
    assert not list(here.iterdir())


def test_a_strategy_that_is_named_twice_is_refused(cli):
    code, _, err = cli("run", "nmc", "nmc", "split-digits", "--seeds", "0,1")
    assert code == 2 and "each strategy once" in err and "--experiment" in err


def test_orders_go_with_seeds_in_their_order():
    assert paired([3, 1], [7, 9]) == [(3, 7), (1, 9)]
    assert paired([3, 1], None) == [(3, None), (1, None)]


def test_runs_after_each_other_are_counted(cli):
    code, _, err = cli("run", "nmc", "split-digits", "--seeds", "4,9", "--out", "out")
    assert code == 0 and "seed 1 of 2" in err and "seed 2 of 2" in err


@pytest.mark.slow
def test_a_run_that_fails_ends_no_other(cli, tmp_path):
    plugin = copy_plugin("fails", tmp_path, FLAG=tmp_path / "flag")
    (tmp_path / "flag").touch()
    code, _, err = cli("run", plugin, "nmc", "split-digits", "--workers", "1", "--out", "out")
    assert code == 1 and "failed" in err
    assert Path("out/nmc/seed-0/record.json").is_file()


# --- lists of runs -------------------------------------------------------------------------------

EXPERIMENT = """
[defaults]
scenario = "split-digits"
seeds = "0..1"

[[runs]]
strategy = "nmc"

[[runs]]
name = "small-batches"
strategy = "nmc"
seeds = [3]
order_seeds = [8]
options = { batch-size = 7 }
"""


@pytest.mark.slow
def test_a_list_of_runs_from_a_file(cli, here):
    Path("exp.toml").write_text(EXPERIMENT)
    code, out, err = cli("run", "--experiment", "exp.toml", "--workers", "2")
    assert code == 0, err
    found = sorted(str(p.parent) for p in Path("runs").rglob("record.json"))
    assert found == ["runs/exp/nmc/seed-0", "runs/exp/nmc/seed-1", "runs/exp/small-batches/seed-3"]
    record = json.loads(Path("runs/exp/small-batches/seed-3/record.json").read_text())
    assert record["result"]["strategy"]["config"]["batch_size"] == 7
    assert record["result"]["order_seed"] == 8
    code, out, err = cli("run", "--experiment=exp.toml", "--workers", "2", "--json")
    assert code == 0 and "3 of 3 runs were already finished" in err, err
    assert len(json.loads(out)) == 3


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (("strategy", "stratgy"), ["'stratgy'", "Did you mean 'strategy'"]),
        (('scenario = "split-digits"', ""), ["a scenario for run 1"]),
        (('name = "small-batches"', ""), ["a different name for each run", "'nmc'"]),
        (('name = "small-batches"', 'name = "../x"'), ["a different name for each run"]),
        (('"0..1"', "true"), ["text or list or number for seeds", "bool"]),
        (('"0..1"', '"1..0"'), ["names no seeds"]),
        (("[8]", "[8, 9]"), ["1 seeds and 2 order seeds"]),
        (("batch-size", "bathc-size"), ["bathc_size"]),
        (("[[runs]]", "[[rnus]]"), ["'rnus'", "Did you mean 'runs'"]),
        (("[[runs]]", "[runs"), ["a TOML file"]),
    ],
)
def test_files_with_mistakes_are_refused(cli, here, change, parts):
    Path("exp.toml").write_text(EXPERIMENT.replace(*change))
    code, _, err = cli("run", "--experiment", "exp.toml")
    assert code == 2, err
    for part in parts:
        assert part in err
    assert [p.name for p in here.iterdir()] == ["exp.toml"]


def test_the_help_shows_an_example(cli):
    code, out, _ = cli("run", "--experiment", "--help")
    assert code == 0 and "[[runs]]" in out and "--workers" in out


# --- threads -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "asked", "expected"),
    [("3", None, 3), ("3,2", None, 3), ("3", 2, 2), ("none", None, len(os.sched_getaffinity(0)))],
)
def test_threads_follow_the_environment_where_none_are_asked_for(
    monkeypatch, environment, asked, expected
):
    monkeypatch.setenv("OMP_NUM_THREADS", environment)
    assert resolve(Request("nmc", "split-digits", threads=asked)).threads == expected
