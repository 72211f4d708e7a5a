"""The ledger's chain."""

import hashlib
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clgym.errors import BadOutput, Tampered
from clgym.files import locked
from clgym.protocol.ledger import Ledger, read_ledger


def filled(folder: Path) -> Path:
    ledger = Ledger(folder)
    for number in range(5):
        ledger.append("note", number=number, words=["a", "ü"], value=0.1 + 0.2, nothing=None)
    return ledger.path


def test_the_chain_is_what_its_description_says(tmp_path: Path) -> None:
    """By the standard library alone."""
    lines = filled(tmp_path).read_text().splitlines()
    prev = "0" * 64
    for number, line in enumerate(lines):
        entry = json.loads(line)
        assert (entry["seq"], entry["prev"]) == (number, prev)
        prev = entry.pop("hash")
        text = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(text.encode()).hexdigest() == prev


def test_a_line_that_a_crash_cut_off_is_dropped(tmp_path: Path) -> None:
    path = filled(tmp_path)
    whole = path.read_bytes()
    for cut in (1, 40, len(whole.splitlines()[-1])):
        path.write_bytes(whole[:-cut])
        ledger = Ledger(tmp_path)
        assert len(ledger.entries) == 4
        ledger.append("more")
        assert [entry.kind for entry in read_ledger(path)] == ["note"] * 4 + ["more"]
        path.write_bytes(whole)


@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(1, 255))
def test_every_changed_byte_is_found(
    tmp_path_factory: pytest.TempPathFactory, place: float, byte: int
) -> None:
    path = filled(tmp_path_factory.mktemp("ledger"))
    data = bytearray(path.read_bytes())
    index = int(place * (len(data) - 1))  # the last byte is the newline: see the test above
    data[index] ^= byte
    path.write_bytes(data)
    with pytest.raises(Tampered, match="line [1-6] of the ledger"):
        read_ledger(path)


@pytest.mark.parametrize("change", ["swap", "drop", "double"])
def test_moved_lines_are_found(tmp_path: Path, change: str) -> None:
    path = filled(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    if change == "swap":
        lines[1], lines[2] = lines[2], lines[1]
    elif change == "drop":
        del lines[1]
    else:
        lines.insert(1, lines[1])
    path.write_bytes(b"".join(lines))
    with pytest.raises(Tampered, match="line [23]"):
        read_ledger(path)


def test_nan_in_a_ledger_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        Ledger(tmp_path).append("note", value=float("nan"))


def test_a_second_coordinator_of_a_study_is_refused(tmp_path: Path) -> None:
    with (
        locked(tmp_path / ".lock"),
        pytest.raises(BadOutput, match="no other process"),
        locked(tmp_path / ".lock"),
    ):
        pass
    with locked(tmp_path / ".lock"):
        pass


def test_a_line_says_when_it_was_written_to_the_millisecond(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1234.56789)
    assert Ledger(tmp_path).append("note").time == 1234.568


def test_entries_are_found_by_their_kind(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for kind in ("run", "trial", "run", "opened"):
        ledger.append(kind)
    assert [[e.seq for e in ledger.of(k)] for k in ("run", "trial", "none")] == [[0, 2], [1], []]


def test_a_ledger_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Tampered, match="a ledger at"):
        read_ledger(tmp_path / "ledger.jsonl")


@pytest.mark.parametrize("more", [b" ", b"\t "])
def test_a_line_in_another_form_is_not_what_was_written(tmp_path: Path, more: bytes) -> None:
    """The same facts, with blanks; before and behind what the canonical form sorts to."""
    path = filled(tmp_path)
    whole = path.read_bytes()
    for changed in (whole.replace(b"\n", more + b"\n", 1), more + whole):
        path.write_bytes(changed)
        with pytest.raises(Tampered, match="line 1 of the ledger.*its form is not valid"):
            read_ledger(path)


def test_the_first_wrong_link_is_named(tmp_path: Path) -> None:
    path = filled(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[1:]))
    with pytest.raises(Tampered, match="its seq is not valid"):
        read_ledger(path)


@given(length=st.integers(1, 60))
def test_what_a_crash_left_is_cut_off_to_the_byte(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    first = Ledger(folder)
    first.append("note", word="x" * length)
    whole = first.path.read_bytes()
    first.path.write_bytes(whole + b'{"half')
    Ledger(folder).append("more")
    assert first.path.read_bytes().startswith(whole + b"{")
