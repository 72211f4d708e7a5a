"""The evaluation source is out of reach while tuning."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clgym.data import withheld
from clgym.data.sources import load_source
from clgym.engines.pool import PoolSpec
from clgym.errors import Withheld
from clgym.gym.request import Request, make_stream
from clgym.protocol.pairs import find_pair
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.study import StudySpec, tune
from factories import copy_plugin


def test_a_closed_source_is_refused_under_every_name() -> None:
    digits = load_source("digits")
    withheld.withhold([withheld.Rule("digits", digits.fingerprint)])
    for name in ("digits", f"digits~{digits.fingerprint[:8]}"):
        with pytest.raises(Withheld, match="clgym evaluate"):
            load_source(name)


def test_a_closed_folder_is_refused_at_every_size(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "t" / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (8, 8), (i, 200, 9)).save(tmp_path / "t" / name / f"{i}.png")
    source = load_source(f"folder:{tmp_path / 't'}@8")
    withheld.withhold([withheld.Rule(f"folder:{tmp_path / 't'}@8", source.fingerprint)])
    for name in ("t", "t@8", "t@9", "other/../t@7"):
        with pytest.raises(Withheld, match="clgym evaluate"):
            load_source(f"folder:{tmp_path / name}")


def test_the_same_content_under_another_name_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        images = rng.integers(0, 256, (10, 8, 8, 1), dtype=np.uint8)
        labels, classes = np.arange(10) % 2, np.array(["cat", "dog"])
        for folder in (tmp_path / "a", tmp_path / "b"):
            folder.mkdir(exist_ok=True)
            np.savez(folder / split, images=images, labels=labels, classes=classes)
    source = load_source(f"npz:{tmp_path / 'a'}")
    withheld.withhold([withheld.Rule(source.name, source.fingerprint)])
    with pytest.raises(Withheld):
        load_source(f"npz:{tmp_path / 'b'}")


def test_labels_of_a_closed_half_are_gone() -> None:
    whole = load_source("digits")
    dropped = bytes(whole.train.hashes[np.flatnonzero(whole.train.labels == 2)[0]]).hex()
    rule = withheld.Rule("digits", whole.fingerprint, (5, 6, 7, 8, 9), (dropped,))
    withheld.withhold([rule])
    half = load_source("digits")
    for mine, theirs in ((half.train, whole.train), (half.test, whole.test)):
        assert set(mine.labels.tolist()) == {-1, 0, 1, 2, 3, 4}
        kept = mine.labels >= 0
        assert np.array_equal(mine.labels[kept], theirs.labels[kept])
    assert (whole.train.labels < 5).sum() - (half.train.labels >= 0).sum() == 1


@pytest.mark.parametrize("options", [{}, {"classes": [4, 5]}, {"classes": [5, 6, 7, 8, 9]}])
def test_a_stream_over_a_closed_half_is_refused(options: dict) -> None:
    fingerprint = load_source("digits").fingerprint
    withheld.withhold([withheld.Rule("digits", fingerprint, (5, 6, 7, 8, 9))])
    with pytest.raises(Withheld, match="classes 5-9 of digits"):
        make_stream(Request("", "split-digits", scenario_config=options))
    allowed = {"classes": [0, 1, 2, 3]}
    assert len(make_stream(Request("", "split-digits", scenario_config=allowed))) == 2


def test_rules_reach_processes_that_are_started_and_cannot_be_taken_back() -> None:
    withheld.withhold([withheld.Rule("digits", "0" * 64)])
    withheld.withhold([])
    code = "from clgym.data.sources import load_source; load_source('digits')"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode and "Withheld" in answer.stderr


@pytest.mark.parametrize("source", ["mnist", "mnist~12345678", "digits"])
def test_a_strategy_that_reaches_for_it_ends_the_study(tmp_path: Path, source: str) -> None:
    """In a study as users start it: the learner's process inherits the rules."""
    plugin = copy_plugin("thief", tmp_path, SOURCE=source)
    pair = find_pair("digits-t2")
    asked = StudySpec("thief", pair, trials=1, seeds=(0,))
    rules = [withheld.Rule("mnist", "0" * 64)]
    os.environ["CLGYM_WITHHELD"] = json.dumps([vars(rule) for rule in rules])
    with pytest.raises(Withheld, match="belongs to the evaluation"):
        tune(asked, ExecutionOptions(tmp_path / "study", PoolSpec(), plugins=(plugin,)))
    assert not (tmp_path / "study" / "certificate.json").exists()
