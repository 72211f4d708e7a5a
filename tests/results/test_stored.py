"""The one reader: what it opens, what it refuses, and what its audit finds."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from clgym.errors import BadRecord
from clgym.results.layout import is_run, run_folders
from clgym.results.stored import open_run

SAMPLES = Path(__file__).with_name("samples")
KINDS = ("learning", "adaptation", "two-phases")
Place = tuple[str | int, ...]

DERIVED = {
    "learning": (
        "accuracy_matrix",
        "test_counts",
        "accuracy_after",
        "last_accuracy",
        "average_incremental_accuracy",
        "forgetting",
        "backward_transfer",
        "forward_transfer",
    ),
    "adaptation": ("segments", "domains", "mean_error", "pooled_error", "per_class"),
}
"""Fields whose every number follows from the predictions."""


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a record's result in place."""
    file = folder / "record.json"
    record = json.loads(file.read_text())
    change(record["result"])
    file.write_text(json.dumps(record))


def exchange(folder: Path, data: bytes) -> None:
    """Put other predictions beside a record, and let it name their hash."""
    (folder / "predictions.safetensors").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    edit(folder, lambda result: result["predictions"].update(sha256=digest))


def numbers(value: Any, place: Place = ()) -> Iterator[Place]:
    """Places of all numbers in a JSON value."""
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in inner:
            yield from numbers(item, (*place, key))
    elif isinstance(value, int | float):
        yield place


def derived_numbers(result: dict[str, Any]) -> list[Place]:
    """Places of all numbers of a result that follow from its predictions."""
    found: list[Place] = []
    if result["kind"] != "adaptation":
        found += [p for name in DERIVED["learning"] for p in numbers(result[name], (name,))]
    for name in DERIVED["adaptation"] if "adaptation" in result else ():
        found += numbers(result["adaptation"][name], ("adaptation", name))
    return found


def add(result: dict[str, Any], place: Place, amount: float) -> None:
    """Add to the number at a place."""
    *way, last = place
    value: Any = result
    for key in way:
        value = value[key]
    value[last] += amount


# --- what is opened ------------------------------------------------------------------------------


@pytest.mark.parametrize("sample", ["v1-nmc", "v1-source", "v1-learn-then-adapt"])
def test_runs_of_schema_1_are_read_and_hold(sample: str) -> None:
    run = open_run(SAMPLES / sample)
    assert run.sha256 == hashlib.sha256((SAMPLES / sample / "record.json").read_bytes()).hexdigest()
    assert run.folder == SAMPLES / sample and run.has_predictions
    assert list(run.problems()) == []
    kept = load_file(SAMPLES / sample / "predictions.safetensors")
    assert run.predictions().arrays.keys() == kept.keys()


@pytest.mark.parametrize("draw", range(5))
@pytest.mark.parametrize("kind", KINDS)
def test_runs_of_schema_2_are_read_and_hold(
    write_stored: Callable, tmp_path: Path, kind: str, draw: int
) -> None:
    folder = write_stored(tmp_path / "run", kind, draw)
    assert list(open_run(folder).problems()) == []
    assert open_run(folder) == open_run(folder / "record.json")


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_those_of_the_file(
    write_stored: Callable, tmp_path: Path, kind: str
) -> None:
    folder = write_stored(tmp_path / "run", kind)
    run, kept = open_run(folder), load_file(folder / "predictions.safetensors")
    if kind != "adaptation":
        rows = run.predictions().after(1)
        for name, array in (("experience", rows.group), ("row", rows.row), ("label", rows.label)):
            np.testing.assert_array_equal(array, kept[f"1/{name}"])
        np.testing.assert_array_equal(rows.hits, kept["1/predicted"] == kept["1/label"])
    prefix = "shift/" if kind == "two-phases" else ""
    segments = run.predictions().segments()
    assert len(segments) == (0 if kind == "learning" else 2)
    for number, rows in enumerate(segments):
        np.testing.assert_array_equal(rows.group, kept[f"{prefix}{number}/domain"])
        np.testing.assert_array_equal(rows.predicted, kept[f"{prefix}{number}/predicted"])
        np.testing.assert_array_equal(rows.confidence, kept[f"{prefix}{number}/confidence"])


def test_runs_lie_at_a_place_or_directly_inside_it(write_stored: Callable, tmp_path: Path) -> None:
    for name in ("seed-1", "seed-0", "deeper/seed-2"):
        write_stored(tmp_path / name)
    (tmp_path / "empty").mkdir()
    assert run_folders(tmp_path) == [tmp_path / "seed-0", tmp_path / "seed-1"]
    assert run_folders(tmp_path / "seed-0") == [tmp_path / "seed-0"]
    assert run_folders(tmp_path / "empty") == [] and not is_run(tmp_path / "empty")


