"""Clock, data root and rights that change between the parts of an interrupted run."""

import errno
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clgym.errors import BadOutput, MissingData
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.results.record import Result
from factories import interrupt

YEAR = 365 * 86400.0


def _mnist(root: Path, seed: int) -> Path:
    """A data root whose mnist holds 120 training and 60 test images."""
    draws = np.random.default_rng(seed)
    (root / "mnist").mkdir(parents=True)
    for half, count in (("train", 120), ("test", 60)):
        images = draws.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count) % 10
        np.savez(
            root / f"mnist/{half}.npz",
            images=images,
            labels=labels,
            classes=np.array([*"0123456789"]),
        )
    return root


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Request, Path, Result]:
    """A request, what an interruption in its third experience left, and its whole result."""
    folder = tmp_path_factory.mktemp("interrupted")
    return interrupt(folder, "split-mnist", data_root=_mnist(folder / "root", 0))


@pytest.mark.parametrize("jump", [-30 * YEAR, -60.0, YEAR])
def test_a_clock_that_jumps_changes_no_result(
    interrupted: tuple[Request, Path, Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    jump: float,
) -> None:
    request, cut, whole = interrupted
    shutil.copytree(cut, tmp_path / "run")
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + jump)
    record = run(replace(request, out=tmp_path / "run"))
    assert record.result == whole
    assert 0 < record.cost.wall_seconds < 3600


def test_images_that_moved_are_the_same_run(
    interrupted: tuple[Request, Path, Result], tmp_path: Path
) -> None:
    request, cut, whole = interrupted
    assert request.data_root is not None
    shutil.copytree(cut, tmp_path / "run")
    root = Path(shutil.copytree(request.data_root, tmp_path / "moved"))
    assert run(replace(request, out=tmp_path / "run", data_root=root)).result == whole


def test_other_images_under_the_same_name_are_refused(
    interrupted: tuple[Request, Path, Result], tmp_path: Path
) -> None:
    request, cut, whole = interrupted
    shutil.copytree(cut, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.json")}
    other = replace(request, out=tmp_path / "run", data_root=_mnist(tmp_path / "other", 1))
    with pytest.raises(BadOutput, match="another --out"):
        run(other)
    assert {path: path.read_bytes() for path in (tmp_path / "run").glob("*.json")} == before
    assert run(replace(request, out=tmp_path / "run")).result == whole


def test_a_data_root_that_went_away_is_named(
    interrupted: tuple[Request, Path, Result], tmp_path: Path
) -> None:
    request, cut, whole = interrupted
    shutil.copytree(cut, tmp_path / "run")
    with pytest.raises(MissingData, match="mnist"):
        run(replace(request, out=tmp_path / "run", data_root=tmp_path / "gone"))
    assert run(replace(request, out=tmp_path / "run")).result == whole


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT])
def test_a_folder_that_can_no_longer_be_written_is_named_and_costs_nothing(
    interrupted: tuple[Request, Path, Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    request, cut, whole = interrupted
    shutil.copytree(cut, tmp_path / "run")

    def refused(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refused)
        with pytest.raises(BadOutput, match=os.strerror(number)):
            run(replace(request, out=tmp_path / "run"))
    assert run(replace(request, out=tmp_path / "run")).result == whole
