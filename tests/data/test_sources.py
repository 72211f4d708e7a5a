"""Sources by name: layouts, cards, class names, canonical rows."""

import gzip
import hashlib
import os
import pickle
import struct
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clgym.data.cards import CARDS
from clgym.data.sources import find_card, load_source
from clgym.errors import BadConfig, BadSource, MissingData, UnknownName

NAMES = (
    "digits mnist fashion-mnist kmnist svhn cifar10 cifar100 tiny-imagenet imagenet-r imagenet-a "
    "cub200 imagenet100 pacs-photo pacs-art-painting pacs-cartoon pacs-sketch"
)


def relaxed(monkeypatch, name, **facts):
    """Let small data match a card."""
    monkeypatch.setitem(CARDS, name, replace(CARDS[name], fingerprints={}, **facts))


def pairs(split):
    return Counter(
        (image.tobytes(), int(y)) for image, y in zip(split.images, split.labels, strict=True)
    )


# --- cards ---------------------------------------------------------------------------------------


def test_every_source_that_was_asked_for_has_a_card():
    assert set(NAMES.split()) == set(CARDS)


@pytest.mark.parametrize("card", CARDS.values(), ids=lambda card: card.name)
def test_card_is_consistent(card):
    assert card.licence and card.origin.startswith("http") and card.title
    assert len(card.mean) == len(card.std)
    if card.classes:
        assert len(set(card.classes)) == card.class_count
        assert all(name.count("/") == 1 for name in card.classes)
    for digest in [*card.fingerprints.values()]:
        assert len(bytes.fromhex(digest)) == 32
    for md5 in [*card.checksums.values(), *(md5 for _, md5 in card.downloads)]:
        assert len(bytes.fromhex(md5)) == 16


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "kmnist"])
def test_checksums_of_the_mnist_family_are_torchvisions(name):
    from torchvision import datasets

    theirs = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}[name]
    peer = getattr(datasets, theirs)
    assert CARDS[name].checksums == dict(peer.resources)
    assert CARDS[name].downloads[0][0].removesuffix(peer.resources[0][0]) in peer.mirrors


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_checksums_of_cifar_are_torchvisions(name):
    from torchvision import datasets

    peer = getattr(datasets, name.upper())
    assert CARDS[name].checksums == dict(peer.train_list + peer.test_list)
    assert CARDS[name].downloads == ((peer.url, peer.tgz_md5),)
    assert CARDS[name].folders == (peer.base_folder,)


def test_checksums_of_svhn_are_torchvisions():
    from torchvision.datasets import SVHN

    theirs = [SVHN.split_list[split] for split in ("train", "test")]
    assert CARDS["svhn"].downloads == tuple((url, md5) for url, _, md5 in theirs)
    assert CARDS["svhn"].checksums == {file: md5 for _, file, md5 in theirs}


def test_unknown_name_shows_near_matches():
    with pytest.raises(UnknownName, match="'cifar100'"):
        load_source("cifar1000")
    assert find_card("tiny_imagenet").name == "tiny-imagenet"


# --- digits --------------------------------------------------------------------------------------


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    parts = train_test_split(
        np.asarray(x), np.asarray(y), test_size=0.2, random_state=0, stratify=y
    )
    source = load_source("digits")
    assert (source.name, source.flags, source.max_value) == ("digits", (), 16)
    for split, images, labels in ((source.train, *parts[::2]), (source.test, *parts[1::2])):
        rows = np.asarray(images).astype(np.uint8).reshape(-1, 8, 8, 1)
        expected = Counter((r.tobytes(), int(c)) for r, c in zip(rows, labels, strict=True))
        assert pairs(split) == expected
    np.testing.assert_allclose(source.train.images.mean() / 16, source.mean[0], atol=1e-4)
    np.testing.assert_allclose(source.train.images.std() / 16, source.std[0], atol=1e-4)


def test_loading_imports_no_torch_and_scikit_learn_only_once(cache):
    code = (
        "import sys\nfrom clgym.data.sources import load_source\n"
        "assert 'sklearn' not in sys.modules\nload_source('digits')\n"
        "assert 'torch' not in sys.modules\nsys.stdout.write(str('sklearn' in sys.modules))\n"
    )
    answers = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "CLGYM_CACHE": str(cache)},
        ).stdout
        for _ in range(2)
    ]
    assert answers == ["True", "False"]


# --- npz -----------------------------------------------------------------------------------------


