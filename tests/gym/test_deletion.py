"""Forgetting on request: what is sent, what the gym removes and measures, resumption."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from clgym.api import make_scenario
from clgym.data.sources import load_source
from clgym.errors import BadPlugin, BadRecord, BadStream, Incompatible, StrategyFailed
from clgym.gym.deletion import DeletionPhase
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.gym.testing import distinct_groups, row_group
from clgym.protocol.verify import verify
from clgym.results.record import DeletionResult, Record, result_hash
from clgym.results.stored import open_run
from clgym.scenario import Step, Transform
from clgym.streams.deletion import deletions_of
from factories import copy_plugin

STREAM: dict[str, Any] = {"increments": [5], "numbers": [7, 2]}
ROWS, QUARTER = np.arange(3), Transform("rotate", 90.0)
LEARN: dict[str, Any] = {"base": "replay", "base.lr": 0.05, "base.epochs": 2}


def go(out: Path, strategy: str = "retrain", **more: Any) -> Record:
    config = more.pop("config", LEARN)
    stream = {**STREAM, **more.pop("stream", {})}
    request = Request(
        strategy,
        "deletion-digits",
        strategy_config=config,
        scenario_config=stream,
        out=out,
        threads=1,
        **more,
    )
    return run(request)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("retrain") / "run"
    go(folder)
    return folder


@pytest.fixture(scope="module")
def dampened(tmp_path_factory: pytest.TempPathFactory, reference: Path) -> Path:
    folder = tmp_path_factory.mktemp("ssd") / "run"
    go(folder, "ssd", config={**LEARN, "alpha": 2.0}, reference=reference)
    return folder


def deletion(folder: Path) -> Any:
    result = open_run(folder).result
    assert isinstance(result, DeletionResult)
    return result.deletion


def test_the_learning_phase_is_that_of_a_class_incremental_run(reference: Path, tmp_path: Path):
    plain = {key.removeprefix("base."): v for key, v in LEARN.items() if key != "base"}
    options = {"increments": [5], "memory_size": 100}
    alone = run(
        Request(
            "replay",
            "split-digits",
            strategy_config=plain,
            scenario_config=options,
            out=tmp_path,
            threads=1,
        )
    )
    assert open_run(reference).result.accuracy_matrix == alone.result.accuracy_matrix


def _losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def _entropy(p: np.ndarray) -> np.ndarray:
    """In bits."""
    return -(p * np.log2(np.maximum(p, 1e-300))).sum(1)


def _chance_of_smaller(first: np.ndarray, second: np.ndarray) -> float:
    pairs = (first[:, None] < second) + 0.5 * (first[:, None] == second)
    return float(pairs.mean())


def _best_cut(members: np.ndarray, others: np.ndarray) -> tuple[float, set[float]]:
    """Best balanced accuracy of a threshold on the loss, and the thresholds that reach it."""
    cuts = np.unique(np.r_[members, others])
    gains = {c: (members <= c).mean() - (others <= c).mean() for c in cuts.tolist()}
    best = max(gains.values())
    return best, {c for c, gain in gains.items() if gain == best}


def test_measures_are_those_of_the_definitions(dampened: Path, reference: Path):
    """An oracle of its own: pairs, thresholds and entropies by hand."""
    mine, theirs = (load_file(f / "predictions.safetensors") for f in (dampened, reference))
    facts = deletion(dampened)
    label, train = mine["audit/label"], mine["audit/train"].astype(bool)
    asked = [7, 2]
    for r, request in enumerate(facts.requests):
        own, gone = label == asked[r], np.isin(label, asked[: r + 1])
        never = ~np.isin(label, asked)
        for when, audit in (("before", r), ("after", r + 1)):
            logits, found = mine[f"audit/logits/{audit}"], getattr(request, when)
            hits, loss = logits.argmax(1) == label, _losses(logits, label)
            assert found.forgotten_accuracy == pytest.approx(hits[own & ~train].mean())
            assert found.retained_accuracy == pytest.approx(hits[~gone & ~train].mean())
            members, others = loss[never & train], loss[never & ~train]
            assert found.attack_auc == pytest.approx(_chance_of_smaller(members, others))
            auc = _chance_of_smaller(loss[own & train], loss[own & ~train])
            assert found.membership_auc == pytest.approx(auc)
            _, cuts = _best_cut(members, others)
            shares = [(loss[own & train] <= cut).mean() for cut in cuts]
            assert min(abs(found.called_members - share) for share in shares) < 1e-9
        p, q = (_softmax(arrays[f"audit/logits/{r + 1}"]) for arrays in (mine, theirs))
        apart = _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2
        far = request.distance
        assert far.divergence_forgotten == pytest.approx(apart[own & train].mean(), abs=1e-9)
        assert far.divergence_retained == pytest.approx(apart[~gone & ~train].mean(), abs=1e-9)
        other = p.argmax(1) != q.argmax(1)
        assert far.disagreement_forgotten == pytest.approx(other[own & train].mean())
        assert request.rows == (own & train).sum()


def test_what_was_retrained_cannot_name_the_class_any_more(reference: Path):
    for request in deletion(reference).requests:
        assert request.before.forgotten_accuracy > 0.5
        assert request.after.forgotten_accuracy == 0
        assert request.after.retained_accuracy > 0.5
    record = open_run(reference).record
    assert len(record.cost.forget_seconds) == 2 and record.cost.reference_seconds == []


def test_the_audited_rows_are_those_of_the_stream(dampened: Path):
    """All test rows, all rows to be forgotten, and as many others as test rows of other classes."""
    arrays, source = load_file(dampened / "predictions.safetensors"), load_source("digits")
    row, label = arrays["audit/row"], arrays["audit/label"]
    train = arrays["audit/train"].astype(bool)
    np.testing.assert_array_equal(np.sort(row[~train]), np.arange(len(source.test.labels)))
    np.testing.assert_array_equal(source.test.labels[row[~train]], label[~train])
    np.testing.assert_array_equal(source.train.labels[row[train]], label[train])
    gone = train & np.isin(label, STREAM["numbers"])
    wanted = np.flatnonzero(np.isin(source.train.labels, STREAM["numbers"]))
    np.testing.assert_array_equal(np.sort(row[gone]), wanted)
    kept = train & ~gone
    assert kept.sum() == (~np.isin(source.test.labels, STREAM["numbers"])).sum()
    assert len(np.unique(row[kept])) == kept.sum()


def test_samples_of_the_request_leave_the_memory(dampened: Path, reference: Path):
    result = open_run(dampened).result
    removed = [request.memory_removed for request in deletion(dampened).requests]
    assert min(removed) > 0
    assert result.stored_samples == 100 - sum(removed)
    assert deletion(dampened).retained_data is False
    assert deletion(reference).retained_data is True


def test_a_record_is_verified_and_tampering_is_seen(dampened: Path, tmp_path: Path):
    assert verify(dampened).problems == []
    copy = tmp_path / "copy"
    shutil.copytree(dampened, copy)
    record = json.loads((copy / "record.json").read_text())
    record["result"]["deletion"]["requests"][1]["after"]["retained_accuracy"] += 0.01
    record["result"]["deletion"]["requests"][0]["rows"] += 1
    (copy / "record.json").write_text(json.dumps(record))
    found = " ".join(verify(copy).problems)
    assert "requests[1].after" in found and "requests[0].rows" in found


def test_the_reference_is_named(dampened: Path, reference: Path):
    named = deletion(dampened).reference
    assert named.sha256 == open_run(reference).sha256
    assert named.strategy == "replay with retrain"
    assert open_run(dampened).record.cost.reference_seconds == (
        open_run(reference).record.cost.forget_seconds
    )


def test_a_reference_of_another_stream_or_seed_or_without_what_remains_is_refused(
    reference: Path, dampened: Path, tmp_path: Path
):
    with pytest.raises(BadRecord, match="another stream"):
        go(tmp_path / "a", "ssd", stream={"numbers": [7]}, reference=reference)
    with pytest.raises(BadRecord, match="one with seed 0 for a run with seed 1"):
        go(tmp_path / "c", "ssd", seed=1, reference=reference)
    with pytest.raises(BadRecord, match="not given the rows that remain"):
        go(tmp_path / "b", "ssd", reference=dampened)
    learned = tmp_path / "learned"
    run(Request("nmc", "split-digits", out=learned, threads=1))
    with pytest.raises(BadRecord, match="one of a learning stream"):
        go(tmp_path / "d", "ssd", reference=learned)
    bare = tmp_path / "bare"
    shutil.copytree(reference, bare)
    (bare / "predictions.safetensors").unlink()
    with pytest.raises(BadRecord, match=r"one without its predictions\.safetensors"):
        go(tmp_path / "e", "ssd", reference=bare)


class Killed(Exception):
    """The process ends here."""


@pytest.mark.parametrize("strategy", ["retrain", "ssd", "s3t"])
def test_a_run_killed_after_a_request_ends_in_the_same_bits(
    strategy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    own = {"lr": 0.05, "epochs": 2} if strategy == "s3t" else {**LEARN}
    more: dict[str, Any] = {"config": own, "engine": "inline"}
    whole = go(tmp_path / "whole", strategy, **more)
    for last in (0, 1):

        def dies(self: DeletionPhase, step: int, last: int = last) -> None:
            if step == last:
                raise Killed

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(DeletionPhase, "saved", dies)
            go(tmp_path / "part", strategy, **more)
    part = go(tmp_path / "part", strategy, **more)
    assert part.cost.resumed == 2
    assert part.result == whole.result and result_hash(part) == result_hash(whole)


def sent(folder: Path, **constants: Any) -> list[dict[str, Any]]:
    plugin = copy_plugin("remembers", folder, REPORT=folder / "report", **constants)
    # In one process, where what it keeps in its module stays; elsewhere that is gone.
    go(folder / "run", "remembers", config={}, plugins=(plugin,), engine="inline")
    return [json.loads(line) for line in (folder / "report").read_text().splitlines()]


def test_forgotten_rows_are_out_of_reach(tmp_path: Path):
    """Of a memory of 60, of references kept from before, and of what remains by declaration."""
    first, second = sent(tmp_path, RETAINED=True)
    source = load_source("digits")
    for report, classes, gone in ((first, [7], [7]), (second, [2], [7, 2])):
        assert report["classes"] == classes
        assert {label for part in report["forgotten_labels"] for label in part} == set(classes)
        assert sum(map(len, report["forgotten"])) == (source.train.labels == classes[0]).sum()
        assert not set(report["memory_labels"]) & set(gone)
        images = {tuple(image) for part in report["forgotten"] for image in part}
        assert not images & {tuple(image) for image in report["memory_pixels"]}
        assert report["closed"] == report["held"], "an experience or a request could be read"
        assert report["old_samples"] == 0
        kept = [label for part in report["retained_labels"] for label in part]
        assert len(kept) == (~np.isin(source.train.labels, gone)).sum()
        assert not set(kept) & set(gone)
        assert report["widths"][-1] == 10
    forgotten = {tuple(image) for part in first["forgotten"] for image in part}
    assert not forgotten & {tuple(image) for part in second["retained"] for image in part}
    assert second["held"] == first["held"] + 1


def test_what_remains_is_out_of_reach_where_it_was_not_declared(tmp_path: Path):
    assert [report["retained"] for report in sent(tmp_path)] == ["OutOfReach", "OutOfReach"]


def test_a_strategy_that_stores_forgotten_samples_again_is_refused(tmp_path: Path):
    with pytest.raises((BadPlugin, StrategyFailed), match="without samples of the request"):
        sent(tmp_path, STORES_AGAIN=True)


@pytest.mark.parametrize("numbers", [[10], [1, 1], list(range(10))])
def test_requests_that_cannot_be_are_refused(numbers: list[int]):
    with pytest.raises(BadStream, match="to forget"):
        make_scenario("deletion-digits", numbers=numbers)


def test_labels_that_are_wrong_on_purpose_are_refused():
    """A class would not be one set of rows: its given labels and its true ones differ."""
    stream = make_scenario("split-digits")
    first, *rest = stream.steps
    noisy = replace(stream, steps=(replace(first, labels=np.zeros(len(first.train), int)), *rest))
    assert deletions_of(stream, "class", [0])
    with pytest.raises(BadStream, match="true training labels"):
        deletions_of(noisy, "class", [0])


def test_rows_that_a_transform_tells_apart_are_different_groups():
    """Audits and features look images up by group: none may come without its transform."""
    plain, turned = Step(ROWS, ROWS, (0,), ROWS), Step(ROWS, ROWS, (0,), ROWS, transform=QUARTER)
    asked = [row_group(step, "train") for step in (plain, turned, plain)]
    groups, number = distinct_groups([*asked, row_group(plain, "test")])
    assert number.tolist() == [0, 1, 0, 2]
    assert [(group.split, group.transform is None) for group in groups] == [
        ("train", True),
        ("train", False),
        ("test", True),
    ]


def test_only_strategies_that_can_forget_run_on_the_stream(tmp_path: Path):
    """A wrapper around one that can has the same needs, and no way to pass the request on."""
    for name, config in (("naive", {}), ("ema", {"base": "s3t"})):
        with pytest.raises(Incompatible, match="which is deletion"):
            go(tmp_path / name, name, config=config)


def test_an_experience_takes_all_its_classes(tmp_path: Path):
    record = go(tmp_path, "s3t", config={}, stream={"forget": "experience", "numbers": [1]})
    assert isinstance(record.result, DeletionResult)
    (request,) = record.result.deletion.requests
    assert request.classes == [5, 6, 7, 8, 9] and request.name == "experience 2"
    assert request.after.forgotten_accuracy == 0
