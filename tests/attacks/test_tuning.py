"""What a strategy tries while it is tuned, to see the evaluation side."""

from pathlib import Path

import numpy as np
import pytest

from clgym.data import store, withheld
from clgym.data.sources import load_source
from clgym.engines import landlock
from clgym.engines.pool import PoolSpec
from clgym.errors import BadPlan
from clgym.gym.request import Sandbox
from clgym.protocol.ledger import read_ledger
from clgym.protocol.pairs import find_pair
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.study import StudySpec, tune
from clgym.results.stored import open_run
from factories import copy_plugin

shut_in = pytest.mark.skipif(landlock.abi() < 1, reason="this kernel has no Landlock")


@pytest.fixture(autouse=True)
def _nothing_withheld(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLGYM_WITHHELD", "[]")
    monkeypatch.setenv("CLGYM_STATE", str(tmp_path / "state"))


def reason(folder: Path, look: str, sandbox: Sandbox = "auto") -> str:
    """What a study's ledger says of its one run, whose plugin attacks."""
    plugin = copy_plugin("burglar", folder / "plugin", LOOK=look)
    out = folder / "study"
    asked = StudySpec("burglar", find_pair("digits-t2"), trials=1, seeds=(0,))
    with pytest.raises(BadPlan, match="a trial that succeeds"):
        tune(asked, ExecutionOptions(out, PoolSpec(), None, (plugin,), sandbox))
    runs = [e.body for e in read_ledger(out / "ledger.jsonl") if e.kind == "run"]
    return runs[0]["reason"].removeprefix("RuntimeError: ")


@shut_in
@pytest.mark.parametrize("look", ["variable", "rules"])
@pytest.mark.slow
def test_a_strategy_that_takes_back_the_rules_loads_nothing(tmp_path: Path, look: str) -> None:
    found = reason(tmp_path, look)
    assert found.startswith(("REFUSED PermissionError", "REFUSED BadSource", "REFUSED BadOutput"))


def test_images_of_the_closed_half_are_not_in_a_file_that_is_shown(tmp_path: Path) -> None:
    """A trial is scored on held-out training rows: a tenth of the classes seen."""
    opened = int((load_source("digits").train.labels < 5).sum())
    found = reason(tmp_path, "mapped", "none").removeprefix("GOT ").partition(" ")[0]
    assert 0 < int(found) < opened // 10


def test_closed_images_are_zeros_and_the_others_stay_in_their_rows() -> None:
    whole = load_source("digits")
    withheld.withhold([withheld.Rule("digits", whole.fingerprint, (5, 6, 7, 8, 9))])
    half = load_source("digits")
    assert half.fingerprint == whole.fingerprint
    for mine, theirs in ((half.train, whole.train), (half.test, whole.test)):
        closed = theirs.labels >= 5
        assert closed.any() and mine.path != theirs.path
        on_disk = np.load(mine.path)
        assert not on_disk[closed].any()
        np.testing.assert_array_equal(on_disk[~closed], theirs.images[~closed])
        np.testing.assert_array_equal(mine.images, on_disk)


def test_a_damaged_file_of_open_images_is_made_anew() -> None:
    whole = load_source("digits").test
    closed = whole.labels >= 5
    path = store.without_images(whole, closed).path
    damaged = np.array(np.load(path))
    damaged[closed] = whole.images[closed]
    path.chmod(0o644)
    np.save(path, damaged)
    assert not store.without_images(whole, closed).images[closed].any()


@shut_in
@pytest.mark.slow
def test_records_of_a_study_say_what_was_enforced(tmp_path: Path) -> None:
    plugin = copy_plugin("power", tmp_path)
    asked = StudySpec("power", find_pair("digits-t2"), trials=1, seeds=(0,))
    enforced: dict[Sandbox, str] = {"landlock": f"landlock {landlock.abi()}: files", "none": "none"}
    for sandbox, words in enforced.items():
        out = tmp_path / sandbox
        tune(asked, ExecutionOptions(out, PoolSpec(), None, (plugin,), sandbox))
        record = open_run(next(out.glob("runs/*/seed-0"))).record
        assert str(record.environment.sandbox).startswith(words)