def test_npz_pair_keeps_its_split(tmp_path, make_npz):
    train = make_npz(tmp_path / "d" / "train.npz", seed=1)
    test = make_npz(tmp_path / "d" / "test.npz", n=6, seed=2)
    source = load_source(f"npz:{tmp_path / 'd'}")
    assert source.classes == ("cat", "dog")
    assert source.name == f"npz~{source.fingerprint[:8]}" and source.flags
    for split, content in ((source.train, train), (source.test, test)):
        expected = zip(content["images"], content["labels"], strict=True)
        assert pairs(split) == Counter((i.tobytes(), int(y)) for i, y in expected)


def test_order_of_rows_and_of_classes_changes_nothing(tmp_path, make_npz):
    content = make_npz(tmp_path / "a" / "train.npz")
    make_npz(tmp_path / "a" / "test.npz", seed=5)
    shuffle = np.random.default_rng(0).permutation(20)
    changes = {"images": content["images"][shuffle], "labels": content["labels"][shuffle]}
    make_npz(tmp_path / "b" / "train.npz", **changes)
    # The test half counts its classes the other way round.
    test = np.load(tmp_path / "a" / "test.npz")
    turned = {"classes": test["classes"][::-1], "labels": 1 - test["labels"]}
    make_npz(tmp_path / "b" / "test.npz", seed=5, **turned)
    a, b = (load_source(f"npz:{tmp_path / name}") for name in "ab")
    assert a.fingerprint == b.fingerprint and a.name == b.name
    for ours, theirs in ((a.train, b.train), (a.test, b.test)):
        np.testing.assert_array_equal(ours.images, theirs.images)
        np.testing.assert_array_equal(ours.labels, theirs.labels)


def test_gray_npz_gets_a_channel(tmp_path, make_npz):
    make_npz(tmp_path / "a.npz", shape=(6, 5))
    source = load_source(f"npz:{tmp_path / 'a.npz'}")
    assert source.train.images.shape == (16, 6, 5, 1)
    assert source.test.images.shape == (4, 6, 5, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": np.arange(20) + 5},
        {"labels": np.arange(20) - 1},
        {"labels": np.zeros(19, dtype=np.int64)},
        {"labels": np.zeros(20)},
        {"images": np.zeros((20, 4, 4, 3))},
        {"images": np.zeros((20, 4), dtype=np.uint8)},
        {"images": np.zeros((0, 4, 4, 3), dtype=np.uint8), "labels": np.zeros(0, dtype=np.int64)},
        {"classes": np.array([1, 2])},
        {"classes": np.array(["cat", "cat"])},
        {"classes": np.array(["cat", "dog"], dtype=object)},
    ],
    ids=lambda changes: "-".join(f"{k}-{v.dtype}-{v.shape}" for k, v in changes.items()),
)
def test_wrong_arrays_are_named(tmp_path, make_npz, changes):
    make_npz(tmp_path / "odd.npz", **changes)
    with pytest.raises(BadSource, match=r"odd\.npz"):
        load_source(f"npz:{tmp_path / 'odd.npz'}")


@pytest.mark.parametrize("cut", [0, 10, 300, -40, -1])
def test_truncated_npz_is_named(tmp_path, make_npz, cut):
    path = tmp_path / "d" / "train.npz"
    make_npz(path)
    make_npz(tmp_path / "d" / "test.npz")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BadSource, match=r"train\.npz"):
        load_source(f"npz:{tmp_path / 'd'}")


def test_flipped_byte_in_npz_is_named(tmp_path, make_npz):
    path = tmp_path / "a.npz"
    make_npz(path)
    data = bytearray(path.read_bytes())
    data[600] ^= 255  # inside the images: the archive's own checksum tells
    path.write_bytes(data)
    with pytest.raises(BadSource, match=r"a\.npz"):
        load_source(f"npz:{path}")


def test_missing_half_key_and_file(tmp_path, make_npz):
    make_npz(tmp_path / "d" / "train.npz")
    with pytest.raises(BadSource, match=r"test\.npz"):
        load_source(f"npz:{tmp_path / 'd'}")
    np.savez(tmp_path / "odd.npz", images=np.zeros((2, 3, 3, 3), np.uint8))
    with pytest.raises(BadSource, match="labels"):
        load_source(f"npz:{tmp_path / 'odd.npz'}")
    for name in (f"npz:{tmp_path / 'none'}", f"folder:{tmp_path / 'none'}", "npz:"):
        with pytest.raises(MissingData):
            load_source(name)


