"""Trees as people have them: names of splits, wrappers, endings, links; and sizes of images."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from clgym.data.pixels import decoded, fit
from clgym.data.sources import load_source
from clgym.errors import BadConfig, BadSource, MissingData


def load(folder, **options):
    return load_source(f"folder:{folder}", **options)


def notes(source):
    """Flags but for the two that every folder bears: it has no card, and its size."""
    return [f for f in source.flags if not f.startswith(("no card", "images "))]


# --- splits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", ["train", "Train", "TRAIN", "training"])
@pytest.mark.parametrize("test", ["test", "Test", "testing", "val", "VALID", "valid", "validation"])
def test_names_of_a_split_are_read_in_any_case(tmp_path, make_tree, train, test):
    make_tree(tmp_path / train, n=3)
    make_tree(tmp_path / test, n=2, seed=1)
    source = load(tmp_path)
    assert source.classes == ("cat", "dog")
    assert (len(source.train.labels), len(source.test.labels)) == (6, 4)
    assert not notes(source)


def test_files_beside_the_split_folders_are_reported(tmp_path, make_tree):
    for seed, name in enumerate(("Train", "valid", "test", "extra")):
        make_tree(tmp_path / name, n=3 - seed // 2, seed=seed)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "all.txt").write_text("")
    source = load(tmp_path)
    assert len(source.test.labels) == 4
    assert notes(source) == [
        "extra/ with 4 images is left out",
        "valid/ with 6 images is left out",
    ]


def test_a_test_folder_without_the_classes_gives_way_to_the_next(tmp_path, make_tree):
    make_tree(tmp_path / "train", n=3)
    make_tree(tmp_path / "test", classes=("unknown",), n=4, seed=1)
    make_tree(tmp_path / "val", n=1, seed=2)
    source = load(tmp_path)
    assert len(source.test.labels) == 2
    assert notes(source) == ["test/ with 4 images is left out"]


@pytest.mark.parametrize(
    "names",
    [("train", "holdout"), ("Training", "unseen"), ("fold1", "fold2"), ("train", "Train", "test")],
)
def test_split_folders_without_both_train_and_test_are_refused(tmp_path, make_tree, names):
    for seed, name in enumerate(names):
        make_tree(tmp_path / name, seed=seed)
    with pytest.raises(BadSource, match="train/CLASS/ and test/CLASS/|train and test") as caught:
        load(tmp_path)
    assert names[0] in str(caught.value)


def test_split_folders_without_classes_are_refused(tmp_path, make_tree):
    make_tree(tmp_path, classes=("train", "test"))
    with pytest.raises(BadSource, match="a class"):
        load(tmp_path)
    make_tree(tmp_path, classes=("bus",), seed=2)
    # Beside a class it is one: trains are photographed, too.
    assert load(tmp_path).classes == ("bus", "test", "train")


def test_a_test_part_without_folders_is_refused(tmp_path, make_tree):
    make_tree(tmp_path / "train")
    make_tree(tmp_path, classes=("test",), seed=1)
    with pytest.raises(BadSource, match="test/, train/"):
        load(tmp_path)


def test_sub_folders_that_repeat_are_refused(tmp_path, make_tree):
    for seed, name in enumerate(("2019", "2020")):
        make_tree(tmp_path / name, classes=("cat", "dog" if seed else "cow"), seed=seed)
    with pytest.raises(BadSource, match="sub-folders repeat: cat"):
        load(tmp_path)


def test_sub_folders_that_repeat_further_down_are_refused(tmp_path, make_tree):
    make_tree(tmp_path / "a" / "x", seed=0)
    make_tree(tmp_path / "b" / "y", seed=1)
    with pytest.raises(BadSource, match="sub-folders repeat: cat, dog"):
        load(tmp_path)


def test_sub_folders_of_a_class_of_its_own_are_read(tmp_path, make_tree):
    make_tree(tmp_path / "a", classes=("x", "images"), seed=0)
    make_tree(tmp_path / "b", classes=("y",), seed=1)
    source = load(tmp_path)
    assert source.classes == ("a", "b")
    assert len(source.train.labels) + len(source.test.labels) == 15


def test_one_folder_of_images_in_every_class_is_read(tmp_path, make_tree):
    for seed, name in enumerate(("cat", "dog")):
        make_tree(tmp_path / name, classes=("images",), seed=seed)
    assert load(tmp_path).classes == ("cat", "dog")


@pytest.mark.parametrize("wrapper", ["data", "data/inner", "train"])
def test_wrapper_folders_are_skipped(tmp_path, make_tree, wrapper):
    make_tree(tmp_path / "t" / wrapper, seed=0)
    (tmp_path / "t" / "__MACOSX" / "cat").mkdir(parents=True)
    (tmp_path / "t" / "README.md").write_text("")
    source = load(tmp_path / "t")
    assert source.classes == ("cat", "dog")
    assert notes(source) == [f"classes are the folders inside {wrapper}/"]
    make_tree(tmp_path / "plain", seed=0)
    assert source.fingerprint == load(tmp_path / "plain").fingerprint


def test_wrappers_of_a_split_and_of_its_parts(tmp_path, make_tree):
    make_tree(tmp_path / "data" / "train" / "train", n=3)
    make_tree(tmp_path / "data" / "test", n=2, seed=1)
    source = load(tmp_path)
    assert source.classes == ("cat", "dog") and len(source.test.labels) == 4


# --- files ---------------------------------------------------------------------------------------


def test_files_that_are_not_read_are_counted(tmp_path, make_tree):
    pixels = make_tree(tmp_path / "t", n=8, size=(8, 8))
    image = Image.fromarray(next(iter(pixels.values())))
    for number, ending in enumerate(("GIF", "jfif", "JPE", "PGM")):
        formats = {"jfif": "JPEG", "JPE": "JPEG", "PGM": "PPM"}
        image.convert("L").rotate(90 * number).save(
            tmp_path / "t" / "cat" / f"more.{ending}", formats.get(ending, ending)
        )
    for name in ("a.heic", "b.HEIC", "c.npy", "none", "list.txt", ".hidden.xyz"):
        (tmp_path / "t" / "dog" / name).write_bytes(b"x")
    image.save(tmp_path / "t" / "stray.png")
    source = load(tmp_path / "t")
    assert len(source.train.labels) + len(source.test.labels) == 20
    assert notes(source) == [
        "4 files left out, endings that are not read: .heic 2, .npy 1, without ending 1",
        "1 image left out, outside the folders of the classes",
    ]


def test_a_file_left_out_later_is_counted_too(tmp_path, make_tree):
    make_tree(tmp_path / "t")
    assert not notes(load(tmp_path / "t"))
    (tmp_path / "t" / "dog" / "a.heic").write_bytes(b"x")
    assert "1 file left out, " in notes(load(tmp_path / "t"))[0]


def test_a_class_of_unknown_endings_names_them(tmp_path, make_tree):
    make_tree(tmp_path / "t", classes=("cat",))
    (tmp_path / "t" / "dog").mkdir()
    (tmp_path / "t" / "dog" / "a.heic").write_bytes(b"x")
    with pytest.raises(BadSource, match=r"no image in 'dog', but \.heic"):
        load(tmp_path / "t")
    with pytest.raises(MissingData, match=r"\.gif"):
        load(tmp_path / "t" / "dog")


def test_links_to_folders_and_files_are_followed(tmp_path, make_tree):
    pixels = make_tree(tmp_path / "real", n=5)
    inside = tmp_path / "t" / "dog" / "inside"
    inside.mkdir(parents=True)
    (tmp_path / "t" / "cat").symlink_to(tmp_path / "real" / "cat")
    (inside / "more").symlink_to(tmp_path / "real" / "dog")
    (tmp_path / "t" / "cat" / "back").symlink_to(tmp_path / "t")
    source = load(tmp_path / "t")
    rows = [*source.train.images, *source.test.images]
    assert Counter(r.tobytes() for r in rows) == Counter(p.tobytes() for p in pixels.values())
    # What a link leads to is part of what the cache asks about.
    next(iter(pixels)).unlink()
    assert load(tmp_path / "t").fingerprint != source.fingerprint


@pytest.mark.parametrize("place", ["bird", "cat/x.png", "dog/below"])
def test_broken_links_are_refused(tmp_path, make_tree, place):
    make_tree(tmp_path / "t")
    (tmp_path / "t" / place).symlink_to(tmp_path / "gone")
    with pytest.raises(BadSource, match=place):
        load(tmp_path / "t")


def test_a_class_that_differs_by_a_space_is_shown_in_quotes(tmp_path, make_tree):
    make_tree(tmp_path / "train")
    make_tree(tmp_path / "test", classes=("cat", "dog "), seed=1)
    with pytest.raises(BadSource, match="'dog '"):
        load(tmp_path)


# --- sizes ---------------------------------------------------------------------------------------


def write(folder, sizes, seed=0):
    """PNG files of these widths and heights, alternating between two classes."""
    generator, made = np.random.default_rng(seed), []
    for number, (width, height) in enumerate(sizes):
        place = folder / ("cat", "dog")[number % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        made.append(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
        Image.fromarray(made[-1]).save(place)
    return made


@pytest.mark.parametrize("size", [(24, 20), (32, 32), (300, 255)])
def test_images_alike_keep_their_size(tmp_path, make_npz, size):
    made = write(tmp_path / "t", [size] * 10)
    source = load(tmp_path / "t")
    rows = [*source.train.images, *source.test.images]
    assert Counter(r.tobytes() for r in rows) == Counter(p.tobytes() for p in made)
    assert f"images keep their size, {size[1]} x {size[0]}" in source.flags
    # Nothing was done to them: they are what arrays of the same pixels are.
    labels = np.arange(10) % 2
    make_npz(tmp_path / "a.npz", n=10, images=np.stack(made), labels=labels)
    assert load_source(f"npz:{tmp_path / 'a.npz'}").fingerprint == source.fingerprint


@pytest.mark.parametrize(
    ("sizes", "side"),
    [
        ([(20, 30)] * 4 + [(28, 28)] * 3 + [(90, 60)] * 3, 28),
        ([(20, 30)] * 5 + [(40, 90)] * 5, 20),
        ([(400, 300)] * 10, 256),
        ([(256, 256)] * 10, 256),
        ([(400, 300)] * 9 + [(20, 20)], 256),
    ],
)
def test_other_images_come_to_the_median_side_at_most_256(tmp_path, sizes, side):
    made = write(tmp_path / "t", sizes)
    source = load(tmp_path / "t")
    rows = [*source.train.images, *source.test.images]
    wanted = Counter(fit(Image.fromarray(p), side).tobytes() for p in made)
    assert Counter(r.tobytes() for r in rows) == wanted
    assert any(f.startswith(f"images are brought to {side} x {side}: ") for f in source.flags)


def test_both_parts_of_a_split_decide_on_one_size(tmp_path):
    write(tmp_path / "train", [(20, 20)] * 4)
    write(tmp_path / "test", [(30, 30)] * 8, seed=1)
    source = load(tmp_path)
    assert source.train.images.shape[1:] == source.test.images.shape[1:] == (30, 30, 3)


def test_a_side_can_be_given_with_the_path(tmp_path):
    write(tmp_path / "t", [(24, 20)] * 10)
    source = load(f"{tmp_path / 't'}@16")
    assert source.fingerprint == load(tmp_path / "t", image_size=16).fingerprint
    assert source.train.images.shape[1:] == (16, 16, 3)
    files = sorted((tmp_path / "t").rglob("*.png"))
    wanted = {image.tobytes() for image in decoded(files, 16)}
    assert {i.tobytes() for i in (*source.train.images, *source.test.images)} == wanted
    with pytest.raises(BadConfig, match="at least 1"):
        load(f"{tmp_path / 't'}@0")


def test_a_folder_whose_name_ends_like_a_side(tmp_path):
    write(tmp_path / "t@16", [(24, 20)] * 10)
    assert load(tmp_path / "t@16").train.images.shape[1:] == (20, 24, 3)
    write(tmp_path / "t", [(24, 20)] * 10)
    with pytest.raises(BadConfig, match="both"):
        load(tmp_path / "t@16")
