"""Pretraining streams: what the learner is not given, what the probes measure, resumption."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression

from clgym.api import make_scenario
from clgym.board.page.tables import tables_of
from clgym.board.reading.records import read_board
from clgym.data.sources import load_source
from clgym.errors import BadAnswer, BadRecord, BadStream, Incompatible, StrategyFailed
from clgym.gym.pretraining import PretrainingPhase
from clgym.gym.probe_fits import answers_of_probes
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.protocol.verify import verify
from clgym.results.compare import compare
from clgym.results.record import LearningResult, PretrainingResult, Record, result_hash
from clgym.results.stored import open_run
from clgym.streams.pretraining import PretrainingStream, Probe
from factories import copy_plugin

STREAM: dict[str, Any] = {"increment": 5, "images": [200, 100]}
SMALL: dict[str, Any] = {"epochs": 1, "batch_size": 32}


def go(out: Path, strategy: str = "mae", **more: Any) -> Record:
    config = more.pop("config", SMALL)
    stream = {**STREAM, **more.pop("stream", {})}
    more.setdefault("engine", "inline")
    request = Request(
        strategy,
        "pretrain-digits",
        strategy_config=config,
        scenario_config=stream,
        out=out,
        threads=1,
        **more,
    )
    return run(request)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mae") / "run"
    go(folder)
    return folder


def plugged(folder: Path, stream: Any = STREAM, **constants: Any) -> Record:
    plugin = copy_plugin("unlabelled", folder, **constants)
    more: dict[str, Any] = {"config": {}, "plugins": (plugin,), "stream": stream}
    return go(folder / "run", "unlabelled", **more)


def probe_of(folder: Path) -> Any:
    result = open_run(folder).result
    assert isinstance(result, PretrainingResult)
    return result.probe


# --- what is withheld ----------------------------------------------------------------------------


def test_a_learner_gets_neither_labels_nor_classes(tmp_path: Path) -> None:
    plugged(tmp_path, REPORT=tmp_path / "report")
    reports = [json.loads(line) for line in (tmp_path / "report").read_text().splitlines()]
    assert len(reports) == 2
    for report in reports:
        assert report["labels"] == report["batch_labels"] == report["part_labels"] == "OutOfReach"
        assert report["classes"] == [] and report["columns"] == 0 and report["total"] is None
        assert report["tasks"] == [0] and report["setting"] == "pretraining"


def test_labels_of_an_experience_are_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of reach in the learner's process, not merely behind a property."""
    from clgym.learner.entrance import Learner

    seen: list[dict[str, Any]] = []
    handle = Learner.handle

    def noted(self: Learner, message: Any) -> Any:
        seen.append(message)
        return handle(self, message)

    monkeypatch.setattr(Learner, "handle", noted)
    plugged(tmp_path)
    trained = [message for message in seen if message["do"] == "train"]
    asked = [message for message in seen if message["do"] == "represent"]
    assert [message["labels"] for message in trained] == [None, None]
    assert not [message for message in seen if message["do"] == "predict"]
    source = load_source("digits")
    fitted, tested = [], []
    for message in asked:
        splits = np.array([group["split"] for group in message["groups"]])[message["where"]]
        runs = np.abs(np.diff((splits == "train").astype(int))).sum()
        assert runs > 20 or "train" not in splits, "rows of both splits are mixed"
        fitted.append(int((splits == "train").sum()))
        tested.append(int((splits == "test").sum()))
    assert fitted == [200, 400, 0] and tested[:2] == [100, 200] and tested[2] > 0
    assert len(source.train.labels) > 400


def test_supervised_strategies_are_refused_and_the_others_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(Incompatible, match="which is pretraining"):
        go(tmp_path / "a", "naive", config={})
    with pytest.raises(Incompatible, match="supports \\(pretraining\\)"):
        run(Request("mae", "split-digits", out=tmp_path / "b", threads=1, engine="inline"))


@pytest.mark.parametrize("need", ["total_classes", "class_names"])
def test_a_strategy_that_wants_to_know_of_classes_is_refused(need: str, tmp_path: Path) -> None:
    with pytest.raises(Incompatible, match="needs no facts about classes"):
        plugged(tmp_path, DECLARED={need: True})


@pytest.mark.parametrize(
    ("wrapper", "options"),
    [("reweight", {}), ("sam", {"loss": "new"}), ("refresh", {})],
)
def test_wrappers_that_need_labels_end_with_a_named_error(
    wrapper: str, options: Any, tmp_path: Path
) -> None:
    small = {f"base.{name}": value for name, value in SMALL.items()}
    with pytest.raises((Incompatible, StrategyFailed, BadAnswer)) as caught:
        go(tmp_path, wrapper, config={"base": "mae", **small, **options})
    assert "labels" in str(caught.value) or "cross-entropy" in str(caught.value)


