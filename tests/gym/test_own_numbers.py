"""Numbers that a strategy logs: in ``series.csv``, in the record, in the loggers."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import clgym
from clgym.board.report.layout import report
from clgym.data.sources import load_source
from clgym.errors import StrategyFailed
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.messages import Event, NumbersLogged, Scored, TrainProgress
from clgym.results.stored import open_run
from factories import copy_plugin

BATCH, EPOCHS = 32, 2


def request(out: Path, plugin: Path, **options: Any) -> Request:
    return Request(
        "logs",
        "split-digits",
        strategy_config={"epochs": EPOCHS, "batch_size": BATCH},
        scenario_config={"increments": [5]},
        out=out,
        plugins=(plugin,),
        threads=1,
        checkpoint_minutes=1e-6,
        **options,
    )


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    plugin = copy_plugin("logs", folder, FLAG=folder / "no flag")
    clgym.run(
        f"{plugin}:Logs",
        "split-digits",
        config={"epochs": EPOCHS, "batch_size": BATCH},
        scenario_config={"increments": [5]},
        out=folder / "run",
        threads=1,
        checkpoint_minutes=1e-6,
        log=["csv"],
    )
    return folder / "run"


def test_every_row_stands_where_it_was_logged(whole: Path) -> None:
    rows, labels = table(whole / "series.csv"), load_source("digits").train.labels
    sizes = [int((labels < 5).sum()), int((labels >= 5).sum())]
    parts = [int(((labels < 5) & (labels > 0)).sum()), int((labels > 5).sum())]
    steps = [-(-size // BATCH) for size in sizes]
    found = [r for r in rows if r["name"] == "labels"]
    places = [
        (str(e + 1), str(epoch + 1), str(step + 1))
        for e in range(2)
        for epoch in range(EPOCHS)
        for step in range(steps[e])
    ]
    assert [(r["experience"], r["epoch"], r["step"]) for r in found] == places
    before = np.array([0, EPOCHS * sizes[0] + parts[0]])  # all epochs, and the pass over a part
    images = [
        before[e] + epoch * sizes[e] + min(BATCH * (step + 1), sizes[e])
        for e in range(2)
        for epoch in range(EPOCHS)
        for step in range(steps[e])
    ]
    assert [int(r["images"]) for r in found] == images
    for e in range(2):  # every epoch reads each label once
        values = [float(r["value"]) for r in found if r["experience"] == str(e + 1)]
        own = labels[(labels < 5) if e == 0 else (labels >= 5)]
        assert sum(values) == EPOCHS * own.sum()
    ends = [int(r["images"]) for r in rows if r["name"] == "own"]
    assert ends == [before[1], before[1] + EPOCHS * sizes[1] + parts[1]]


def test_the_record_summarises_them(whole: Path) -> None:
    rows, stored = table(whole / "series.csv"), open_run(whole)
    names = {r["name"] for r in rows}
    assert stored.record.logged.keys() == names == {"labels", "half", "own"}
    for name, found in stored.record.logged.items():
        values = [float(r["value"]) for r in rows if r["name"] == name]
        assert (found.count, found.last) == (len(values), values[-1])
        assert (found.minimum, found.maximum) == (min(values), max(values))
        assert found.mean == pytest.approx(sum(values) / len(values), rel=1e-12)
    assert stored.record.cost.train_images == max(int(r["images"]) for r in rows)
    assert list(stored.problems()) == []
    assert "Logged numbers" in report(whole)


def test_an_altered_series_is_a_problem(whole: Path, tmp_path: Path) -> None:
    for file in ("record.json", "predictions.safetensors"):
        (tmp_path / file).write_bytes((whole / file).read_bytes())
    assert list(open_run(tmp_path).problems()) == []
    text = (whole / "series.csv").read_text()
    (tmp_path / "series.csv").write_text(text.replace(",own,1.0", ",own,2.0"))
    assert list(open_run(tmp_path).problems()) == ["logged is not the summary of series.csv"]
    (tmp_path / "series.csv").write_text(text + "1,2\n")
    (problem,) = open_run(tmp_path).problems()
    assert problem == "series.csv: a row of another length"


def test_a_run_without_them_has_no_such_block(tmp_path: Path) -> None:
    run(Request("nmc", "split-digits", out=tmp_path / "run", threads=1))
    assert "logged" not in json.loads((tmp_path / "run" / "record.json").read_text())
    assert not (tmp_path / "run" / "series.csv").exists()


def test_the_learners_process_makes_no_difference(whole: Path, tmp_path: Path) -> None:
    plugin = copy_plugin("logs", tmp_path, FLAG=tmp_path / "no flag")
    run(request(tmp_path / "run", plugin, engine="inline"))
    assert (tmp_path / "run" / "series.csv").read_bytes() == (whole / "series.csv").read_bytes()


def test_a_run_killed_inside_an_experience_leaves_the_same_file(
    whole: Path, tmp_path: Path
) -> None:
    flag = tmp_path / "flag"
    plugin = copy_plugin("logs", tmp_path, FLAG=flag)
    flag.touch()
    cut = tmp_path / "cut"
    with pytest.raises(StrategyFailed, match="SIGKILL"):
        run(request(cut, plugin))
    assert list(cut.rglob("inside-1*")) and not (cut / "series.csv").exists()
    flag.unlink()
    again = run(request(cut, plugin))
    assert again.cost.resumed == 1
    assert (cut / "series.csv").read_bytes() == (whole / "series.csv").read_bytes()
    first = open_run(whole).record
    assert again.cost.train_images == first.cost.train_images
    assert again.logged == first.logged


def test_the_axis_of_a_logger_never_goes_back(whole: Path) -> None:
    rows = table(whole / "log.csv")
    assert set(rows[0]) == {"images", "experience", "epoch", "step", "seconds", "name", "value"}
    for name in ("loss", "labels", "accuracy"):
        images = [int(r["images"]) for r in rows if r["name"] == name]
        assert len(images) >= 2 and images == sorted(images)
        assert name == "accuracy" or len(set(images)) == len(images)  # nothing comes twice
    ends = {r["experience"]: int(r["images"]) for r in rows if r["name"] == "accuracy"}
    second = [int(r["images"]) for r in rows if r["experience"] == "2"]
    assert min(second) > ends["1"]
    known = {(r["images"], r["name"], float(r["value"])) for r in table(whole / "series.csv")}
    own = {(r["images"], r["name"], float(r["value"])) for r in rows}
    assert known <= own
    seconds = [float(r["seconds"]) for r in rows]
    assert seconds == sorted(seconds)


def test_callbacks_get_every_event(tmp_path: Path) -> None:
    events: list[Event] = []
    plugin = copy_plugin("logs", tmp_path, FLAG=tmp_path / "no flag")
    record = clgym.run(
        f"{plugin}:Logs",
        "split-digits",
        scenario_config={"increments": [5]},
        out=tmp_path / "run",
        threads=1,
        callbacks=[events.append],
    )
    scores = [e.accuracy for e in events if isinstance(e, Scored)]
    assert scores == record.result.accuracy_after
    logged = [e.numbers for e in events if isinstance(e, NumbersLogged)]
    count = sum(len(numbers.name) for numbers in logged)
    assert count == sum(n.count for n in record.logged.values()) > 0
    assert any(isinstance(e, TrainProgress) and e.loss is not None for e in events)


def test_a_test_time_method_logs_by_batch(tmp_path: Path) -> None:
    plugin = copy_plugin("logs_batches", tmp_path)
    shift: dict[str, Any] = {"corruptions": "contrast,fog", "images": 60, "batch_size": 20}
    shift["arrival"] = "published"  # else each run has an order of its own
    records = [
        run(
            Request(
                "logs-batches",
                "digits-c",
                scenario_config=shift,
                out=tmp_path / engine,
                plugins=(plugin,),
                threads=1,
                engine=engine,
            )
        )
        for engine in ("process", "inline")
    ]
    rows = table(tmp_path / "process" / "series.csv")
    assert [int(r["images"]) for r in rows] == [20, 40, 60, 80, 100, 120]
    assert [int(r["experience"]) for r in rows] == [1, 1, 1, 2, 2, 2]
    assert [int(r["step"]) for r in rows] == [1, 2, 3, 4, 5, 6]
    assert records[0].logged["entropy"].count == 6
    texts = [(tmp_path / engine / "series.csv").read_bytes() for engine in ("process", "inline")]
    assert texts[0] == texts[1]
