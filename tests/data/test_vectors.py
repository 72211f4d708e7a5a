"""Tables of vectors: filled once, safe for several writers, limited in size."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from clgym.data import vectors
from clgym.data.vectors import Table
from clgym.errors import BadOutput


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLGYM_CACHE", str(tmp_path))
    return tmp_path


def test_rows_come_back_and_only_missing_ones_are_asked_for() -> None:
    table, values = Table({"a": 1}, 10, 4), np.random.rand(10, 4).astype(np.float32)
    rows = np.array([7, 2, 7, 0])
    np.testing.assert_array_equal(table.missing(rows), [0, 2, 7])
    table.put(np.array([0, 2]), values[[0, 2]])
    np.testing.assert_array_equal(table.missing(rows), [7])
    table.put(np.array([7]), values[[7]])
    again = Table({"a": 1}, 10, 4)
    np.testing.assert_array_equal(again.get(rows), values[rows])
    assert len(again.missing(rows)) == 0
    assert len(Table({"a": 2}, 10, 4).missing(rows)) == 3  # other facts, another table


WRITER = """
import sys, numpy as np
from clgym.data.vectors import Table
table = Table({"shared": True}, 400, 8)
rows = np.random.default_rng(int(sys.argv[1])).permutation(400)
for part in np.split(rows, 20):
    due = table.missing(part)
    table.put(due, np.repeat(due[:, None], 8, 1)) if len(due) else None
"""


def test_several_processes_fill_one_table(cache: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(i)], env=os.environ) for i in range(3)
    ]
    assert [w.wait(60) for w in writers] == [0, 0, 0]
    table, rows = Table({"shared": True}, 400, 8), np.arange(400)
    assert len(table.missing(rows)) == 0
    np.testing.assert_array_equal(table.get(rows), np.repeat(rows[:, None], 8, 1))
    assert len(vectors.entries()) == 1


def test_the_least_recently_used_table_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLGYM_CACHE_GB", "0.0045")  # 4.5 MB
    rows = np.arange(1000)
    for number in range(4):
        table = Table({"n": number}, 1000, 250)  # 1 MB each
        table.put(rows, np.ones((1000, 250)))
        os.utime(table.folder / "facts.json", (number + 1, number + 1))
    Table({"n": 9}, 1000, 250)
    assert [entry.facts["n"] for entry in vectors.entries()] == [1, 2, 3, 9]
    monkeypatch.setenv("CLGYM_CACHE_GB", "much")
    with pytest.raises(BadOutput, match="CLGYM_CACHE_GB"):
        Table({"n": 10}, 10, 2)


def test_clean_spares_what_was_used_lately() -> None:
    old, new = Table({"n": 0}, 5, 2), Table({"n": 1}, 5, 2)
    week_ago = time.time() - 7 * 86400
    os.utime(old.folder / "facts.json", (week_ago, week_ago))
    assert [entry.facts["n"] for entry in vectors.clean(older_than_days=3)] == [0]
    assert new.folder.is_dir()
    assert not old.folder.exists()
    assert len(vectors.clean()) == 1
    assert vectors.entries() == []


def filled(rows: int = 12) -> tuple[Table, np.ndarray]:
    table, values = Table({"a": 1}, rows, 4), np.random.rand(rows, 4).astype(np.float32)
    table.put(np.arange(rows), values)
    return table, values


@pytest.mark.parametrize("name", ["values.npy", "marks.npy"])
def test_a_damaged_vector_is_computed_anew(name: str, caplog: pytest.LogCaptureFixture) -> None:
    table, values = filled()
    path = table.folder / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 64
    path.write_bytes(data)
    again = Table({"a": 1}, 12, 4)
    assert again.missing(np.arange(12)).tolist() == [11]
    assert "damaged" in caplog.text
    again.put(np.array([11]), values[[11]])
    np.testing.assert_array_equal(again.get(np.arange(12)), values)
    assert len(Table({"a": 1}, 12, 4).missing(np.arange(12))) == 0


def test_a_damaged_vector_is_never_given(monkeypatch: pytest.MonkeyPatch) -> None:
    table, _ = filled()
    data = bytearray((table.folder / "values.npy").read_bytes())
    data[-1] ^= 64
    (table.folder / "values.npy").write_bytes(data)
    with pytest.raises(BadOutput, match="as they were written"):
        Table({"a": 1}, 12, 4).get(np.array([11]))


def test_a_row_that_stands_in_anothers_place_is_missing() -> None:
    table, _ = filled()
    for name, size in (("values.npy", 16), ("marks.npy", 8)):
        path = table.folder / name
        data = path.read_bytes()
        path.write_bytes(data[: -2 * size] + data[-size:] + data[-2 * size : -size])
    assert Table({"a": 1}, 12, 4).missing(np.arange(12)).tolist() == [10, 11]


@pytest.mark.parametrize("name", ["values.npy", "marks.npy", "facts.json"])
@pytest.mark.parametrize("length", [0, 1, 20, -4])
def test_a_table_that_was_cut_is_made_anew(
    name: str, length: int, caplog: pytest.LogCaptureFixture
) -> None:
    table, values = filled()
    path = table.folder / name
    path.write_bytes(path.read_bytes()[:length])
    again = Table({"a": 1}, 12, 4)
    assert len(again.missing(np.arange(12))) == 12
    assert "damaged" in caplog.text
    again.put(np.arange(12), values)
    np.testing.assert_array_equal(again.get(np.arange(12)), values)
    assert [entry.filled for entry in vectors.entries()] == [12]


def test_a_table_of_an_earlier_version_is_made_anew() -> None:
    table, values = filled()
    (table.folder / "marks.npy").rename(table.folder / "filled.npy")
    assert [entry.filled for entry in vectors.entries()] == [0]
    again = Table({"a": 1}, 12, 4)
    assert len(again.missing(np.arange(12))) == 12


def test_a_table_whose_facts_were_changed_is_not_listed() -> None:
    table, _ = filled()
    (table.folder / "facts.json").write_text('{"a": 2}')
    assert vectors.entries() == []


ELSEWHERE = """
import sys
from clgym.data.vectors import Table, clean
if "clean" in sys.argv:
    clean()
