"""Test-time adaptation under the protocol: sides that differ in corruptions and in images."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

from clgym.data import withheld
from clgym.data.halves import in_half
from clgym.data.sources import load_source
from clgym.engines.pool import PoolSpec
from clgym.errors import BadPlan, BadStream, Withheld
from clgym.gym.request import Request, make_stream
from clgym.models.cifar_resnet import CifarResNet
from clgym.models.networks import Classifier
from clgym.protocol.evaluation import evaluate
from clgym.protocol.pairs import ScenarioPair, Side, find_pair, side
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.study import StudySpec, survey, tune
from clgym.protocol.verify import verify
from clgym.results.stored import open_run


def rows(**options) -> np.ndarray:
    stream = make_stream(Request("", "digits-c", scenario_config=options))
    return np.unique(stream.segments[0].row)  # type: ignore[attr-defined]


def test_the_halves_share_no_image_and_leave_none_out() -> None:
    parts = [rows(rows=half) for half in ("tuning", "evaluation")]
    assert sorted(np.concatenate(parts).tolist()) == rows().tolist()
    hashes = load_source("digits").test.hashes
    seen = [{bytes(hashes[row]) for row in part} for part in parts]
    assert not seen[0] & seen[1]
    assert min(map(len, parts)) > 0.4 * len(hashes)


def test_equal_images_fall_into_one_half() -> None:
    hashes = np.random.default_rng(0).integers(0, 256, (50, 32), dtype=np.uint8)
    twice = np.concatenate([hashes, hashes[::-1]])
    found = in_half(twice, "tuning")
    assert (found[:50] == found[50:][::-1]).all()
    assert (found != in_half(twice, "evaluation")).all()


def test_halves_of_published_files_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "DIGITS-C"
    folder.mkdir()
    np.save(folder / "labels.npy", np.tile(np.arange(10), 5))
    options = {"published": "DIGITS-C", "rows": "tuning", "corruptions": "fog"}
    with pytest.raises(BadStream, match="rows tuning"):
        make_stream(Request("", "digits-c", scenario_config=options, data_root=tmp_path))


def test_tuning_cannot_see_the_other_half() -> None:
    whole = load_source("digits")
    withheld.withhold([withheld.Rule("digits", whole.fingerprint, half="evaluation")])
    mine = load_source("digits")
    assert (mine.train.labels == whole.train.labels).all()
    closed = mine.test.labels == -1
    assert set(np.flatnonzero(~closed)) == set(rows(rows="tuning").tolist())
    for options in ({}, {"rows": "evaluation"}):
        with pytest.raises(Withheld, match="evaluation half of the test images of digits"):
            rows(**options)
    with pytest.raises(Withheld, match="half of the test images"):
        make_stream(Request("", "split-digits"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("digits[0-2,5]", Side(source="digits", classes=(0, 1, 2, 5))),
        (
            "digits[corruptions=fog,snow;rows=tuning]",
            Side(source="digits", extra={"corruptions": "fog,snow", "rows": "tuning"}),
        ),
        ("mnist[severity=3]", Side(source="mnist", extra={"severity": 3})),
    ],
)
def test_sides_as_they_are_written(text: str, wanted: Side) -> None:
    assert side(text) == wanted


def test_sides_without_options_hash_as_ever() -> None:
    assert side("digits[0-1]").model_dump() == {"source": "digits", "classes": (0, 1)}
    assert "extra" in side("digits[rows=tuning]").model_dump()


def test_a_pair_survives_json() -> None:
    pair = find_pair("digits-c-v1")
    assert ScenarioPair.model_validate_json(pair.model_dump_json()) == pair


@pytest.mark.parametrize(
    ("tuning", "evaluation", "says"),
    [
        ("digits[rows=tuning;corruptions=fog]", "digits[rows=tuning;corruptions=snow]", "sides"),
        ("digits[corruptions=fog]", "digits[corruptions=snow]", "two different sides"),
        ("digits[rows=first]", "digits[rows=tuning]", "rows of a side: all, tuning, evaluation"),
    ],
)
def test_sides_with_images_in_common_are_refused(tuning: str, evaluation: str, says: str) -> None:
    with pytest.raises(BadPlan, match=says):
        find_pair("mine", tuning, evaluation, "corruptions")


def test_sides_with_a_corruption_in_common_are_refused() -> None:
    one, other = (f"digits[rows={h};corruptions=fog,snow]" for h in ("tuning", "evaluation"))
    with pytest.raises(BadPlan, match="2 on both: fog, snow"):
        survey(find_pair("mine", one, other, "corruptions"), None)


def test_the_survey_finds_nothing_shared() -> None:
    looked = survey(find_pair("digits-c-v1"), None)
    assert looked["setting"] == "adaptation" and looked["experiences"] == 1
    assert looked["overlap"]["shared_images"] == []
    assert sum(looked["overlap"]["images"]) == len(load_source("digits").test.labels)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small study on digits, sealed and evaluated; not to be changed."""
    folder = tmp_path_factory.mktemp("shifted")
    torch.manual_seed(0)
    made = Classifier(CifarResNet(1, 1), CifarResNet.width, 10)
    head = {f"linear.{k}": v for k, v in made.head.state_dict().items()}
    save_file({**made.backbone.state_dict(), **head}, folder / "net.safetensors")
    pair = find_pair(
        "mine",
        "digits[rows=tuning;corruptions=speckle-noise]",
        "digits[rows=evaluation;corruptions=fog,contrast]",
        "corruptions",
        {"images": 40, "batch_size": 20},
    )
    model = f"resnet8@{folder / 'net.safetensors'}"
    asked = StudySpec("tent", pair, {"model": model, "optimizer": "adam"}, trials=2, seeds=(0,))
    pool = PoolSpec(engine="inline")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLGYM_WITHHELD", "[]")  # what tuning closes for good ends with this block
        tune(asked, ExecutionOptions(folder / "study", pool))
    evaluate(folder / "study", pool)
    return folder / "study"


