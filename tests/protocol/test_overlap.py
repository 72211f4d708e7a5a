"""What two sides of a pair may not share."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clgym.data.sources import load_source
from clgym.engines.pool import PoolSpec
from clgym.errors import BadPlan
from clgym.protocol import overlap, study
from clgym.protocol.evaluation import evaluate
from clgym.protocol.lookalikes import shrunk
from clgym.protocol.overlap import Footprint, check, compare, footprint
from clgym.protocol.pairs import ScenarioPair, Side, find_pair
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.study import StudySpec, survey, tune
from clgym.protocol.verify import verify


def pair(tuning: str, evaluation: str) -> ScenarioPair:
    return find_pair("mine", tuning, evaluation, "class-incremental", {"increments": [1]})


def arrays(folder: Path, images: np.ndarray, names: list[str]) -> str:
    """An npz source; each class gets an equal share of the images of both splits."""
    folder.mkdir()
    half = len(images) // 2
    for split, rows in (("train", images[:half]), ("test", images[half:])):
        labels = np.arange(half) % len(names)
        np.savez(folder / f"{split}", images=rows, labels=labels, classes=np.array(names))
    return f"npz:{folder}"


def noise(seed: int, count: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


def seen(images: np.ndarray, classes: tuple[str, ...] = ()) -> Footprint:
    """A footprint made by hand, with hashes by the standard library."""
    hashes = [hashlib.sha256(image.tobytes()).digest() for image in images]
    grey = images.mean(axis=3) / 255
    return Footprint(
        "side",
        classes,
        np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(-1, 32),
        np.array([int(h[:8].hex(), 16) for h in hashes], dtype=np.uint64),
        grey.reshape(len(images), -1).astype(np.float32),
        shrunk(images, 255),
    )


def test_one_shared_image_of_two_sources_is_refused(tmp_path: Path) -> None:
    one, other = noise(0), noise(1)
    names = [arrays(tmp_path / "a", one, ["cat", "dog"])]
    names.append(arrays(tmp_path / "b", other, ["car", "bus"]))
    looked = survey(pair(*names), None)
    assert looked["overlap"]["shared_images"] == [] and looked["experiences"] == 2
    assert "/" not in str(looked["pair"]), "a path went into the plan"
    other[7] = one[33]
    names[1] = arrays(tmp_path / "c", other, ["car", "bus"])
    with pytest.raises(BadPlan, match="1 shared"):
        survey(pair(*names), None)


def test_a_shared_class_under_another_spelling_is_refused(tmp_path: Path) -> None:
    one = arrays(tmp_path / "a", noise(0), ["Maple_Tree", "dog"])
    other = arrays(tmp_path / "b", noise(1), ["car", "cifar100/maple tree"])
    with pytest.raises(BadPlan, match="1 shared: Maple_Tree = cifar100/maple tree"):
        survey(pair(one, other), None)


def test_streams_of_different_shapes_are_refused(tmp_path: Path) -> None:
    one = arrays(tmp_path / "a", noise(0), ["cat", "dog"])
    other = arrays(tmp_path / "b", noise(1), ["car", "bus", "van"])
    with pytest.raises(BadPlan, match="one shape"):
        survey(pair(one, other), None)


@pytest.mark.parametrize("shared", [44, 14, 28])
def test_wordnet_ids_tell_shared_classes(shared: int) -> None:
    """ImageNet-R and ImageNet-A share 86 classes; these are the counts of their halves."""
    r = tuple(f"imagenet/n{i:08}" for i in range(100))
    a = tuple(f"imagenet/n{i:08}" for i in range(100 - shared, 200 - shared))
    overlap = compare(seen(noise(0), r), seen(noise(1), a))
    r_and_a = pair("imagenet-r[0-99]", "imagenet-a[0-99]")
    with pytest.raises(BadPlan, match=f"{shared} shared: imagenet/n") as caught:
        check(r_and_a, overlap, disjoint_classes=True)
    assert str(caught.value).count("imagenet/n") == shared
    assert check(r_and_a, overlap, disjoint_classes=False) == []


def test_numeric_class_names_do_not_identify_a_class() -> None:
    overlap = compare(seen(noise(0), ("0", "1")), seen(noise(1), ("0", "1")))
    assert overlap.shared_classes == ()


def test_duplicates_across_halves_are_dropped_up_to_half_a_percent() -> None:
    one, other = noise(0, 400), noise(1, 400)
    other[[3, 9]] = one[[5, 6]]
    halves = ScenarioPair(
        name="h",
        scenario="class-incremental",
        config={},
        tuning=Side(source="s", classes=(0,)),
        evaluation=Side(source="s", classes=(1,)),
    )
    overlap = compare(seen(one), seen(other))
    wanted = sorted(hashlib.sha256(one[i].tobytes()).hexdigest() for i in (5, 6))
    assert check(halves, overlap, True) == wanted
    other[17] = one[18]
    with pytest.raises(BadPlan, match="3 shared"):
        check(halves, compare(seen(one), seen(other)), True)


def test_near_duplicates_are_found(tmp_path: Path) -> None:
    one, other = noise(0, 60), noise(1, 60)
    other[11] = np.clip(one[20].astype(int) + 1, 0, 255)
    names = [arrays(tmp_path / str(i), x, [f"c{i}", f"d{i}"]) for i, x in enumerate((one, other))]
    sides = [load_source(name) for name in names]
    overlap = compare(*(footprint(source, None) for source in sides))
    assert overlap.shared_images == () and overlap.near_duplicates == 1


def one_pixel(images: np.ndarray) -> np.ndarray:
    """Copies with one pixel changed: another SHA-256 each, and another source."""
    changed = images.copy()
    changed[:, 3, 4] ^= 255
    return changed


def test_copies_with_one_pixel_changed_are_refused(tmp_path: Path) -> None:
    evaluation = noise(1, 400)
    one = arrays(tmp_path / "a", one_pixel(evaluation), ["cat", "dog"])
    other = arrays(tmp_path / "b", evaluation, ["car", "bus"])
    with pytest.raises(BadPlan, match="at most 2 images .* found 400, such as"):
        survey(pair(one, other), None)


def test_few_copies_are_flagged_up_to_half_a_percent(
    tmp_path: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the certificate, in the evaluation, and so on the board; no flag can be taken away."""
    evaluation, tuning = noise(1, 400), noise(0, 400)
    tuning[[3, 9]] = one_pixel(evaluation[[5, 6]])
    one = arrays(tmp_path / "a", tuning, ["cat", "dog"])
    other = arrays(tmp_path / "b", evaluation, ["car", "bus"])
    out, here = tmp_path / "study", PoolSpec("inline")
    asked = StudySpec("power", pair(one, other), trials=1, seeds=(0,))
    certificate = tune(asked, ExecutionOptions(out, here, plugins=(plugin,)))
    flag = "2 of its images look like one of the evaluation"
    assert flag in certificate.body.plan.tuning.flags
    monkeypatch.setenv("CLGYM_WITHHELD", "[]")
    result = evaluate(out, here, plugins=(plugin,))
    assert f"tuning source: {flag}" in result.flags
    assert verify(out).problems == []
    tuning[12] = one_pixel(evaluation[7:8])[0]
    with pytest.raises(BadPlan, match="found 3, such as"):
        survey(pair(arrays(tmp_path / "c", tuning, ["cat", "dog"]), other), None)


