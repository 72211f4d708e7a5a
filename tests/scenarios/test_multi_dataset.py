"""Lists of sources as streams: columns, draws, common shapes, mistakes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clgym.data.sources import load_source
from clgym.errors import BadStream, MissingData
from clgym.gym.request import Request, make_scenario, make_stream
from clgym.gym.run import run
from clgym.registry import find


def stream_of(source: str, **options: object):
    return make_stream(Request("", "multi-dataset", source, {}, options))


@pytest.fixture
def colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes of 6 + 3 plain 12 x 10 colour images, below a data root."""
    generator = np.random.default_rng(0)
    for half, count in (("train", 6), ("test", 3)):
        for name in ("blue", "green", "red"):
            folder = tmp_path / "colours" / half / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    monkeypatch.setenv("CLGYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CLGYM_DATA", str(tmp_path))
    return tmp_path / "colours"


def test_columns_follow_the_list_and_every_row_keeps_its_class() -> None:
    plan, source = stream_of("digits[0..4],digits[5..9]"), load_source("digits")
    assert plan.setting == "task-incremental"
    assert [s.classes for s in plan.steps] == [(0, 1, 2, 3, 4), (5, 6, 7, 8, 9)]
    for number, step in enumerate(plan.steps):
        columns = np.array(plan.columns[step.source])
        assert set(columns[source.train.labels[step.train]]) == set(step.classes)
        wanted = np.isin(source.test.labels, range(5 * number, 5 * number + 5))
        assert step.test.tolist() == np.flatnonzero(wanted).tolist()
    assert sum(len(s.train) + len(s.test) for s in plan.steps) == 1797
    assert len(set(plan.class_order)) == 10


def test_grey_and_colour_meet_in_one_shape(colours: Path) -> None:
    plan = stream_of(f"digits[0..2],folder:{colours}", resize=9)
    assert plan.image_shape == (3, 9, 9)
    assert [s.classes for s in plan.steps] == [(0, 1, 2), (3, 4, 5)]
    with pytest.raises(BadStream, match="resize"):
        stream_of(f"digits,folder:{colours}")


def test_a_run_over_grey_and_colour(colours: Path, tmp_path: Path) -> None:
    request = Request(
        "naive",
        "multi-dataset",
        f"digits[0..2],folder:{colours}",
        {"epochs": 2, "batch_size": 8},
        {"resize": 9, "images": (60, 30)},
        out=tmp_path / "run",
        threads=1,
    )
    result = run(request).result
    assert result.test_counts == [30, 9]
    assert (result.accuracy_matrix[0][0] or 0) > 0.6


def test_images_are_drawn_evenly_and_doubled_for_many_classes() -> None:
    plan, source = stream_of("digits", images=(100, 40)), load_source("digits")
    (step,) = plan.steps
    assert np.bincount(source.train.labels[step.train]).tolist() == [10] * 10
    assert np.bincount(source.test.labels[step.test]).tolist() == [4] * 10
    assert plan == stream_of("digits", images=(100, 40))
    assert plan != stream_of("digits", images=(100, 40), images_seed=1)


