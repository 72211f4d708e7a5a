"""What `clgym verify` reads of a study's folder, and which paths stand for the study."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from clgym.cli import main
from clgym.errors import BadPlan, BadRecord
from clgym.protocol.ledger import read_ledger
from clgym.protocol.verify import verify
from clgym.protocol.verify_studies import verify_studies
from clgym.results.predictions import read_predictions
from clgym.results.stored import open_run

PREDICTIONS = "runs/trial-001/seed-0/predictions.safetensors"
RECORD = "runs/trial-001/seed-0/record.json"


def _pipe(place: Path) -> None:
    place.unlink()
    os.mkfifo(place)


def _zeros(place: Path) -> None:
    place.unlink()
    place.symlink_to("/dev/zero")


def _moved(place: Path) -> None:
    """A link to the same content outside of the study."""
    study = next(folder for folder in place.parents if folder.name == "study")
    place.symlink_to(shutil.move(place, study.parent / f"elsewhere-{place.name}"))


@pytest.mark.parametrize(
    ("name", "change", "kind"),
    [
        (PREDICTIONS, _pipe, "pipe, socket or device"),
        (PREDICTIONS, _zeros, "link"),
        (PREDICTIONS, _moved, "link"),
        (RECORD, _pipe, "pipe, socket or device"),
        (RECORD, _moved, "link"),
        ("runs", _moved, "link"),
        ("evaluations/1", _moved, "link"),
        ("evaluations/1/evaluation.json", _pipe, "pipe, socket or device"),
        ("certificate.json", _pipe, "pipe, socket or device"),
        ("ledger.jsonl", _moved, "link"),
    ],
)
def test_only_plain_files_inside_of_the_study_are_read(
    copy: Callable, name: str, change: Callable[[Path], None], kind: str
) -> None:
    study = copy()
    change(study / name)
    words = f"files and folders: {name} is a {kind}, where only plain files and folders are read"
    assert verify(study).problems == [words]


def test_a_set_of_studies_is_not_read_through_a_pipe(copy: Callable, tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    shutil.copytree(copy(), studies / "study-1")
    _pipe(studies / "study-1/certificate.json")
    (problem,) = verify_studies(studies).problems
    assert problem.startswith("study-1: files and folders: certificate.json is a pipe")


@pytest.mark.parametrize("name", ["/dev/zero", "../seed-1/predictions.safetensors", "pipe"])
def test_predictions_are_a_file_beside_their_record(copy: Callable, name: str) -> None:
    """Also where the record is audited by itself."""
    run = open_run(copy() / "runs/trial-001/seed-0")
    os.mkfifo(run.folder / "pipe")
    predictions = run.result.predictions.model_copy(update={"file": name})
    result = run.result.model_copy(update={"predictions": predictions})
    with pytest.raises(BadRecord, match="no file: "):
        read_predictions(run.folder, result)


NAMED = [
    "",
    "ledger.jsonl",
    "certificate.json",
    "runs",
    "runs/trial-001",
    "runs/trial-001/seed-0",
    RECORD,
    PREDICTIONS,
    "evaluations",
    "evaluations/1",
    "evaluations/1/evaluation.json",
    "evaluations/1/seed-*",
    "evaluations/1/seed-*/record.json",
]


@pytest.mark.parametrize("name", NAMED)
def test_what_the_ledger_names_stands_for_its_study(
    finished: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = next(finished.glob(name)) if name else finished
    audit = verify(path)
    assert audit.problems == [] and Path(audit.folder).resolve() == finished.resolve()
    assert main(["verify", str(path)]) == 0
    assert f"folder {audit.folder}\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["x", "notes.txt", "runs/trial-009", "evaluations/2", "runs/x/y"])
def test_what_the_ledger_does_not_name_is_not_audited_as_its_study(
    copy: Callable, name: str
) -> None:
    """Other files beside a good study get nothing of its verdict."""
    study = copy()
    other = study / name
    if other.suffix:
        other.write_text("the results that were published")
    else:
        other.mkdir(parents=True)
        (other / "results.csv").write_text("the results that were published")
    with pytest.raises(BadRecord, match="nothing that the ledger of a study names"):
        verify(other)
    with pytest.raises(BadPlan):
        verify(other, head=read_ledger(study / "ledger.jsonl")[-1].hash)


def test_a_record_that_the_ledger_does_not_name_is_audited_by_itself(copy: Callable) -> None:
    study = copy()
    shutil.copytree(study / "runs/trial-001/seed-0", study / "x/seed-0")
    audit = verify(study / "x/seed-0")
    assert audit.problems == [] and audit.folder == str(study / "x/seed-0")
    assert audit.notes[0].startswith("a record by itself")


def test_a_path_inside_of_a_study_whose_ledger_is_broken_finds_that(copy: Callable) -> None:
    study = copy()
    (study / "x").mkdir()
    with (study / "ledger.jsonl").open("ab") as file:
        file.write(b"{}\n")
    assert any("of the ledger" in p for p in verify(study / "x").problems)