def test_features_that_depend_on_the_batch_are_flagged(tmp_path: Path) -> None:
    honest = plugged(tmp_path / "honest")
    other = plugged(tmp_path / "other", WHOLE_BATCH=True)
    assert honest.conduct is not None and other.conduct is not None
    assert honest.conduct.answered_differently == 0 < other.conduct.answered_differently
    assert other.conduct.depends_on == "the batch"
    assert any("the batch" in flag for flag in other.flags)
    assert not any("the batch" in flag for flag in honest.flags)


# --- what is measured ----------------------------------------------------------------------------


def test_probes_are_scikit_learns_regression_and_neighbours_by_hand() -> None:
    """Oracles: scikit-learn's own fit on the same numbers, and cosines in NumPy."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, 90)
    centres = draw.normal(size=(3, 5)) * 2
    features = (centres[labels] + draw.normal(size=(90, 5))).astype(np.float32)
    asked = draw.normal(size=(40, 5)).astype(np.float32)
    found = answers_of_probes(features, labels, asked, 4, Probe(None, 0.5, 200, 7))

    given, wanted = features.astype(float), asked.astype(float)
    mean, std = given.mean(0), given.std(0)
    fitted = LogisticRegression(C=0.5, max_iter=200).fit((given - mean) / std, labels)
    expected = fitted.predict_log_proba((wanted - mean) / std)
    np.testing.assert_allclose(found.linear[:, :3], expected, rtol=1e-4, atol=1e-4)
    assert np.isneginf(found.linear[:, 3]).all(), "the class without training rows"
    assert found.iterations == fitted.n_iter_.max() > 0

    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    nearest = np.argsort(-unit(wanted) @ unit(given).T, axis=1)[:, :7]
    votes = np.stack([(labels[nearest] == c).mean(1) for c in range(4)], axis=1)
    np.testing.assert_allclose(found.votes, votes, atol=1e-6)


def test_a_recorded_accuracy_is_that_of_a_fit_on_the_learners_features(tmp_path: Path) -> None:
    """From the plugin's weights, which follow from its seed, to the stored predictions."""
    from clgym.learner.trained import Trained

    plugged(tmp_path)
    folder = tmp_path / "run"
    learner: Any = Trained.load(folder, "cpu", (tmp_path / "unlabelled.py",)).strategy
    weights = learner.weights.numpy().astype(float)
    arrays, source = load_file(folder / "predictions.safetensors"), load_source("digits")
    rows, label = arrays["probe/row"], arrays["probe/label"]
    np.testing.assert_array_equal(source.train.labels[rows], label)

    def features(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(float) / source.max_value @ weights

    given = features(np.asarray(source.train.images)[rows])
    asked = features(np.asarray(source.test.images)[arrays["1/row"]])
    mean, std = given.mean(0), given.std(0)
    fitted = LogisticRegression(max_iter=1000).fit((given - mean) / std, label)
    same = fitted.predict((asked - mean) / std) == arrays["1/predicted"]
    assert same.mean() > 0.99, "rounding may move a row that lies between two classes"
    result = open_run(folder).result
    hits = arrays["1/predicted"] == arrays["1/label"]
    assert result.accuracy_after[1] == hits.mean() > 0.7
    assert len(rows) == 400 and probe_of(folder).rows == [200, 400]


def test_the_first_rows_of_each_class_are_fitted_on(tmp_path: Path) -> None:
    plugged(tmp_path, stream={"probe_rows": 7, "neighbours": 3})
    probe = probe_of(tmp_path / "run")
    assert probe.rows == [35, 70] and probe.rows_per_class == 7 and probe.neighbours == 3
    label = load_file(tmp_path / "run" / "predictions.safetensors")["probe/label"]
    np.testing.assert_array_equal(np.bincount(label), [7] * 10)


def test_a_solver_that_stops_early_is_flagged(tmp_path: Path) -> None:
    record = plugged(tmp_path, stream={"probe_iterations": 2})
    assert "the linear probe did not converge after experience 1, 2" in record.flags


def test_a_record_is_verified_and_tampering_is_seen(finished: Path, tmp_path: Path) -> None:
    assert verify(finished).problems == []
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    record = json.loads((copy / "record.json").read_text())
    record["result"]["probe"]["knn_matrix"][1][0] -= 0.01
    record["result"]["probe"]["rows"][0] += 1
    record["result"]["heads"]["knn"][1] -= 0.01
    (copy / "record.json").write_text(json.dumps(record))
    found = " ".join(verify(copy).problems)
    assert "knn_matrix[1]" in found and "probe.rows" in found and "heads.knn[1]" in found


def test_rows_of_other_kinds_are_not_compared(finished: Path, tmp_path: Path) -> None:
    options = {"increments": [5]}
    learned = Request("nmc", "split-digits", scenario_config=options, out=tmp_path / "a")
    run(replace(learned, threads=1, engine="inline"))
    assert isinstance(open_run(tmp_path / "a").result, LearningResult)
    with pytest.raises(BadRecord, match="same stream"):
        compare(finished, tmp_path / "a")
    plugged(tmp_path / "b", stream={"probe_rows": 20})
    with pytest.raises(BadRecord, match="same stream"):
        compare(finished, tmp_path / "b" / "run")


def test_the_board_shows_them_in_a_table_of_their_own(finished: Path, tmp_path: Path) -> None:
    learned = Request("nmc", "split-digits", scenario_config={"increments": [5]})
    run(replace(learned, out=tmp_path / "records" / "nmc" / "seed-0", threads=1, engine="inline"))
    shutil.copytree(finished, tmp_path / "records" / "mae" / "seed-0")
    tables = {table.title: table for table in tables_of(read_board(tmp_path))}
    assert set(tables) == {"split-digits", "pretrain-digits"}
    titles = {c.key: c.title for c in tables["pretrain-digits"].columns}
    assert "linear probe" in titles["score"] and "nearest neighbours" in titles["neighbours"]
    assert "neighbours" not in {column.key for column in tables["split-digits"].columns}
    (row,) = tables["pretrain-digits"].rows
    result = open_run(finished).result
    assert row.cells["score"].value == result.last_accuracy
    assert result.heads and row.cells["neighbours"].value == result.heads["knn"][-1]


class Killed(Exception):
    """The process ends here."""


def test_a_run_killed_after_an_experience_ends_in_the_same_bits(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(self: PretrainingPhase, step: int) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(PretrainingPhase, "saved", dies)
        go(tmp_path / "part")
    part, whole = go(tmp_path / "part"), open_run(finished).record
    assert part.cost.resumed == 1
    assert part.result == whole.result and result_hash(part) == result_hash(whole)


def command(out: Path) -> list[str]:
    small = ["--increment", "5", "--images", "200", "100", "--epochs", "4"]
    run = [sys.executable, "-m", "clgym", "run", "mae", "pretrain-digits", *small]
    return [*run, "--threads", "1", "--checkpoint-minutes", "0.0001", "--out", str(out)]


@pytest.mark.slow
def test_a_run_killed_inside_an_experience_ends_in_the_same_bits(tmp_path: Path) -> None:
    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    part = tmp_path / "part"
    process = subprocess.Popen(command(part), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        if (part / "learner" / "inside-1.safetensors").is_file():
            process.send_signal(signal.SIGKILL)
        time.sleep(0.01)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "finished before the kill"
    subprocess.run(command(part), check=True, capture_output=True)
    whole, resumed = open_run(tmp_path / "whole").record, open_run(part).record
    assert resumed.result == whole.result and resumed.cost.resumed == 1


# --- the stream ----------------------------------------------------------------------------------


def test_sources_and_halves_are_dealt_to_experiences() -> None:
    stream = make_scenario("pretraining", source="digits[3..4],digits[0..2]")
    assert isinstance(stream, PretrainingStream)
    assert stream.sources == ("digits",), "a source that is named twice is one"
    assert [name.rpartition("/")[2] for name in stream.class_order] == ["3", "4", "0", "1", "2"]
    labels = load_source("digits").train.labels
    assert set(labels[stream.steps[0].train]) == {3, 4}
    assert [step.classes for step in stream.steps] == [(0, 1), (2, 3, 4)]
    other = make_scenario("pretraining", source="digits[3..4],digits[0..2]", neighbours=3)
    assert stream != other, "another probe measures something else"
    with pytest.raises(BadStream, match="each class in one experience"):
        make_scenario("pretraining", source="digits[0..4],digits[4..5]")


def test_with_one_class_there_is_nothing_to_fit() -> None:
    draw = np.random.default_rng(0)
    features = draw.normal(size=(9, 3)).astype(np.float32)
    found = answers_of_probes(features, np.full(9, 1), features, 3, Probe(None, 1.0, 10, 3))
    assert found.iterations == 0
    assert (found.linear.argmax(1) == 1).all() and (found.votes.argmax(1) == 1).all()
    assert np.isneginf(found.linear[:, [0, 2]]).all()
