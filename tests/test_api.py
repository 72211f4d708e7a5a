"""The same in Python: streams, strategies, runs, and a finished run as a classifier."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import clgym
from clgym.data.sources import load_source
from clgym.errors import BadAnswer, BadConfig, BadRecord, ClgymError, UnknownName


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


def _any(value: object) -> Any:
    """A value of a wrong type, as code without types gives it."""
    return value


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            lambda: clgym.run("nmc", "split-digits", seed="0"),
            "seed to be a whole number; found '0'",
        ),
        (lambda: clgym.run("nmc", "split-digits", seed=True), "seed to be a whole number; found T"),
        (lambda: clgym.run("nmc", "split-digits", seed=None), "seed to be a whole number"),
        (lambda: clgym.run("nmc", "split-digits", seed=1.7), "seed to be a whole number"),
        (lambda: clgym.make_scenario("split-digits", order_seed="x"), "order_seed to be a whole"),
        (lambda: clgym.run("nmc", _any(clgym.make_scenario("split-digits"))), "found a Stream"),
        (lambda: clgym.run("naive", "split-digits", epochs=1), r"'epochs'.*config=\{"),
        (lambda: clgym.tune("naive", "digits-t2", out="t", fixed={}), r"'fixed'.*config=\{"),
        (lambda: clgym.compare(_any(["a"]), _any(["b"])), "one folder for each side"),
        (lambda: clgym.compare(_any(clgym.run), "a"), "paths of output folders; found a function"),
    ],
)
def test_arguments_of_a_wrong_kind_are_named(call: Callable[[], object], told: str) -> None:
    with pytest.raises(ClgymError, match=told):
        call()


def test_a_list_of_folders_and_a_name_by_itself_will_do(tmp_path: Path) -> None:
    for seed in np.arange(2):  # whole numbers of other libraries are seeds, too
        clgym.run("nmc", "split-digits", seed=seed, out=tmp_path / f"seed-{seed}")
    folders = [tmp_path / "seed-0", str(tmp_path / "seed-1")]
    assert [record.result.seed for record in clgym.records(folders)] == [0, 1]
    assert clgym.table(folders, measures="last") == clgym.table(*folders, measures=("last",))
    with pytest.raises(BadConfig, match="spread to be std or ci95; found 'sem'"):
        clgym.table(folders, spread="sem")  # pyright: ignore[reportArgumentType]


def test_importing_clgym_costs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, clgym; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
