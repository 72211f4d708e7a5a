"""Copies of the evaluation's images in disguise are seen, and few others are taken for copies."""

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import ndimage

from clgym.data.sources import load_source
from clgym.errors import BadPlan
from clgym.protocol import lookalikes as looks
from clgym.protocol.overlap import check, compare, footprint
from clgym.protocol.pairs import ScenarioPair, Side

COMMAND = Path(__file__).parents[2] / "benchmarks" / "disguises.py"
NAMES = (
    "identical",
    "one pixel",
    "JPEG, quality 95",
    "JPEG, quality 50",
    "normal noise of 8 levels",
    "resize x 2 and back",
    "grey as colour",
    "flip",
    "quarter turn",
    "inversion",
    "shift by 2 pixels",
    "brightness + 30",
    "crop 28 with padding",
    "border of 1 pixel",
)
here = pytest.mark.skipif(
    not Path(os.environ.get("CLGYM_DATA", "/nowhere"), "cifar100").exists(),
    reason="needs CIFAR-100 and MNIST below CLGYM_DATA",
)


@pytest.fixture(scope="module")
def command() -> ModuleType:
    spec = importlib.util.spec_from_file_location("disguises", COMMAND)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pictures(seed: int, count: int) -> np.ndarray:
    """Smooth shapes in colour, uint8 [n, 32, 32, 3]: as much contrast as a photograph has."""
    rng = np.random.default_rng(seed)
    shapes, colours = rng.normal(size=(count, 32, 32, 1)), rng.normal(size=(count, 32, 32, 3))
    noise = shapes + 0.3 * colours
    smooth = ndimage.gaussian_filter(noise, (0, 2, 2, 0), mode="wrap")
    return np.clip(128 + smooth * (50 / smooth.std()), 0, 255).astype(np.uint8)


def test_the_list_is_whole(command: ModuleType) -> None:
    assert tuple(command.DISGUISES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_in_disguise_is_seen(name: str, command: ModuleType) -> None:
    images = pictures(0, 200)
    assert command.recall(images, command.DISGUISES[name]) > 0.95


@here
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("source", ["cifar100", "mnist"])
def test_a_copy_of_a_real_image_is_seen(name: str, source: str, command: ModuleType) -> None:
    images = command.sample(load_source(source), 300)
    assert command.recall(images, command.DISGUISES[name]) > 0.95


def test_two_disguises_at_once_are_seen(command: ModuleType) -> None:
    images = pictures(0, 200)
    turned = np.rot90(images[:, :, ::-1], axes=(1, 2))
    found = command.DISGUISES["JPEG, quality 50"](command.DISGUISES["shift by 2 pixels"](turned))
    pairs = command.alike(command.part(found), command.part(images))
    assert len({i for i, j in pairs if i == j}) > 190


def test_other_pictures_are_no_copies(command: ModuleType) -> None:
    one, other = (command.part(pictures(seed, 400)) for seed in (1, 2))
    assert compare(one, other).near_images == 0


@pytest.mark.slow
@here
def test_one_in_a_thousand_is_falsely_paired_at_most() -> None:
    cifar = load_source("cifar100")
    overlap = compare(*(footprint(cifar, range(s, s + 50)) for s in (0, 50)))
    assert overlap.images == (30000, 30000) and overlap.near_images <= 30


def test_plain_images_are_like_no_others(command: ModuleType) -> None:
    plain = (
        np.full((20, 32, 32, 3), 90, np.uint8) + np.arange(20, dtype=np.uint8)[:, None, None, None]
    )
    other = plain.copy()
    other[:, 9, 9] += 40
    assert looks.lookalikes(looks.shrunk(plain, 255), looks.shrunk(other, 255)) == []


@pytest.mark.parametrize("turn", range(8))
def test_spectra_do_not_change_with_flips_turns_and_inversion(turn: int) -> None:
    grey = looks.shrunk(pictures(3, 5), 255)
    view = np.rot90(grey[:, :, ::-1] if turn >= 4 else grey, turn % 4, axes=(1, 2))
    np.testing.assert_allclose(looks.spectra(255 - view), looks.spectra(grey), atol=1e-3)


def test_correlations_are_those_of_numpy() -> None:
    """The largest over all windows, flips and turns is that of `numpy.corrcoef`, or a bit more."""
    one, other = (looks.shrunk(pictures(seed, 3), 255) for seed in (4, 5))
    found = looks._correlations(one, other, np.array([[0, 1], [1, 2], [2, 0]]))
    for row, columns in enumerate([[0, 1], [1, 2], [2, 0]]):
        inner = one[row, 4:-4, 4:-4]
        for place, column in enumerate(columns):
            best = max(
                abs(np.corrcoef(view.ravel(), other[column, y : y + 24, x : x + 24].ravel())[0, 1])
                for flip in (inner, inner[:, ::-1])
                for view in (np.rot90(flip, k) for k in range(4))
                for y in range(9)
                for x in range(9)
            )
            assert best - 1e-4 <= found[row, place] <= best + 0.05


def test_flipped_copies_are_refused_and_natural_lookalikes_of_halves_flagged(
    command: ModuleType,
) -> None:
    images = pictures(6, 400)
    overlap = compare(command.part(images[:, :, ::-1]), command.part(images))
    sources = ScenarioPair(
        name="p", scenario="s", config={}, tuning=Side(source="a"), evaluation=Side(source="b")
    )
    with pytest.raises(BadPlan, match="found 400, such as"):
        check(sources, overlap, True)
    sides = [Side(source="a", extra={"rows": half}) for half in ("tuning", "evaluation")]
    halves = sources.model_copy(update={"tuning": sides[0], "evaluation": sides[1]})
    assert check(halves, overlap, True) == []
    assert overlap.flags == ["400 of its images look like one of the evaluation"]
    copied = sources.model_copy(update={"evaluation": sides[1].model_copy(update={"source": "b"})})
    with pytest.raises(BadPlan, match="found 400, such as"):
        check(copied, overlap, True)


def test_a_report_names_its_detector(command: ModuleType) -> None:
    part = command.part(pictures(7, 10))
    assert compare(part, part).describe()["detector"] == "lookalikes-2"
