"""What loggers write, read back by something else than clgym."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clgym.cli import main
from clgym.errors import MissingExtra, UnknownName
from clgym.gym.loggers import Logger
from clgym.messages import RequestScored, RunResumed, TrainProgress

WORDS = ["run", "naive", "split-digits", "--threads", "1", "--out"]


@pytest.mark.slow
def test_csv_holds_the_records_accuracies(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert main([*WORDS, str(out), "--log", "csv"]) == 0
    with (out / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    record = json.loads((out / "record.json").read_text())["result"]
    logged = [float(r["value"]) for r in rows if r["name"] == "accuracy"]
    assert logged == record["accuracy_after"]
    last = [float(r["value"]) for r in rows if r["name"].startswith("accuracy/")][-5:]
    assert last == record["accuracy_matrix"][-1]
    losses = [r for r in rows if r["name"] == "loss"]
    assert len(losses) >= 5
    images = [int(r["images"]) for r in rows]
    assert images == sorted(images) and images[-1] == 1437


@pytest.mark.slow
def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    assert main([*WORDS, str(out), "--log", "tensorboard", "csv"]) == 0
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    record = json.loads((out / "record.json").read_text())["result"]
    values = [event.value for event in events.Scalars("accuracy")]
    assert values == pytest.approx(record["accuracy_after"])


@pytest.mark.slow
def test_wandb_gets_the_accuracies_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    out = tmp_path / "run"
    assert main([*WORDS, str(out), "--log", "wandb"]) == 0
    assert list(out.glob("wandb/offline-run-*/*.wandb"))


def test_a_missing_logger_client_is_refused_with_the_extra_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'clgym\[mlflow\]'"):
        Logger("mlflow")


def test_no_client_is_imported_unless_asked_for(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from clgym.cli import main; main(sys.argv[1:]); "
        "sys.exit(any(m in sys.modules for m in ('tensorboard', 'wandb', 'mlflow', 'torch')))"
    )
    words = ["run", "nmc", *WORDS[2:], str(tmp_path / "run")]
    subprocess.run([sys.executable, "-c", code, *words], check=True)


def test_an_unknown_logger_is_named_with_the_nearest_one() -> None:
    with pytest.raises(UnknownName, match="tensorboard.*found 'tensorbord'.*tensorboard"):
        Logger("tensorbord")


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_continued_run_logs_no_row_twice(tmp_path: Path) -> None:
    """It begins again where it was saved, before the last rows of the session that was killed."""
    plan: Any = SimpleNamespace(out=str(tmp_path))

    def session(*events: Any) -> None:
        logger = Logger("csv")
        logger._plan = plan
        for event in events:
            logger(event)
        logger.close()

    def trained(experience: int, images: int, loss: float) -> TrainProgress:
        return TrainProgress(experience=experience, images=images, loss=loss, epoch=0, step=1)

    session(trained(0, 40, 3.0), scored(0, 50, 0.5), trained(1, 20, 2.0), trained(1, 45, 1.0))
    session(RunResumed(experience=1, images=50), trained(1, 30, 1.5), scored(1, 50, 0.25))
    kept = [
        (row["images"], row["experience"], row["name"], row["value"]) for row in rows_of(tmp_path)
    ]
    assert kept == [
        ("40", "1", "loss", "3.0"),
        ("50", "1", "accuracy", "0.5"),
        ("70", "2", "loss", "2.0"),
        ("80", "2", "loss", "1.5"),
        ("100", "2", "accuracy", "0.25"),
    ]
    (tmp_path / "log.csv").write_text("step,loss\n1,0.5\n")
    session(RunResumed(experience=1, images=50), trained(1, 30, 1.5))
    assert [row["images"] for row in rows_of(tmp_path)] == ["80"]


def scored(number: int, images: int, accuracy: float) -> RequestScored:
    return RequestScored(
        name="a request",
        number=number,
        requests=2,
        forgotten_accuracy=None,
        retained_accuracy=accuracy,
        experience=number,
        images=images,
    )
