"""``--with``: wrappers around a strategy on the command line."""

import json

import pytest

from clgym.cli._chain import chained, short_options, spelled_out
from clgym.cli._parser import BadUsage

DRY = ("--dry-run", "--json")


def test_the_first_wrapper_is_the_outermost() -> None:
    chain = chained(["derpp", "split-digits"], ["--lr", "0.1", "--with", "ema,sam", "--seed", "3"])
    assert chain.names == ["ema", "split-digits"]
    assert chain.words == [
        *("--base", "sam", "--base.base", "derpp"),
        *("--lr", "0.1", "--seed", "3"),
    ]


def test_options_of_a_chain_have_short_names() -> None:
    chain = chained(["derpp", "split-digits"], ["--with=ema,sam"])
    assert chain.aliases("base.base.lr") == ["lr"]
    assert chain.aliases("base.rho") == ["sam.rho"]
    assert chain.aliases("decay") == ["ema.decay"]
    assert chain.aliases("base") == [] == chain.aliases("base.base.base.lr")


def test_without_the_option_nothing_changes() -> None:
    chain = chained(["derpp", "split-digits"], ["--lr", "0.1"])
    assert chain.names == ["derpp", "split-digits"] and chain.words == ["--lr", "0.1"]
    assert chain.aliases("lr") == []


@pytest.mark.parametrize("words", [["--with"], ["--with", "--lr", "1"], ["--with", "ema,ema"]])
def test_a_chain_names_each_wrapper_once(words: list[str]) -> None:
    with pytest.raises(BadUsage, match="each once"):
        chained(["derpp", "split-digits"], words)


@pytest.mark.slow
def test_a_chain_gives_the_record_of_strategies_nested_by_hand(cli, here) -> None:
    own = ("--threads", "1", "--json", "--out")
    short = ("--with", "ema,sam", "--ema.decay", "0.9", "--sam.rho", "0.1", "--lr", "0.05")
    nested = ("--base", "sam", "--base.base", "derpp", "--decay", "0.9", "--base.rho", "0.1")
    _, one, _ = cli("run", "derpp", "split-digits", *own, here / "a", *short)
    _, other, _ = cli(
        "run", "ema", "split-digits", *own, here / "b", *nested, "--base.base.lr", "0.05"
    )
    assert json.loads(one)["result"] == json.loads(other)["result"]
    code, table, _ = cli("run", "derpp", "split-digits", *own[:2], *own[3:], here / "a", *short)
    assert code == 0
    assert "derpp with ema, sam on split-digits" in table


def test_short_options_are_wrappers_outside_of_the_others() -> None:
    words = ["--schedule", "infinite", "--with", "ema", "--replay-rate=0.25", "--lr", "0.1"]
    assert short_options(words) == ["schedule", "replay_rate"]
    assert spelled_out(words, ()) == [
        *("--with", "lr-schedule,rate-replay,ema"),
        *("--lr-schedule.kind", "infinite", "--rate-replay.rate", "0.25", "--lr", "0.1"),
    ]
    assert spelled_out(["--schedule", "step"], {"schedule"}) == ["--schedule", "step"]
    assert spelled_out(["--lr", "1"], ()) == ["--lr", "1"]


@pytest.mark.parametrize("words", [["--schedule"], ["--schedule", "--lr", "1"]])
def test_a_short_option_needs_a_value(words: list[str]) -> None:
    with pytest.raises(BadUsage, match="a value after --schedule"):
        spelled_out(words, ())


@pytest.mark.slow
def test_short_options_give_the_record_of_the_chain(cli, here) -> None:
    own = ("--threads", "1", "--json", "--epochs", "2", "--out")
    short = ("--schedule", "rewarmed-cosine", "--replay-rate", "0.25", "--lr-schedule.floor", "0.2")
    chain = ("--base", "rate-replay", "--base.base", "naive", "--kind", "rewarmed-cosine")
    nested = (*chain, "--floor", "0.2", "--base.rate", "0.25")
    code, one, errors = cli("run", "naive", "split-digits", *own, here / "a", *short)
    assert code == 0, errors
    own = (*own[:3], "--base.base.epochs", "2", "--out")
    code, other, errors = cli("run", "lr-schedule", "split-digits", *own, here / "b", *nested)
    assert code == 0, errors
    assert json.loads(one)["result"] == json.loads(other)["result"]


def test_a_strategy_keeps_its_own_option_of_the_name(cli) -> None:
    """`podnet` has a schedule; nothing is wrapped around it."""
    code, out, errors = cli(
        *("run", "podnet", "split-digits", "--schedule", "step", "--network", "slim-resnet18", *DRY)
    )
    assert code == 0, errors
    plan = json.loads(out)["strategy"]
    assert plan["name"] == "podnet" and plan["config"]["schedule"] == "step"


@pytest.mark.parametrize(("wrappers", "named"), [("nmc", "nmc"), ("ema,naive", "naive")])
def test_what_wraps_no_strategy_is_named(cli, wrappers: str, named: str) -> None:
    for command in (("run", "derpp", "split-digits"), ("tune", "derpp", "digits-t2")):
        code, _, told = cli(*command, "--with", wrappers)
        assert code == 2
        assert f"{named}, which wraps no strategy" in told


@pytest.mark.slow
def test_a_chain_is_tuned_like_strategies_nested_by_hand(cli, here) -> None:
    few = ("digits-t2", "--trials", "2", "--seeds", "0", "--threads", "1")
    chain = ("--with", "ema", "--ema.decay", "0.9", "--epochs", "1", "--out", "a")
    nested = ("--base", "naive", "--decay", "0.9", "--base.epochs", "1", "--out", "b")
    assert cli("tune", "naive", *few, *chain)[0] == 0
    assert cli("tune", "ema", *few, *nested)[0] == 0
    one, other = (json.loads((here / n / "certificate.json").read_text()) for n in "ab")
    assert one["hash"] == other["hash"]
