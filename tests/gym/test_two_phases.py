"""Learn classes, then face corruptions without labels: one stream, one record, one learner."""

import json
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from clgym import api
from clgym.data.corruptions import corrupt_rows
from clgym.data.sources import load_source
from clgym.errors import BadStream, ClgymError, Incompatible
from clgym.files import load_checked
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.protocol.verify import verify
from clgym.results.record import Record
from clgym.results.stored import open_run

SHORT = {
    "increments": [5],
    "order_seed": 3,
    "corruptions": "brightness,contrast",
    "severity": 1,
    "images": 96,
    "batch_size": 32,
    "network": "mlp",
}
LEARN = {"base": "naive", "base.epochs": 1, "base.lr": 0.05}


def go(out: Path, plugins: tuple[Path, ...] = (), **config: Any) -> Record:
    request = Request(
        "learn-then-adapt",
        "learn-then-shift-digits",
        strategy_config={**LEARN, "method": "source", **config},
        scenario_config=SHORT,
        out=out,
        plugins=plugins,
        threads=1,
        sandbox="none" if plugins else "auto",  # the plugin writes its report outside
    )
    return run(request)


def make_stream(**options: Any) -> Any:
    return api.make_scenario("learn-then-shift-digits", **options)


def test_the_shift_shows_the_test_images_of_what_was_learned():
    stream = make_stream(classes=[1, 4, 7], increments=[1], corruptions="fog,snow")
    labels = load_source("digits").test.labels
    assert [segment.name for segment in stream.shift.segments] == ["fog-5", "snow-5"]
    for segment in stream.shift.segments:
        assert sorted(segment.row) == np.flatnonzero(np.isin(labels, [1, 4, 7])).tolist()
    assert stream.shift.class_order == stream.learning.class_order
    assert stream.shift.home is None, "what was learned from would be in reach"


def test_gradual_shifts_climb_and_descend():
    stream = make_stream(corruptions="fog", shift="gradual", images=9)
    names = [segment.name for segment in stream.shift.segments]
    assert names == [f"fog-{severity}" for severity in (1, 2, 3, 4, 5, 4, 3, 2, 1)]
    assert {len(segment.row) for segment in stream.shift.segments} == {9}


def test_both_phases_decide_the_digest():
    plain = make_stream()
    others = [make_stream(order_seed=1), make_stream(severity=4), make_stream(shift_seed=2)]
    assert len({plain.digest, *(stream.digest for stream in others)}) == 4
    copy = pickle.loads(pickle.dumps(plain))
    assert copy == plain and hash(copy) == hash(plain)


