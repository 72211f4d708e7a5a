"""A plugin that looks for the images of earlier experiences finds those of the present one only."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clgym.data.sources import load_source
from clgym.engines import landlock
from clgym.errors import BadAnswer, WorkerDied
from clgym.gym.due import Due
from clgym.gym.folder import DUE
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.learner.state import read_state
from clgym.registry.reading import kebab
from clgym.results.layout import PREDICTIONS
from factories import copy_plugin

with_landlock = pytest.mark.skipif(landlock.abi() < 1, reason="this kernel has no Landlock")


def outcomes(tmp_path: Path, **options: Any) -> dict[str, str]:
    """How each attempt of the plugin ended, in its last experience."""
    plugin, out = copy_plugin("replays_from_files", tmp_path), tmp_path / "out"
    request = Request("replays-from-files", "split-digits", out=out, threads=1, plugins=(plugin,))
    run(replace(request, **options))
    state: Any = read_state(out / "state.safetensors")
    return {name: how["value"] for name, how in state["strategy"]["outcomes"]["dict"]}


@with_landlock
def test_images_of_earlier_experiences_are_out_of_reach(tmp_path: Path) -> None:
    found = outcomes(tmp_path)
    assert found == {
        "the file of all training images": "PermissionError",
        "the file of an earlier experience": "FileNotFoundError",
        "a file that it kept open": "KeyError",
        "row numbers": "TypeError",
        "its folder": "nothing",
    }


def test_without_a_sandbox_only_the_source_is_within_reach(tmp_path: Path) -> None:
    found = outcomes(tmp_path, sandbox="none")
    assert found.pop("the file of all training images") == "GOT"
    assert "GOT" not in found.values()


def test_a_file_that_it_keeps_mapped_ends_its_process(tmp_path: Path) -> None:
    plugin = copy_plugin("replays_from_files", tmp_path, MAP=True)
    request = Request("replays-from-files", "split-digits", plugins=(plugin,), threads=1)
    with pytest.raises(WorkerDied, match="SIGBUS"):
        run(replace(request, out=tmp_path / "out"))


def test_a_file_is_emptied_although_its_permissions_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who owns a file may change its mode, without a sandbox."""
    plugin, out = copy_plugin("replays_from_files", tmp_path, CHMOD=0o555), tmp_path / "out"
    request = Request("replays-from-files", "split-digits", plugins=(plugin,), threads=1, out=out)
    request = replace(request, sandbox="none")
    deleting = Path.unlink

    def refused(path: Path, missing_ok: bool = False) -> None:
        if path.parent.name == DUE:  # as it is for users other than root
            raise PermissionError(13, "Permission denied")
        deleting(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(BadAnswer, match="to be deleted once it is learned"):
        run(request)
    assert [path.stat().st_size for path in (out / DUE).iterdir()] == [0]


@with_landlock
@pytest.mark.parametrize("place", ["cache", "root", "state", "predictions"])
def test_an_option_opens_no_file_with_images_or_answers(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The author of a plugin may name such a file, by the default of an option."""
    root, digits = tmp_path / "root", load_source("digits")
    root.mkdir()
    monkeypatch.setenv("CLGYM_DATA", str(root))
    monkeypatch.setenv("CLGYM_STATE", str(tmp_path / "state"))
    named = {
        "cache": Path(digits.test.path),
        "root": root / "labels.npy",
        "state": tmp_path / "state" / "secret",
        "predictions": tmp_path / "earlier" / PREDICTIONS,
    }[place]
    if not named.exists():
        named.parent.mkdir(parents=True, exist_ok=True)
        named.write_bytes(bytes(32))
    plugin = copy_plugin("opens_a_file", tmp_path, PATH=named)
    request = Request("in-two-phases", "split-digits", plugins=(Path(f"{plugin}:InTwoPhases"),))
    run(replace(request, threads=1, out=tmp_path / "out", strategy_config={"file": str(named)}))
    state: Any = read_state(tmp_path / "out" / "state.safetensors")
    assert state["strategy"]["learning"]["value"] == "PermissionError"


SHIFTED = [("InAdaptation", "digits-c"), ("InTwoPhases", "learn-then-shift-digits")]


@pytest.mark.parametrize(("cls", "scenario"), SHIFTED)
@pytest.mark.parametrize(("sandbox", "outcome"), [("auto", "PermissionError"), ("none", "GOT")])
@with_landlock
def test_images_that_are_shown_corrupted_cannot_be_opened_unchanged(
    tmp_path: Path, cls: str, scenario: str, sandbox: Any, outcome: str
) -> None:
    plugin = copy_plugin("opens_a_file", tmp_path, PATH=load_source("digits").test.path)
    named = (Path(f"{plugin}:{cls}"),)
    request = Request(kebab(cls), scenario, plugins=named, threads=1, sandbox=sandbox)
    run(replace(request, out=tmp_path / "out"))
    state: Any = read_state(tmp_path / "out" / "state.safetensors")
    ended = [state["strategy"][when]["value"] for when in ("learning", "adapting")]
    assert ended == [outcome, outcome]


@pytest.mark.parametrize(("declared", "outcome"), [(False, "PermissionError"), (True, "GOT")])
@with_landlock
def test_the_source_is_open_while_it_adapts_if_that_was_declared(
    tmp_path: Path, declared: bool, outcome: str
) -> None:
    """A classifier that has to be trained on it is trained by a process without plugins."""
    source = load_source("digits").train.path
    plugin = copy_plugin("opens_a_file", tmp_path, PATH=source, SOURCE=declared)
    request = Request("in-adaptation", "digits-c", plugins=(Path(f"{plugin}:InAdaptation"),))
    run(replace(request, threads=1, out=tmp_path / "out"))
    state: Any = read_state(tmp_path / "out" / "state.safetensors")
    assert state["strategy"]["adapting"]["value"] == outcome


@pytest.mark.parametrize("engine", ["process", "inline"])
def test_nothing_is_left_of_what_was_learned(tmp_path: Path, engine: Any) -> None:
    run(Request("nmc", "split-digits", out=tmp_path / "out", engine=engine))
    assert not (tmp_path / "out" / DUE).exists()


def test_images_are_those_of_the_rows_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written is what the plan says, whatever the sizes of the parts."""
    written: list[tuple[np.ndarray, np.ndarray]] = []
    add = Due.add

    def noting(due: Any, groups: Any, rows: np.ndarray, counts: Any) -> Any:
        made = add(due, groups, rows, counts)
        (path,) = made.images
        source = due._run.sources[groups[0].source]
        written.append((np.load(path), np.asarray(source.train.images)[rows]))
        return made

    monkeypatch.setattr(Due, "add", noting)
    monkeypatch.setattr("clgym.gym.due.rows_a_chunk", lambda shape: 7)
    run(Request("nmc", "split-digits", out=tmp_path / "out"))
    assert len(written) == 5
    for found, wanted in written:
        np.testing.assert_array_equal(found, wanted)
