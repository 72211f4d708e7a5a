"""What must hold of hashes and orders whatever the images are, and what the cache promises."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clgym.data import sources, store
from clgym.data.content import held_by_hash
from clgym.data.sources import load_source
from clgym.errors import BadOutput
from clgym.files import part_name


def random_split(seed, n, distinct=256):
    """Few distinct pixel values and labels, so that copies come up often."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, distinct, (n, 2, 1, 1), dtype=np.uint8)
    return images, generator.integers(0, 3, n)


def in_order(images, labels):
    hashes = store.image_hashes(images)
    order = store.canonical_order(hashes, labels)
    return images[order], labels[order], hashes[order]


def test_hash_is_sha256_of_shape_type_and_bytes():
    images, _ = random_split(0, 7)
    expected = [hashlib.sha256(b"2x1x1 uint8\n" + row.tobytes()).digest() for row in images]
    assert [bytes(row) for row in store.image_hashes(images)] == expected


def test_hash_tells_shapes_apart():
    row = np.arange(12, dtype=np.uint8)
    assert bytes(store.image_hashes(row.reshape(1, 2, 2, 3))[0]) != bytes(
        store.image_hashes(row.reshape(1, 4, 1, 3))[0]
    )


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([2, 256]))
def test_canonical_order_forgets_the_order_of_files(seed, n, distinct):
    images, labels = random_split(seed, n, distinct)
    shuffle = np.random.default_rng(seed + 1).permutation(n)
    ours, theirs = in_order(images, labels), in_order(images[shuffle], labels[shuffle])
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    # The oracle: Python's own ordering of (bytes, label).
    pairs = [(bytes(h), int(y)) for h, y in zip(ours[2], ours[1], strict=True)]
    assert pairs == sorted(pairs)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.data())
def test_one_pixel_one_label_one_name_changes_the_digest(seed, n, data):
    images, labels = random_split(seed, n)

    def digest(images, labels, classes=("a", "b", "c"), decoding=""):
        _, labels, hashes = in_order(images, labels)
        return store.digest(classes, hashes, labels, decoding)

    before = digest(images, labels)
    row = data.draw(st.integers(0, n - 1))
    pixel, label = images.copy(), labels.copy()
    pixel[row, 0, 0, 0] ^= 1
    label[row] = (label[row] + 1) % 3
    digests = {
        before,
        digest(pixel, labels),
        digest(images, label),
        digest(images, labels, ("a", "b", "d")),
        digest(images, labels, decoding="shorter side 8"),
    }
    assert len(digests) == 5


def fifth_by_hash(images, labels):
    """The rule of the split in plain Python: which rows are held out."""
    hashes = [bytes(h) for h in store.image_hashes(images)]
    held = set()
    for label in set(labels.tolist()):
        rows = sorted((h, i) for i, h in enumerate(hashes) if labels[i] == label)
        chosen = {h for h, _ in rows[: len(rows) // 5]}
        if {h for h, _ in rows} == chosen:
            chosen -= {max(chosen)}
        held |= {i for h, i in rows if h in chosen}
    learned = {hashes[i] for i in range(len(hashes)) if i not in held}
    return [i in held and hashes[i] not in learned for i in range(len(hashes))]


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 60), st.sampled_from([1, 2, 256]), st.integers(1, 3)
)
def test_split_by_hash_is_a_fifth_in_any_order_and_parts_no_copies(seed, n, distinct, classes):
    images, labels = random_split(seed, n, distinct)
    labels %= classes
    hashes = store.image_hashes(images)
    held = held_by_hash(hashes, labels)
    shuffle = np.random.default_rng(seed + 1).permutation(n)
    np.testing.assert_array_equal(held_by_hash(hashes[shuffle], labels[shuffle]), held[shuffle])
    assert held.tolist() == fifth_by_hash(images, labels)
    # No image on both sides, whatever its labels; no class without anything to learn from.
    assert not {bytes(h) for h in hashes[held]} & {bytes(h) for h in hashes[~held]}
    assert set(labels[~held]) == set(labels)
    if len({bytes(h) for h in hashes}) == n:
        for label in set(labels):
            assert held[labels == label].sum() == (labels == label).sum() // 5


