"""Images of another source, which the user names by an option: what is given, and what is not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import clgym
from clgym.avalanche import as_template
from clgym.board.reading.entries import run_flags
from clgym.data.sources import load_source
from clgym.errors import BadConfig, Incompatible, UnknownName, Withheld
from clgym.results.record import result_hash
from factories import copy_plugin


def draw(channels: int, seed: int, count: int = 24) -> np.ndarray:
    """Images of noise."""
    values = np.random.default_rng(seed)
    return values.integers(0, 256, (count, 7, 7, channels), dtype=np.uint8)


def write(folder: Path, train: np.ndarray, test: np.ndarray) -> str:
    """A source of four classes; its name."""
    folder.mkdir()
    for part, images in (("train", train), ("test", test)):
        labels = np.arange(len(images)) % 4
        np.savez(folder / f"{part}.npz", images=images, labels=labels, classes=[*"abcd"])
    return f"npz:{folder}"


@pytest.fixture
def grey(tmp_path: Path) -> str:
    return write(tmp_path / "grey", draw(1, 0), draw(1, 1))


def run(folder: Path, named: str, **options: Any) -> tuple[Any, np.ndarray]:
    """Record of a run, and the images that the strategy found."""
    folder.mkdir(exist_ok=True)
    notes = folder / "given.npy"
    plugin = copy_plugin("given_images", folder / "plugin", NOTES=str(notes))
    given: dict[str, Any] = {"source": named, "count": options.pop("count", 10)}
    record = clgym.run(
        str(plugin),
        options.pop("scenario", "split-digits"),
        config=given,
        engine="inline",
        out=folder / "out",
        **options,
    )
    return record, np.load(notes)


def as_set(images: np.ndarray) -> set[bytes]:
    return {np.ascontiguousarray(image).tobytes() for image in images}


def test_training_images_are_given_as_the_seed_draws_them(grey: str, tmp_path: Path) -> None:
    record, given = run(tmp_path / "a", grey, seed=1)
    assert given.shape == (10, 1, 7, 7) and given.dtype == np.uint8
    assert as_set(given) < as_set(draw(1, 0)) and len(as_set(given)) == 10
    assert np.array_equal(run(tmp_path / "b", grey, seed=1)[1], given)
    assert as_set(run(tmp_path / "c", grey, seed=2)[1]) != as_set(given)
    facts = record.result.images_given
    assert facts.count == 10 and facts.source.startswith("npz~")
    assert f"images of {facts.source} were given" in run_flags([record])
    bare = record.result.model_copy(update={"images_given": None})
    assert result_hash(record.model_copy(update={"result": bare})) != result_hash(record)


def test_a_record_holds_no_path_of_the_source(grey: str, tmp_path: Path) -> None:
    run(tmp_path / "a", grey)
    text = (tmp_path / "a" / "out" / "record.json").read_text()
    assert json.loads(text)["result"]["strategy"]["config"]["source"] == "npz:grey"
    assert str(tmp_path) not in text


def test_no_more_than_all_are_given(grey: str, tmp_path: Path) -> None:
    assert as_set(run(tmp_path / "a", grey, count=1000)[1]) == as_set(draw(1, 0))


def test_nothing_is_given_to_others(tmp_path: Path) -> None:
    record, given = run(tmp_path / "a", "none")
    assert given.size == 0 and record.result.images_given is None


def test_grey_images_are_given_in_the_colours_of_the_stream(grey: str, tmp_path: Path) -> None:
    colour = write(tmp_path / "colour", draw(3, 5), draw(3, 6))
    _, given = run(tmp_path / "a", grey, source=colour, scenario_config={"increments": [2]})
    assert given.shape == (10, 3, 7, 7)
    assert as_set(given[:, 0]) < as_set(draw(1, 0)) and (given == given[:, :1]).all()
    with pytest.raises(Incompatible, match=r"channels of the stream \(1\)"):
        run(tmp_path / "b", colour, source=grey, scenario_config={"increments": [2]})


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_source_that_shows_an_image_of_the_stream_is_refused(
    grey: str, tmp_path: Path, part: str
) -> None:
    images = draw(1, 5)
    images[7] = draw(1, {"train": 0, "test": 1}[part])[3]
    other = write(tmp_path / "other", images, draw(1, 6))
    with pytest.raises(Incompatible, match="which has 1 of them"):
        run(tmp_path / "a", other, source=grey, scenario_config={"increments": [2]})
    with pytest.raises(Incompatible, match="which has 24 of them"):
        run(tmp_path / "b", grey, source=grey, scenario_config={"increments": [2]})


def test_images_in_another_range_are_the_same_images(tmp_path: Path) -> None:
    """Digits store 0 to 16, and are given from 0 to 255: a copy in that range is refused, too."""
    digits = load_source("digits")
    bright = digits.gather("test", np.arange(40))
    other = write(tmp_path / "bright", bright, digits.gather("train", np.arange(8)))
    with pytest.raises(Incompatible, match="which has 40 of them"):
        run(tmp_path / "a", other)


@pytest.mark.parametrize("count", [0, -3])
def test_no_images_are_refused_before_any_work(grey: str, tmp_path: Path, count: int) -> None:
    with pytest.raises(BadConfig, match="at least one image"):
        run(tmp_path / "a", grey, count=count)
    assert not (tmp_path / "a" / "out").exists()


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="cifar10O"):
        run(tmp_path / "a", "cifar10O")


@pytest.mark.parametrize("classes", [None, [0, 1]])
def test_what_belongs_to_the_evaluation_is_refused(
    grey: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: list[int] | None
) -> None:
    rule = {"source": grey, "fingerprint": "0" * 64, "classes": classes, "images": []}
    monkeypatch.setenv("CLGYM_WITHHELD", json.dumps([rule]))
    with pytest.raises(Withheld, match="belongs to the evaluation"):
        run(tmp_path / "a", grey)


def test_an_avalanche_script_gives_none(grey: str, tmp_path: Path) -> None:
    plugin = copy_plugin("given_images", tmp_path / "plugin", NOTES="")
    strategy = clgym.make_strategy(str(plugin), source=grey)
    with pytest.raises(Incompatible, match="only the gym hands out"):
        as_template(strategy, setting="class-incremental", mean=(0.0,), std=(1.0,))
