"""Rows run, go on where they were stopped, and leave records, studies and a status on a board."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from clgym.engines.pool import PoolSpec
from clgym.errors import ClgymError
from clgym.papers import load_paper, read_status
from clgym.papers.reproduce import Reproduction
from clgym.protocol.verify import verify
from clgym.results.result import DeletionResult
from clgym.results.stored import open_run

PAPER = """
title = "A toy"
authors = "Nobody"
venue = "Nowhere"
year = 2000
link = "https://example.org"
strategies = ["nmc"]

[runs.nmc]
strategy = "nmc"
scenario = "split-digits"
seeds = [0, 1]
order_seeds = true

[runs.same]
like = "nmc"
following = "nmc"

[runs.lost]
strategy = "nmc"
scenario = "split-cifar100"
config = { backbone = "resnet18@{data}/none.safetensors" }

[studies.tuned]
strategy = "naive"
pair = "digits-t2"
trials = 2
seeds = [0]

[[rows]]
name = "figures"
scale = "lite"
about = "Class means on digits."
hours = 0.01
also = ["same"]

[[rows.claims]]
of = "nmc"
value = 90
tolerance = 0.1
measure = "last_accuracy"
where = "t"
known = "own"

[[rows]]
name = "missing"
scale = "lite"
about = "What needs data that are not there."
hours = 0.01

[[rows.claims]]
of = "lost"
value = 1.0
measure = "last_accuracy"
where = "here"
known = "own"

[[rows]]
name = "shown"
scale = "lite"
about = "A run that no claim is about, and whose data are not there."
hours = 0.01
also = ["lost"]

[[rows]]
name = "studied"
scale = "lite"
about = "A study and its evaluation."
hours = 0.01

[[rows.claims]]
better = "nmc"
worse = "tuned"
measure = "last_accuracy"
where = "here"
known = "own"
"""


@pytest.fixture
def paper(tmp_path):
    (tmp_path / "toy.toml").write_text(PAPER)
    return load_paper("toy", tmp_path)


def carry_out(paper, tmp_path: Path, *names: str):
    events: list[dict] = []
    rows = [(paper, paper.by_row[name]) for name in names]
    work = Reproduction(
        rows, tmp_path / "runs", tmp_path / "board", None, PoolSpec("inline"), events.append
    )
    (status,) = work.carry_out()
    return {row.row: row for row in status.rows}, events


def test_a_row_runs_and_goes_on(paper, tmp_path, monkeypatch):
    rows, events = carry_out(paper, tmp_path, "figures")
    assert [c.verdict for c in rows["figures"].claims] == ["reproduced"]
    assert rows["figures"].claims[0].measured == "90.00 %"  # as tests/test_runner.py computes it
    assert set(rows["figures"].runs) == {"nmc", "same"}
    # Equal runs share a folder only if they are equal; `same` follows and so is another.
    folders = sorted((tmp_path / "board/records").iterdir())
    assert [sorted(p.name for p in f.iterdir()) for f in folders] == [["seed-0", "seed-1"]] * 2
    assert len([e for e in events if e["kind"] == "start"]) == 4

    before = {f: f.stat().st_mtime_ns for f in (tmp_path / "runs").rglob("record.json")}
    again, _ = carry_out(paper, tmp_path, "figures")
    assert again == rows
    assert {f: f.stat().st_mtime_ns for f in before} == before


REFERRING = """
title = "Another toy"
authors = "Nobody"
venue = "Nowhere"
year = 2000
link = "https://example.org"
strategies = ["retrain"]

[runs.anew]
strategy = "retrain"
scenario = "deletion-digits"
config = { base = "naive" }
stream = { per_class = [10, 10] }

[runs.measured]
like = "anew"
reference = "anew"

[[rows]]
name = "distances"
scale = "lite"
about = "Training anew, beside itself."
hours = 0.01
also = ["measured"]

