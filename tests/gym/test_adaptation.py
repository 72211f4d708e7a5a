"""Whole runs on adaptation streams: scoring, withholding, interruption, models, bad input."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

from clgym.data.sources import load_source
from clgym.errors import BadOutput, BadSource, Incompatible, MissingData, UnknownName
from clgym.files import dump_checked, load_checked
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.models.cifar_resnet import CifarResNet
from clgym.models.networks import Classifier
from clgym.results.record import Record
from clgym.results.stored import open_run
from factories import PLUGINS, copy_plugin

TWO = {"corruptions": "gaussian-noise,contrast", "images": 96, "batch_size": 32}


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A ResNet-8 for digits, not trained: what it answers does not matter here."""
    torch.manual_seed(0)
    made = Classifier(CifarResNet(1, 1), CifarResNet.width, 10)
    state = {f"linear.{k}": v for k, v in made.head.state_dict().items()}
    path = tmp_path_factory.mktemp("weights") / "resnet8.safetensors"
    save_file({**made.backbone.state_dict(), **state}, path)
    return f"resnet8@{path}"


def go(strategy, out, scenario="digits-c", options=TWO, **config):
    request = Request(
        strategy,
        scenario,
        strategy_config=config,
        scenario_config=options,
        out=out,
        threads=1,
        plugins=(PLUGINS / "bank.py",),
    )
    return run(request)


def facts(record):
    assert record.result.adaptation is not None
    return record.result.adaptation


@pytest.mark.slow
def test_answers_are_scored_as_they_are_given(tmp_path, weights):
    record = go("bn-1", tmp_path / "run", model=weights)
    made = facts(record)
    kept = load_file(tmp_path / "run" / "predictions.safetensors")
    labels = load_source("digits").test.labels
    errors = []
    for i in range(2):
        np.testing.assert_array_equal(kept[f"{i}/label"], labels[kept[f"{i}/row"]])
        errors.append((kept[f"{i}/predicted"] != kept[f"{i}/label"]).mean())
    assert [s.error for s in made.segments] == pytest.approx(errors)
    assert made.mean_error == pytest.approx(np.mean(errors))
    assert record.result.last_accuracy == pytest.approx(1 - np.mean(errors))
    assert (made.forward_per_image, made.backward_per_image) == (1, 0)
    text = (tmp_path / "run" / "record.json").read_text()
    assert str(tmp_path) not in text
    assert open_run(tmp_path / "run").record == record


def test_records_of_learning_streams_do_not_mention_adaptation(tmp_path):
    request = Request("nmc", "split-digits", out=tmp_path / "run", threads=1)
    text = run(request).model_dump_json()
    assert "adaptation" not in text
    assert Record.model_validate_json(text).result.adaptation is None


@pytest.mark.slow
def test_passes_are_counted_of_every_network_held(tmp_path, weights):
    tent = facts(go("tent", tmp_path / "tent", model=weights))
    assert (tent.forward_per_image, tent.backward_per_image) == (1, 1)
    cotta = go("cotta", tmp_path / "cotta", model=weights, views=3, threshold=2.0)
    made = facts(cotta)  # student, anchor and three views; only the student learns
    assert (made.forward_per_image, made.backward_per_image) == (5, 1)


@pytest.mark.slow
def test_a_sum_of_two_networks_logits_is_as_sure_as_their_mean(tmp_path, weights):
    """RMT whose teacher and student are one network that never learns: bn-1's confidences."""
    still = {"lr": 0.0, "momentum": 1.0, "lambda_src": 0.0, "warmup_images": 0}
    same = {**TWO, "arrival": "published"}  # else each run has an order of its own
    go("rmt", tmp_path / "rmt", options=same, model=weights, **still)
    go("bn-1", tmp_path / "bn-1", options=same, model=weights)
    found, wanted = (
        load_file(tmp_path / name / "predictions.safetensors") for name in ("rmt", "bn-1")
    )
    for segment in range(2):
        for key in (f"{segment}/confidence", f"{segment}/predicted"):
            assert np.array_equal(found[key], wanted[key])


