"""torchvision's own files: CIFAR pickles, idx files, SVHN; whole, damaged and forged."""

import gzip
import hashlib
import os
import pickle
import struct
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from clgym.data.cards import CARDS
from clgym.data.sources import load_source
from clgym.errors import BadSource


def pairs(split):
    return Counter(
        (image.tobytes(), int(y)) for image, y in zip(split.images, split.labels, strict=True)
    )


# --- CIFAR pickles -------------------------------------------------------------------------------


def cifar_batch(content, key, protocol=2):
    """As torchvision reads it: rows of 3 x 32 x 32 bytes, keys in text or in bytes."""
    rows = content["images"].transpose(0, 3, 1, 2).reshape(len(content["images"]), -1)
    entry = {"data": np.ascontiguousarray(rows), key: content["labels"].tolist(), "batch": b"x"}
    return pickle.dumps(entry, protocol=protocol)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_and_npz_give_the_same_source(tmp_path, make_npz, monkeypatch, protocol):
    names = [name.split("/")[1] for name in CARDS["cifar100"].classes]
    folder = tmp_path / "p" / "cifar-100-python"
    folder.mkdir(parents=True)
    for seed, half in enumerate(("train", "test")):
        path = tmp_path / "n" / "cifar100" / f"{half}.npz"
        content = make_npz(path, n=200, classes=names, shape=(32, 32, 3), seed=seed)
        (folder / half).write_bytes(cifar_batch(content, "fine_labels", protocol))
    md5s = {f.name: hashlib.md5(f.read_bytes()).hexdigest() for f in folder.iterdir()}
    facts = {"train": 200, "test": 200, "checksums": md5s, "fingerprints": {}}
    monkeypatch.setitem(CARDS, "cifar100", replace(CARDS["cifar100"], **facts))
    a, b = load_source("cifar100", tmp_path / "p"), load_source("cifar100", tmp_path / "n")
    assert a.fingerprint == b.fingerprint and a.classes == b.classes
    assert a.name == b.name == "cifar100" and a.flags == ()
    for ours, theirs in ((a.train, b.train), (a.test, b.test)):
        for field in ("images", "labels", "hashes"):
            np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))


def test_torchvision_reads_the_same_pickles(tmp_path, make_npz, monkeypatch):
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    names = [name.split("/")[1] for name in CARDS["cifar10"].classes]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    for i, name in enumerate(CARDS["cifar10"].checksums):
        options = {"n": 10, "classes": names, "shape": (32, 32, 3), "seed": i}
        content = make_npz(tmp_path / "tmp.npz", **options)
        (folder / name).write_bytes(cifar_batch(content, "labels"))
    for attribute in ("train_list", "test_list"):
        files = [(name, None) for name, _ in getattr(CIFAR10, attribute)]
        monkeypatch.setattr(CIFAR10, attribute, files)
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": None})
    ours = load_source("cifar10", tmp_path)
    assert "files with other checksums than the published ones" in ours.flags
    for train, split in ((True, ours.train), (False, ours.test)):
        peer = CIFAR10(tmp_path, train=train)
        rows = zip(peer.data, peer.targets, strict=True)
        assert pairs(split) == Counter((np.asarray(i).tobytes(), int(y)) for i, y in rows)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_pickle_cannot_run_code(tmp_path):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    (folder / "train").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    (folder / "test").write_bytes(b"")
    with pytest.raises(BadSource, match=r"train.*system"):
        load_source("cifar100", tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps([1, 2]),
        pickle.dumps({"data": np.zeros((2, 3072), np.uint8)}),
        pickle.dumps({"data": np.zeros((2, 5), np.uint8), "fine_labels": [0, 1]}),
        pickle.dumps({"data": np.zeros((2, 3072)), "fine_labels": [0, 1]}),
        pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "fine_labels": [0, 1]})[:-900],
    ],
    ids=["empty", "text", "list", "no-labels", "shape", "float", "truncated"],
)
def test_damaged_pickles_are_named(tmp_path, content):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name in ("train", "test"):
        (folder / name).write_bytes(content)
    with pytest.raises(BadSource, match="cifar-100-python"):
        load_source("cifar100", tmp_path)


# --- idx -----------------------------------------------------------------------------------------


def idx(array):
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return head + array.astype(np.uint8).tobytes()


def write_idx(folder, zipped=False, **damage):
    """Four files; ``damage`` maps the beginning of a file's name to a change of its bytes."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    content = {}
    for half, n in (("train", 30), ("t10k", 20)):
        images = generator.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        content[half] = images, np.arange(n) % 10
        for kind, array in (("images-idx3", images), ("labels-idx1", content[half][1])):
            name = f"{half}-{kind}-ubyte"
            data = gzip.compress(idx(array)) if zipped else idx(array)
            change = damage.get(half, lambda data: data) if kind[0] == "i" else bytes
            (folder / (name + ".gz" * zipped)).write_bytes(change(data))
    return content


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("kmnist", "KMNIST")])
def test_idx_files_are_read(tmp_path, zipped, name, folder):
    content = write_idx(tmp_path / folder / "raw", zipped)
    source = load_source(name, tmp_path)
    assert source.classes == CARDS[name].classes
    for split, half in ((source.train, "train"), (source.test, "t10k")):
        expected = zip(*content[half], strict=True)
        assert pairs(split) == Counter((i.tobytes(), int(y)) for i, y in expected)
        assert split.images.shape[1:] == (28, 28, 1)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("cut", [0, 3, 10, 500, -1])
def test_truncated_idx_is_named(tmp_path, zipped, cut):
    write_idx(tmp_path / "MNIST" / "raw", zipped, train=lambda data: data[:cut])
    with pytest.raises(BadSource, match="train-images-idx3-ubyte"):
        load_source("mnist", tmp_path)


def test_idx_of_another_kind_and_missing_part(tmp_path):
    write_idx(tmp_path / "a" / "MNIST" / "raw", train=lambda data: b"\0\0\x0d\x03" + data[4:])
    with pytest.raises(BadSource, match="idx header"):
        load_source("mnist", tmp_path / "a")
    write_idx(tmp_path / "b" / "MNIST" / "raw")
    (tmp_path / "b" / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(BadSource, match="t10k-labels"):
        load_source("mnist", tmp_path / "b")


# --- SVHN ----------------------------------------------------------------------------------------


def test_svhn_files_are_read(tmp_path):
    import scipy.io
    from torchvision.datasets import SVHN

    generator = np.random.default_rng(0)
    for half in ("train", "test"):
        content = {
            "X": generator.integers(0, 256, (32, 32, 3, 20), dtype=np.uint8),
            "y": (np.arange(20) % 10 + 1).astype(np.uint8)[:, None],
        }
        (tmp_path / "svhn").mkdir(exist_ok=True)
        scipy.io.savemat(tmp_path / "svhn" / f"{half}_32x32.mat", content)
    source = load_source("svhn", tmp_path)
    assert source.flags[-1] == "files with other checksums than the published ones"
    peer = SVHN.__new__(SVHN)
    peer._check_integrity = lambda: True
    peer.__init__(str(tmp_path / "svhn"))
    rows = zip(peer.data.transpose(0, 2, 3, 1), peer.labels, strict=True)
    assert pairs(source.train) == Counter((i.tobytes(), int(y)) for i, y in rows)


def test_damaged_svhn_is_named(tmp_path):
    for half in ("train", "test"):
        (tmp_path / f"{half}_32x32.mat").write_bytes(b"MATLAB 5.0" + bytes(200))
    with pytest.raises(BadSource, match=r"train_32x32\.mat"):
        load_source("svhn", tmp_path)