def test_parts_and_held_out_rows_are_refused():
    stream = make_stream()
    assert stream.part(0, len(stream)) is stream
    for refused in (lambda: stream.part(0, 2), stream.on_validation):
        with pytest.raises(BadStream, match="learn-then-shift-digits"):
            refused()


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run without adaptation, not to be changed."""
    out = tmp_path_factory.mktemp("phases") / "run"
    go(out)
    return out


def test_the_first_phase_is_the_base_by_itself(finished, tmp_path):
    """Bit for bit what the base measures on the same class-incremental stream."""
    config = {"epochs": 1, "lr": 0.05, "network": "mlp"}
    options = {"increments": [5], "order_seed": 3}
    request = Request("naive", "split-digits", None, config, options, out=tmp_path, threads=1)
    alone, joint = run(request).result, open_run(finished).result
    assert joint.accuracy_matrix == alone.accuracy_matrix
    assert joint.forgetting == alone.forgetting
    mine, theirs = (load_file(f / "predictions.safetensors") for f in (finished, tmp_path))
    for name, values in theirs.items():
        np.testing.assert_array_equal(mine[name], values)


def test_answers_of_the_shift_are_scored_in_the_columns_that_were_learned(finished):
    record, kept = open_run(finished).record, load_file(finished / "predictions.safetensors")
    assert record.result.adaptation is not None
    source, order = load_source("digits"), record.result.class_order
    learned = api.load(finished)
    for i, name in enumerate(("brightness", "contrast")):
        rows, predicted = kept[f"shift/{i}/row"], kept[f"shift/{i}/predicted"]
        shown = np.rint(source.test.images[rows] * (255 / 16)).astype(np.uint8)
        shown = corrupt_rows(shown, rows, name, 1, 0)
        assert [order[c] for c in predicted] == learned.classify(shown)
        names = [source.classes[label] for label in source.test.labels[rows]]
        wrong = np.mean([order[c] != name for c, name in zip(predicted, names, strict=True)])
        assert record.result.adaptation.segments[i].error == pytest.approx(wrong)
    assert record.result.adaptation.mean_error < 0.7


def test_the_record_holds_both_phases_and_no_folder_of_the_first_is_left(finished):
    record = open_run(finished).record
    assert record.result.scenario.setting == "learn-then-shift"
    assert len(record.result.accuracy_matrix) == 2
    assert record.cost.train_images > 1000
    assert len(record.cost.predict_seconds) == 4
    names = {path.name for path in finished.iterdir()}
    assert names == {"run.json", "record.json", "state.safetensors", "predictions.safetensors"}
    assert str(finished) not in (finished / "record.json").read_text()


def test_a_record_of_both_phases_is_audited(finished, tmp_path):
    assert verify(finished).problems == []
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in finished.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    record = json.loads((copy / "record.json").read_text())
    record["result"]["adaptation"]["mean_error"] += 0.01
    record["result"]["accuracy_matrix"][1][0] += 0.01
    (copy / "record.json").write_text(json.dumps(record))
    found = " ".join(verify(copy).problems)
    assert "adaptation.mean_error" in found and "accuracy_matrix[1]" in found


def test_a_method_changes_the_answers_and_counts_its_passes(finished, tmp_path):
    lame = go(tmp_path / "lame", method="lame")
    assert lame.result.accuracy_matrix == open_run(finished).result.accuracy_matrix
    assert lame.result.adaptation != open_run(finished).result.adaptation
    assert lame.cost.own == {"adapt_forward_images": 192.0, "adapt_backward_images": 0.0}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"method": "rmt"}, "no source data"),
        ({"method": "rotta"}, "without a memory"),
        ({"method": "naive"}, "a test-time method"),
        ({"method.model": "resnet8@x"}, "no --method.model"),
        ({"base": "nmc", "base.epochs": None, "base.lr": None}, "trains one network"),
        ({"method": "bn-1"}, "batch normalisation"),
        ({"base": "tent", "base.epochs": None}, "class-incremental"),
    ],
)
def test_parts_that_do_not_go_together_are_refused_before_any_work(config, says, tmp_path):
    given = {key: value for key, value in {**LEARN, **config}.items() if value is not None}
    request = Request(
        "learn-then-adapt",
        "learn-then-shift-digits",
        strategy_config={"method": "source", **given},
        scenario_config=SHORT,
        out=tmp_path / "run",
        threads=1,
    )
    with pytest.raises(Incompatible, match=says):
        run(request)
    assert not list(tmp_path.glob("run/**/state*"))


def test_learners_alone_are_refused_on_the_stream(tmp_path):
    for name in ("naive", "tent"):
        with pytest.raises(Incompatible, match="learn-then-shift"):
            run(Request(name, "learn-then-shift-digits", scenario_config=SHORT, out=tmp_path / "r"))


def test_labels_of_neither_phase_are_in_reach_during_the_shift(tmp_path, snoop):
    go(tmp_path / "run", (snoop.plugin,), method="snoop-adaptation")
    found = snoop.found()
    assert not found["labels"] and not found["source"] and not found["gym"]
    kept = load_file(tmp_path / "run" / "predictions.safetensors")
    source = load_source("digits")
    stream = make_stream(**{k: v for k, v in SHORT.items() if k != "network"})
    columns = np.array(stream.columns[0])
    secrets = [kept[f"shift/{i}/{what}"].tolist() for i in range(2) for what in ("label", "row")]
    secrets += [columns[source.train.labels[step.train]].tolist() for step in stream.steps]
    for array in found["arrays"]:
        for secret in secrets:
            assert array != secret
            for start in range(0, 96, 32):
                assert array[:32] != secret[start : start + 32]


def command(out: Path) -> list[str]:
    options = ["--increments", "5", "--corruptions", "fog,contrast", "--batch-size", "4"]
    return [
        *(sys.executable, "-m", "clgym", "run", "learn-then-adapt", "learn-then-shift-digits"),
        *("--base", "naive", "--base.network", "mlp", "--base.epochs", "5", *options),
        *("--method", "cotta", "--method.views", "2"),
        *("--images", "160", "--threads", "1", "--checkpoint-minutes", "0.002", "--out", str(out)),
    ]


@pytest.mark.slow
def test_a_run_killed_in_each_phase_ends_in_the_same_result(tmp_path):
    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    part = tmp_path / "part"
    for phase in (0, 1):
        process = subprocess.Popen(
            command(part), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None:
            note = part / "progress.json"
            if note.is_file() and load_checked(note.read_bytes())["pieces"][phase]:
                process.send_signal(signal.SIGKILL)
            time.sleep(0.02)
        process.wait()
        assert process.returncode == -signal.SIGKILL, f"finished before the kill in phase {phase}"
    subprocess.run(command(part), check=True, capture_output=True)
    whole, resumed = open_run(tmp_path / "whole").record, open_run(part).record
    assert resumed.result == whole.result
    assert resumed.cost.resumed == 2


def test_a_folder_of_another_run_is_refused(finished):
    request = Request("learn-then-adapt", "learn-then-shift-digits", out=finished, threads=1)
    with pytest.raises(ClgymError, match="belong to this run"):
        run(request)
