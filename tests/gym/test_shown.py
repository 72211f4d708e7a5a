"""The files of a test: the rows of the test as the source has them, and nothing else."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clgym.gym.folder import SHOWN
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.gym.shown import shown
from clgym.messages import RowGroup


def planned(out: Path, *splits: np.ndarray) -> Any:
    """A run in a folder, whose sources have these images for training and for testing."""
    pairs = zip(splits[::2], splits[1::2], strict=True)
    sources = [
        SimpleNamespace(
            train=SimpleNamespace(images=train),
            test=SimpleNamespace(images=test),
            max_value=16,
            fingerprint=str(number),
        )
        for number, (train, test) in enumerate(pairs)
    ]
    return SimpleNamespace(out=out, sources=sources)


def group(source: int, split: Any) -> RowGroup:
    return RowGroup(source=source, split=split, transform=None)


@given(st.integers(1, 50), st.integers(1, 300_000), st.data())
def test_files_hold_the_rows_that_are_shown(
    tmp_path_factory: pytest.TempPathFactory, count: int, size: int, data: st.DataObject
) -> None:
    rows = np.array(data.draw(st.lists(st.integers(0, count - 1), min_size=1)))
    images = np.arange(1, count * size + 1, dtype=np.uint32).astype(np.uint8) | 1
    images = images.reshape(count, size, 1, 1)
    out = tmp_path_factory.mktemp("run")
    wanted = (group(0, "test"),), rows, np.zeros(len(rows), np.int64)
    with shown(planned(out, images[:0], images), wanted) as files:
        found = np.load(files[0].test)
    assert found.shape == images.shape and found.dtype == images.dtype
    hidden = np.setdiff1d(np.arange(count), rows)
    assert (found[rows] == images[rows]).all() and not found[hidden].any()
    assert not any((out / SHOWN).iterdir())


def test_rows_of_several_groups_go_to_the_files_of_their_splits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    splits = [rng.integers(1, 9, (6, 2, 2, 1), dtype=np.uint8) for _ in range(4)]
    groups = (group(0, "train"), group(1, "test"), group(0, "test"))
    rows, where = np.array([0, 5, 2, 2]), np.array([0, 1, 1, 0])
    with shown(planned(tmp_path, *splits), (groups, rows, where)) as files:
        assert np.load(files[0].train).any((1, 2, 3)).nonzero()[0].tolist() == [0, 2]
        assert np.load(files[1].test).any((1, 2, 3)).nonzero()[0].tolist() == [2, 5]
        assert not np.load(files[0].test).any()
        assert not files[1].train.exists()
    assert [file.fingerprint for file in files] == ["0", "1"]


def test_images_that_are_not_shown_take_no_space(tmp_path: Path) -> None:
    images = np.ones((1000, 100, 100, 1), np.uint8)
    wanted = (group(0, "test"),), np.array([3]), np.array([0])
    with shown(planned(tmp_path, images[:0], images), wanted) as files:
        assert files[0].test.stat().st_size > 10_000_000
        assert 512 * files[0].test.stat().st_blocks < 1_000_000


@pytest.mark.parametrize("engine", ["process", "inline"])
def test_nothing_is_left_after_a_run(tmp_path: Path, engine: Any) -> None:
    run(Request("nmc", "split-digits", out=tmp_path / "out", engine=engine))
    assert not (tmp_path / "out" / SHOWN).exists()