if "make" in sys.argv:
    Table({"a": 1}, 12, 4)
"""


def elsewhere(*steps: str) -> None:
    subprocess.run([sys.executable, "-c", ELSEWHERE, *steps], env=os.environ, check=True)


@pytest.mark.parametrize("steps", [["clean"], ["clean", "make"]])
def test_an_open_table_that_is_deleted_or_made_anew_can_be_filled_and_read(
    steps: list[str],
) -> None:
    """Its rows were read as zeros: one file was written, another one was mapped."""
    table, values = Table({"a": 1}, 12, 4), np.random.rand(12, 4).astype(np.float32)
    rows = np.arange(12)
    table.put(rows[:5], values[:5])
    elsewhere(*steps)
    assert table.missing(rows).tolist() == list(range(5, 12))
    table.put(rows[5:], values[5:])
    np.testing.assert_array_equal(table.get(rows), values)
    assert len(Table({"a": 1}, 12, 4).missing(rows)) == 12


def test_rows_without_features_are_never_given() -> None:
    table = Table({"a": 1}, 12, 4)
    with pytest.raises(BadOutput, match="2 rows without features"):
        table.get(np.array([3, 7]))


def test_what_another_process_filled_anew_is_found() -> None:
    table = Table({"a": 1}, 12, 4)
    elsewhere("clean")
    other, values = Table({"a": 1}, 12, 4), np.random.rand(12, 4).astype(np.float32)
    other.put(np.arange(12), values)
    np.testing.assert_array_equal(table.get(np.arange(12)), values)


def test_files_of_two_tables_are_never_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process makes the table anew while this one opens its files, one by one."""
    filled()
    opened, times = vectors._File.__init__, []

    def opens(file: object, path: Path, *args: object) -> None:
        opened(file, path, *args)  # type: ignore[arg-type]
        times.append(path.name)
        if len(times) == 1:
            elsewhere("clean", "make")

    monkeypatch.setattr(vectors._File, "__init__", opens)
    table = Table({"a": 1}, 12, 4)
    assert len(times) > 2, "opened again"
    assert len(table.missing(np.arange(12))) == 12


def test_a_file_that_cannot_be_opened_now_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files is no damage: others would be left with files that nobody fills."""
    table, _ = filled()
    before = (table.folder / "values.npy").stat().st_ino

    def refused(*args: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr(vectors._File, "__init__", refused)
        with pytest.raises(BadOutput, match="Too many open files"):
            Table({"a": 1}, 12, 4)
    assert (table.folder / "values.npy").stat().st_ino == before
    assert len(Table({"a": 1}, 12, 4).missing(np.arange(12))) == 0
