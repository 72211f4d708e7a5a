"""Sources that may exceed memory: what is read in parts has the bits of the whole."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clgym.data import digests, npy, store
from clgym.data import images as stored_images
from clgym.data.images import Images
from clgym.data.npz import PackedRows, large_array
from clgym.data.sources import Source, load_source
from clgym.errors import BadSource

COUNT = 23
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 10, 7, 3), dtype=np.uint8)
LABELS = np.arange(COUNT) % 3


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Everything is read by parts of so many bytes, and given back after each of them."""

    def patch(size: int) -> None:
        monkeypatch.setattr(digests, "_CHUNK", size)
        monkeypatch.setattr(npy, "RESIDENT", 1)

    return patch


# --- archives ------------------------------------------------------------------------------------

FORMS: dict[str, Callable[[Path, np.ndarray], None]] = {
    "stored": lambda path, x: write(np.savez, path, x),
    "compressed": lambda path, x: write(np.savez_compressed, path, x),
    "stored, columns first": lambda path, x: write(np.savez, path, np.asfortranarray(x)),
    "compressed, columns first": lambda path, x: write(
        np.savez_compressed, path, np.asfortranarray(x)
    ),
}


def write(save: Any, path: Path, images: np.ndarray) -> None:
    save(path, labels=LABELS, images=images, classes=np.array(["a", "b", "c"]))


def rows_of(source: Source) -> list[tuple[bytes, int]]:
    halves = (source.train, source.test)
    return sorted(
        (image.tobytes(), int(label))
        for half in halves
        for image, label in zip(half.images, half.labels, strict=True)
    )


@pytest.mark.parametrize("size", [1, 500, 10**9])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("grey", [False, True])
def test_an_archive_gives_its_images_whatever_its_form_and_the_parts(
    tmp_path: Path, small_parts: Callable[[int], None], form: str, size: int, grey: bool
) -> None:
    images = IMAGES[..., 0] if grey else IMAGES
    FORMS["stored"](tmp_path / "plain.npz", images)
    plain = load_source(f"npz:{tmp_path / 'plain.npz'}")
    small_parts(size)
    FORMS[form](tmp_path / "a.npz", images)
    found = load_source(f"npz:{tmp_path / 'a.npz'}")
    # The oracle: the arrays that were saved.
    assert rows_of(found) == sorted(
        (row.tobytes(), int(y)) for row, y in zip(images, LABELS, strict=True)
    )
    assert (found.fingerprint, found.flags) == (plain.fingerprint, plain.flags)


def of_archive(path: Path) -> np.ndarray | PackedRows:
    with zipfile.ZipFile(path) as archive:
        return large_array(archive, archive.getinfo("images.npy"), path)


def test_only_what_is_asked_for_is_in_memory(tmp_path: Path) -> None:
    FORMS["stored"](tmp_path / "a.npz", IMAGES)
    FORMS["compressed"](tmp_path / "b.npz", IMAGES)
    mapped, packed = of_archive(tmp_path / "a.npz"), of_archive(tmp_path / "b.npz")
    assert isinstance(mapped, np.memmap) and mapped.mode == "r"
    assert isinstance(packed, PackedRows)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, COUNT), st.integers(0, COUNT)), min_size=1, max_size=5))
def test_slices_of_a_compressed_array_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, slices: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("packed") / "a.npz"
    FORMS["compressed"](path, IMAGES)
    packed = of_archive(path)
    for first, last in slices:
        wanted = IMAGES[first : max(first, last)]
        np.testing.assert_array_equal(packed[first : max(first, last)], wanted)


