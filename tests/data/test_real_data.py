"""The data sets themselves, where ``CLGYM_DATA`` names a folder that holds them."""

import gzip
import hashlib
import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from clgym.data.cards import CARDS
from clgym.data.sources import load_source


def rows(split):
    return [bytes(h) for h in split.hashes]


@pytest.mark.parametrize("name", ["mnist", "cifar100"])
def test_complete_sets_are_their_cards(data_root, name):
    source, card = load_source(name, data_root), CARDS[name]
    shared = "10 of 10000 test images are training images too"
    assert source.name == name and source.flags == ((shared,) if name == "cifar100" else ())
    assert source.classes == card.classes
    assert (len(source.train.labels), len(source.test.labels)) == (card.train, card.test)
    assert set(np.unique(source.test.labels)) == set(range(card.class_count))


@pytest.mark.parametrize("name", ["mnist", "cifar100"])
def test_mean_and_std_of_the_card(data_root, name):
    images = load_source(name, data_root).train.images
    # Exact sums of integers: a histogram a channel.
    for channel, (mean, std) in enumerate(zip(CARDS[name].mean, CARDS[name].std, strict=True)):
        counts = np.bincount(images[..., channel].ravel(), minlength=256) / images[..., 0].size
        values = np.arange(256) / 255
        first = (counts * values).sum()
        assert first == pytest.approx(mean, abs=1e-4)
        assert np.sqrt((counts * (values - first) ** 2).sum()) == pytest.approx(std, abs=1e-4)


def test_cifar10_with_a_part_of_its_training_images(data_root):
    source = load_source("cifar10", data_root)
    if len(source.train.labels) == 50000:
        pytest.skip("CLGYM_DATA holds the complete CIFAR-10")
    assert source.name == f"cifar10~{source.fingerprint[:8]}"
    # The test half is complete and is what the card says: only the counts differ.
    assert source.flags == ("5000 train images where the card has 50000",)
    assert Counter(source.test.labels.tolist()) == dict.fromkeys(range(10), 1000)


def test_cifar100_has_26_copies(data_root):
    source = load_source("cifar100", data_root)
    hashes = rows(source.train) + rows(source.test)
    assert len(hashes) - len(set(hashes)) == 26
    # Some of them lie on both sides of the split.
    assert set(rows(source.train)) & set(rows(source.test))


def test_cifar100_from_pickles_is_cifar100_from_npz(data_root, tmp_path, monkeypatch):
    """The test half as torchvision's pickle; both halves of both sources are made of it."""
    given = load_source("cifar100", data_root).test
    data = np.load(data_root / "cifar100" / "test.npz")
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    flat = data["images"].transpose(0, 3, 1, 2).reshape(-1, 3072)
    shuffle = np.random.default_rng(0).permutation(len(flat))
    entry = {"data": flat[shuffle], "fine_labels": data["labels"][shuffle].tolist()}
    for half in ("train", "test"):
        (folder / half).write_bytes(pickle.dumps(entry, protocol=2))
    source = load_source("cifar100", tmp_path)
    for field in ("images", "labels", "hashes"):
        np.testing.assert_array_equal(getattr(source.test, field), getattr(given, field))
    # Where the content is the card's, other checksums of the files do not matter.
    known = CARDS["cifar100"].fingerprints["test"]
    facts = {"train": 10000, "fingerprints": {"train": known, "test": known}}
    monkeypatch.setitem(CARDS, "cifar100", replace(CARDS["cifar100"], **facts))
    source = load_source("cifar100", tmp_path)
    shared = "10000 of 10000 test images are training images too"
    assert source.name == "cifar100" and source.flags == (shared,)


def test_mnist_gzipped_or_not_or_npz(data_root, tmp_path):
    raw = data_root / "MNIST" / "raw"
    images = (raw / "t10k-images-idx3-ubyte").read_bytes()
    labels = (raw / "t10k-labels-idx1-ubyte").read_bytes()
    zipped = tmp_path / "a" / "MNIST" / "raw"
    zipped.mkdir(parents=True)
    for half in ("train", "t10k"):
        for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
            path = zipped / f"{half}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(content, compresslevel=1))
    (tmp_path / "b" / "mnist").mkdir(parents=True)
    for half in ("train", "test"):
        np.savez(
            tmp_path / "b" / "mnist" / f"{half}.npz",
            images=np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28),
            labels=np.frombuffer(labels, np.uint8, offset=8).astype(np.int64),
            classes=np.array(list("0123456789")),
        )
    a, b = load_source("mnist", tmp_path / "a"), load_source("mnist", tmp_path / "b")
    given = load_source("mnist", data_root)
    assert a.fingerprint == b.fingerprint != given.fingerprint
    np.testing.assert_array_equal(a.test.images, given.test.images)
    np.testing.assert_array_equal(a.test.labels, given.test.labels)


def test_hashes_are_of_the_images(data_root):
    test = load_source("mnist", data_root).test
    for row in (0, 17, 9999):
        expected = hashlib.sha256(b"28x28x1 uint8\n" + test.images[row].tobytes()).digest()
        assert bytes(test.hashes[row]) == expected


@pytest.mark.parametrize("domain", ["photo", "art-painting", "cartoon", "sketch"])
def test_pacs_domains_share_their_classes(data_root, domain):
    source = load_source(f"pacs-{domain}", data_root, image_size=32)
    assert source.classes == CARDS["pacs-photo"].classes
    assert source.train.images.shape[1:] == (32, 32, 3)
    counts = [np.bincount(s.labels, minlength=7) for s in (source.train, source.test)]
    np.testing.assert_allclose(counts[1] / (counts[0] + counts[1]), 0.2, atol=0.02)
    assert not set(rows(source.train)) & set(rows(source.test))
