"""Runs: numbers against NumPy, equality over engines, interruption, refusals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from clgym.errors import BadConfig, BadOutput, BadStream, Incompatible, StrategyFailed, UnknownName
from clgym.files import sha256
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.messages import Event, RunFinished, RunResumed, Scored, TrainProgress
from clgym.results.stored import open_run
from factories import copy_plugin


def _digits_by_numpy() -> np.ndarray:
    """Split digits with class means of unit-length pixels: the matrix, in twenty lines."""
    data: Any = load_digits()
    x = data.images.reshape(len(data.images), -1) / 16
    split: Any = train_test_split(
        x, data.target, test_size=0.2, random_state=0, stratify=data.target
    )
    x_train, x_test, y_train, y_test = split
    unit = lambda a: a / np.linalg.norm(a, axis=1, keepdims=True)  # noqa: E731
    matrix = np.full((5, 5), np.nan)
    for i in range(5):
        seen = range(2 * i + 2)
        means = np.stack([unit(x_train[y_train == c]).mean(0) for c in seen])
        for j in range(i + 1):
            rows = np.isin(y_test, [2 * j, 2 * j + 1])
            distance = np.linalg.norm(unit(x_test[rows])[:, None] - means, axis=2)
            matrix[i, j] = (distance.argmin(1) == y_test[rows]).mean()
    return matrix


def test_nmc_on_split_digits_equals_numpy(tmp_path: Path) -> None:
    record = run(Request("nmc", "split-digits", out=tmp_path / "run"))
    found = np.array(record.result.accuracy_matrix, dtype=float)
    np.testing.assert_allclose(found, _digits_by_numpy(), atol=1e-12, equal_nan=True)
    assert record.result.last_accuracy == pytest.approx(
        np.average(found[-1], weights=record.result.test_counts)
    )
    assert record.environment.engine == "process"


def test_record_is_valid_and_its_predictions_give_its_matrix(tmp_path: Path) -> None:
    out = tmp_path / "run"
    record = run(Request("nmc", "split-digits", out=out, order_seed=1993))
    assert open_run(out).record == record
    file = out / record.result.predictions.file
    assert sha256(file.read_bytes()) == record.result.predictions.sha256
    answers = load_file(file)
    for i, row in enumerate(record.result.accuracy_matrix):
        hits = answers[f"{i}/predicted"] == answers[f"{i}/label"]
        for j in range(i + 1):
            assert row[j] == pytest.approx(hits[answers[f"{i}/experience"] == j].mean())
    text = (out / "record.json").read_text()
    assert str(tmp_path) not in text and str(Path.home()) not in text
    assert sorted(p.name for p in out.iterdir()) == [
        "predictions.safetensors",
        "record.json",
        "run.json",
        "state.safetensors",
    ]


def test_inline_gives_the_same_result_and_says_so(tmp_path: Path) -> None:
    a = run(Request("nmc", "split-digits", out=tmp_path / "a"))
    b = run(Request("nmc", "split-digits", out=tmp_path / "b", engine="inline"))
    assert a.result == b.result
    assert b.environment.engine == "inline"


def test_task_and_domain_streams_are_scored_by_their_rules(tmp_path: Path) -> None:
    task = run(Request("nmc", "task-digits", out=tmp_path / "t")).result
    assert task.accuracy_after == pytest.approx(task.task_aware_accuracy_after)
    assert task.last_accuracy == pytest.approx(np.mean([v for v in task.accuracy_matrix[-1] if v]))
    assert task.chance == [0.5] * 5
    domain = run(Request("nmc", "permuted-digits", out=tmp_path / "d")).result
    assert all(v is not None for row in domain.accuracy_matrix for v in row)
    assert domain.forward_transfer is not None
    gains = [domain.accuracy_matrix[j - 1][j] - 0.1 for j in range(1, 5)]  # type: ignore[operator]
    assert domain.forward_transfer == pytest.approx(np.mean(gains))


def test_a_killed_learner_is_named_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = tmp_path / "flag"
    plugin = copy_plugin("dies", tmp_path, FLAG=flag)
    whole = run(Request("dies", "split-digits", out=tmp_path / "whole", plugins=(plugin,)))
    flag.touch()
    request = Request("dies", "split-digits", out=tmp_path / "cut", plugins=(plugin,))
    with pytest.raises(StrategyFailed, match="SIGKILL"):
        run(request)
    assert not (tmp_path / "cut" / "record.json").exists()
    flag.unlink()
    events: list[Event] = []
    again = run(request, events.append)
    assert [e.experience for e in events if isinstance(e, RunResumed)] == [2]
    assert again.result == whole.result
    assert again.cost.resumed == 1


@pytest.mark.slow
def test_a_relative_out_is_the_callers_folder_though_the_worker_is_warm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        run(Request("nmc", "split-digits", out=Path("run")))
        assert (tmp_path / name / "run" / "state.safetensors").is_file()


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    request = Request("nmc", "split-digits", out=tmp_path / "run")
    first = run(request)
    events: list[Event] = []
    assert run(request, events.append) == first
    assert isinstance(events[-1], RunFinished) and events[-1].finished_before


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        (Request("nmcc", "split-digits"), UnknownName, "'nmc'"),
        (Request("nmc", "split-digit"), UnknownName, "'split-digits'"),
        (Request("nmc", "split-digits", source="digit"), UnknownName, "'digits'"),
        (
            Request("nmc", "split-digits", scenario_config={"increments": 3}),
            BadStream,
            "10 classes",
        ),
        (
            Request("nmc", "split-digits", scenario_config={"increments": 0}),
            BadConfig,
            "at least 1",
        ),
        (
            Request("nmc", "split-digits", strategy_config={"batch_size": 0}),
            BadConfig,
            "at least 1",
        ),
        (Request("nmc", "split-digits", strategy_config={"batch": 8}), UnknownName, "batch_size"),
        (Request("nmc", "split-digits", device="tpu9"), Incompatible, "device"),
        (Request("nmc", "split-digits", threads=-1), BadConfig, "thread"),
        (Request("nmc", "split-digits", threads=0), BadConfig, "thread"),
        (Request("nmc", "split-digits", order_seed=-1), BadStream, "order seed"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(
    working_folder: Path, request_: Request, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        run(request_)
    assert list(working_folder.iterdir()) == []


def test_an_out_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(Request("nmc", "split-digits", out=out))
    before = (out / "record.json").read_bytes()
    with pytest.raises(BadOutput, match="another --out"):
        run(Request("nmc", "split-digits", out=out, seed=1))
    assert (out / "record.json").read_bytes() == before


def test_an_out_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "file"
    out.write_text("mine")
    with pytest.raises(BadOutput, match="another"):
        run(Request("nmc", "split-digits", out=out))
    assert out.read_text() == "mine"


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadOutput, match="Free some space"):
        run(Request("nmc", "split-digits", out=tmp_path / "run"))
    assert not any((tmp_path / "run").glob("*"))


def test_a_task_incremental_strategy_is_refused_elsewhere(tmp_path: Path) -> None:
    plugin = copy_plugin("wants_task_ids", tmp_path)
    with pytest.raises(Incompatible, match="class-incremental"):
        run(Request("wants-task-ids", "split-digits", out=tmp_path / "run", plugins=(plugin,)))
    assert not (tmp_path / "run").exists()
    record = run(Request("wants-task-ids", "task-digits", out=tmp_path / "run", plugins=(plugin,)))
    assert (
        json.loads(record.model_dump_json())["result"]["scenario"]["setting"] == "task-incremental"
    )


@pytest.mark.parametrize("name", ["avalanche:EWC", "avalanche:GDumb", "joint", "oewc", "refresh"])
def test_strategies_that_reread_rows_are_refused_on_single_pass_streams(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(Incompatible, match="single-pass"):
        run(Request(name, "online-digits", out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_two_epochs_are_refused_on_a_single_pass_stream(tmp_path: Path) -> None:
    request = Request("naive", "online-digits", strategy_config={"epochs": 2}, out=tmp_path / "run")
    with pytest.raises(BadConfig, match="epochs to be 1"):
        run(request)
    assert not (tmp_path / "run").exists()


def test_an_interrupted_worker_is_not_used_again(tmp_path: Path) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, TrainProgress):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Request("replay", "split-digits", out=tmp_path / "a"), interrupt)
    record = run(Request("nmc", "split-digits", out=tmp_path / "b"))
    assert record.result.last_accuracy == pytest.approx(0.9)


@pytest.mark.parametrize("text", ["[]", "{", '{"key": 1}'])
def test_a_foreign_run_note_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(BadOutput, match="another --out"):
        run(Request("nmc", "split-digits", out=tmp_path))
    assert (tmp_path / "run.json").read_text() == text


def test_sources_of_another_range_are_brought_to_one(tmp_path: Path) -> None:
    """Digits go to 16, the others to 255: in one stream the brightest pixel is 1 in both."""
    plugin = copy_plugin("brightest", tmp_path, REPORT=tmp_path / "seen")
    bright = np.random.RandomState(0).randint(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    bright[:, 0, 0] = 255
    np.savez(
        tmp_path / "bright.npz",
        images=bright,
        labels=np.arange(20) % 2,
        classes=np.array(["a", "b"]),
    )
    source = f"digits[0..1],npz:{tmp_path / 'bright.npz'}"
    options = {"source": source, "resize": 8}
    run(
        Request(
            "brightest",
            "multi-dataset",
            scenario_config=options,
            out=tmp_path / "run",
            plugins=(plugin,),
            sandbox="none",  # it writes outside
        )
    )
    assert [float(v) for v in (tmp_path / "seen").read_text().split()] == [1.0, 1.0]


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    request = Request("nmc", "split-digits", out=tmp_path / "run")
    refusals: list[str] = []

    def once_more(event: Event) -> None:
        if isinstance(event, Scored) and not refusals:
            with pytest.raises(BadOutput, match="no other process") as caught:
                run(request)
            refusals.append(str(caught.value))

    assert run(request, once_more).result.last_accuracy == pytest.approx(0.9)
    assert len(refusals) == 1
