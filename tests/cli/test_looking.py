"""``clgym list``, ``show`` and ``compare``."""

import json

import pytest

from clgym import registry
from clgym.data.cards import CARDS


def test_list_has_every_plugin_preset_and_source(cli):
    code, out, _ = cli("list")
    assert code == 0
    for kind in ("strategies", "scenarios"):
        for entry in registry.entries(kind).values():
            assert entry.name in out
            assert entry.summary in out
            for preset in entry.presets:
                assert f"    {preset} " in out
    for name in CARDS:
        assert f"  {name} " in out


def test_list_prints_json(cli, plugin):
    listed = json.loads(cli("list", "--json", "--plugin", plugin)[1])
    assert list(listed) == [
        "strategies",
        "scenarios",
        "pairs",
        "sources",
        "networks",
    ]
    (guess,) = (item for item in listed["strategies"] if item["name"] == "guess")
    assert guess["origin"] == "guess.py"
    assert guess["summary"] == "Answers that need a task id, and options of every kind."
    assert json.loads(cli("list", "sources", "--json")[1]) == {"sources": listed["sources"]}


def test_lists_are_sorted_and_name_the_data_that_are_here(cli, tmp_path):
    listed = json.loads(cli("list", "--json", "--data-root", tmp_path)[1])
    for items in listed.values():
        names = [item["name"] for item in items]
        assert names == sorted(names) and names
    assert [s["name"] for s in listed["sources"] if s["here"]] == ["digits"]
    here = {n for item in listed["scenarios"] for n in item["presets_with_data_here"]}
    presets = {n: o for item in listed["scenarios"] for n, o in item["presets"].items()}
    assert here == {n for n, o in presets.items() if o["source"].startswith("digits")}
    (tmp_path / "cifar10").mkdir()
    for half in ("train", "test"):
        (tmp_path / "cifar10" / f"{half}.npz").touch()
    out = cli("list", "--data-root", tmp_path)[1].splitlines()
    for name, expected in (("split-cifar10", True), ("split-cifar100", False)):
        (line,) = (line for line in out if line.split()[:1] == [name])
        assert ("[data here]" in line) == expected
    (line,) = (line for line in out if line.split()[:1] == ["cifar10-c-published"])
    assert "[data here]" not in line  # the published images are not there


def test_pairs_and_networks_are_listed_and_shown(cli):
    from clgym.models.networks import NETWORKS
    from clgym.protocol.pairs import PAIRS

    listed = json.loads(cli("list", "--json")[1])
    assert [item["name"] for item in listed["networks"]] == sorted(NETWORKS)
    assert {item["name"] for item in listed["pairs"]} == set(PAIRS)
    code, out, _ = cli("show", "digits-t2")
    assert code == 0 and "digits, classes 5 to 9 (data here)" in out
    code, out, _ = cli("show", "resnet18-7x7")
    assert code == 0 and "--network" in out and "(network)" in out
    assert "Did you mean 'digits-t2'" in cli("show", "digit-t2")[2]