def test_a_study_tunes_on_some_corruptions_and_evaluates_on_others(finished: Path) -> None:
    plan = json.loads((finished / "certificate.json").read_text())["body"]["plan"]
    assert (plan["score_on"], plan["validation"]) == ("test", 0)
    hashes, shown = load_source("digits").test.hashes, []
    for place, wanted in (("runs/trial-000/seed-0", 1), ("evaluations/1/seed-*", 2)):
        (folder,) = finished.glob(place)
        record = open_run(folder).record
        assert record.result.adaptation is not None
        assert len(record.result.adaptation.segments) == wanted
        answers = load_file(folder / "predictions.safetensors")
        shown.append({bytes(hashes[row]) for row in answers["0/row"]})
    assert len(shown[0]) == len(shown[1]) == 40 and not shown[0] & shown[1]


def test_the_certificate_s_choice_is_what_is_evaluated(finished: Path) -> None:
    body = json.loads((finished / "certificate.json").read_text())["body"]
    (folder,) = finished.glob("evaluations/1/seed-*")
    record = open_run(folder).record
    assert record.result.strategy.config["lr"] == body["chosen"][0]["configs"][0]["lr"]
    scores = [trial["score"] for trial in body["trials"]]
    assert body["chosen"][0]["score"] == max(scores)


def test_an_untouched_study_holds_and_a_changed_error_is_found(
    finished: Path, tmp_path: Path
) -> None:
    assert verify(finished).problems == []
    (folder,) = finished.glob("evaluations/1/seed-*")
    copy = tmp_path / "alone"
    copy.mkdir()
    for name in ("record.json", "predictions.safetensors"):
        (copy / name).write_bytes((folder / name).read_bytes())
    assert verify(copy).problems == []
    record = json.loads((copy / "record.json").read_text())
    record["result"]["adaptation"]["segments"][1]["error"] += 0.01
    (copy / "record.json").write_text(json.dumps(record))
    assert any("adaptation.segments" in problem for problem in verify(copy).problems)


def test_modes_that_look_at_held_out_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadPlan, match="no held-out rows"):
        tune(
            StudySpec("tent", find_pair("digits-c-v1"), mode="oracle"),
            ExecutionOptions(tmp_path / "study"),
        )
    assert not list(tmp_path.glob("study/*.jsonl"))