def test_second_load_decodes_nothing(tmp_path, make_npz, monkeypatch):
    make_npz(tmp_path / "a.npz")
    first = load_source(f"npz:{tmp_path / 'a.npz'}")
    monkeypatch.setattr(sources, "_decode", None)
    second = load_source(f"npz:{tmp_path / 'a.npz'}")
    assert second.fingerprint == first.fingerprint
    np.testing.assert_array_equal(second.train.images, first.train.images)
    assert second.train.path == first.train.path


def test_changed_file_is_decoded_anew(tmp_path, make_npz):
    path = tmp_path / "a.npz"
    make_npz(path, seed=0)
    first = load_source(f"npz:{path}")
    make_npz(path, seed=1)
    assert load_source(f"npz:{path}").fingerprint != first.fingerprint


def test_test_labels_lie_apart_from_images(tmp_path, make_npz, cache):
    make_npz(tmp_path / "a.npz")
    source = load_source(f"npz:{tmp_path / 'a.npz'}")
    folder = source.test.path.parent
    assert sorted(p.name for p in folder.iterdir()) == ["test.npy", "train.npy"]
    assert [p.parent.parent.name for p in cache.rglob("test.npy")].count("answers") == 1
    assert not list((cache / "sources" / "labels").rglob("test.npy"))
    np.testing.assert_array_equal(np.load(source.test.path), source.test.images)


def damaged_at(path, change):
    """Replace a file of the cache, which may only be read, by a changed one."""
    data = bytearray(path.read_bytes())
    path.unlink()
    path.write_bytes(change(data))


def flipped(place, bit=1):
    def change(data):
        data[place] ^= bit
        return data

    return change