@pytest.mark.parametrize("form", ["stored", "compressed"])
def test_a_damaged_archive_is_refused(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a.npz"
    FORMS[form](path, IMAGES)
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("images.npy")
    data = bytearray(path.read_bytes())
    data[member.header_offset + member.compress_size // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(BadSource, match=r"a\.npz to hold"):
        load_source(f"npz:{path}")


def test_values_of_a_compressed_array_are_named(tmp_path: Path) -> None:
    FORMS["compressed"](tmp_path / "a.npz", IMAGES.astype(np.float32) / 255)
    with pytest.raises(BadSource, match=r"float32 \[23, 10, 7, 3\] from 0 to 1.*\* 255"):
        load_source(f"npz:{tmp_path / 'a.npz'}")


def test_an_archive_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npz"
    FORMS["stored"](path, IMAGES)
    place = path.read_bytes().index(IMAGES[3].tobytes())
    hash_images = store.image_hashes

    def changed(images: Any) -> np.ndarray:
        hashes = hash_images(images)
        with path.open("r+b") as file:
            file.seek(place)
            file.write(bytes(50))
        return hashes

    monkeypatch.setattr(store, "image_hashes", changed)
    with pytest.raises(BadSource, match="while nobody changes the files"):
        load_source(f"npz:{path}")


# --- checks of large splits ----------------------------------------------------------------------


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many images were hashed, call by call; every split counts as a large one."""
    counts: list[int] = []
    hash_images = store.image_hashes

    def noted(images: Any) -> np.ndarray:
        counts.append(images.shape[0])
        return hash_images(images)

    monkeypatch.setattr(store, "image_hashes", noted)
    monkeypatch.setattr(store, "LARGE", 0)
    monkeypatch.setattr(store, "_SAMPLES", 1)
    monkeypatch.setattr(store, "_SAMPLE", IMAGES[0].nbytes)
    yield counts


def load_in_new_process(path: Path, hashed: list[int]) -> Source:
    """As a process does that has seen no source yet."""
    store._verified.clear()
    hashed.clear()
    return load_source(f"npz:{path}")


def test_images_of_a_large_split_are_compared_as_a_whole_once(
    tmp_path: Path, hashed: list[int]
) -> None:
    FORMS["stored"](tmp_path / "a.npz", IMAGES)
    first = load_in_new_process(tmp_path / "a.npz", hashed)
    sizes = len(first.train.labels), len(first.test.labels)
    assert hashed == [COUNT, *sizes]
    again = load_in_new_process(tmp_path / "a.npz", hashed)
    assert hashed == [1, 1]
    assert rows_of(again) == rows_of(first)


def test_a_large_split_whose_file_was_written_is_compared_again(
    tmp_path: Path, hashed: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    FORMS["stored"](tmp_path / "a.npz", IMAGES)
    first = load_in_new_process(tmp_path / "a.npz", hashed)
    wanted, path = rows_of(first), first.train.path
    before = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    path.chmod(0o444)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # nobody can set the other time
    again = load_in_new_process(tmp_path / "a.npz", hashed)
    assert "damaged" in caplog.text
    assert rows_of(again) == wanted


def test_samples_find_damage_that_the_system_does_not_tell(
    tmp_path: Path,
    hashed: list[int],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "_identity", lambda path: (0,))
    FORMS["stored"](tmp_path / "a.npz", IMAGES)
    first = load_in_new_process(tmp_path / "a.npz", hashed)
    wanted, path = rows_of(first), first.train.path
    path.chmod(0o644)
    data = path.read_bytes()
    path.write_bytes(data[:128] + bytes(255 - byte for byte in data[128:]))
    again = load_in_new_process(tmp_path / "a.npz", hashed)
    assert "damaged" in caplog.text
    assert rows_of(again) == wanted


# --- what a learner gathers ----------------------------------------------------------------------


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.integers(0, COUNT - 1), max_size=40),
    at_once=st.integers(1, 6000),
    side=st.sampled_from([None, 4, 7, 13]),
    grey=st.booleans(),
    gain=st.sampled_from([1.0, 2.5]),
    transform=st.sampled_from([None, ("rotate", 30.0), ("blur", 1.0), ("contrast", 1.5)]),
)
def test_parts_of_an_experience_have_the_bits_of_the_whole(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: list[int],
    at_once: int,
    side: int | None,
    grey: bool,
    gain: float,
    transform: tuple[str, float] | None,
) -> None:
    np.save(tmp_path / "images.npy", (IMAGES[..., :1] if grey else IMAGES) // 3)
    chosen = np.array(rows, dtype=np.int64)
    change = transform if rows else None

    def gathered(size: int) -> torch.Tensor:
        monkeypatch.setattr(stored_images, "AT_ONCE", size)
        path = tmp_path / "images.npy"
        return Images(path, side, torch.device("cpu"), 3, gain).gather(chosen, change)

    whole, parts = gathered(10**9), gathered(at_once)
    assert parts.is_contiguous() and whole.is_contiguous()
    assert torch.equal(whole, parts)
    if side is None and change is None and gain == 1.0:  # the oracle: indexing
        wanted = np.broadcast_to(
            IMAGES[chosen][..., :1] if grey else IMAGES[chosen], (len(rows), 10, 7, 3)
        )
        np.testing.assert_array_equal(parts.numpy(), wanted.transpose(0, 3, 1, 2) // 3)


# --- memory --------------------------------------------------------------------------------------

MEASURE = """
import json, resource, sys
import numpy as np
from clgym.data import digests, npy
from clgym.learner.peak_memory import forget_peak, peak_bytes, resident_bytes
npy.RESIDENT, digests._CHUNK = 16 * 2**20, 4 * 2**20
{prepare}
forget_peak()
before = resident_bytes()
{work}
sys.stdout.write(json.dumps(peak_bytes() - before))
"""
LOAD = ("from clgym.data.sources import load_source", "load_source('npz:' + sys.argv[1])")
GATHER = (
    "import torch\\nfrom pathlib import Path\\nfrom clgym.data.images import Images\\n"
    "images = Images(Path(sys.argv[1]), {side}, torch.device('cpu'))\\n"
    "images.gather(np.arange(200))",
    "found = images.gather(np.arange(len(images)))",
)
MIB = 2**20


def peak_of(work: tuple[str, str], path: Path, **values: Any) -> float:
    """Peak memory in MiB above that before the work, pages of mapped files included."""
    code = MEASURE.format(prepare=work[0].format(**values).replace("\\n", "\n"), work=work[1])
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout) / MIB


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="it needs Linux's figures")
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_decoding_holds_a_part_of_a_source(tmp_path: Path, save: Any) -> None:
    count = 100 * MIB // (64 * 64 * 3)
    images = np.full((count, 64, 64, 3), 200, np.uint8)
    images[:, 0, 0] = np.indices((count, 3)).sum(0)  # not all alike
    labels = np.arange(count) % 5
    save(tmp_path / "a.npz", images=images, labels=labels, classes=np.array([*"abcde"]))
    assert peak_of(LOAD, tmp_path / "a.npz") < 75


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="it needs Linux's figures")
@pytest.mark.parametrize("side", [None, 32])
def test_an_experience_is_in_memory_once(tmp_path: Path, side: int | None) -> None:
    count = 100 * MIB // (64 * 64 * 3)
    np.save(tmp_path / "a.npy", np.ones((count, 64, 64, 3), np.uint8))
    held = 100 if side is None else 25
    assert peak_of(GATHER, tmp_path / "a.npy", side=side) < held + 130
