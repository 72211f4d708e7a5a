"""What a plugin gains by being tested, by reading twice, by storing more: refused, or flagged."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clgym.errors import ClgymError, OutOfReach
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.results.record import Record
from clgym.results.stored import open_run

PLUGINS = Path(__file__).parent / "plugins"
Attack = Callable[..., Record]


@pytest.fixture
def attack(tmp_path: Path) -> Attack:
    """Runs a strategy, one of the plugins or a built-in one."""

    def carry_out(name: str, scenario: str = "split-digits", **config: Any) -> Record:
        file = PLUGINS / f"{name.replace('-', '_')}.py"
        plugins = (file,) if file.exists() else ()
        request = Request(
            name,
            scenario,
            strategy_config=config,
            out=tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}",
            plugins=plugins,
            threads=1,
        )
        return run(request)

    return carry_out


@pytest.mark.parametrize("name", ["learns-in-predict", "remembers-in-predict"])
def test_a_state_that_testing_changes_is_flagged(attack: Attack, name: str) -> None:
    record = attack(name)
    assert record.conduct is not None
    assert record.conduct.changed_by_testing == [0, 1, 2, 3, 4]
    assert "testing changed the state 5 times" in record.flags


def test_what_is_remembered_of_the_test_gains(attack: Attack) -> None:
    """The attack is real: whoever knows an image again knows its experience."""
    plain = attack("nmc").result.last_accuracy
    assert attack("remembers-in-predict").result.last_accuracy > plain + 0.03


def test_memory_that_the_state_conceals_is_not_seen(attack: Attack) -> None:
    """What remains, as docs/withholding.md says: an attribute outside of the state."""
    assert attack("remembers-in-predict", aside=True).flags == []


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("normalises-in-predict", "answers depend on the batch"),
        ("counts-in-predict", "answers depend on earlier predictions"),
    ],
)
def test_answers_that_depend_on_more_than_the_image_are_flagged(
    attack: Attack, name: str, flag: str
) -> None:
    record = attack(name)
    assert record.conduct is not None
    assert record.conduct.answered_twice == 45 and record.conduct.answered_differently > 20
    assert flag in record.flags


@pytest.mark.parametrize(
    ("name", "scenario"),
    [("nmc", "split-digits"), ("replay", "task-digits"), ("avalanche:LwF", "online-digits")],
)
def test_honest_strategies_are_not_flagged(attack: Attack, name: str, scenario: str) -> None:
    record = attack(name, scenario)
    assert record.conduct is not None and record.conduct.answered_twice == 45
    assert record.flags == []


def test_a_second_reading_of_an_online_stream_is_refused(attack: Attack) -> None:
    with pytest.raises(OutOfReach, match="another reading of 10 of them"):
        attack("reads-twice", "online-digits")
    once = attack("reads-twice", "online-digits", passes=1).result.last_accuracy
    assert attack("reads-twice", "split-digits").result.last_accuracy > once + 0.2  # as it was


@pytest.mark.parametrize("name", ["raises-capacity", "forces-capacity"])
def test_a_memory_above_its_declaration_is_refused(attack: Attack, name: str) -> None:
    with pytest.raises(ClgymError, match="100") as caught:
        attack(name, epochs=1)
    assert "Needs(memory=...)" in str(caught.value)


def test_a_record_that_stores_more_than_was_declared_is_not_verified(
    attack: Attack, tmp_path: Path
) -> None:
    record = attack("replay", epochs=1)
    (out,) = tmp_path.glob("replay-*")
    assert record.conduct is not None and record.conduct.memory_capacity == 100
    assert record.result.stored_samples == 100
    assert list(open_run(out).problems()) == []
    text = (out / "record.json").read_text()
    (out / "record.json").write_text(
        text.replace('"memory_capacity": 100', '"memory_capacity": 99')
    )
    assert any("memory_capacity" in problem for problem in open_run(out).problems())


def test_samples_larger_than_images_are_flagged(attack: Attack) -> None:
    record = attack("replay", epochs=1)
    assert record.conduct is not None
    larger = record.conduct.model_copy(update={"memory_bytes": 100 * 100_000})
    assert larger.flags(100, {}) == ["stored samples are larger than images"]
    declared = record.conduct.model_copy(update={"depends_on": "the batch"})
    words = "answers depend on the batch, as the strategy declares"
    assert declared.flags(100, {"batch-independence": "it is transductive"}) == [words]