def test_list_shows_a_broken_plugin_and_the_others(cli, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("def (:\n")
    code, out, _ = cli("list", "--plugin", broken)
    assert code == 0
    assert "cannot be used: SyntaxError" in out
    assert "nmc" in out


def test_show_describes_a_strategy(cli, plugin, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = cli("show", "guess", "--plugin", plugin)
    text = " ".join(out.split())
    assert code == 0
    assert "Answers that need a task id, and options of every kind." in text
    assert "--share none at least 0 and at most 1, or none Fewer than" in text
    assert "needs: nothing" in text


def test_show_prints_json(cli, plugin):
    (kind, guess), *others = json.loads(
        cli("show", "guess", "--json", "--plugin", plugin)[1]
    ).items()
    assert kind == "strategies" and not others
    shown = cli("show", "guess", "--plugin", plugin)[1]
    assert guess["options"] and guess["source_hash"] in shown
    for option in guess["options"]:
        assert f"--{option['name'].replace('_', '-')}" in shown
    assert guess["needs"]["task_ids"] is ("task ids" in shown)
    rates = json.loads(cli("show", "lr-schedule", "--json")[1])["strategies"]
    when = {option["name"]: option["when"] for option in rates["options"]}
    assert when["later_peak"] == {"kind": ["rewarmed-cosine"]} and when["floor"] is None
    preset = json.loads(cli("show", "split-cifar100", "--json")[1])["scenarios"]
    defaults = {option["name"]: option["default"] for option in preset["options"]}
    assert defaults["source"] == "cifar100"
    source = json.loads(cli("show", "cifar100", "--json")[1])["sources"]
    assert (source["class_count"], source["train"]) == (100, 50_000)
    pair = json.loads(cli("show", "digits-t2", "--json")[1])["pairs"]
    assert pair["tuning"]["source"] == "digits"


def test_show_prints_a_finished_run_as_its_record(cli, tmp_path):
    cli("run", "nmc", "split-digits", "--out", tmp_path / "run")
    shown = json.loads(cli("show", tmp_path / "run", "--json")[1])
    assert shown == json.loads((tmp_path / "run" / "record.json").read_text())


def test_show_says_what_a_strategy_needs(cli):
    text = " ".join(cli("show", "replay")[1].split())
    assert "needs: a memory of 200 samples, unless the scenario sets another number" in text
    assert "a scenario's value overrides the default: --network, --memory-size needs" in text
    assert "needs: the data of past experiences" in cli("show", "joint")[1]


def test_show_describes_a_preset_and_its_scenario(cli):
    preset = " ".join(cli("show", "split-cifar100")[1].split())
    assert "--source cifar100" in preset
    assert "--memory-size 2000" in preset
    kind = cli("show", "class-incremental")[1]
    assert "required" in kind
    assert "split-cifar100-t20" in kind


def test_show_describes_a_source(cli):
    code, out, _ = cli("show", "cifar100")
    assert code == 0
    card = CARDS["cifar100"]
    for fact in (card.licence, card.origin, "50,000 train", "clgym fetch cifar100"):
        assert fact in out
    assert card.fingerprints["test"][-8:] in out.replace("\n", "").replace(" ", "")


def test_show_lists_the_variants_of_avalanche(cli):
    code, out, _ = cli("show", "avalanche")
    assert code == 0
    assert "avalanche:EWC" in out


@pytest.mark.slow
def test_compare_prints_and_gives_data(cli, here):
    for name in ("nmc", "naive"):
        assert cli("run", name, "split-digits", "--seeds", "0..1", "--out", here / name)[0] == 0
    code, out, _ = cli("compare", "nmc", "naive")
    assert code == 0
    assert "A: nmc   B: naive   on split-digits" in out
    assert "over 2 seeds" in out
    data = json.loads(cli("compare", "nmc", "naive", "--json")[1])
    assert [pair["seed"] for pair in data["pairs"]] == [0, 1]
    for pair in data["pairs"]:
        counts = pair["counts"]
        difference = (counts["only_a"] - counts["only_b"]) / counts["n"]
        assert abs(difference - (pair["a"] - pair["b"])) < 1e-12
    one = cli("compare", "nmc/seed-0", "naive/seed-0/record.json")[1]
    assert "not two methods" in one


@pytest.mark.slow
def test_compare_refuses_what_cannot_be_paired(cli, here):
    cli("run", "nmc", "split-digits", "--out", here / "a")
    cli("run", "nmc", "split-digits", "--increments", "5", "--out", here / "b")
    cli("run", "nmc", "split-digits", "--seed", "1", "--out", here / "c")
    for other, part in (("b", "the same stream"), ("c", "the same seeds")):
        code, out, err = cli("compare", "a", other)
        assert (code, out) == (2, "")
        assert err.startswith("error: cannot use the record: ")
        assert part in err


def test_show_of_a_strategy_without_its_weights_says_so_and_goes_on(cli, tmp_path, monkeypatch):
    """Options, file and hash are shown; what depends on the weights is named."""
    monkeypatch.setenv("CLGYM_DATA", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    code, out, err = cli("show", "simplecil")
    assert code == 0, err
    words = " ".join(out.split())
    assert "needs: unknown without its default weights" in words and "--backbone" in words
    assert "sha256" in words
