"""Trials that are stopped early: which, what they cost, and that an audit decides again."""

import json
import shutil
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clgym.board.reading.found import load_runs
from clgym.board.reading.records import read_board
from clgym.board.report.study_sections import sections
from clgym.cli._trials import TrialProgress
from clgym.engines.pool import PoolSpec
from clgym.errors import BadPlan
from clgym.files import sha256
from clgym.gym.learning import LearningPhase
from clgym.gym.plan import resolve
from clgym.gym.request import Request
from clgym.protocol.evaluation import evaluate
from clgym.protocol.ledger import START, LedgerEntry, read_ledger
from clgym.protocol.outcome import SeedResult, following
from clgym.protocol.plan import Certificate, StudyPlan, code_identity
from clgym.protocol.pruning import goes_on, rungs_of
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.study import read_certificate, tune
from clgym.protocol.verify import verify
from clgym.results.layout import STATE
from clgym.results.stored import open_run

SPACE = '{"power": [0.5, 1.0, 2.0, 4.0]}'
RECORDS = Path(__file__).parents[2] / "leaderboards/records"


def here(out: Path, plugin: Path, workers: int = 0) -> ExecutionOptions:
    """In this process, or with some workers."""
    pool = PoolSpec("process", workers) if workers else PoolSpec("inline")
    return ExecutionOptions(out, pool, plugins=(plugin,))


