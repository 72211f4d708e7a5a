"""``clgym run``: what it prints, what it passes on, what it leaves."""

import json
from pathlib import Path

import pytest

from clgym.cli.run import own_reference
from clgym.gym.description import describe_strategy
from clgym.results.record import Record
from clgym.results.stored import open_run
from factories import copy_plugin

NMC = ("run", "nmc", "split-digits")


def test_json_is_the_record_alone(cli, here):
    code, out, _ = cli(*NMC, "--json", "--out", here / "run")
    assert code == 0
    assert Record.model_validate_json(out) == open_run(here / "run").record


def test_tables_say_what_the_record_says(cli, here):
    code, out, err = cli(*NMC, "--out", here / "run")
    result = open_run(here / "run").result
    assert code == 0
    assert f"last accuracy                 {100 * result.last_accuracy:.2f} %" in out
    assert f"{100 * (result.average_incremental_accuracy or 0):.2f} %" in out
    for row in result.accuracy_matrix:
        for value in row:
            assert value is None or f"{100 * value:.2f}" in out
    assert f"record: {here}/run/record.json" in out
    assert max(len(line) for line in out.splitlines() if str(here) not in line) <= 80
    lines = err.splitlines()
    assert [line for line in lines if line.startswith("experience 5/5: accuracy")]
    assert "Traceback" not in err


def test_the_same_command_shows_a_finished_run_again(cli, here):
    first = cli(*NMC, "--json", "--out", here / "run")[1]
    code, second, err = cli(*NMC, "--json", "--out", here / "run")
    assert (code, second) == (0, first)
    assert "already finished" in err


@pytest.mark.slow
def test_seeds_give_a_list_and_a_folder_each(cli, here):
    code, out, _ = cli(*NMC, "--seeds", "1..2", "--json", "--out", here / "runs")
    assert code == 0
    assert [record["result"]["seed"] for record in json.loads(out)] == [1, 2]
    assert sorted(path.name for path in (here / "runs").iterdir()) == ["seed-1", "seed-2"]
    code, out, _ = cli(*NMC, "--seeds", "1..2", "--out", here / "runs")
    assert "mean" in out
    assert "std" in out
    assert f"{here}/runs/seed-2/record.json" in out


def test_dry_run_shows_the_plan_and_writes_nothing(cli, here):
    code, out, _ = cli(*NMC, "--dry-run", "--increments", "5")
    assert code == 0
    assert "increments 5" in out
    code, out, _ = cli(*NMC, "--dry-run", "--json", "--seed", "4", "--increments", "4", "6")
    plan = json.loads(out)
    assert [step["classes"] for step in plan["experiences"]] == [4, 6]
    assert plan["seed"] == 4
    assert not list(here.iterdir())


def test_dry_run_refuses_a_folder_that_the_run_would_refuse(cli, here):
    (here / "taken").mkdir()
    (here / "taken" / "record.json").write_text("{}")
    code, out, err = cli(*NMC, "--dry-run", "--out", "taken")
    assert code == 2 and not out
    assert "expected taken to be an empty folder; found another run's record.json" in err
    (here / "free").mkdir()
    assert cli(*NMC, "--dry-run", "--out", "free")[0] == 0
    assert not list((here / "free").iterdir())


def test_a_scenario_option_that_the_strategy_ignores_is_reported(cli, here):
    _, _, err = cli(*NMC, "--dry-run", "--network", "resnet18")
    assert "note: nmc has no option network; that of split-digits changes nothing" in err
    for words in (NMC, ("run", "naive", "split-digits", "--network", "resnet18")):
        code, _, err = cli(*words, "--dry-run")
        assert code == 0 and "note" not in err


def test_defaults_give_way_to_preset_file_and_flags_in_this_order(cli, here):
    dry = ("run", "replay", "split-digits", "--dry-run", "--json")

    def config(*words: str) -> dict:
        return json.loads(cli(*dry, *words)[1])["strategy"]["config"]

    assert config()["memory_size"] == 100  # the preset's; the strategy's own default is 200
    Path("a.toml").write_text("[strategy]\nmemory-size = 50\nlr = 0.5\n[scenario]\nfirst = 4\n")
    Path("a.json").write_text('{"strategy": {"memory_size": 60}}')
    assert config("--config", "a.toml")["memory_size"] == 50
    assert config("--config", "a.json")["memory_size"] == 60
    both = config("--config", "a.toml", "--memory-size", "40")
    assert (both["memory_size"], both["lr"]) == (40, 0.5)
    assert config("--scenario.memory-size", "30")["memory_size"] == 30
    plan = json.loads(cli(*dry, "--config", "a.toml")[1])
    assert [step["classes"] for step in plan["experiences"]] == [4, 2, 2, 2]


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ([], "fast", False),
        (["--fast"], "fast", True),
        (["--fast", "false"], "fast", False),
        (["--widths", "2", "3"], "widths", [2, 3]),
        (["--widths", "2,3,4"], "widths", [2, 3, 4]),
        (["--share", "0.5"], "share", 0.5),
        (["--share", "none"], "share", None),
        (["--kind=plain"], "kind", "plain"),
        (["--seed", "9"], "seed", 3),
        (["--strategy.seed", "9"], "seed", 9),
    ],
    ids=str,
)
def test_flags_reach_a_plugin_in_its_types(cli, plugin, words, name, value):
    dry = ("run", "guess", "split-digits", "--plugin", plugin, "--dry-run", "--json")
    code, out, err = cli(*dry, *words)
    assert code == 0, err
    assert json.loads(out)["strategy"]["config"][name] == value