def test_halves_of_two_sizes_or_strange_classes_are_refused(tmp_path, make_npz):
    make_npz(tmp_path / "d" / "train.npz")
    make_npz(tmp_path / "d" / "test.npz", shape=(4, 4, 3))
    with pytest.raises(BadSource, match="one size"):
        load_source(f"npz:{tmp_path / 'd'}")
    make_npz(tmp_path / "d" / "test.npz", classes=("cat", "cow"))
    with pytest.raises(BadSource, match="cow"):
        load_source(f"npz:{tmp_path / 'd'}")


# --- named sources: what is on disk against the card ---------------------------------------------


def test_missing_source_says_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(MissingData, match=r"clgym fetch cifar100") as error:
        load_source("cifar100", tmp_path)
    assert str(tmp_path / "cifar-100-python") in str(error.value)
    monkeypatch.delenv("CLGYM_DATA", raising=False)
    with pytest.raises(MissingData, match="CLGYM_DATA"):
        load_source("cifar100")


def test_subset_never_goes_by_the_cards_name(tmp_path, make_npz):
    names = [name.split("/")[1] for name in CARDS["cifar10"].classes]
    for half in ("train", "test"):
        make_npz(tmp_path / "cifar10" / f"{half}.npz", n=30, classes=names, shape=(32, 32, 3))
    source = load_source("cifar10", tmp_path)
    assert source.name == f"cifar10~{source.fingerprint[:8]}"
    assert "30 train images where the card has 50000" in source.flags
    assert source.classes == CARDS["cifar10"].classes
    # The name is good for another load; a name of other content is refused.
    assert load_source(source.name, tmp_path).fingerprint == source.fingerprint
    with pytest.raises(BadSource, match=source.name):
        load_source("cifar10~00000000", tmp_path)
    with pytest.raises(MissingData):
        load_source("npz~00000000", tmp_path)


def test_classes_in_another_order_are_brought_to_the_cards(tmp_path, make_npz):
    names = [name.split("/")[1] for name in CARDS["cifar10"].classes]
    shape = {"n": 30, "shape": (32, 32, 3)}
    for half in ("train", "test"):
        content = make_npz(tmp_path / "a" / "cifar10" / f"{half}.npz", classes=names, **shape)
        turned = {"labels": 9 - content["labels"]}
        make_npz(tmp_path / "b" / "cifar10" / f"{half}.npz", classes=names[::-1], **shape, **turned)
    a, b = (load_source("cifar10", tmp_path / root) for root in "ab")
    assert a.fingerprint == b.fingerprint
    np.testing.assert_array_equal(a.train.labels, b.train.labels)


def test_other_class_names_are_flagged(tmp_path, make_npz, monkeypatch):
    relaxed(monkeypatch, "cifar10", train=20, test=20)
    for half in ("train", "test"):
        make_npz(tmp_path / "cifar10" / f"{half}.npz")
    source = load_source("cifar10", tmp_path)
    assert source.flags == ("other classes than the card's",)
    assert source.classes == ("cifar10/cat", "cifar10/dog")


def test_other_content_than_the_fingerprint_is_flagged(tmp_path, make_npz, monkeypatch):
    names = [name.split("/")[1] for name in CARDS["cifar10"].classes]
    for half in ("train", "test"):
        make_npz(tmp_path / "cifar10" / f"{half}.npz", classes=names, shape=(32, 32, 3))
    monkeypatch.setitem(CARDS, "cifar10", replace(CARDS["cifar10"], train=20, test=20))
    source = load_source("cifar10", tmp_path)
    assert source.flags[0] == "other test content than the card's fingerprint"
    assert source.name.startswith("cifar10~")
    relaxed(monkeypatch, "cifar10", train=20, test=20)
    source = load_source("cifar10", tmp_path)
    assert source.name == "cifar10" and source.flags[0].startswith("unverified")


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
    relaxed(monkeypatch, "cifar100", train=200, test=200, checksums=md5s)
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
def test_idx_files(tmp_path, zipped, name, folder):
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


def test_svhn(tmp_path):
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


def test_image_size_is_for_image_files_only(tmp_path, make_tree):
    with pytest.raises(BadConfig, match="resize"):
        load_source("digits", image_size=32)
    make_tree(tmp_path / "t")
    with pytest.raises(BadConfig):
        load_source(f"folder:{tmp_path / 't'}", image_size=0)