@pytest.fixture(scope="session")
def spec(asked: Callable, tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """A study of four trials with a pruner; keywords change it."""
    space = tmp_path_factory.mktemp("space") / "space.json"
    space.write_text(SPACE)
    usual = {"space": str(space), "trials": 4, "sampler": "grid", "pruner": "successive-halving"}
    return lambda **changed: asked(**{**usual, **changed})


@pytest.fixture(scope="session")
def pruned(
    spec: Callable, plugin: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A sealed study with a pruner; not to be changed."""
    out = tmp_path_factory.mktemp("pruned") / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLGYM_WITHHELD", "[]")
        tune(spec(), here(out, plugin))
    yield out


# --- the rules -----------------------------------------------------------------------------------


def test_rungs_lie_at_halves_of_the_stream() -> None:
    assert [rungs_of("successive-halving", n) for n in (1, 2, 5, 10)] == [
        (),
        (1,),
        (1, 2),
        (1, 2, 5),
    ]
    assert [rungs_of("median", n) for n in (1, 2, 5, 10)] == [(), (1,), (2,), (5,)]
    assert rungs_of("none", 10) == ()


def test_the_better_half_goes_on() -> None:
    rng = np.random.default_rng(0)
    for count in range(1, 12):
        scores = dict(enumerate(rng.integers(0, 4, count) / 4))
        kept = goes_on("successive-halving", scores)
        assert len(kept) == -(-count // 2)
        worst = min((scores[t], -t) for t in kept)
        assert all((scores[t], -t) < worst for t in scores.keys() - kept)
        above = {t for t in scores if scores[t] >= statistics.median(scores.values())}
        assert goes_on("median", scores) == above
    assert goes_on("median", {}) == goes_on("successive-halving", {}) == set()


# --- studies -------------------------------------------------------------------------------------


def test_stopped_trials_are_the_worse_half_at_the_rung(pruned: Path) -> None:
    body = read_certificate(pruned).body
    scores: dict[int, float] = {}
    for trial in range(4):
        folder = pruned / f"runs/experience-0/trial-{trial:03}"
        runs = [open_run(folder / f"seed-{seed}").result for seed in body.plan.seeds]
        assert all(len(run.accuracy_matrix) == 1 for run in runs)
        scores[trial] = float(np.mean([run.last_accuracy for run in runs]))
    order = sorted(scores, key=lambda trial: (-scores[trial], trial))
    stopped = [trial for trial in body.trials if trial.status == "pruned"]
    assert {trial.trial for trial in stopped} == set(order[2:])
    assert {trial.outcome for trial in stopped} == {"pruned after experience 1"}
    assert all(trial.score is None and len(trial.runs) == 2 for trial in stopped)
    assert body.chosen[0].trials[0] in order[:2]
    lines = [e.body for e in read_ledger(pruned / "ledger.jsonl") if e.kind == "pruned"]
    assert [(line["trial"], line["after"]) for line in lines] == [(n, 1) for n in sorted(order[2:])]
    assert [line["score"] for line in lines] == pytest.approx(
        [scores[n] for n in sorted(order[2:])]
    )


@pytest.mark.slow
def test_trials_that_go_on_are_those_of_a_study_without_a_pruner(
    pruned: Path, spec: Callable, plugin: Path, tmp_path: Path
) -> None:
    plain = tune(spec(pruner="none"), here(tmp_path / "study", plugin)).body
    body = read_certificate(pruned).body
    assert "pruner" not in plain.plan.model_dump(mode="json")
    whole = {trial.trial: trial for trial in plain.trials}
    done = [trial for trial in body.trials if trial.status == "done"]
    assert len(done) == 2
    assert all(trial == whole[trial.trial] for trial in done)  # results, scores and images
    assert body.chosen == plain.chosen
    assert body.budget["pruned"] == 2 and body.budget["started"] == 4
    rungs = [trial.runs for trial in body.trials if trial.status == "pruned"]
    spared = sum(
        run.images - short.images
        for runs, trial in zip(rungs, (t for t in body.trials if t.status == "pruned"), strict=True)
        for run, short in zip(whole[trial.trial].runs, runs, strict=True)
    )
    assert spared > 0 and body.budget["images"] == plain.budget["images"] - spared


def test_no_state_is_left_and_the_study_holds(pruned: Path) -> None:
    assert verify(pruned).problems == []
    assert not [path for path in (pruned / "runs").rglob(STATE) if path.is_file()]


@pytest.mark.slow
def test_workers_change_neither_choice_nor_ledger(
    pruned: Path, spec: Callable, plugin: Path, tmp_path: Path
) -> None:
    def told(out: Path) -> list[Any]:
        kinds = ("pruned", "run")
        entries = [e for e in read_ledger(out / "ledger.jsonl") if e.kind in kinds]
        varying = ("seconds", "record")
        return sorted(
            (e.kind, e.body["key"], str({k: v for k, v in e.body.items() if k not in varying}))
            for e in entries
        )

    for workers in (1, 2):
        out = tmp_path / str(workers)
        assert tune(spec(), here(out, plugin, workers)).hash == read_certificate(pruned).hash
        assert told(out) == told(tmp_path / "1")


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["rung", "half of the decisions", "whole runs"])
def test_a_study_killed_at_a_rung_ends_in_the_same_certificate(
    pruned: Path, spec: Callable, plugin: Path, tmp_path: Path, kept: str
) -> None:
    """The ledger as a kill leaves it; what was run after it is not there."""
    out = tmp_path / "study"
    with pytest.raises(KeyboardInterrupt):
        tune(spec(), here(out, plugin), _stop_at(kept))
    assert not (out / "certificate.json").exists()
    lines = len(read_ledger(out / "ledger.jsonl"))
    certificate = tune(spec(), here(out, plugin))
    assert certificate.hash == read_certificate(pruned).hash
    assert len(read_ledger(out / "ledger.jsonl")) > lines
    assert verify(out).problems == []


def _stop_at(place: str) -> Callable[[dict[str, Any]], None]:
    """Something that watches a study, and ends it."""
    seen: list[str] = []

    def watch(event: dict[str, Any]) -> None:
        rung = "experience-0" in event.get("key", "")
        seen.append(f"{event['kind']} {'rung' if rung else 'whole'}")
        ends = {"rung": ("end rung", 5), "whole runs": ("end whole", 2)}
        word, count = ends.get(place, ("pruned whole", 1))
        if seen.count(word) == count:
            raise KeyboardInterrupt

    return watch


@pytest.mark.slow
def test_a_failed_trial_is_not_compared(spec: Callable, plugin: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    body = tune(spec(pruner="median", config={"fails": 2.0}), here(out, plugin)).body
    (failed,) = (trial for trial in body.trials if trial.status == "failed")
    assert failed.config["power"] == 2.0 and failed.pruned_after is None
    assert body.budget["failed"] == 1 and body.budget["pruned"] == 1
    assert verify(out).problems == []
    with pytest.raises(BadPlan, match="no trial depends on the score of another"):
        unsealed(out)
        tune(spec(pruner="median", config={"fails": 2.0}), here(out, plugin), retry_failed=True)


def unsealed(out: Path) -> None:
    lines = (out / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (out / "ledger.jsonl").write_bytes(b"".join(lines[:-1]))


@pytest.mark.slow
def test_modes_that_choose_for_each_stream_prune_in_each(
    spec: Callable, plugin: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    body = tune(spec(mode="oracle"), here(out, plugin)).body
    assert [(t.seed, t.status) for t in body.trials].count((0, "pruned")) == 2
    assert [(t.seed, t.status) for t in body.trials].count((1, "pruned")) == 2
    assert verify(out).problems == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"pruner": "hyperband"}, "a pruner"),
        ({"mode": "current_task"}, "chooses once for a whole stream"),
        ({"mode": "first_task"}, "two experiences or more"),
        ({"sampler": "tpe"}, "a sampler that does not use scores"),
        ({"cap_images": 1000}, "no cap on images"),
    ],
)
def test_what_no_pruner_can_do_is_refused(
    spec: Callable, plugin: Path, tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadPlan, match=words):
        tune(spec(**changed), here(tmp_path / "study", plugin))
    assert not (tmp_path / "study").exists()


def test_another_pruner_is_another_study(
    pruned: Path, spec: Callable, plugin: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    shutil.copytree(pruned, out)
    for other in ("median", "none"):
        with pytest.raises(BadPlan, match="different pruner"):
            tune(spec(pruner=other), here(out, plugin))


@pytest.mark.parametrize(("part", "told"), [((0, 2), 5), (None, 5), ((3, 5), 2)])
def test_a_strategy_is_told_the_length_of_the_whole_stream_at_a_rung(
    plugin: Path, part: tuple[int, int] | None, told: int
) -> None:
    """A method that is told the number of experiences must not take a rung for its end."""
    request = Request("power", "split-digits", plugins=(plugin,), part=part, engine="inline")
    plan = resolve(request)
    plan = replace(plan, needs=replace(plan.needs, total_experiences=True))
    nobody: Any = None
    phase = LearningPhase(plan, plan.stream, nobody, nobody, lambda event: None, "key")
    assert phase.start_message().info.total_experiences == told


# --- what others say of it -----------------------------------------------------------------------


def test_evaluations_name_the_trials_that_were_stopped(pruned: Path) -> None:
    failed = [SeedResult(seed=0, status="failed")]
    flags = following(read_certificate(pruned), code_identity(), failed, [])["flags"]
    rule = "successive-halving after experience 1"
    assert f"2 of 4 trials were stopped early ({rule})" in flags  # type: ignore[operator]


@pytest.mark.slow
def test_board_and_report_say_what_was_stopped(pruned: Path, plugin: Path, tmp_path: Path) -> None:
    folder = tmp_path / "records/study"
    shutil.copytree(pruned, folder)
    evaluate(folder, PoolSpec("inline"), plugins=(plugin,))
    assert verify(folder).problems == []
    (entry,) = read_board(tmp_path).entries
    rule = "successive-halving after experience 1"
    assert f"2 of 4 trials were stopped early ({rule})" in entry.flags
    assert entry.tuning is not None
    assert entry.tuning.certificate["early stopping"] == rule
    assert "2 pruned" in str(entry.tuning.certificate["budget"])
    (method,) = load_runs([folder])
    assert method.study is not None
    text = repr(sections(method.study))
    assert text.count("pruned after experience 1") == 2 and f"early stopping': '{rule}" in text


def test_progress_counts_runs_that_are_left_out(spec: Callable, plugin: Path, pruned: Path) -> None:
    progress, plan = TrialProgress(), read_certificate(pruned).body.plan
    progress.update({"kind": "plan", "plan": plan})
    assert progress.wanted == 16
    event = {"kind": "pruned", "key": "runs/trial-003", "trial": 3, "after": 1, "score": 0.5}
    words = "trial-003: pruned after experience 1, where its score was 50.00 %"
    assert progress.update(event) == [words]
    assert progress.wanted == 14


# --- what verification finds ---------------------------------------------------------------------


def _rewritten(folder: Path, change: Callable[[list[dict[str, Any]]], None], tell: bool) -> None:
    """Change the ledger and chain it anew, as a patient cheat would; ``tell``: the certificate."""
    entries = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    change(entries)
    if tell:
        _told_in_certificate(folder, entries)
    prev, lines = START, list[bytes]()
    for number, entry in enumerate(entries):
        made = LedgerEntry.of(number, prev, entry["kind"], entry["time"], entry["body"])
        prev = made.hash
        lines.append(json.dumps(vars(made), sort_keys=True, separators=(",", ":")).encode() + b"\n")
    (folder / "ledger.jsonl").write_bytes(b"".join(lines))


def _told_in_certificate(folder: Path, entries: list[dict[str, Any]]) -> None:
    path = folder / "certificate.json"
    certificate = Certificate.model_validate_json(path.read_bytes())
    stopped = {e["body"]["trial"] for e in entries if e["kind"] == "pruned"}
    told = {"status": "pruned", "score": None, "pruned_after": 1}
    trials = tuple(
        t.model_copy(update=told) if t.trial in stopped else t for t in certificate.body.trials
    )
    body = certificate.body.model_copy(update={"trials": trials})
    made = certificate.model_copy(update={"body": body, "hash": body.digest})
    path.write_text(json.dumps(made.model_dump(mode="json"), indent=1) + "\n")
    seal = entries[-1]["body"]
    seal["certificate"], seal["hash"] = sha256(path.read_bytes()), body.digest


def _wrongly_stopped(entries: list[dict[str, Any]]) -> None:
    """The best trial is said to have been stopped, and its whole runs are taken out."""
    whole = [e for e in entries if e["kind"] == "run" and "experience" not in e["body"]["key"]]
    best = max(whole, key=lambda e: e["body"]["last_accuracy"])["body"]["trial"]
    key = f"runs/trial-{best:03}"
    entries[:] = [
        e
        for e in entries
        if not (e["kind"] in ("run", "trial") and e["body"]["key"].startswith(key))
    ]
    entries.insert(-1, {"kind": "pruned", "time": entries[-1]["time"], "body": {}})
    entries[-2]["body"] = {"key": key, "trial": best, "after": 1, "score": 0.1}


def _not_stopped(entries: list[dict[str, Any]]) -> None:
    entries.remove(next(e for e in entries if e["kind"] == "pruned"))


def _lower_score(entries: list[dict[str, Any]]) -> None:
    next(e for e in entries if e["kind"] == "pruned")["body"]["score"] = 0.01


def _carried_on(entries: list[dict[str, Any]]) -> None:
    """A whole run of a trial that the rule stops."""
    key = next(e for e in entries if e["kind"] == "pruned")["body"]["key"]
    run = next(e for e in entries if e["kind"] == "run" and "experience" not in e["body"]["key"])
    entries.insert(-1, {**run, "body": {**run["body"], "key": f"{key}/seed-0"}})


@pytest.mark.parametrize(
    ("change", "tell", "words"),
    [
        (_wrongly_stopped, True, "expected every run of the study in the ledger"),
        (_not_stopped, False, "pruned are not those that the rule stops"),
        (_lower_score, False, "pruned are not those that the rule stops"),
        (_carried_on, False, "which no trial of the plan requires"),
    ],
)
def test_a_wrong_decision_is_found(
    pruned: Path, tmp_path: Path, change: Callable, tell: bool, words: str
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(pruned, folder)
    _rewritten(folder, change, tell)
    problems = verify(folder).problems
    assert any(words in problem for problem in problems), problems


def test_a_run_that_goes_on_begins_as_it_stood_at_the_rung(pruned: Path, tmp_path: Path) -> None:
    """The scores that are compared at a rung cannot be those of another run."""
    folder = tmp_path / "study"
    shutil.copytree(pruned, folder)

    def change(entries: list[dict[str, Any]]) -> None:
        runs = {e["body"]["key"]: e["body"] for e in entries if e["kind"] == "run"}
        whole = next(key for key in runs if "experience" not in key)
        runs[whole.replace("runs/", "runs/experience-0/")]["accuracy_matrix"][0][0] += 1e-6

    _rewritten(folder, change, tell=False)
    problems = verify(folder).problems
    assert any("are not those of its run up to there" in problem for problem in problems), problems


# --- plans without a pruner ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "folder", sorted(RECORDS.glob("*/ledger.jsonl"))[:3], ids=lambda p: p.parent.name
)
def test_kept_studies_hash_as_ever(folder: Path) -> None:
    first = json.loads(folder.read_text().splitlines()[0])["body"]
    assert StudyPlan.model_validate(first["plan"]).digest == first["plan_hash"]
    certificate = read_certificate(folder.parent)
    assert certificate.body.digest == certificate.hash