@pytest.mark.slow
def test_the_embedded_default_learns_and_adapts(tmp_path):
    """Nothing downloaded: a small source model; batch statistics help where they should."""
    options = {"corruptions": "gaussian_noise,fog,contrast,brightness"}
    source = facts(go("source", tmp_path / "source", options=options))
    adapted = facts(go("bn-1", tmp_path / "bn", options=options))
    assert source.model == adapted.model
    assert source.segments[0].error < 0.1
    assert adapted.mean_error < source.mean_error - 0.2
    orders = {}
    for order in ("iid", "grouped"):
        for name in ("source", "lame"):
            out = tmp_path / f"{name}-{order}"
            shift = {"order": order, "corruptions": "zoom_blur,snow", "severities": [5]}
            orders[name, order] = facts(go(name, out, "label-shift-digits", shift)).pooled_error
    assert orders["lame", "grouped"] < orders["source", "grouped"]


def test_labels_rows_and_source_data_are_out_of_reach(tmp_path, weights, snoop):
    request = Request(
        "snoop-adaptation",
        "digits-c",
        strategy_config={"model": weights},
        scenario_config=TWO,
        out=tmp_path / "run",
        plugins=(snoop.plugin,),
        threads=1,
        sandbox="none",  # it writes its report outside
    )
    run(request)
    found = snoop.found()
    assert not found["labels"] and not found["source"] and not found["gym"] and not found["text"]
    source = load_source("digits")
    kept = load_file(tmp_path / "run" / "predictions.safetensors")
    secrets = [kept[f"{i}/{what}"].tolist() for i in range(2) for what in ("label", "row")]
    for array in found["arrays"]:
        assert array not in secrets
        assert array != source.train.labels.tolist()
        for secret in secrets:
            for start in range(0, 96, 32):  # nor those of a single batch
                assert array[:32] != secret[start : start + 32]


def command(out, weights):
    options = ["--images", "320", "--batch-size", "8", "--corruptions", "fog,contrast"]
    return [
        *(sys.executable, "-m", "clgym", "run", "cotta", "digits-c", "--out", str(out)),
        *("--model", weights, "--views", "2", "--threads", "1", *options),
        *("--checkpoint-minutes", "0.002"),
    ]