def test_a_folder_without_a_record_is_named(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "record.json", tmp_path / "nowhere"):
        with pytest.raises(BadRecord, match="a record at .*No such file"):
            open_run(place)


# --- predictions that are not those of the record ------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_any_changed_byte_of_the_predictions_is_refused(
    write_stored: Callable, tmp_path: Path, kind: str
) -> None:
    folder = write_stored(tmp_path / "run", kind)
    file = folder / "predictions.safetensors"
    whole = file.read_bytes()
    draw = np.random.default_rng(0)
    for place in draw.integers(0, len(whole), 30):
        data = bytearray(whole)
        data[place] ^= 1 << int(draw.integers(0, 8))
        file.write_bytes(data)
        with pytest.raises(BadRecord, match="does not hash to"):
            open_run(folder).predictions()
        (problem,) = open_run(folder).problems()
        assert "predictions.safetensors: other content, which does not hash" in problem


def test_missing_predictions_are_a_problem_unless_they_need_not_be_there(
    write_stored: Callable, tmp_path: Path
) -> None:
    folder = write_stored(tmp_path / "run")
    (folder / "predictions.safetensors").unlink()
    run = open_run(folder)
    assert not run.has_predictions
    assert list(run.problems()) == ["predictions.safetensors: no such file"]
    assert list(run.problems(predictions_needed=False)) == []
    with pytest.raises(BadRecord, match="no such file"):
        run.predictions()
    edit(folder, lambda result: result.update(last_accuracy=0.5))
    (problem,) = open_run(folder).problems(predictions_needed=False)
    assert problem == "result.last_accuracy does not follow from the matrix"


def test_changed_predictions_are_a_problem_even_where_they_need_not_be_there(
    write_stored: Callable, tmp_path: Path
) -> None:
    folder = write_stored(tmp_path / "run")
    (folder / "predictions.safetensors").write_bytes(b"others")
    (problem,) = open_run(folder).problems(predictions_needed=False)
    assert "does not hash" in problem


@pytest.mark.parametrize("data", [b"", b"x" * 100, (8).to_bytes(8, "little") + b"{}      " * 2])
def test_a_file_that_cannot_be_read_is_named_though_its_hash_is_right(
    write_stored: Callable, tmp_path: Path, data: bytes
) -> None:
    folder = write_stored(tmp_path / "run")
    exchange(folder, data)
    (problem,) = open_run(folder).problems()
    assert "cannot be read" in problem or "no array 0/experience" in problem


@pytest.mark.parametrize(
    ("kind", "name", "change", "words"),
    [
        ("learning", "0/label", lambda a: None, "no array 0/label"),
        ("learning", "1/row", lambda a: a[:-1], "different lengths in 1"),
        ("learning", "1/experience", lambda a: a[:-1], "different lengths in 1"),
        ("learning", "2/predicted", lambda a: a.astype(np.float32), "0/predicted|2/predicted"),
        ("learning", "0/label", lambda a: a - 1, "outside 0 to 5"),
        ("learning", "0/predicted", lambda a: a + 6, "outside 0 to 5"),
        ("learning", "0/experience", lambda a: a + 3, "outside 0 to 2"),
        ("learning", "0/row", lambda a: a[:, None], "shape"),
        ("adaptation", "1/confidence", lambda a: None, "no array 1/confidence"),
        ("adaptation", "0/domain", lambda a: a[:0], "shape"),
        ("adaptation", "0/domain", lambda a: a - 1, "outside 0"),
        ("two-phases", "shift/1/label", lambda a: a[1:], "different lengths in shift/1"),
        ("two-phases", "shift/0/confidence", lambda a: a.astype(np.int32), "int32"),
    ],
)
def test_arrays_that_do_not_fit_the_record_are_named(
    write_stored: Callable, tmp_path: Path, kind: str, name: str, change: Callable, words: str
) -> None:
    folder = write_stored(tmp_path / "run", kind)
    arrays = load_file(folder / "predictions.safetensors")
    changed = change(arrays.pop(name))
    if changed is not None:
        arrays[name] = np.ascontiguousarray(changed)
    exchange(folder, save(arrays))
    problems = "; ".join(open_run(folder).problems())
    assert "predictions.safetensors: " in problems
    with pytest.raises(BadRecord, match=words):
        predictions = open_run(folder).predictions()
        for experience in range(3 if kind != "adaptation" else 0):
            predictions.after(experience)
        predictions.segments()