@pytest.mark.slow
def test_a_report_that_hides_copies_does_not_survive_a_look(
    tmp_path: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report without them from the first line on: every hash holds; the images tell."""
    evaluation, tuning = noise(1, 400), noise(0, 400)
    tuning[[3, 9]] = one_pixel(evaluation[[5, 6]])
    one = arrays(tmp_path / "a", tuning, ["cat", "dog"])
    other = arrays(tmp_path / "b", evaluation, ["car", "bus"])
    out, here = tmp_path / "study", PoolSpec("inline")

    def hidden(*asked: Any) -> dict[str, Any]:
        looked = dict(survey(*asked))
        looked["overlap"] |= {"near_images": 0, "near_duplicates": 0, "near_examples": []}
        looked["tuning"]["flags"] = looked["tuning"]["flags"][:-1]
        return looked

    monkeypatch.setattr(study, "survey", hidden)
    asked = StudySpec("power", pair(one, other), trials=1, seeds=(0,))
    tune(asked, ExecutionOptions(out, here, plugins=(plugin,)))
    monkeypatch.setenv("CLGYM_WITHHELD", "[]")
    evaluate(out, here, plugins=(plugin,))
    assert verify(out).problems == []
    (problem,) = verify(out, rerun=1, plugins=(plugin,)).problems
    assert problem.endswith("overlap.near_images is 0, a look finds 2")


def test_many_images_that_look_like_one_count_as_one() -> None:
    """The lesser number of both sides: lookalikes of one digit are no copies of a source."""
    rng = np.random.default_rng(3)
    base = noise(0, 1)[0].astype(int)
    alike = np.stack([np.clip(base + rng.integers(-1, 2, base.shape), 0, 255) for _ in range(9)])
    one, other = seen(base[None].astype(np.uint8)), seen(alike.astype(np.uint8))
    codes = np.full(9, one.codes[0], dtype=np.uint64)
    overlap = compare(one, replace(other, codes=codes))
    assert (overlap.near_duplicates, overlap.near_images) == (9, 1)


def test_thumbs_are_block_means() -> None:
    """Sides that 8 and 9 divide: plain means over blocks."""
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 18, 1), dtype=np.uint8)
    from clgym.protocol.overlap import _small

    blocks = images[..., 0].reshape(5, 8, 2, 9, 2).mean(axis=(2, 4)) / 255
    np.testing.assert_allclose(_small(images, np.arange(5), 255)[0], blocks, atol=1e-6)


def test_images_look_the_same_whatever_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 20, 23, 3), dtype=np.uint8)
    whole = overlap._small(images, np.arange(9), 255)
    for rows in (1, 4):
        monkeypatch.setattr(overlap, "_AT_ONCE", rows * images[0].size)
        for found, wanted in zip(overlap._small(images, np.arange(9), 255), whole, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_a_pair_with_itself_is_refused() -> None:
    with pytest.raises(BadPlan, match="two different sides"):
        find_pair("digits-t2", evaluation="digits[4-9]")
    with pytest.raises(BadPlan, match="two different sides"):
        find_pair("i100-t10")


def test_a_changed_preset_has_another_name() -> None:
    changed = find_pair("digits-t2", config={"memory_size": 7})
    assert changed.name.startswith("digits-t2~") and changed.digest != find_pair("digits-t2").digest
