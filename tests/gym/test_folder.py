"""Who may go on from whose run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from clgym.errors import BadRecord
from clgym.gym.folder import without_paths
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.results.stored import open_run
from factories import copy_plugin

WHOLE = Request("naive", "split-digits", strategy_config={"network": "mlp"}, threads=1)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the first two experiences."""
    out = tmp_path_factory.mktemp("first") / "run"
    run(replace(WHOLE, part=(0, 2), out=out))
    return out


def test_a_continued_run_equals_one_that_never_stopped(first: Path, tmp_path: Path) -> None:
    request = replace(WHOLE, part=(0, 3))
    whole = run(replace(request, out=tmp_path / "whole")).result
    continued = run(replace(request, after=first, out=tmp_path / "continued")).result
    assert continued == whole


@pytest.mark.slow
def test_a_continued_single_pass_run_keeps_what_was_predicted_inside_experiences(
    tmp_path: Path,
) -> None:
    request = Request("naive", "online-digits", strategy_config={"network": "mlp"}, threads=1)
    run(replace(request, part=(0, 1), out=tmp_path / "first"))
    run(replace(request, part=(0, 2), after=tmp_path / "first", out=tmp_path / "second"))
    kept = load_file(tmp_path / "first/predictions.safetensors")
    again = load_file(tmp_path / "second/predictions.safetensors")
    assert any("anytime" in name for name in kept)
    assert all(np.array_equal(values, again[name]) for name, values in kept.items())
    assert list(open_run(tmp_path / "second").problems()) == []


def test_settings_may_differ_from_experience_to_experience(first: Path, tmp_path: Path) -> None:
    config = {**WHOLE.strategy_config, "lr": 0.2, "epochs": 2}
    request = replace(WHOLE, strategy_config=config, part=(0, 3), after=first, out=tmp_path / "r")
    record = run(request).result
    kept = load_file(first / "predictions.safetensors")
    again = load_file(tmp_path / "r" / "predictions.safetensors")
    assert all(np.array_equal(values, again[name]) for name, values in kept.items())
    assert record.strategy.config["lr"] == 0.2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "another seed"),
        ({"order_seed": 5}, "another stream"),
        ({"scenario_config": {"validation": 0.1}}, "another stream"),
        ({"scenario_config": {"increments": 1}}, "another stream"),
        ({"part": (0, 2)}, "another stream"),
        ({"part": (1, 4)}, "another stream"),
        ({"strategy_config": {"network": "resnet18"}}, "another network"),
        ({"strategy_config": {"hidden": [50, 50]}}, "another network"),
        ({"strategy": "replay"}, "another strategy"),
    ],
)
def test_another_run_is_not_continued(
    first: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    request = replace(WHOLE, **{"part": (0, 3), **change}, after=first, out=tmp_path / "run")
    with pytest.raises(BadRecord, match=words):
        run(request)
    assert not (tmp_path / "run").exists()


def test_a_run_with_the_draws_of_an_earlier_release_is_not_continued(
    first: Path, tmp_path: Path
) -> None:
    """Its first experiences would be one release's and the rest another's."""
    before = shutil.copytree(first, tmp_path / "before")
    facts = json.loads((before / "record.json").read_bytes())
    facts["environment"]["clgym"] = "0.1.0"
    (before / "record.json").write_text(json.dumps(facts))
    with pytest.raises(BadRecord, match=r"made with the random draws of clgym 0\.1\.0"):
        run(replace(WHOLE, part=(0, 3), after=before, out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_changed_file_of_the_same_strategy_is_another(first: Path, tmp_path: Path) -> None:
    plugin, out = copy_plugin("renamed", tmp_path), tmp_path / "own"
    request = replace(WHOLE, strategy="renamed", plugins=(plugin,))
    run(replace(request, part=(0, 1), out=out))
    plugin.write_text(plugin.read_text() + "\n\nSECOND = True\n")
    with pytest.raises(BadRecord, match="another strategy"):
        run(replace(request, part=(0, 2), after=out, out=tmp_path / "run"))


@pytest.mark.parametrize("name", ["predictions.safetensors", "state.safetensors", "record.json"])
def test_a_run_that_lost_a_file_is_not_continued(first: Path, tmp_path: Path, name: str) -> None:
    before = shutil.copytree(first, tmp_path / "before")
    (before / name).unlink()
    request = replace(WHOLE, part=(0, 3), after=before, out=tmp_path / "run")
    with pytest.raises(BadRecord, match=name):
        run(request)
    assert not (tmp_path / "run").exists()


def test_changed_answers_are_not_taken_over(first: Path, tmp_path: Path) -> None:
    before = shutil.copytree(first, tmp_path / "before")
    file = before / "predictions.safetensors"
    answers = load_file(file)
    answers["0/predicted"][:1] += 1
    save_file(answers, file)
    with pytest.raises(BadRecord, match="without its predictions"):
        run(replace(WHOLE, part=(0, 3), after=before, out=tmp_path / "run"))


@pytest.mark.parametrize(
    ("option", "given", "kept"),
    [
        ("source", "npz:/home/me/a,folder:b/cats[0..4],digits", "npz:a,folder:cats[0..4],digits"),
        ("source", "list:/home/me/sets.txt", "list:sets.txt"),
        ("model", "resnet18@/home/me/net.safetensors", "resnet18@net.safetensors"),
        ("base.model", "/home/me/run", "run"),
        ("lr", 0.1, 0.1),
    ],
)
def test_options_lose_their_paths(option: str, given: Any, kept: Any) -> None:
    assert without_paths({option: given}) == {option: kept}
