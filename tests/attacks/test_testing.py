"""What a plugin gains by being tested, by reading twice, by storing more: nothing, or a flag."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from clgym.engines import Engine
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

    def carry_out(
        name: str,
        scenario: str = "split-digits",
        *,
        seed: int = 0,
        engine: Engine = "process",
        scenario_config: Mapping[str, Any] | None = None,
        **config: Any,
    ) -> Record:
        file = PLUGINS / f"{name.replace('-', '_')}.py"
        plugins = (file,) if file.exists() else ()
        request = Request(
            name,
            scenario,
            seed=seed,
            engine=engine,
            scenario_config=scenario_config or {},
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


PLACES = ("state", "attribute", "global", "class", "module", "environment", "file", "machine")


@pytest.mark.parametrize("where", [*PLACES, "cache"])
def test_what_is_remembered_of_a_test_is_gone_at_the_next(attack: Attack, where: str) -> None:
    """Whoever knows an image again knows its experience: wherever it is kept, it is not there."""
    plain = attack("nmc").result.last_accuracy
    assert attack("remembers-in-predict", where=where).result.last_accuracy <= plain


def test_it_gains_in_one_process_and_the_record_says_so(attack: Attack) -> None:
    """The attack is real, where nothing separates the tests."""
    plain = attack("nmc").result.last_accuracy
    gained = attack("remembers-in-predict", engine="inline", where="class")
    assert gained.result.last_accuracy > plain + 0.03
    assert "tests were answered in the learner's process" in gained.flags


@pytest.mark.parametrize("where", ["state", "global"])
@pytest.mark.slow
def test_nothing_is_remembered_of_tests_inside_an_experience(attack: Attack, where: str) -> None:
    stream = {"anytime": 10}
    plain = attack("nmc", "online-digits", scenario_config=stream).result
    gained = attack("remembers-in-predict", "online-digits", scenario_config=stream, where=where)
    assert plain.anytime is not None and gained.result.anytime is not None
    assert gained.result.anytime.area <= plain.anytime.area


@pytest.mark.slow
@pytest.mark.parametrize("where", ["global", "file"])
def test_nothing_is_gained_on_ten_seeds(attack: Attack, where: str) -> None:
    for seed in range(10):
        plain = attack("nmc", seed=seed).result.last_accuracy
        assert attack("remembers-in-predict", seed=seed, where=where).result.last_accuracy <= plain


@pytest.mark.slow
@pytest.mark.skipif(
    not Path(os.environ.get("CLGYM_DATA", "/nowhere"), "cifar100").exists(),
    reason="needs CIFAR-100 below CLGYM_DATA",
)
def test_nothing_is_gained_on_a_hundred_classes(attack: Attack) -> None:
    plain = attack("nmc", "split-cifar100").result.last_accuracy
    gained = attack("remembers-in-predict", "split-cifar100", where="global")
    assert plain == pytest.approx(0.1198, abs=5e-4) and gained.result.last_accuracy <= plain


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


@pytest.mark.slow
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
