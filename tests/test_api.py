"""The same in Python: streams, strategies, runs, and a finished run as a classifier."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import clgym
from clgym.data.sources import load_source
from clgym.errors import BadAnswer, BadRecord, UnknownName


def test_a_finished_run_answers_as_it_did(tmp_path: Path) -> None:
    record = clgym.run("replay", "split-digits", out=tmp_path / "run", seed=3)
    trained = clgym.load(tmp_path / "run")
    answers = load_file(tmp_path / "run" / record.result.predictions.file)
    test = load_source("digits").test
    images = test.images[answers["4/row"]]
    found = trained.logits(images).argmax(1).numpy()
    np.testing.assert_array_equal(found, answers["4/predicted"])
    names = trained.classify(images[:5])
    assert names == [f"digits/{c}" for c in answers["4/predicted"][:5]]


def test_it_takes_floats_as_well_and_refuses_another_shape(tmp_path: Path) -> None:
    clgym.run("nmc", "split-digits", out=tmp_path / "run")
    trained = clgym.load(str(tmp_path / "run"))
    images = load_source("digits").test.images[:3]
    floats = torch.from_numpy(images).permute(0, 3, 1, 2) / 16
    assert torch.equal(trained.logits(images), trained.logits(floats))
    with pytest.raises(BadAnswer, match="channels, height, width"):
        trained.logits(np.zeros((2, 9, 9, 1), dtype=np.uint8))


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadRecord, match="finished run"):
        clgym.load(tmp_path)
    (tmp_path / "record.json").write_text('{"schema_version": 1}')
    with pytest.raises(BadRecord, match="Field required at result"):
        clgym.load(tmp_path)


def test_options_are_words_and_mistakes_are_named() -> None:
    assert len(clgym.make_scenario("split-digits", increments=[5])) == 2
    assert clgym.make_scenario("split-digits", order_seed=1993).class_order[0] == "digits/4"
    assert clgym.make_strategy("nmc", batch_size=7).config.batch_size == 7
    with pytest.raises(UnknownName, match="batch_size"):
        clgym.make_strategy("nmc", batchsize=7)
    with pytest.raises(AttributeError, match="no attribute"):
        clgym.nothing  # noqa: B018


def test_importing_clgym_costs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, clgym; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
