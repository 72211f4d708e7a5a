"""Records against their images: labels and rows that fit predictions, and no image."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from clgym.files import sha256
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.protocol.against_source import compare_with_sources
from clgym.protocol.audit import Audit
from clgym.protocol.verify import verify
from factories import copy_plugin

Answers = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record of each kind of stream; not to be changed."""
    root = tmp_path_factory.mktemp("made")
    shift = {"corruptions": "contrast", "images": 100}
    asked = {
        "learned": Request("nmc", "split-digits", scenario_config={"increments": [5]}),
        "online": Request("nmc", "online-digits", scenario_config={"increments": [5]}),
        "adapted": Request("bn-1", "digits-c", scenario_config=shift, seed=1),
        "both": Request(
            "learn-then-adapt",
            "learn-then-shift-digits",
            strategy_config={
                "base": "naive",
                "base.network": "mlp",
                "base.epochs": 1,
                "method": "source",
            },
            scenario_config={"increments": [5], **shift},
            order_seed=2,
        ),
    }
    for name, request in asked.items():
        values = {**vars(request), "out": root / name, "threads": 1, "engine": "inline"}
        run(Request(**values))
    return root


def audited(folder: Path, data_root: Path | None = None) -> Audit:
    audit = Audit(records=[str(folder)])
    compare_with_sources(audit, data_root)
    return audit


def forged(folder: Path, target: Path, change: Callable[[Answers], None]) -> Path:
    """A copy with other answers, hashed again."""
    target.mkdir()
    answers = dict(load_file(folder / "predictions.safetensors"))
    change(answers)
    data = save(answers)
    (target / "predictions.safetensors").write_bytes(data)
    record = json.loads((folder / "record.json").read_text())
    record["result"]["predictions"]["sha256"] = sha256(data)
    (target / "record.json").write_text(json.dumps(record))
    return target


@pytest.mark.parametrize("name", ["learned", "online", "adapted", "both"])
def test_an_honest_record_fits_its_images(made: Path, name: str) -> None:
    audit = audited(made / name)
    assert (audit.checks, audit.problems, audit.notes) == ([f"images of {name}"], [], [])


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("learned", "1/label"),
        ("learned", "0/row"),
        ("learned", "1/experience"),
        ("online", "0/anytime_label"),
        ("online", "1/anytime_row"),
        ("adapted", "0/label"),
        ("adapted", "0/row"),
        ("adapted", "0/domain"),
        ("both", "1/label"),
        ("both", "shift/0/label"),
        ("both", "shift/0/row"),
    ],
)
def test_labels_and_rows_that_contradict_the_source_are_found(
    made: Path, tmp_path: Path, name: str, key: str
) -> None:
    def change(answers: Answers) -> None:
        answers[key] = answers[key].copy()
        answers[key][3] += 1

    (problem,) = audited(forged(made / name, tmp_path / "forged", change)).problems
    assert problem == f"images of forged: {key} of the predictions is not that of its images"


def test_labels_copied_from_the_predictions_are_found(made: Path, tmp_path: Path) -> None:
    """Every number follows from such predictions: without the images nothing is wrong."""

    def cheat(answers: Answers) -> None:
        for i in range(2):
            answers[f"{i}/label"] = answers[f"{i}/predicted"]

    folder = forged(made / "learned", tmp_path / "forged", cheat)
    record = json.loads((folder / "record.json").read_text())
    record["result"] |= {
        "accuracy_matrix": [[1.0, None], [1.0, 1.0]],
        "accuracy_after": [1.0, 1.0],
        "task_aware_accuracy_after": [1.0, 1.0],
        "last_accuracy": 1.0,
        "average_incremental_accuracy": 1.0,
        "forgetting": 0.0,
        "backward_transfer": 0.0,
    }
    (folder / "record.json").write_text(json.dumps(record))
    assert verify(folder).problems == []
    assert len(audited(folder).problems) == 2


def edited(made: Path, target: Path, name: str, change: Callable[[dict], object]) -> Path:
    """A copy whose record says something else."""
    folder = forged(made / name, target, lambda answers: None)
    record = json.loads((folder / "record.json").read_text())
    change(record["result"])
    (folder / "record.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("learned", lambda r: r["scenario"]["config"].update(increments=[2]), "scenario.digest"),
        ("learned", lambda r: r["scenario"].update(setting="domain-incremental"), ".setting"),
        ("learned", lambda r: r["sources"][0].update(name="mnist"), "result.sources"),
        ("learned", lambda r: r["sources"][0].update(fingerprint="a" * 64), "result.sources"),
        ("learned", lambda r: r["sources"][0].update(flags=["odd"]), "result.sources"),
        ("learned", lambda r: r["class_order"].reverse(), "result.class_order"),
        ("learned", lambda r: r["scenario"]["config"].update(zzz=1), "zzz"),
        ("learned", lambda r: r.update(part=[0, 9]), "0 to 9"),
        ("learned", lambda r: r.update(order_seed=-1), "expected"),
        ("adapted", lambda r: r.update(part=[0, 0]), "0 to 0"),
        ("adapted", lambda r: r["scenario"]["config"].update(order_seed=-1), "expected"),
    ],
)
def test_what_a_record_says_of_its_stream_is_compared(
    made: Path, tmp_path: Path, name: str, change: Callable[[dict], object], words: str
) -> None:
    audit = audited(edited(made, tmp_path / "edited", name, change))
    assert not audit.notes
    assert words in audit.problems[0]