# --- numbers that do not follow ------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_that_follows_from_the_predictions_is_computed_again(
    write_stored: Callable, tmp_path: Path, kind: str
) -> None:
    folder = write_stored(tmp_path / "run", kind)
    whole = (folder / "record.json").read_bytes()
    places = derived_numbers(json.loads(whole)["result"])
    assert len(places) == {"learning": 19, "adaptation": 20, "two-phases": 39}[kind]
    for place in places:
        counted = place[0] == "test_counts" or place[-1] == "images"
        edit(folder, lambda result, p=place, c=counted: add(result, p, 1 if c else 1e-7))
        assert list(open_run(folder).problems()), f"{place} was not computed again"
        (folder / "record.json").write_bytes(whole)


@pytest.mark.parametrize("kind", KINDS)
def test_last_bits_of_a_mean_are_no_problem(
    write_stored: Callable, tmp_path: Path, kind: str
) -> None:
    """Another version of NumPy adds in another order."""
    folder = write_stored(tmp_path / "run", kind)

    def change(result: dict[str, Any]) -> None:
        for place in derived_numbers(result):
            if place[0] != "test_counts" and place[-1] != "images":
                add(result, place, -1e-14)

    edit(folder, change)
    assert list(open_run(folder).problems()) == []


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("learning", "2/predicted", r"accuracy_matrix\[2\] does not follow from the predictions"),
        ("two-phases", "0/predicted", r"accuracy_matrix\[0\] does not follow"),
        ("adaptation", "0/predicted", "adaptation.segments does not follow"),
        ("two-phases", "shift/1/predicted", "adaptation.pooled_error does not follow"),
        ("adaptation", "1/confidence", "adaptation.segments does not follow"),
    ],
)
def test_one_other_prediction_is_found(
    write_stored: Callable, tmp_path: Path, kind: str, name: str, words: str
) -> None:
    folder = write_stored(tmp_path / "run", kind)
    arrays = load_file(folder / "predictions.safetensors")
    array = arrays[name]
    if name.endswith("predicted"):  # a right one becomes wrong, a wrong one right
        label = arrays[name.replace("predicted", "label")][0]
        array[0] = (label + 1) % 6 if array[0] == label else label
    else:
        array[0] = 1 - array[0]
    exchange(folder, save(arrays))
    problems = "; ".join(open_run(folder).problems())
    assert re.search(words, problems), problems


def test_a_test_row_that_counts_twice_is_found(write_stored: Callable, tmp_path: Path) -> None:
    folder = write_stored(tmp_path / "run")
    arrays = load_file(folder / "predictions.safetensors")
    arrays["0/row"][1] = arrays["0/row"][0]
    exchange(folder, save(arrays))
    (problem,) = open_run(folder).problems()
    assert problem == "result.predictions hold a test row twice after experience 1"


def test_an_experience_that_is_left_out_is_found(write_stored: Callable, tmp_path: Path) -> None:
    folder = write_stored(tmp_path / "run")
    edit(folder, lambda result: result["accuracy_matrix"][2].__setitem__(0, None))
    problems = list(open_run(folder).problems(predictions_needed=False))
    assert "result.accuracy_matrix[2][0] is missing, though it had test images" in problems


@pytest.mark.parametrize("setting", ["adaptation", "learn-then-shift"])
def test_a_kind_of_result_that_its_setting_does_not_give_is_found(
    write_stored: Callable, tmp_path: Path, setting: str
) -> None:
    """By its setting alone such a record was compared with none of its predictions."""
    folder = write_stored(tmp_path / "run")
    edit(folder, lambda result: result["scenario"].update(setting=setting))
    problems = list(open_run(folder).problems())
    assert f"result.kind is learning, though its setting is {setting}" in problems


def test_a_second_phase_without_its_predictions_does_not_contradict_itself_unseen(
    write_stored: Callable, tmp_path: Path
) -> None:
    folder = write_stored(tmp_path / "run", "two-phases")
    (folder / "predictions.safetensors").unlink()
    edit(folder, lambda result: result["adaptation"].update(mean_error=0.01, pooled_error=0.02))
    assert list(open_run(folder).problems(predictions_needed=False)) == [
        "result.adaptation.mean_error does not follow from the segments",
        "result.adaptation.pooled_error does not follow from the segments",
    ]


def test_a_run_whose_folder_was_moved_is_the_same(write_stored: Callable, tmp_path: Path) -> None:
    folder = write_stored(tmp_path / "run", "two-phases")
    moved = Path(shutil.move(folder, tmp_path / "elsewhere"))
    assert list(open_run(moved).problems()) == []
