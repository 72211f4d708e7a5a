"""Trees of image files: PACS, ImageNet families, Tiny ImageNet, CUB, folder:PATH."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from clgym.data.cards import CARDS
from clgym.data.pixels import fit
from clgym.data.sources import load_source
from clgym.errors import BadSource


def counts(split):
    return dict(Counter(split.labels.tolist()))


def write(path, seed, size=(64, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")
    return pixels.tobytes()


@pytest.mark.parametrize("size", [(40, 40), (61, 40), (40, 61), (17, 90), (256, 255), (32, 20)])
@pytest.mark.parametrize("side", [32, 33])
def test_fit_is_torchvisions_resize_and_crop(size, side):
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    peer = Compose([Resize(side, InterpolationMode.BICUBIC), CenterCrop(side)])
    np.testing.assert_array_equal(fit(image, side), np.asarray(peer(image)))


def test_tree_without_test_split_is_cut_by_hash(tmp_path, make_tree):
    pixels = make_tree(tmp_path / "t", classes=("b", "a", "c"), n=10, size=(16, 16))
    source = load_source(f"folder:{tmp_path / 't'}", image_size=16)
    assert source.classes == ("a", "b", "c")
    assert counts(source.train) == {0: 8, 1: 8, 2: 8}
    assert counts(source.test) == {0: 2, 1: 2, 2: 2}
    rows = [*source.train.images, *source.test.images]
    assert Counter(r.tobytes() for r in rows) == Counter(p.tobytes() for p in pixels.values())
    assert source.name == f"folder~{source.fingerprint[:8]}"
    assert load_source(source.name).fingerprint == source.fingerprint


def test_names_of_files_change_nothing(tmp_path, make_tree):
    pixels = make_tree(tmp_path / "t", n=10)
    first = load_source(f"folder:{tmp_path / 't'}", image_size=8)
    for i, path in enumerate(pixels):
        path.rename(path.with_name(f"z{100 - i}.PNG"))
    second = load_source(f"folder:{tmp_path / 't'}", image_size=8)
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize("test", ["test", "val"])
def test_a_tree_with_train_and_test_folders_keeps_its_split(tmp_path, make_tree, test):
    make_tree(tmp_path / "t" / "train", n=3)
    make_tree(tmp_path / "t" / test, n=2, seed=1)
    (tmp_path / "t" / "train" / ".hidden").mkdir()
    source = load_source(f"folder:{tmp_path / 't'}")
    assert source.train.images.shape == (6, 9, 12, 3)
    assert counts(source.test) == {0: 2, 1: 2}


def test_image_size_is_part_of_the_fingerprint(tmp_path, make_tree):
    make_tree(tmp_path / "t")
    names = {load_source(f"folder:{tmp_path / 't'}", image_size=s).fingerprint for s in (8, 9)}
    assert len(names) == 2


def test_gray_and_palette_files_become_rgb(tmp_path, make_tree):
    pixels = make_tree(tmp_path / "t", n=5, size=(8, 8))
    for path, mode in zip(pixels, ["L", "P", "RGBA", "1"], strict=False):
        Image.open(path).convert(mode).save(path)
    source = load_source(f"folder:{tmp_path / 't'}", image_size=8)
    assert source.train.images.shape == (8, 8, 8, 3)


@pytest.mark.parametrize("cut", [0, 20, 120])
def test_truncated_image_is_named(tmp_path, make_tree, cut):
    path = next(iter(make_tree(tmp_path / "t")))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BadSource, match=r"0\.png"):
        load_source(f"folder:{tmp_path / 't'}", image_size=8)


def test_class_without_images_is_named(tmp_path, make_tree):
    make_tree(tmp_path / "t")
    (tmp_path / "t" / "empty").mkdir()
    with pytest.raises(BadSource, match="'empty'"):
        load_source(f"folder:{tmp_path / 't'}")


def test_too_few_images_for_a_test_split(tmp_path, make_tree):
    make_tree(tmp_path / "t", n=4)
    with pytest.raises(BadSource, match="5 images"):
        load_source(f"folder:{tmp_path / 't'}", image_size=8)


def test_wordnet_folders_get_imagenet_ids(tmp_path, make_tree):
    make_tree(tmp_path / "t", classes=("n01440764", "n01443537"))
    source = load_source(f"folder:{tmp_path / 't'}", image_size=8)
    assert source.classes == ("imagenet/n01440764", "imagenet/n01443537")


@pytest.mark.parametrize("name", ["imagenet-r", "imagenet-a", "imagenet100"])
def test_a_subset_of_an_imagenet_variant_has_another_name(tmp_path, make_tree, monkeypatch, name):
    wnids = ("n01440764", "n01443537")
    make_tree(tmp_path / name / "train", classes=wnids, n=4)
    make_tree(tmp_path / name / "test", classes=wnids, n=2, seed=1)
    source = load_source(name, tmp_path, image_size=8)
    assert source.name.startswith(f"{name}~")
    facts = {"class_count": 2, "train": 8, "test": 4}
    monkeypatch.setitem(CARDS, name, replace(CARDS[name], **facts))
    source = load_source(name, tmp_path, image_size=8)
    assert source.name == name and source.flags[0].startswith("unverified")
    assert source.classes == tuple(f"imagenet/{w}" for w in wnids)


def test_split_of_our_own_is_flagged_where_the_card_has_one(tmp_path, make_tree, monkeypatch):
    make_tree(tmp_path / "imagenet-r", n=5)
    facts = {"class_count": 2, "train": 8, "test": 2}
    monkeypatch.setitem(CARDS, "imagenet-r", replace(CARDS["imagenet-r"], **facts))
    source = load_source("imagenet-r", tmp_path, image_size=8)
    assert "no test split on disk" in source.flags[0] and "~" in source.name


def test_pacs_domain_by_its_total(tmp_path, make_tree, monkeypatch):
    classes = [name.split("/")[1] for name in CARDS["pacs-art-painting"].classes]
    make_tree(tmp_path / "pacs" / "art_painting", classes=classes, n=5)
    card = replace(CARDS["pacs-art-painting"], train=35)
    monkeypatch.setitem(CARDS, card.name, card)
    source = load_source("pacs-art-painting", tmp_path, image_size=8)
    assert source.name == "pacs-art-painting" and source.classes == card.classes
    assert (len(source.train.labels), len(source.test.labels)) == (28, 7)


@pytest.mark.parametrize("sorted_val", [False, True])
def test_tiny_imagenet_is_read_with_its_validation_annotations(tmp_path, sorted_val):
    root = tmp_path / "tiny-imagenet-200"
    wnids, lines, expected = ("n02", "n01"), [], Counter()
    for i, wnid in enumerate(wnids * 3):
        write(root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", i)
        file = f"val_{i}.JPEG"
        place = root / "val" / (f"{wnid}/{file}" if sorted_val else f"images/{file}")
        expected[write(place, 100 + i), f"imagenet/{wnid}"] += 1
        lines.append(f"{file}\t{wnid}\t0\t0\t62\t62")
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    source = load_source("tiny-imagenet", tmp_path)
    assert source.classes == ("imagenet/n01", "imagenet/n02")
    assert source.train.images.shape == (6, 64, 64, 3)
    rows = zip(source.test.images, source.test.labels, strict=True)
    assert Counter((i.tobytes(), source.classes[y]) for i, y in rows) == expected


@pytest.mark.parametrize("line", ["val_0.JPEG", "val_0.JPEG\tn99", "../../x.JPEG\tn01"])
def test_invalid_split_lists_are_refused(tmp_path, line):
    root = tmp_path / "tiny-imagenet-200"
    write(root / "train" / "n01" / "images" / "a.JPEG", 0)
    write(root / "val" / "images" / "val_0.JPEG", 1)
    (root / "val" / "val_annotations.txt").write_text(line + "\n")
    with pytest.raises(BadSource):
        load_source("tiny-imagenet", tmp_path)


def test_cub_200_is_read_by_its_lists(tmp_path):
    root, expected = tmp_path / "CUB_200_2011", {"1": Counter(), "0": Counter()}
    names, split = [], []
    for i in range(12):
        name, flag = f"00{i % 3 + 1}.Bird_{i % 3}/b_{i}.jpg", "10"[i % 2]
        key = write(root / "images" / name, i, size=(32, 32)), i % 3
        expected[flag][key] += 1
        names.append(f"{i + 1} {name}")
        split.append(f"{i + 1} {flag}")
    (root / "images.txt").write_text("\n".join(names))
    (root / "train_test_split.txt").write_text("\n".join(split))
    source = load_source("cub200", tmp_path, image_size=32)
    assert source.classes == tuple(f"cub200/00{i + 1}.Bird_{i}" for i in range(3))
    for half, flag in ((source.train, "1"), (source.test, "0")):
        rows = zip(half.images, half.labels, strict=True)
        assert Counter((i.tobytes(), int(y)) for i, y in rows) == expected[flag]
    # A list is part of what the cache asks about.
    (root / "train_test_split.txt").write_text("\n".join(split).replace("12 0", "12 1"))
    assert len(load_source("cub200", tmp_path, image_size=32).train.labels) == 7
