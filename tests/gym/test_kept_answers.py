"""Answers about a strategy are believed while all that shaped them is the same, and no longer."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clgym.engines import Channel
from clgym.errors import BadPlugin, MissingData
from clgym.files import dump_checked, load_checked
from clgym.gym import description, kept_answers
from clgym.gym.description import Description, ask_needs, describe_strategy, open_learner
from clgym.gym.kept_answers import KeptAnswers
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.messages import ReadsDescribed
from clgym.registry import surroundings
from clgym.results.record import result_hash
from factories import PLUGINS

PARTED = PLUGINS / "parted"
TEXT = (PARTED / "__init__.py").read_text()


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    shutil.copytree(PARTED, folder)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, working_folder: Path) -> Path:
    monkeypatch.setenv("CLGYM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "answers"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Targets of the workers that were started to answer."""
    targets: list[str] = []
    really = description.open_channel

    def open_channel(engine: Any, target: str, *rest: Any, **more: Any) -> Channel:
        targets.append(target)
        return really(engine, target, *rest, **more)

    monkeypatch.setattr(description, "open_channel", open_channel)
    yield targets


def asked(folder: Path, **given: object) -> Description:
    return describe_strategy("mine", [folder], given)


def defaults(described: Description) -> dict[str, object]:
    return {field.name: field.default for field in described.fields}


def test_the_second_command_starts_no_worker(mine: Path, opened: list[str]) -> None:
    first, second = asked(mine), asked(mine)
    assert len(opened) == 1
    assert first == second
    assert defaults(second) == {"factor": 0.5, "rows": 7}
    assert set(second.read_files) == {"numbers.py", "table.json"}


def test_words_of_the_run_are_no_options(mine: Path, opened: list[str]) -> None:
    asked(mine)
    asked(mine, seed="3", out="here", lerning_rate="1")
    assert len(opened) == 1
    asked(mine, factor="0.3")
    assert len(opened) == 2


def _edit(name: str, text: str) -> Callable[[Path, Path, pytest.MonkeyPatch], None]:
    def change(mine: Path, cache: Path, patch: pytest.MonkeyPatch) -> None:
        (mine / name).write_text(text)

    return change


def _damage(mine: Path, cache: Path, patch: pytest.MonkeyPatch) -> None:
    for file in cache.iterdir():
        data = file.read_bytes()
        file.write_bytes(data.replace(b"0.5", b"0.7"))
        assert file.read_bytes() != data


def _cut(mine: Path, cache: Path, patch: pytest.MonkeyPatch) -> None:
    for file in cache.iterdir():
        file.write_bytes(file.read_bytes()[:100])