KINDS = ["images", "labels", "hashes", "answers", "keys"]
CHANGES = {
    "cut": lambda data: data[:-3],
    "longer": lambda data: data + b"xyz",
    "last byte": flipped(-1),
    "middle": flipped(-40, 4),
    "first byte": flipped(0),
    "empty": lambda data: b"",
    "another type": lambda data: data.replace(b"|u1", b"|i1").replace(b"<i8", b"<u8"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", CHANGES)
def test_damaged_cache_is_written_anew(tmp_path, make_npz, cache, kind, change, caplog):
    made = make_npz(tmp_path / "a.npz")
    first = load_source(f"npz:{tmp_path / 'a.npz'}")
    expected = np.array(first.test.images), np.array(first.test.labels)
    before = {path: path.read_bytes() for path in (cache / "sources" / kind).rglob("*.*")}
    for path in before:
        damaged_at(path, CHANGES[change])
    if any(path.read_bytes() != data for path, data in before.items()):
        again = load_source(f"npz:{tmp_path / 'a.npz'}")
        assert "damaged" in caplog.text
        caplog.clear()
    again = load_source(f"npz:{tmp_path / 'a.npz'}")
    assert not caplog.text
    np.testing.assert_array_equal(again.test.images, expected[0])
    np.testing.assert_array_equal(again.test.labels, expected[1])
    assert (again.fingerprint, again.flags) == (first.fingerprint, first.flags)
    assert {path: path.read_bytes() for path in before} == before
    # The oracle: the file itself, whatever its order.
    both = np.concatenate([again.train.images, again.test.images])
    assert sorted(map(bytes, both)) == sorted(map(bytes, made["images"]))


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_no_changed_byte_of_the_cache_is_believed(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cache")
    generator = np.random.default_rng(0)
    images, labels = generator.integers(0, 9, (9, 4, 4, 1), dtype=np.uint8), np.arange(9) % 3
    halves = {
        name: store.RawSplit(images, rows, labels[rows], store.image_hashes(images)[rows])
        for name, rows in (("train", np.arange(6)), ("test", np.arange(6, 9)))
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLGYM_CACHE", str(folder))
        facts = store.DecodingFacts(md5="unknown", by_hash=True, notes=[])
        store.keep("key", "card", "abc", halves, "", facts)
        assert store.find("key") is not None
        files = sorted(p for p in folder.rglob("*") if p.is_file() and "meta" not in p.parts)
        file = data.draw(st.sampled_from(files))
        place = data.draw(st.integers(0, file.stat().st_size - 1))
        damaged_at(file, flipped(place, 1 << data.draw(st.integers(0, 7))))
        found = store.find("key")
        if found is not None:  # a header may say the same in another way: the arrays are equal
            assert file.suffix == ".npy"
            order = halves["train"].canonical().rows
            np.testing.assert_array_equal(found.split("train").images, images[order])
            np.testing.assert_array_equal(found.split("train").labels, labels[order])


def test_a_split_is_hashed_once_in_a_process(tmp_path, make_npz, monkeypatch):
    make_npz(tmp_path / "a.npz")
    load_source(f"npz:{tmp_path / 'a.npz'}")
    load_source(f"npz:{tmp_path / 'a.npz'}")
    monkeypatch.setattr(store, "image_hashes", None)
    load_source(f"npz:{tmp_path / 'a.npz'}")


def test_files_of_the_cache_may_only_be_read(tmp_path, make_npz, cache):
    make_npz(tmp_path / "a.npz")
    load_source(f"npz:{tmp_path / 'a.npz'}")
    modes = {oct(path.stat().st_mode & 0o777) for path in cache.rglob("*.npy")}
    assert modes == {"0o444"}


def test_temporary_files_of_dead_writers_are_deleted(tmp_path, make_npz, cache):
    make_npz(tmp_path / "a.npz")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folder = cache / "sources" / "keys"
    folder.mkdir(parents=True)
    here = part_name("a")
    left = folder / here.replace(f"-{os.getpid()}-", f"-{gone.pid}-")
    at_work, elsewhere, old = folder / here, folder / ".a.other-1-0a1b2c3d.part", folder / ".b.part"
    for path in (left, at_work, elsewhere, old):
        path.write_text("half")
    os.utime(old, (0, 0))
    load_source(f"npz:{tmp_path / 'a.npz'}")
    assert {p.name for p in folder.glob(".*")} == {at_work.name, elsewhere.name}


def test_arrays_cannot_be_changed(tmp_path, make_npz):
    make_npz(tmp_path / "a.npz")
    train = load_source(f"npz:{tmp_path / 'a.npz'}").train
    for array in (train.images, train.labels, train.hashes):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_concurrent_writers_agree(tmp_path, make_npz, cache):
    path = tmp_path / "a.npz"
    make_npz(path, n=2000, shape=(16, 16, 3))
    code = (
        "import sys\nfrom clgym.data.sources import load_source\n"
        "s = load_source(sys.argv[1])\n"
        "sys.stdout.write(f'{s.fingerprint} {int(s.train.images.sum())}')\n"
    )
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", code, f"npz:{path}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "CLGYM_CACHE": str(cache)},
        )
        for _ in range(8)
    ]
    answers = [worker.communicate() for worker in workers]
    assert all(worker.returncode == 0 for worker in workers), answers
    assert len({out for out, _ in answers}) == 1
    assert not list(cache.rglob("*.part"))


def test_unwritable_cache_is_a_named_error(tmp_path, make_npz, monkeypatch):
    make_npz(tmp_path / "a.npz")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CLGYM_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(BadOutput, match="CLGYM_CACHE"):
        load_source(f"npz:{tmp_path / 'a.npz'}")


def test_full_disk_leaves_no_half_written_file(tmp_path, make_npz, monkeypatch, cache):
    make_npz(tmp_path / "a.npz")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadOutput, match="No space left"):
        load_source(f"npz:{tmp_path / 'a.npz'}")
    assert not [p for p in cache.rglob("*") if p.is_file()]