def test_predictions_for_rows_that_do_not_exist_are_found(made: Path, tmp_path: Path) -> None:
    def more(answers: Answers) -> None:
        answers["7/row"] = answers["1/row"]
        del answers["0/label"]

    assert audited(forged(made / "learned", tmp_path / "forged", more)).problems == [
        "images of forged: 0/label of the predictions is missing",
        "images of forged: 7/row of the predictions is of no image",
    ]


@pytest.mark.parametrize(
    ("change", "way_out"),
    [
        (lambda r: r["scenario"]["config"].update(source="cifar100"), "clgym fetch cifar100"),
        (lambda r: r["scenario"]["config"].update(source="of-somebody-else"), "--plugin"),
        (lambda r: r["scenario"].update(name="of-somebody-else"), "--plugin"),
        (lambda r: r["sources"][0].update(name="digits~0a0a0a0a"), "digits~0a0a0a0a"),
    ],
)
def test_missing_images_are_reported_as_a_note(
    made: Path, tmp_path: Path, change: Callable[[dict], object], way_out: str
) -> None:
    audit = audited(edited(made, tmp_path / "edited", "learned", change), tmp_path)
    assert not audit.checks and not audit.problems
    assert audit.notes[0].startswith("images of edited not compared: ")
    assert way_out in audit.notes[0]


@pytest.mark.parametrize(
    "source", ["npz:images.npz", "digits,npz:i.npz", "folder:/etc", "../digits", "~nobody/x"]
)
def test_no_place_that_a_record_names_is_opened(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("a source was loaded")

    def change(result: dict) -> None:
        result["scenario"]["config"]["source"] = source

    folder = edited(made, tmp_path / "edited", "learned", change)
    monkeypatch.setattr("clgym.gym.request.load_source", opened)
    audit = audited(folder)
    assert not audit.problems and "a file of the record's author" in audit.notes[0]


def test_the_results_of_a_study_are_compared(finished: Path, plugin: Path) -> None:
    for place in (finished, finished / "evaluations/1"):
        audit = verify(place, plugins=(plugin,))
        compare_with_sources(audit)
        names = [name for name in audit.checks if name.startswith("images of seed-")]
        assert len(names) == len(audit.records) > 1
        assert not audit.problems


def test_a_listed_class_order_holds(tmp_path: Path) -> None:
    order = [3, 1, 4, 5, 9, 2, 6, 8, 7, 0]
    options = {"increments": [5], "class_order": order}
    run(Request("nmc", "split-digits", scenario_config=options, out=tmp_path, engine="inline"))
    assert verify(tmp_path).problems == [] and audited(tmp_path).problems == []


def test_flags_of_the_content_may_be_missing_from_earlier_records(tmp_path: Path) -> None:
    plugin = copy_plugin("copied", tmp_path)
    out = tmp_path / "out"
    source = {"source": "copied", "plugins": (plugin,)}
    run(Request("nmc", "class-incremental", **source, out=out, engine="inline"))
    record = json.loads((out / "record.json").read_text())
    flags = record["result"]["sources"][0]["flags"]
    shared = "1 of 20 test images are training images too"
    assert shared in flags and len(flags) > 1

    def problems(kept: list[str]) -> list[str]:
        record["result"]["sources"][0]["flags"] = kept
        (out / "record.json").write_text(json.dumps(record))
        audit = Audit(records=[str(out)])
        compare_with_sources(audit, plugins=(plugin,))
        assert audit.checks
        return audit.problems

    assert problems(flags) == []
    assert problems([f for f in flags if f != shared]) == []
    assert problems([shared]) and problems([*flags, "2 of 20 test images are training images too"])


def _other_chance(result: dict[str, Any]) -> None:
    result["chance"] = [0.1 for _ in result["chance"]]


def _swapped_names(result: dict[str, Any]) -> None:
    facts = result["adaptation"]
    facts["segments"][0]["name"] = "fog"
    facts["domains"] = dict(zip(["fog"], facts["domains"].values(), strict=True))


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("learned", _other_chance, ["chance"]),
        ("both", _other_chance, ["chance"]),
        ("adapted", _swapped_names, ["adaptation.domains", "adaptation.segments"]),
        ("both", _swapped_names, ["adaptation.domains", "adaptation.segments"]),
    ],
)
def test_names_and_chance_are_those_of_the_stream(
    made: Path, tmp_path: Path, name: str, change: Callable[[Any], None], told: list[str]
) -> None:
    folder = shutil.copytree(made / name, tmp_path / name)
    assert audited(folder).problems == []
    content = json.loads((folder / "record.json").read_text())
    change(content["result"])
    (folder / "record.json").write_text(json.dumps(content))
    where = f"images of {name}: result"
    assert sorted(audited(folder).problems) == [
        f"{where}.{field} is not that of its stream" for field in told
    ]
