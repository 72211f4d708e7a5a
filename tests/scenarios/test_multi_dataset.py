"""Lists of sources as streams: columns, draws, common shapes, mistakes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clgym.data.sources import load_source
from clgym.errors import BadStream, MissingData
from clgym.request import Request, make_stream
from clgym.runner import run


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


def test_classes_that_are_not_there() -> None:
    with pytest.raises(BadStream, match=r"8\.\.12"):
        stream_of("digits[8..12]")