[[rows]]
name = "alone"
scale = "lite"
about = "Training anew."
hours = 0.01
also = ["anew"]
"""


def test_a_folder_goes_by_what_its_reference_is(tmp_path):
    def keys(text: str) -> dict[str, str]:
        (tmp_path / "toy.toml").write_text(text)
        paper = load_paper("toy", tmp_path)
        work = Reproduction([(paper, row) for row in paper.rows], tmp_path, tmp_path)
        return {n: work.task(paper, paper.rows[0], n).key for n in ("anew", "measured")}

    usual, other = keys(REFERRING), keys(REFERRING.replace("[10, 10]", "[11, 10]"))
    assert usual["anew"] != usual["measured"]
    assert usual["anew"] != other["anew"] and usual["measured"] != other["measured"]
    own = REFERRING.replace(
        'reference = "anew"', 'reference = "anew"\nconfig = { base = "replay" }'
    )
    longer = own.replace(
        'config = { base = "naive" }', 'config = { base = "naive", epochs = 2 }', 1
    )
    assert keys(own)["measured"] != keys(longer)["measured"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ('reference = "anew"\nfollowing = "anew"', "beside a reference"),
        ('reference = "anew"\nseeds = [0, 1]', "its reference anew has other seeds"),
        ('reference = "gone"', "no run gone to follow"),
    ],
)
def test_references_that_cannot_be_are_refused(tmp_path, change, words):
    (tmp_path / "toy.toml").write_text(REFERRING.replace('reference = "anew"', change))
    with pytest.raises(ClgymError, match=words):
        load_paper("toy", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("before", [False, True])
def test_distances_are_measured_to_the_run_of_the_same_seed(tmp_path, before):
    """Of another command or, though no row names it, of the same: it runs first."""
    (tmp_path / "toy.toml").write_text(REFERRING)
    paper = load_paper("toy", tmp_path)
    if before:
        carry_out(paper, tmp_path, "alone")
    carry_out(paper, tmp_path, "distances")
    found: list[tuple[Any, str]] = []
    for folder in (tmp_path / "board/records").iterdir():
        run = open_run(folder / "seed-0")
        assert isinstance(run.result, DeletionResult)
        found.append((run.result.deletion, run.sha256))
    (_, anew), (measured, _) = sorted(found, key=lambda one: one[0].reference is not None)
    assert measured.reference.sha256 == anew
    assert measured.requests[0].distance.disagreement_retained == 0  # from its equal


def test_missing_data_are_reported_and_the_other_rows_run(paper, tmp_path, monkeypatch):
    monkeypatch.delenv("CLGYM_DATA", raising=False)
    rows, events = carry_out(paper, tmp_path, "missing", "figures")
    assert [c.verdict for c in rows["missing"].claims] == ["not run"]
    assert "CLGYM_DATA" in rows["missing"].claims[0].why
    assert rows["missing"].runs["lost"].startswith("not run: ")
    (told,) = [e for e in events if e["kind"] == "missing"]
    assert told["row"].startswith("nmc-split-cifar100-")
    assert rows["figures"].claims[0].verdict == "reproduced"


def test_a_row_without_claims_that_was_not_run_leaves_no_status(paper, tmp_path, monkeypatch):
    """It has no verdict to write; the caller is told all the same."""
    monkeypatch.delenv("CLGYM_DATA", raising=False)
    rows, _ = carry_out(paper, tmp_path, "shown")
    assert rows["shown"].claims == () and rows["shown"].runs["lost"].startswith("not run: ")
    assert not (tmp_path / "board/status").exists()
    carry_out(paper, tmp_path, "shown", "figures")
    written = read_status(tmp_path / "board/status/toy.json")
    assert [row.row for row in written.rows] == ["figures"]
    assert all(claim.verdict for row in written.rows for claim in row.claims)


def test_of_a_study_the_data_of_both_sides_are_looked_for(paper, tmp_path, monkeypatch):
    monkeypatch.delenv("CLGYM_DATA", raising=False)
    study = paper.studies["tuned"].model_copy(update={"pair": "lite-c50"})
    elsewhere = paper.model_copy(update={"studies": {"tuned": study}})
    rows, events = carry_out(elsewhere, tmp_path, "studied")
    assert "CLGYM_DATA" in rows["studied"].runs["tuned"]
    assert [e["kind"] for e in events if e["kind"] in ("missing", "plan")] == ["missing"]


def test_a_begun_run_of_other_code_is_refused_and_the_folder_named(paper, tmp_path):
    carry_out(paper, tmp_path, "figures")
    note = next((tmp_path / "runs").glob("*/seed-0/run.json"))
    note.write_text('{"key":"another"}')
    (note.parent / "record.json").unlink()
    rows, _ = carry_out(paper, tmp_path, "figures")
    told = " ".join(rows["figures"].runs.values())
    assert f"delete {note.parent.parent.name}/seed-0 in the folder of --runs" in told


@pytest.mark.slow
def test_a_finished_row_needs_no_data(paper, tmp_path, monkeypatch):
    monkeypatch.delenv("CLGYM_DATA", raising=False)
    rows = [(paper, paper.by_row["missing"])]
    work = Reproduction(rows, tmp_path / "runs", tmp_path / "board", None, PoolSpec("inline"))
    (key,) = work.tasks()
    carry_out(paper, tmp_path, "figures")
    done = next((tmp_path / "runs").glob("nmc-split-digits-*/seed-0"))
    shutil.copytree(done, tmp_path / "runs" / key / "seed-0")
    (status,) = work.carry_out()
    assert [c.verdict for c in status.rows[-1].claims] == ["differs"]


@pytest.mark.slow
def test_a_status_keeps_rows_of_earlier_sessions(paper, tmp_path):
    carry_out(paper, tmp_path, "figures")
    carry_out(paper, tmp_path, "missing")
    status = read_status(tmp_path / "board/status/toy.json")
    assert [row.row for row in status.rows] == ["figures", "missing"]


@pytest.mark.slow
def test_a_missing_run_costs_only_the_claims_about_it(paper, tmp_path, monkeypatch):
    monkeypatch.delenv("CLGYM_DATA", raising=False)
    mixed = paper.by_row["figures"].model_copy(
        update={"claims": paper.by_row["figures"].claims + paper.by_row["missing"].claims}
    )
    work = Reproduction(
        [(paper, mixed)], tmp_path / "runs", tmp_path / "board", None, PoolSpec("inline")
    )
    (status,) = work.carry_out()
    assert [c.verdict for c in status.rows[0].claims] == ["reproduced", "not run"]


@pytest.mark.slow
def test_what_was_measured_is_not_lost_where_it_cannot_be_run(paper, tmp_path, monkeypatch):
    first, _ = carry_out(paper, tmp_path, "figures")
    elsewhere = Reproduction(
        [(paper, paper.by_row["figures"])], tmp_path / "none", tmp_path / "board", None
    )
    monkeypatch.setattr(elsewhere, "missing", lambda: {key: "no data" for key in elsewhere.tasks()})
    (status,) = elsewhere.carry_out()
    assert list(status.rows) == list(first.values())


def test_a_reason_does_not_say_where_the_data_lie(paper, tmp_path, monkeypatch):
    monkeypatch.setenv("CLGYM_DATA", str(tmp_path / "secret"))
    rows, _ = carry_out(paper, tmp_path, "missing")
    why = rows["missing"].claims[0].why
    assert str(tmp_path) not in why and "DATA_ROOT/cifar-100-python" in why


@pytest.mark.slow
def test_a_study_is_tuned_and_evaluated_once_and_its_copy_can_be_audited(paper, tmp_path):
    # Tuning and evaluation happen in different processes, so this pool cannot be inline.
    rows = [(paper, paper.by_row["studied"])]
    work = Reproduction(rows, tmp_path / "runs", tmp_path / "board", None, PoolSpec(workers=1))
    (first,) = work.carry_out()
    (again,) = work.carry_out()
    assert first == again
    (copied,) = (tmp_path / "board/records").glob("naive-*")
    ledger = [json.loads(line) for line in (copied / "ledger.jsonl").read_text().splitlines()]
    assert [entry["kind"] for entry in ledger].count("opened") == 1
    assert not verify(copied).problems
    records = list(copied.glob("evaluations/1/*/record.json"))
    assert records and all(open_run(file).result.last_accuracy >= 0 for file in records)
    assert not list(copied.rglob("state.safetensors"))


def test_everything_that_a_row_lacks_is_listed(paper, tmp_path, monkeypatch):
    """Data, weights and device: one missing thing does not hide another."""
    run = paper.runs["lost"].model_copy(
        update={"config": {"backbone": "vit_tiny_patch16_224@DATA/weights/none.safetensors"}}
    )
    lacking = paper.model_copy(update={"runs": {**paper.runs, "lost": run}})
    row = lacking.by_row["missing"].model_copy(update={"device": "cuda"})
    work = Reproduction([(lacking, row)], tmp_path / "runs", tmp_path / "board", tmp_path / "data")
    (reasons,) = work.obstacles().values()
    text = "\n".join(reasons)
    assert "`clgym fetch cifar100`" in text and "DATA_ROOT/cifar-100-python" in text
    assert "none.safetensors" in text
    assert "the row needs this device" in text
    assert str(tmp_path) not in text and "{data}" not in text
    assert len(reasons) == 3
    assert work.missing() == {key: "; ".join(found) for key, found in work.obstacles().items()}


def test_the_list_shows_the_last_verdict(cli, paper, tmp_path, monkeypatch):
    import clgym.papers as papers

    carry_out(paper, tmp_path, "figures")
    monkeypatch.setattr(papers, "paper_names", lambda: ["toy"])
    monkeypatch.setattr(papers, "load_paper", lambda name: paper)
    code, out, _ = cli("reproduce", "--board", tmp_path / "board")
    assert code == 0 and out.count("last verdict: 1 reproduced") == 1