def _upgrade(mine: Path, cache: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(surroundings, "__version__", "99.0")


def _install(mine: Path, cache: Path, patch: pytest.MonkeyPatch) -> None:
    place = mine.parent / "site"
    (place / "torch-99.0.dist-info").mkdir(parents=True)
    patch.syspath_prepend(str(place))


CHANGES = {
    "plugin": _edit("__init__.py", TEXT + "\n# changed\n"),
    "helper": _edit("numbers.py", "FACTOR = 0.25\n"),
    "table": _edit("table.json", '{"rows": 9}'),
    "variable": lambda mine, cache, patch: patch.setenv("LC_TIME", "de_DE.UTF-8"),
    "version": _upgrade,
    "library": _install,
    "damaged": _damage,
    "cut off": _cut,
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_shaped_an_answer_asks_again_when_it_changes(
    mine: Path, opened: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    asked(mine)
    CHANGES[change](mine, cache, monkeypatch)
    expected = {"factor": 0.5, "rows": 7}
    expected |= {"helper": {"factor": 0.25}, "table": {"rows": 9}}.get(change, {})
    assert defaults(asked(mine)) == expected
    assert len(opened) == 2
    assert defaults(asked(mine)) == expected
    assert len(opened) == 2


def test_clgym_itself_is_part_of_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("A = 1\n")
    monkeypatch.setattr(surroundings, "PACKAGE", tmp_path)
    before = surroundings.surroundings()
    assert surroundings.surroundings() == before
    (tmp_path / "code.py").write_text("A = 11\n")
    assert surroundings.surroundings() != before


def test_an_answer_that_came_while_a_file_changed_is_not_kept(
    mine: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    really = description._Describer._keep

    def late(*arguments: Any) -> None:
        (mine / "__init__.py").write_text(TEXT + "\n# while it was asked\n")
        really(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(description._Describer, "_keep", late)
        asked(mine)
    asked(mine)
    assert len(opened) == 2


def needs_of(folder: Path, device: str = "cpu", **values: object) -> Any:
    channel = open_learner(Request("mine", "", plugins=(folder,)))
    try:
        return ask_needs("mine", [folder], channel, values, device).needs
    finally:
        channel.close()


def test_needs_are_kept_by_their_values(mine: Path, opened: list[str]) -> None:
    assert [needs_of(mine, rows=rows).memory for rows in (7, 8, 8, 7)] == [7, 8, 8, 7]
    assert len(opened) == 2


def test_what_depends_on_a_device_is_not_kept(mine: Path, opened: list[str]) -> None:
    assert needs_of(mine, "meta").memory == needs_of(mine, "meta").memory == 7
    assert len(opened) == 2


@pytest.mark.parametrize(
    ("weights", "place"), [("deit@mine.pt", "weights/mine.pt"), ("run@{}/mine", "mine")]
)
def test_missing_weights_are_looked_for_again_when_their_place_changes(
    tmp_path: Path, opened: list[str], weights: str, place: str
) -> None:
    values = {"backbone": weights.format(tmp_path)}

    def look() -> None:
        channel = open_learner(Request("nmc", "", data_root=tmp_path))
        with pytest.raises(MissingData, match="mine"):
            ask_needs("nmc", [], channel, values, "cpu", tmp_path)
        channel.close()

    look()
    look()
    assert len(opened) == 1
    (tmp_path / place).mkdir(parents=True)  # not what was missing, but something
    look()
    assert len(opened) == 2


def test_warm_and_cold_give_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    cold = run(Request("nmc", "split-digits", out=tmp_path / "cold"))
    assert len(opened) == 1
    warm = run(Request("nmc", "split-digits", out=tmp_path / "warm"))
    assert len(opened) == 1
    assert result_hash(cold) == result_hash(warm)
    assert cold.environment == warm.environment


def forge(cache: Path, old: str, new: str) -> int:
    """Change kept answers as if they had been given so, checksums and all."""
    changed = 0
    for file in cache.iterdir():
        kept = load_checked(file.read_bytes())
        if old in kept["reply"]:
            kept["reply"] = kept["reply"].replace(old, new)
            json.loads(kept["reply"])
            file.write_bytes(dump_checked(kept))
            changed += 1
    return changed


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('["total_classes", false]', '["total_classes", true]', "needs"),
        (
            '["known_failures", {"$dict": []}]',
            '["known_failures", {"$dict": [["x", "y"]]}]',
            "known",
        ),
    ],
)
def test_a_run_trains_on_no_answer_that_its_learner_does_not_confirm(
    tmp_path: Path, cache: Path, old: str, new: str, what: str
) -> None:
    request = Request("nmc", "split-digits", out=tmp_path / "run")
    run(Request("nmc", "split-digits", out=tmp_path / "first"))
    assert forge(cache, old, new)
    with pytest.raises(BadPlugin, match=f"the {what}"):
        run(request)
    assert not (tmp_path / "run").exists()
    assert run(request).result.strategy.name == "nmc"


def test_of_many_answers_the_older_half_is_deleted(
    mine: Path, opened: list[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_answers, "_MOST", 4)
    factors = ("0.1", "0.2", "0.3", "0.4", "0.5")
    for factor in factors:
        asked(mine, factor=factor)
        for kept in cache.iterdir():
            before = kept.stat().st_mtime - 10
            os.utime(kept, (before, before))
    assert len([*cache.iterdir()]) <= 4
    assert len(opened) == len(factors)
    asked(mine, factor=factors[-1])
    assert len(opened) == len(factors)
    asked(mine, factor=factors[0])
    assert len(opened) == len(factors) + 1


def test_an_answer_is_not_kept_if_the_code_changed_meanwhile(mine: Path, cache: Path) -> None:
    """Which of both versions gave it is not known."""
    request = Request("mine", "split-digits", plugins=(mine,))
    question: Any = {"do": "describe-options", "strategy": "mine"}
    kept = KeptAnswers(request)
    nothing = ReadsDescribed(files={}, places=())
    kept.keep(question, {"fields": []}, nothing)
    assert kept.find(question) == {"fields": []}
    (mine / "__init__.py").write_text(TEXT + "\n# another version\n")
    kept.keep({**question, "given": 1}, {"fields": []}, nothing)
    assert len([*cache.iterdir()]) == 1
    assert KeptAnswers(request).find(question) is None
