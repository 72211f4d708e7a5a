"""Checksums in safetensors files and notes: every changed byte is noticed, old files are read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from clgym.checksums import Damaged, check_safetensors, is_undamaged, with_checksum
from clgym.files import dump_checked, load_checked

ARRAYS = {"0": np.arange(6, dtype=np.int64), "10": np.ones((2, 3), np.float32), "9": np.zeros(0)}
BARE = save(ARRAYS, {"tree": "[1, 2]"})
WHOLE = with_checksum(BARE)

changes = st.one_of(
    st.integers(0, len(WHOLE) - 1).flatmap(
        lambda i: st.integers(1, 255).map(
            lambda x: WHOLE[:i] + bytes([WHOLE[i] ^ x]) + WHOLE[i + 1 :]
        )
    ),
    st.integers(0, len(WHOLE) - 1).map(lambda end: WHOLE[:end]),
    st.binary(min_size=1, max_size=50).map(lambda more: WHOLE + more),
)


def test_the_file_stays_what_every_reader_of_safetensors_opens() -> None:
    back = load(WHOLE)
    assert back.keys() == ARRAYS.keys()
    assert all(np.array_equal(back[name], ARRAYS[name]) for name in ARRAYS)
    assert check_safetensors(WHOLE, required=True) == {"tree": "[1, 2]"}
    assert with_checksum(BARE) == WHOLE


@given(changes)
def test_no_changed_file_passes(data: bytes) -> None:
    with pytest.raises(Damaged):
        check_safetensors(data, required=True)


@pytest.mark.parametrize("metadata", [None, {}, {"tree": "1"}])
def test_files_with_and_without_metadata(metadata: dict[str, str] | None) -> None:
    bare = save(ARRAYS, metadata)
    assert check_safetensors(bare) == (metadata or {})  # as clgym 0.1 wrote them
    assert check_safetensors(with_checksum(bare)) == (metadata or {})
    with pytest.raises(Damaged, match="no checksum"):
        check_safetensors(bare, required=True)


def test_damage_is_logged_and_a_lost_file_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert not is_undamaged(tmp_path / "lost") and not caplog.text
    (tmp_path / "a").write_bytes(WHOLE)
    assert is_undamaged(tmp_path / "a") and not caplog.text
    (tmp_path / "a").write_bytes(WHOLE[:-1])
    assert not is_undamaged(tmp_path / "a") and "damaged" in caplog.text


NOTE = {"name": "e\u0301 composed or not: \u00e9", "n": [1, 2.5, None]}


def test_a_note_is_read_back_unchanged() -> None:
    assert load_checked(dump_checked(NOTE)) == NOTE
    assert json.loads(dump_checked(NOTE))["body"] == NOTE


@given(st.data())
def test_no_changed_note_passes(data: Any) -> None:
    whole = dump_checked(NOTE)
    place = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytes([whole[place] ^ data.draw(st.integers(1, 255))])
    cut = data.draw(st.integers(0, len(whole) - 1))
    for changed in (whole[:place] + flipped + whole[place + 1 :], whole[:cut], whole + b" "):
        with pytest.raises(ValueError, match="checksum"):
            load_checked(changed)


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"1", b"null", b"[" * 100_000, b"\xff"])
def test_an_invalid_note_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="checksum"):
        load_checked(text)
