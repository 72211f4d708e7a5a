"""Plugins that keep more than they declare: flagged in the run and on the board, or refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from clgym.api import make_scenario
from clgym.board.page.tables import tables_of
from clgym.board.reading.records import read_board
from clgym.board.submission import check
from clgym.engines import Engine
from clgym.errors import OutOfReach
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.results.record import Record

PLUGINS = Path(__file__).parent / "plugins"
SHIFT = {"corruptions": "contrast,gaussian-noise", "images": 100, "batch_size": 20}
HOARDS = {
    "own-buffer": ("split-digits", {}, 50),
    "keeps-everything": ("split-digits", {}, None),
    "test-time-bank": ("digits-c", SHIFT, 32),
}
"""Plugin: scenario, its options, and the images that it keeps; None: those of an experience."""


def carried_out(name: str, out: Path, engine: Engine = "process", **config: Any) -> Record:
    scenario, options, _ = HOARDS.get(name, ("split-digits", {}, 0))
    return run(
        Request(
            name,
            scenario,
            strategy_config=config,
            scenario_config=options,
            out=out,
            engine=engine,
            plugins=(PLUGINS / f"{name.replace('-', '_')}.py",),
            threads=1,
        )
    )


def rows_of_experiences() -> list[int]:
    return [len(step.train) for step in make_scenario("split-digits").steps]


def kept_by(record: Record) -> int:
    assert record.conduct is not None
    return sum(record.conduct.kept_images.values())


@pytest.mark.parametrize("name", HOARDS)
def test_a_hoard_is_flagged_shown_and_refused(name: str, tmp_path: Path) -> None:
    out = tmp_path / "leaderboards" / "records" / name
    record = carried_out(name, out)
    assert record.conduct is not None and record.conduct.memory_capacity == 0
    expected = HOARDS[name][2] or max(rows_of_experiences())
    assert kept_by(record) == pytest.approx(expected, rel=0.05)
    words = [flag for flag in record.flags if "images kept outside of the memory" in flag]
    assert words
    shutil.copy(PLUGINS / f"{name.replace('-', '_')}.py", out)
    (table,) = tables_of(read_board(tmp_path / "leaderboards"))
    assert words[0] in table.rows[0].cells["flags"].text
    refused = [f.words for f in check([out]).wrong if f.check == "memory"]
    assert len(refused) == len(words) and "Needs(memory=" in refused[0]


def test_a_stock_replay_plugin_of_avalanche_is_refused(tmp_path: Path) -> None:
    """Its buffer leads to the rows of past experiences, which are out of reach."""
    with pytest.raises(OutOfReach, match="experience 0 is over.*declare Needs"):
        carried_out("avalanche-replay", tmp_path / "run", engine="inline")


def test_an_honest_bank_is_declared_recorded_and_accepted(tmp_path: Path) -> None:
    record = carried_out("test-time-bank", tmp_path / "run", declared=True)
    assert record.conduct is not None and record.conduct.memory_capacity == 32
    assert record.result.stored_samples == 20 and record.conduct.kept_images == {}
    assert not [f for f in check([tmp_path / "run"]).wrong if f.check == "memory"]


def test_a_bank_above_its_declaration_is_refused_at_the_call(tmp_path: Path) -> None:
    with pytest.raises(OutOfReach, match="at most 10 more samples in a memory of 10"):
        carried_out("test-time-bank", tmp_path / "run", declared=True, declared_size=10)


@pytest.mark.parametrize("name", ["keeps-everything", "avalanche-replay"])
def test_what_is_kept_outside_the_state_gains_nothing(name: str, tmp_path: Path) -> None:
    """Each experience is learned by a process that knows the state alone."""
    naive = run(Request("naive", "split-digits", out=tmp_path / "naive", threads=1))
    record = carried_out(name, tmp_path / "run")
    assert record.result.accuracy_matrix == naive.result.accuracy_matrix


def test_keeping_everything_pays_in_one_process(tmp_path: Path) -> None:
    """The attack is real: that is why it must be seen."""
    naive = run(Request("naive", "split-digits", out=tmp_path / "naive", threads=1))
    record = carried_out("keeps-everything", tmp_path / "run", engine="inline")
    assert record.result.last_accuracy > naive.result.last_accuracy + 0.3
    assert kept_by(record) == sum(rows_of_experiences())