@pytest.mark.slow
def test_a_killed_stream_goes_on_to_the_same_answers(tmp_path, weights):
    subprocess.run(command(tmp_path / "whole", weights), check=True, capture_output=True)
    part = tmp_path / "part"
    for kills in range(2):
        process = subprocess.Popen(
            command(part, weights), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        reached = -1
        while process.poll() is None:
            note = part / "progress.json"
            now = load_checked(note.read_bytes())["done"] if note.is_file() else -1
            if reached < 0 <= now:
                reached = now
            if now >= reached + 3 and reached >= 0:
                process.send_signal(signal.SIGKILL)
            time.sleep(0.02)
        process.wait()
        assert process.returncode == -signal.SIGKILL, f"finished before kill {kills}"
    subprocess.run(command(part, weights), check=True, capture_output=True)
    whole, resumed = open_run(tmp_path / "whole").record, open_run(part).record
    assert resumed.cost.resumed == 2
    assert whole.result.predictions == resumed.result.predictions
    a, b = (facts(r).model_dump(exclude={"forward_per_image"}) for r in (whole, resumed))
    assert a == b


def test_a_classifier_that_changed_meanwhile_is_refused(tmp_path, weights):
    """As after a kill: the progress note of another classifier is in the folder."""
    go("source", tmp_path / "run", model=weights)
    record = tmp_path / "run" / "record.json"
    record.unlink()
    note = {"pieces": [[]], "classifier": {"name": "resnet8", "sha256": "0" * 64}}
    (tmp_path / "run" / "progress.json").write_bytes(dump_checked(note))
    with pytest.raises(BadOutput, match="with which this run was started"):
        go("source", tmp_path / "run", model=weights)


@pytest.mark.parametrize("strategy", ["tent", "bank"])
def test_resetting_streams_start_afresh_at_each_corruption(tmp_path, weights, strategy):
    """Networks do, and so does a bank of past images."""
    options = {**TWO, "corruptions": "contrast,contrast", "arrival": "published"}
    config = {"model": weights} if strategy == "bank" else {"model": weights, "lr": 0.05}
    for name, same in (("digits-c-reset", True), ("digits-c", False)):
        go(strategy, tmp_path / name, name, options, **config)
        kept = load_file(tmp_path / name / "predictions.safetensors")
        assert (kept["0/confidence"] == kept["1/confidence"]).all() == same


def test_a_finished_run_is_a_classifier_with_its_columns_in_place(tmp_path):
    from clgym.api import load

    learned = tmp_path / "learned"
    request = Request(
        "naive",
        "split-digits",
        strategy_config={"epochs": 1},
        scenario_config={"increments": [10], "order_seed": 3},
        out=learned,
        threads=1,
    )
    run(request)
    shift = {"order": "iid", "images": 64}
    record = go("source", tmp_path / "run", "label-shift-digits", shift, model=str(learned))
    assert facts(record).model.name == "run:learned"
    kept = load_file(tmp_path / "run" / "predictions.safetensors")
    source = load_source("digits")
    images, network = np.asarray(source.test.images[kept["0/row"]]), load(learned)
    # The stream's images are bytes: digits' 17 levels are rounded, which moves a logit a little.
    second, first = network.logits(images).sort(1).values[:, -2:].T
    clear = (first - second > 1e-3).numpy()
    assert clear.sum() > 60
    names = np.array(network.classify(images))
    assert (np.array(source.classes)[kept["0/predicted"]] == names)[clear].all()


@pytest.mark.parametrize(
    ("strategy", "model", "error", "says"),
    [
        ("source", "resnet21", UnknownName, "resnet21"),
        ("source", "resnet8@nowhere.safetensors", MissingData, "nowhere.safetensors"),
        ("source", "resnet20@{file}", BadSource, "fit the network"),
        ("source", "torchvision:resnet99@{file}", UnknownName, "resnet99"),
    ],
)
def test_bad_models_are_named(strategy, model, error, says, tmp_path, weights):
    file = weights.partition("@")[2]
    with pytest.raises(error, match=says):
        go(strategy, tmp_path / "run", model=model.format(file=file))


def test_a_damaged_weight_file_is_named(tmp_path):
    for name in ("bad.safetensors", "bad.pth"):
        (tmp_path / name).write_bytes(b"nonsense")
        with pytest.raises(BadSource, match=name):
            go("source", tmp_path / name[4:], model=f"resnet8@{tmp_path / name}")


def test_learning_strategies_and_test_time_methods_keep_to_their_streams(tmp_path):
    with pytest.raises(Incompatible, match="adaptation"):
        go("nmc", tmp_path / "a")
    with pytest.raises(Incompatible, match="class-incremental"):
        run(Request("tent", "split-digits", out=tmp_path / "b"))


def test_corruptions_are_the_same_however_many_workers_make_them(tmp_path, monkeypatch):
    from clgym.api import make_scenario
    from clgym.gym.images import StreamImages

    stream: Any = make_scenario("digits-c", corruptions="snow", images=300, corruption_seed=9)
    shown = []
    for workers in (1, 3):
        monkeypatch.setenv("CLGYM_CACHE", str(tmp_path / str(workers)))
        images = StreamImages(stream, [load_source("digits")], None, workers)
        shown.append(images.gather(0, slice(0, 300)))
    np.testing.assert_array_equal(*shown)
    kept = next((tmp_path / "3" / "corrupted").glob("*.npy"))
    damaged = bytearray(kept.read_bytes())
    damaged[-1] ^= 1
    kept.chmod(0o644)
    kept.write_bytes(damaged)  # a cache that is damaged is made anew
    images = StreamImages(stream, [load_source("digits")], None, 1)
    np.testing.assert_array_equal(images.gather(0, slice(0, 300)), shown[0])


@pytest.mark.slow
def test_the_published_resnet20_reaches_its_published_accuracy(tmp_path):
    """91.73 % on the complete CIFAR-10 test split."""
    try:
        source = load_source("cifar10")
    except MissingData as error:
        pytest.skip(str(error))
    if len(source.test.labels) != 10_000:
        pytest.skip("no complete CIFAR-10 test split in the data root")
    options = {"model": "cifar10-resnet20", "order": "iid", "batch_size": 500}
    try:
        record = go("source", tmp_path / "run", "label-shift-cifar10", options)
    except MissingData as error:
        pytest.skip(str(error))
    assert facts(record).pooled_error == pytest.approx(1 - 0.9173, abs=1e-9)


def test_paths_in_plans_stay_relative_to_nothing(working_folder, weights):
    """A run started from another folder with a relative --out."""
    go("source", Path("run"), model=weights)
    assert (working_folder / "run" / "record.json").is_file()


def test_a_strategy_without_a_classifier_is_refused_before_any_work(tmp_path):
    """It used to end in an assertion, after the whole stream."""
    plugin = copy_plugin("bare", tmp_path)
    out = tmp_path / "out"
    with pytest.raises(Incompatible, match="starts from a classifier") as raised:
        run(Request("bare", "digits-c", plugins=(plugin,), out=out))
    assert "AdaptStrategy" in raised.value.fix and not out.exists()
