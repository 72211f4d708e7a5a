"""Names of classes: given where they are declared, of the classes seen only; withheld elsewhere."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import clgym
from clgym.board.reading.entries import run_flags
from clgym.data.words import class_words
from clgym.errors import Incompatible, OutOfReach
from clgym.results.record import result_hash
from factories import copy_plugin

NAMES = ["maple_tree", "sea-lion", "great white shark", "cat"]


@pytest.fixture
def named(tmp_path: Path) -> Any:
    """Writes four classes of random images under given names."""

    def write(names: list[str]) -> str:
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        draw = np.random.default_rng(0)
        for part in ("train", "test"):
            images = draw.integers(0, 256, (24, 6, 6, 1), dtype=np.uint8)
            labels = np.arange(24) % len(names)
            np.savez(folder / f"{part}.npz", images=images, labels=labels, classes=names)
        return f"npz:{folder}"

    return write


def run(tmp_path: Path, source: str, declared: bool = True, **options: Any) -> Any:
    notes = tmp_path / "notes.txt"
    plugin = copy_plugin("class_names", tmp_path / "plugin", DECLARED=declared, NOTES=str(notes))
    return clgym.run(
        str(plugin),
        "split-digits",
        source=source,
        scenario_config={"increments": [2]},
        engine="inline",
        out=tmp_path / "out",
        **options,
    )


def test_only_names_of_classes_seen_are_given_in_column_order(named: Any, tmp_path: Path) -> None:
    record = run(tmp_path, named(NAMES), order_seed=3)
    order = [name.replace("_", " ").replace("-", " ") for name in record.result.class_order]
    given = (tmp_path / "notes.txt").read_text().splitlines()
    assert given == [",".join(order[:2]), ",".join(order)]
    assert record.result.class_names is True
    assert "names of the classes were given" in run_flags([record])


def test_names_are_withheld_from_others(named: Any, tmp_path: Path) -> None:
    with pytest.raises(OutOfReach, match="class_names=True"):
        run(tmp_path, named(NAMES), declared=False)


@pytest.mark.parametrize("names", [["0", "1", "2", "3"], ["n01440764", "n01443537", "cat", "dog"]])
def test_a_source_without_names_is_refused(named: Any, tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(Incompatible, match="whose classes have names"):
        run(tmp_path, named(names))


def test_records_of_others_keep_their_hash() -> None:
    record = clgym.run("nmc", "split-digits", engine="inline")
    assert record.result.class_names is None
    changed = record.model_copy(
        update={"result": record.result.model_copy(update={"class_names": True})}
    )
    assert result_hash(changed) != result_hash(record)
    assert not [flag for flag in run_flags([record]) if "names" in flag]


def test_class_names_in_words() -> None:
    assert class_words(["cifar100/maple_tree", "2:sea-lion"]) == ("maple tree", "sea lion")
    assert class_words(["digits/3", "mnist/0"]) == ("3", "0")
    assert class_words(["3"]) is None and class_words(["1:3"]) is None
    assert class_words(["imagenet/n01440764"]) is None and class_words(["a/"]) is None
