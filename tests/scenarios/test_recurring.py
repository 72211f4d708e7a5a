"""Experiences that come again, transformed images and wrong labels: what a run makes of them."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import clgym
from clgym import registry
from clgym.check import findings_of
from clgym.data.sources import load_source
from clgym.errors import BadStream
from clgym.results.stored import open_run
from clgym.scenario import Step, Transform
from clgym.streams.source_flags import with_stream_flags
from factories import copy_plugin


@pytest.fixture
def changing(tmp_path: Path) -> Any:
    """Copies the scenario with other constants, and the function beside it."""
    numbers = itertools.count()

    def write(visits: list[int], recurs: bool = True, **constants: object) -> Path:
        folder = tmp_path / f"version-{next(numbers)}"
        copy_plugin("changes", folder)
        return copy_plugin("changing", folder, VISITS=visits, RECURS=recurs, **constants)

    return write


def run(path: Path, out: Path, **options: Any) -> Any:
    return clgym.run("nmc", str(path), source="digits", out=out, **options)


def test_a_recurring_experience_is_measured_where_it_came_first(
    changing: Any, tmp_path: Path
) -> None:
    path = changing([0, 1, 0], NOISE=0.0)
    result = run(path, tmp_path / "out", engine="inline").result
    assert [[v is None for v in row] for row in result.accuracy_matrix] == [
        [False, False, True]
    ] * 3
    table = np.array([row[:2] for row in result.accuracy_matrix], dtype=float)
    forgetting = [table[j:2, j].max() - table[2, j] for j in range(2)]
    assert result.forgetting == pytest.approx(np.mean(forgetting))
    assert result.backward_transfer == pytest.approx(
        np.mean([table[2, 0] - table[0, 0], table[2, 1] - table[1, 1]])
    )
    assert result.accuracy_after[2] == pytest.approx(table[2].mean())
    assert result.test_counts[2] == 0
    train = len(load_source("digits").train.labels)
    flag = f"{train} training images come in more than one experience"
    assert flag in result.sources[0].flags


def test_measuring_the_same_images_twice_is_refused(changing: Any, tmp_path: Path) -> None:
    path = changing([0, 1, 0], MEASURED_AGAIN=True)
    with pytest.raises(BadStream, match="experience 2 and an earlier one"):
        run(path, tmp_path / "out", engine="inline")


def findings(path: Path) -> dict[str, str]:
    entry = registry.find("scenarios", "changing", [path])
    return {f.check: f.status for f in findings_of("scenarios", entry, [path])}


def test_the_check_wants_recurrence_declared(changing: Any) -> None:
    assert findings(changing([0, 1, 0], recurs=False))["train-rows-once"] == "failed"
    found = findings(changing([0, 1, 0]))
    assert [name for name, status in found.items() if status == "failed"] == []
    assert found["transforms-repeat"] == "passed"
    assert findings(changing([0, 1, 2]))["train-rows-once"] == "failed"
    assert findings(changing([0, 1, 0], MEASURED_AGAIN=True))["test-rows-once"] == "failed"


def test_a_stream_is_known_by_its_transformations_and_labels(changing: Any) -> None:
    digests = {
        clgym.make_scenario(str(changing(visits, NOISE=noise)), source="digits").digest
        for visits in ([0, 1], [0, 2])
        for noise in (0.0, 0.1, 0.2)
    }
    assert len(digests) == 6


def test_training_labels_are_noisy_and_test_labels_true(changing: Any, tmp_path: Path) -> None:
    path, source = changing([0, 1]), load_source("digits")
    record = run(path, tmp_path / "out", engine="inline")
    predictions = open_run(tmp_path / "out").predictions().arrays
    np.testing.assert_array_equal(
        np.sort(predictions["1/label"]), np.sort(np.tile(source.test.labels, 2))
    )
    wrong = round(0.25 * len(source.train.labels)) * 2
    (flag,) = [f for f in record.result.sources[0].flags if "wrong on purpose" in f]
    assert flag.startswith(f"{wrong} of {2 * len(source.train.labels)} training labels")
    clean = run(changing([0, 1], NOISE=0.0), tmp_path / "clean", engine="inline")
    assert not [f for f in clean.result.sources[0].flags if "wrong" in f]


def test_held_out_rows_keep_their_labels(changing: Any) -> None:
    stream = clgym.make_scenario(str(changing([0])), source="digits", validation=0.2)
    step = stream.on_validation().steps[0]
    assert step.measured_on == "train" and step.labels is not None
    assert len(step.labels) == len(step.train)
    part = stream.part(0, 1)
    np.testing.assert_array_equal(part.steps[0].labels, stream.steps[0].labels)


def test_wrong_labels_reach_the_learner(changing: Any, tmp_path: Path) -> None:
    """Nearest class means by hand, from the labels that the plan gives."""
    path, source = changing([0]), load_source("digits")
    result = run(path, tmp_path / "out", engine="inline").result
    stream = clgym.make_scenario(str(path), source="digits")
    labels = stream.training_labels(stream.steps[0], source)
    images = {n: getattr(source, n).images.reshape(-1, 64) / 16 for n in ("train", "test")}
    means = np.stack([images["train"][labels == c].mean(0) for c in range(10)])
    distance = ((images["test"][:, None] - means) ** 2).sum(2)
    assert result.last_accuracy == pytest.approx(
        (distance.argmin(1) == source.test.labels).mean(), abs=0.004
    )


def test_a_function_of_a_file_runs_in_the_sandbox(changing: Any, tmp_path: Path) -> None:
    path = changing([0, 1])
    apart = run(path, tmp_path / "apart")
    inside = run(path, tmp_path / "inside", engine="inline")
    assert apart.result.accuracy_matrix == inside.result.accuracy_matrix
    assert apart.result.predictions.sha256 == inside.result.predictions.sha256


def test_flags_count_images_that_look_the_same_only() -> None:
    source, rows = load_source("digits"), np.arange(6)
    steps = [Step(rows, rows, (0,), rows[:0], transform=t) for t in (None, Transform("blur", 1.0))]

    class Plan:
        columns = (tuple(range(10)),)
        steps: list[Step]

    Plan.steps = steps
    assert not [f for f in with_stream_flags(Plan, [source])[0].flags if "more than one" in f]
    Plan.steps = [*steps, steps[1]]
    assert [f for f in with_stream_flags(Plan, [source])[0].flags if f.startswith("6 training")]
