"""Sources by name: digits, npz, and what is on disk against the card."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clgym.data.cards import CARDS
from clgym.data.sources import load_source
from clgym.errors import BadConfig, BadSource, MissingData


def relaxed(monkeypatch, name, **facts):
    """Let small data match a card."""
    monkeypatch.setitem(CARDS, name, replace(CARDS[name], fingerprints={}, **facts))


def pairs(split):
    return Counter(
        (image.tobytes(), int(y)) for image, y in zip(split.images, split.labels, strict=True)
    )


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


def test_a_text_file_is_not_read_as_a_pickle(tmp_path):
    (tmp_path / "odd.npz").write_bytes(b"\x80" + b"not an archive" * 40)
    with pytest.raises(BadSource, match="no npz archive") as caught:
        load_source(f"npz:{tmp_path / 'odd.npz'}")
    assert "pickle" not in str(caught.value)


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
    for seed, half in enumerate(("train", "test")):
        make_npz(tmp_path / "cifar10" / f"{half}.npz", seed=seed)
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


def test_image_size_is_for_image_files_only(tmp_path, make_tree):
    with pytest.raises(BadConfig, match="resize"):
        load_source("digits", image_size=32)
    make_tree(tmp_path / "t")
    with pytest.raises(BadConfig):
        load_source(f"folder:{tmp_path / 't'}", image_size=0)