PUBLISHED = {
    "scenes": (67, 5092, 536),
    "birds": (200, 5200, 600),
    "eurosat": (10, 2560, 260),
    "food": (101, 5151, 505),
    "clevr": (8, 2560, 256),
}
"""Classes, training and validation images of the paper's table."""


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root with sets of as many classes as the paper's, of one grey 2 x 2 image each."""
    monkeypatch.setenv("CLGYM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CLGYM_DATA", str(tmp_path))
    for place, (name, (classes, train, test)) in enumerate(PUBLISHED.items()):
        (tmp_path / name).mkdir()
        for half, wanted in (("train", train), ("test", test)):
            labels = np.repeat(np.arange(classes), wanted // classes + 2)
            images = np.full((len(labels), 2, 2, 1), place, dtype=np.uint8)
            images[:, 0, 0, 0] = np.arange(len(labels)) % 256  # apart
            images[:, 0, 1, 0] = np.arange(len(labels)) // 256
            names = np.array([f"{c:03}" for c in range(classes)])
            file = tmp_path / name / f"{half}.npz"
            np.savez(file, images=images, labels=labels, classes=names)
    return tmp_path


def test_as_many_images_are_drawn_as_the_papers_table_says(many: Path) -> None:
    plan = stream_of(",".join(f"root:{name}" for name in PUBLISHED), images=(2560, 256))
    drawn = [(len(s.classes), len(s.train), len(s.test)) for s in plan.steps]
    assert drawn == list(PUBLISHED.values())


def test_classes_beyond_the_most_are_left_out(many: Path) -> None:
    plan = stream_of("root:birds,root:clevr", max_classes=12)
    assert [len(s.classes) for s in plan.steps] == [12, 8]
    kept = [name.partition(":")[2] for name in plan.class_order[:12]]
    wanted = np.random.RandomState(27).permutation(200)[:12]
    assert kept == [f"{c:03}" for c in sorted(wanted)]
    assert len(plan.steps[0].train) == 12 * (5200 // 200 + 2)


def test_what_the_root_lacks_is_told_at_once(many: Path, colours: Path) -> None:
    plan = stream_of("root:colours,root:clevr[0..1],digits[0..1]", resize=4)
    assert [len(s.classes) for s in plan.steps] == [3, 2, 2]
    with pytest.raises(MissingData, match=r"3 sources.*2 missing: rice, atari\."):
        stream_of("root:rice,root:clevr,root:atari")
    with pytest.raises(MissingData, match="19 missing: birds, wikiart"):
        (many / "food-101").mkdir()
        (many / "birds").rename(many / "other")
        make_stream(Request("", "multi-clr-named"))


def test_the_named_sets_of_the_paper_are_read_by_name(many: Path) -> None:
    names = [part for part in clr_named() if not (many / part).exists()]
    for name in names:
        (many / name).symlink_to(many / "clevr")
    plan = make_stream(Request("", "multi-clr-named"))
    assert len(plan) == 23 and plan.image_shape == (1, 224, 224)
    by_name = dict(zip(clr_named(), plan.steps, strict=True))
    assert [len(by_name[n].train) for n in ("scenes", "birds", "clevr")] == [5092, 5200, 2560]


def clr_named() -> list[str]:
    source = find("scenarios", "multi-dataset").presets["multi-clr-named"]["source"]
    return [name.removeprefix("root:") for name in source.split(",")]


def test_image_files_of_the_root_are_decoded_at_224(colours: Path) -> None:
    scenario = make_scenario(Request("", "multi-dataset", source="root:colours"))
    (name,) = scenario.source_names()
    assert load_source(name).train.images.shape[1:3] == (224, 224)


def test_a_list_comes_from_the_data_root(colours: Path) -> None:
    (colours.parent / "mine.txt").write_text("# two tasks\nfolder:colours\ndigits[0..2]  # part\n")
    plan = stream_of("list:mine.txt", resize=9)
    assert [len(s.train) for s in plan.steps][0] == 18 and len(plan) == 2
    with pytest.raises(MissingData, match="clr53"):
        make_stream(Request("", "multi-53"))


def test_order_seed_moves_whole_tasks() -> None:
    natural = stream_of("digits[0..2],digits[3..5],digits[6..9]")
    moved = make_stream(
        Request("", "multi-dataset", "digits[0..2],digits[3..5],digits[6..9]", order_seed=3)
    )
    order = np.random.RandomState(3).permutation(3)
    assert [s.source for s in moved.steps] == order.tolist()
    assert [s.train.tolist() for s in moved.steps] == [
        natural.steps[i].train.tolist() for i in order
    ]


def test_unknown_classes_are_refused() -> None:
    with pytest.raises(BadStream, match=r"8\.\.12"):
        stream_of("digits[8..12]")
