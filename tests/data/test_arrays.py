"""Arrays of other forms: what is refused is named, and the line of the message mends it."""

import re

import numpy as np
import pytest

from clgym.data.sources import load_source
from clgym.errors import BadSource

N = 20


def arrays(**changes):
    """What a whole file holds; None takes an array out of it."""
    generator = np.random.default_rng(0)
    content = {
        "images": generator.integers(0, 256, (N, 6, 5, 3), dtype=np.uint8),
        "labels": np.arange(N) % 3,
        "classes": np.array(["cat", "cow", "dog"]),
        **changes,
    }
    return {key: value for key, value in content.items() if value is not None}


def saved(path, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays(**changes))
    return f"npz:{path}"


IMAGES = arrays()["images"]
LABELS = arrays()["labels"]


def mended(message, content):
    """Carry out the line that a message names on the arrays, as its reader would."""
    (line,) = re.findall(r"Before np\.savez: `(.+?)`", message)
    scope = {"np": np, **content}
    exec(line, scope)
    return {key: scope[key] for key in ("images", "labels", "classes")}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": IMAGES.transpose(0, 3, 1, 2)}, "[20, 3, 6, 5]"),
        ({"images": IMAGES[..., :1].transpose(0, 3, 1, 2)}, "[20, 1, 6, 5]"),
        ({"images": IMAGES.transpose(1, 2, 3, 0)}, "[6, 5, 3, 20]"),
        ({"images": IMAGES[:, :4, :4, 0].reshape(N, 16)}, "[20, 16]"),
        ({"images": IMAGES[:, :4, :4].transpose(0, 3, 1, 2).reshape(N, 48)}, "[20, 48]"),
        ({"images": np.concatenate([IMAGES, IMAGES[..., :1]], 3)}, "[20, 6, 5, 4]"),
        ({"images": IMAGES[..., :2]}, "[20, 6, 5, 2]"),
        ({"images": IMAGES.astype(np.uint16) * 257}, "uint16 [20, 6, 5, 3] from 0 to 65535"),
        ({"images": IMAGES.astype(np.int64)}, "int64 [20, 6, 5, 3] from 0 to 255"),
        ({"images": (IMAGES / 255).astype(np.float32)}, "float32 [20, 6, 5, 3] from 0 to 1"),
        ({"images": IMAGES.astype(np.float64)}, "float64 [20, 6, 5, 3] from 0 to 255"),
        ({"images": IMAGES > 127}, "bool [20, 6, 5, 3]"),
        ({"labels": LABELS.astype(np.float32)}, "labels [N], whole numbers or strings"),
        ({"labels": LABELS == 1}, "bool [20]"),
        ({"labels": LABELS + 0.5}, "float64 [20]"),
        ({"labels": np.eye(3)[LABELS]}, "float64 [20, 3]"),
        ({"labels": np.eye(3, dtype=int)[LABELS]}, "int64 [20, 3]"),
        ({"labels": LABELS[:, None]}, "int64 [20, 1]"),
        ({"labels": LABELS + 1}, "1 to 3"),
        ({"labels": LABELS * 5}, "0 to 10"),
        ({"labels": LABELS + 3}, "3 to 5"),
        ({"labels": np.array(["cat", "cow", "owl"])[LABELS]}, "'owl'"),
        ({"labels": np.array(["cat", "cow", "dog"], object)[LABELS]}, "Python objects"),
        ({"classes": np.array([3, 4, 5])}, "int64 [3]"),
        ({"classes": np.array(["cat", "cow", "dog"], object)}, "Python objects"),
        ({"classes": np.array([["cat"], ["cow"], ["dog"]])}, "<U3 [3, 1]"),
    ],
)
def test_the_line_of_the_message_mends_the_file(tmp_path, changes, words):
    name = saved(tmp_path / "odd.npz", **changes)
    with pytest.raises(BadSource, match=r"odd\.npz") as caught:
        load_source(name)
    assert words in str(caught.value)
    assert "network" not in str(caught.value)
    name = saved(tmp_path / "mended.npz", **mended(str(caught.value), arrays(**changes)))
    source = load_source(name)
    assert len(source.train.labels) + len(source.test.labels) == N


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.transpose(0, 3, 1, 2),
        lambda x: x.transpose(1, 2, 3, 0),
        lambda x: x.astype(np.uint16) * 257,
        lambda x: (x / 255).astype(np.float32),
        lambda x: x.astype(np.float64),
    ],
)
def test_mended_images_are_the_images(tmp_path, change):
    name = saved(tmp_path / "odd.npz", images=change(IMAGES))
    with pytest.raises(BadSource) as caught:
        load_source(name)
    content = mended(str(caught.value), arrays(images=change(IMAGES)))
    np.testing.assert_array_equal(content["images"], IMAGES)


