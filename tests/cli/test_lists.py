"""A list on the command line is the same in several words and in one with commas."""

import json

import pytest

from clgym.cli._parser import Parser
from clgym.cli._pools import add_pool_flags, pool_of
from clgym.cli._run_options import seeds_of


@pytest.mark.parametrize("seeds", [["0,3"], ["0", "3"], ["0,", "3"], ["--seeds=0,3"]])
def test_seeds_are_a_list_or_a_range(cli, seeds) -> None:
    option = seeds if seeds[0].startswith("--") else ["--seeds", *seeds]
    code, out, err = cli("run", "nmc", "split-digits", *option, "--dry-run", "--json")
    assert code == 0, err
    assert [plan["seed"] for plan in json.loads(out)] == [0, 3]


def test_ranges_and_numbers_may_stand_together() -> None:
    assert seeds_of(["0..2", "7"]) == [0, 1, 2, 7]


@pytest.mark.parametrize("words", [["0", "0"], ["4..1"], ["x"], ["-1"], ["0..2", "1"]])
def test_lists_without_seeds_are_refused(cli, words) -> None:
    code, _, err = cli("run", "nmc", "split-digits", f"--seeds={','.join(words)}", "--dry-run")
    assert code == 2 and "names no seeds" in err


@pytest.mark.parametrize("words", [["no-labels,same-seed"], ["no-labels", "same-seed"]])
def test_names_of_checks(cli, words) -> None:
    code, out, _ = cli("check", "nmc", "--only", *words)
    assert code == 0 and out.count("ok  ") == 2


@pytest.mark.parametrize("words", [["cuda:0,cuda:1"], ["cuda:0", "cuda:1"]])
def test_devices(words) -> None:
    parser = Parser("test", "")
    add_pool_flags(parser)
    pool = pool_of(parser.parse(["--devices", *words]))
    assert pool.devices == ("cuda:0", "cuda:1") and pool.workers == 2


def test_a_logger_that_nobody_knows_is_named(cli) -> None:
    code, _, err = cli("run", "nmc", "split-digits", "--log", "csv,paper", "--dry-run")
    assert code == 2 and "'paper' is none of csv" in err


@pytest.mark.parametrize("words", [["4,3,3"], ["4", "3", "3"]])
def test_options_of_a_scenario(cli, words) -> None:
    code, out, err = cli(
        "run", "nmc", "class-incremental", "--source", "digits", "--increments", *words,
        "--dry-run", "--json",
    )  # fmt: skip
    assert code == 0, err
    assert [e["classes"] for e in json.loads(out)["experiences"]] == [4, 3, 3]
