"""Corrupted images are written as they are made, and the file is the one of a whole array."""

import hashlib
import io
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from clgym.errors import BadOutput
from clgym.gym import images

PARTS = [
    np.random.default_rng(seed).integers(0, 256, (count, 5, 5, 3), dtype=np.uint8)
    for seed, count in enumerate((4, 4, 3))
]
SOURCE: Any = SimpleNamespace(test=SimpleNamespace(images=PARTS[0]))


def write(path: Path) -> str:
    domain: Any = None
    return images._write(path, SOURCE, domain, np.arange(11), None, 1)


def test_a_file_written_in_parts_is_that_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "make", lambda *_: (part for part in PARTS))
    digest = write(tmp_path / "corrupted" / "a.npy")
    file = io.BytesIO()
    np.save(file, np.concatenate(PARTS))
    data = (tmp_path / "corrupted" / "a.npy").read_bytes()
    assert data == file.getvalue()
    assert digest == hashlib.sha256(data).hexdigest()


def test_a_full_disk_ends_the_work_and_leaves_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[bool] = []

    def made(*_: object) -> Generator[np.ndarray]:
        try:
            yield PARTS[0]
            raise OSError(28, "No space left on device")
        finally:
            ended.append(True)

    monkeypatch.setattr(images, "make", made)
    with pytest.raises(BadOutput, match="No space left"):
        write(tmp_path / "a.npy")
    assert ended and not list(tmp_path.iterdir())