@pytest.mark.parametrize("channels", [2, 4, 5, 8])
def test_other_channels_are_refused_for_what_they_are(tmp_path, channels):
    images = np.zeros((N, 32, 32, channels), np.uint8)
    with pytest.raises(BadSource, match=rf"\[20, 32, 32, {channels}\]") as caught:
        load_source(saved(tmp_path / "odd.npz", images=images))
    assert "pretrained" not in str(caught.value)


@pytest.mark.parametrize("kind", [str, bytes])
@pytest.mark.parametrize("with_classes", [False, True])
def test_string_labels_are_accepted(tmp_path, kind, with_classes):
    names = np.array(["dog", "cat", "cow"])
    labels = names[LABELS]
    labels = np.char.encode(labels, "utf-8") if kind is bytes else labels
    classes = names if with_classes else None
    source = load_source(saved(tmp_path / "a.npz", labels=labels, classes=classes))
    assert source.classes == (tuple(names) if with_classes else ("cat", "cow", "dog"))
    found = {
        (image.tobytes(), source.classes[y])
        for split in (source.train, source.test)
        for image, y in zip(split.images, split.labels, strict=True)
    }
    assert found == {(i.tobytes(), n) for i, n in zip(IMAGES, names[LABELS], strict=True)}


def test_both_halves_may_have_string_labels(tmp_path):
    names = np.array(["dog", "cat", "cow"])
    saved(tmp_path / "d" / "train.npz", labels=names[LABELS], classes=None)
    # The test half has two of the classes: they keep their numbers.
    saved(
        tmp_path / "d" / "test.npz",
        images=255 - IMAGES,
        labels=names[LABELS % 2],
        classes=None,
    )
    source = load_source(f"npz:{tmp_path / 'd'}")
    assert source.classes == ("cat", "cow", "dog")
    assert sorted(set(source.test.labels.tolist())) == [0, 2]
    assert "classes without test images, never measured: cow" in source.flags


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("classes", "classes=[str(c) for c in range(labels.max() + 1)]"),
        ("labels", "labels=..."),
        ("images", "images=..."),
    ],
)
def test_a_missing_array_is_named_with_what_is_there(tmp_path, missing, words):
    with pytest.raises(BadSource, match=rf"no {missing} among ") as caught:
        load_source(saved(tmp_path / "odd.npz", **{missing: None}))
    assert words in str(caught.value)


def test_arrays_of_other_names_are_listed(tmp_path):
    np.savez(tmp_path / "mnist.npz", x_train=IMAGES, y_train=LABELS)
    with pytest.raises(BadSource, match="no images and no labels among x_train, y_train"):
        load_source(f"npz:{tmp_path / 'mnist.npz'}")


@pytest.mark.parametrize("half", ["train", "test"])
def test_a_missing_half_says_what_to_write_or_to_give(tmp_path, half):
    saved(tmp_path / "d" / f"{half}.npz")
    with pytest.raises(BadSource) as caught:
        load_source(f"npz:{tmp_path / 'd'}")
    other = {"train": "test", "test": "train"}[half]
    assert f"no {other}.npz" in str(caught.value)
    assert f"np.savez('{other}.npz'" in str(caught.value)
    # The other way that the message names works.
    assert load_source(f"npz:{tmp_path / 'd' / half}.npz").train.labels.size == 17


def test_class_numbers_with_gaps_are_flagged_as_classes_without_images(tmp_path):
    classes = np.array(list("abcdef"))
    source = load_source(saved(tmp_path / "a.npz", labels=2 * LABELS, classes=classes))
    assert "classes without images: b, d, f" in source.flags