def test_options_of_a_wrapped_strategy_are_flags_too(cli, tmp_path):
    plugin = copy_plugin("over", tmp_path)
    dry = ("run", "over", "split-digits", "--plugin", plugin, "--dry-run", "--json")
    plain = json.loads(cli(*dry, "--base.batch-size", "7")[1])["strategy"]["config"]
    assert (plain["base"], plain["base.batch_size"]) == ("nmc", 7)
    words = ("--base", "replay", "--base.lr", "0.5", "--base.memory-size=30")
    other = json.loads(cli(*dry, *words)[1])["strategy"]["config"]
    assert (other["base"], other["base.lr"], other["base.memory_size"]) == ("replay", 0.5, 30)
    assert "--base.batch-size" in cli(*dry, "--base.batch-sze", "7")[2]


def test_help_of_a_pairing_lists_both_with_ranges_and_defaults(cli, plugin):
    code, out, _ = cli("run", "guess", "split-digits", "--plugin", plugin, "--help")
    text = " ".join(out.split())
    assert code == 0
    assert "--share X Fewer than 100 % of the rows. (at least 0 and at most 1, or none;" in text
    assert "--kind {plain,odd} A choice. (default: plain)" in text
    assert "--widths N [N ...] A list. (at least 1; default: 8 4)" in text
    assert "--strategy.seed N A name that the run has too. (default: 3)" in text
    assert "--increments" in text
    assert "usage: clgym run guess split-digits [options]" in text
    assert max(len(line) for line in out.splitlines()) <= 80


def test_help_of_a_preset_shows_its_values(cli):
    out = " ".join(cli("run", "replay", "split-cifar100", "--help")[1].split())
    assert (
        "--increments N [N ...] Classes per experience: one number for all, or a list that" in out
    )
    assert "default: resnet18, from the scenario)" in out
    assert "default: 10)" in out


def test_interruption_says_how_to_go_on(cli, monkeypatch):
    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("clgym.gym.run.run", stop)
    code, out, err = cli(*NMC)
    assert (code, out) == (130, "")
    assert "the same command continues" in err
    assert err.count("\n") == 1


def test_known_failures_reach_record_and_reader(cli, here, tmp_path):
    plugin, over = copy_plugin("admits", tmp_path), copy_plugin("over", tmp_path)
    files = ("--plugin", plugin, "--plugin", over)
    expected = {"past-data": "sums of [old] rows", "resume": "never tried"}
    line = "known failures: past-data (sums of [old] rows); resume (never tried)"

    out = cli("run", "admits", "split-digits", *files, "--out", here / "run")[1]
    assert line in out.splitlines()
    record = json.loads((here / "run" / "record.json").read_text())
    assert record["result"]["strategy"]["known_failures"] == expected
    assert line in " ".join(cli("show", "admits", *files)[1].split())
    # A wrapper answers for what it stands on, not for what it could stand on.
    wrapped = {f"base.{check}": reason for check, reason in expected.items()}
    paths = (plugin, over)
    assert describe_strategy("over", paths, {"base": "admits"}).known_failures == wrapped
    assert describe_strategy("over", paths).known_failures == {}


def test_a_strategy_without_known_failures_says_nothing_of_them(cli, here):
    out = cli(*NMC, "--out", here / "run")[1]
    assert "known failures" not in out
    record = json.loads((here / "run" / "record.json").read_text())
    assert record["result"]["strategy"]["known_failures"] == {}


def test_each_seed_has_the_reference_of_that_seed(tmp_path: Path) -> None:
    (tmp_path / "several/seed-1").mkdir(parents=True)
    (tmp_path / "single").mkdir()
    assert own_reference(tmp_path / "several", 1) == tmp_path / "several/seed-1"
    assert own_reference(tmp_path / "single", 1) == tmp_path / "single"
    assert own_reference(None, 1) is None
