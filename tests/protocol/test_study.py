"""Studies: budget, modes, one outcome whatever the workers do, states that go forward only."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clgym.engines.inline import InlinePool
from clgym.engines.pool import Done, PoolSpec
from clgym.errors import BadPlan, GymFailed, JobLost, Tampered, WorkerDied, WrongPhase
from clgym.files import canonical_json, sha256
from clgym.gym.request import Request
from clgym.protocol import jobs
from clgym.protocol.evaluation import evaluate
from clgym.protocol.ledger import Ledger, read_ledger
from clgym.protocol.outcome import interruptions
from clgym.protocol.pairs import find_pair
from clgym.protocol.plan import Certificate
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.study import StudySpec, read_certificate, tune
from clgym.protocol.verify import verify
from clgym.results.stored import open_run

Ask = Callable[..., StudySpec]


def where(out: Path, plugin: Path, workers: int = 1, engine: str = "process") -> ExecutionOptions:
    return ExecutionOptions(out, PoolSpec(engine, workers), plugins=(plugin,))  # type: ignore[arg-type]


def here(out: Path, plugin: Path) -> ExecutionOptions:
    """In this process: quicker where workers do not matter."""
    return where(out, plugin, engine="inline")


def test_scores_and_choice_are_those_of_the_records(finished: Path) -> None:
    body = read_certificate(finished).body
    means = []
    for trial in body.trials:
        runs = [
            open_run(finished / f"runs/trial-{trial.trial:03}/seed-{seed}").result
            for seed in body.plan.seeds
        ]
        pairs = [(r.last_accuracy + (r.average_incremental_accuracy or 0)) / 2 for r in runs]
        means.append(np.mean(pairs))
        assert trial.score == pytest.approx(means[-1])
        assert all(r.scored_on == "valid" and r.seed == r.order_seed for r in runs)
        assert all(r.strategy.config["power"] == trial.config["power"] for r in runs)
    (choice,) = body.chosen
    assert choice.trials == (int(np.argmax(means)),)
    assert body.budget["started"] == body.budget["finished"] == 3 and body.budget["runs"] == 6


def test_the_evaluation_applies_what_was_chosen_on_the_other_side(finished: Path) -> None:
    certificate = read_certificate(finished)
    plan, (choice,) = certificate.body.plan, certificate.body.chosen
    text = json.loads((finished / "evaluations/1/evaluation.json").read_text())
    assert [s["seed"] for s in text["seeds"]] == list(plan.evaluation_seeds)
    assert not set(plan.evaluation_seeds) & set(plan.seeds)
    finals = []
    for seed in plan.evaluation_seeds:
        result = open_run(finished / f"evaluations/1/seed-{seed}").result
        assert sorted(result.class_order) == [f"digits/{n}" for n in range(5, 10)]
        wanted = np.random.RandomState(seed).permutation(5) + 5
        assert result.class_order == [f"digits/{n}" for n in wanted]
        assert {k: result.strategy.config[k] for k in choice.configs[0]} == choice.configs[0]
        assert result.scored_on == "test" and result.scenario.config["validation"] == 0
        finals.append(result.last_accuracy)
    assert text["summary"]["last_accuracy"]["mean"] == pytest.approx(np.mean(finals))
    assert text["summary"]["last_accuracy"]["std"] == pytest.approx(np.std(finals, ddof=1))
    assert text["mode"] == "transfer" and text["evaluation_number"] == 1


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_workers_change_nothing(
    finished: Path, tmp_path: Path, plugin: Path, asked: Ask, workers: int
) -> None:
    certificate = tune(asked(), where(tmp_path / "study", plugin, workers))
    ledger = read_ledger(tmp_path / "study/ledger.jsonl")
    assert [line.body["reason"] for line in ledger if "reason" in line.body] == []
    assert certificate.body == read_certificate(finished).body
    assert certificate.hash == read_certificate(finished).hash


def test_inline_gives_the_same_body(
    finished: Path, tmp_path: Path, plugin: Path, asked: Ask
) -> None:
    certificate = tune(asked(), where(tmp_path / "study", plugin, engine="inline"))
    assert certificate.hash == read_certificate(finished).hash


def test_a_finished_study_is_not_run_again(copy: Callable, plugin: Path, asked: Ask) -> None:
    folder = copy()
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.json*")}
    assert tune(asked(), where(folder, plugin)).hash == read_certificate(folder).hash
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.json*")} == before


def test_an_error_of_the_gym_is_no_failed_trial(
    finished: Path,
    tmp_path: Path,
    plugin: Path,
    asked: Ask,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The second run meets a fault that no strategy is to blame for; the study goes on later."""
    whole, runs = jobs.run, []

    def fails_once(request: Request, emit: Any) -> Any:
        runs.append(request)
        if len(runs) == 2:
            raise FileNotFoundError("a folder that another process deleted")
        return whole(request, emit)

    monkeypatch.setattr(jobs, "run", fails_once)
    with pytest.raises(GymFailed, match="FileNotFoundError: a folder that another"):
        tune(asked(), here(tmp_path / "study", plugin))
    assert "Traceback" in capsys.readouterr().err
    certificate = tune(asked(), here(tmp_path / "study", plugin))
    assert certificate.hash == read_certificate(finished).hash
    assert certificate.envelope.retries == 0
    lines = read_ledger(tmp_path / "study/ledger.jsonl")
    assert [e.body["error"] for e in lines if e.kind == "interrupted"] == ["GymFailed"]
    assert verify(tmp_path / "study").problems == []
    assert interruptions(lines, 1) == ["GymFailed"]


@pytest.mark.slow
def test_a_killed_learner_is_tried_once_more(
    finished: Path, tmp_path: Path, plugin: Path, asked: Ask
) -> None:
    """The learners of all six runs, each of them once."""
    flag = plugin.with_name("dies")
    flag.touch()
    try:
        certificate = tune(asked(), where(tmp_path / "study", plugin, 2))
    finally:
        flag.unlink()
    assert certificate.hash == read_certificate(finished).hash
    assert certificate.envelope.retries == 6
    flags = evaluate(tmp_path / "study", PoolSpec("inline"), plugins=(plugin,)).flags
    assert "6 runs were ended without a result and begun again: WorkerDied" in flags
    assert verify(tmp_path / "study").problems == []


def test_a_lost_job_takes_no_attempt_from_the_strategy(
    tmp_path: Path, finished: Path, plugin: Path, asked: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the job's process is killed, then the learner: the run is begun a third time."""
    lost = JobLost(expected="a job", found="SIGKILL", fix="Nothing")
    died = WorkerDied(expected="a learner", found="SIGKILL", fix="Nothing")
    errors, wait = [lost, died], InlinePool.wait

    def fails_twice(pool: InlinePool, seconds: float) -> list[Done]:
        done = wait(pool, seconds)
        return [Done(one.key, None, errors.pop(0)) if errors else one for one in done]

    monkeypatch.setattr(InlinePool, "wait", fails_twice)
    certificate = tune(asked(), here(tmp_path / "study", plugin))
    assert errors == [] and certificate.hash == read_certificate(finished).hash
    retries = [e.body for e in read_ledger(tmp_path / "study/ledger.jsonl") if e.kind == "retry"]
    assert [retry["error"] for retry in retries] == ["JobLost", "WorkerDied"]


def test_a_failed_trial_uses_budget_and_is_never_chosen(
    finished: Path, tmp_path: Path, plugin: Path, asked: Ask
) -> None:
    out = tmp_path / "study"
    fails = read_certificate(finished).body.chosen[0].configs[0]["power"]
    certificate = tune(asked(config={"fails": fails}), here(out, plugin))
    body = certificate.body
    failed = [trial for trial in body.trials if trial.config["power"] == fails]
    assert failed and all(t.status == "failed" and t.score is None for t in failed)
    assert {run.error for t in failed for run in t.runs} == {"StrategyFailed"}
    assert body.budget["failed"] == len(failed)
    assert body.budget["started"] == body.budget["finished"] + body.budget["failed"] == 3
    assert body.chosen[0].configs[0]["power"] != fails
    reasons = [e.body["reason"] for e in read_ledger(out / "ledger.jsonl") if "reason" in e.body]
    assert all("this setting fails" in reason for reason in reasons)
    assert verify(out).problems == []


def test_a_study_whose_trials_all_failed_is_refused(
    tmp_path: Path, plugin: Path, asked: Ask
) -> None:
    space = tmp_path / "space.json"
    space.write_text('{"power": [2.0], "batch_size": [64, 128]}')
    with pytest.raises(BadPlan, match="2 trials that failed"):
        tune(
            asked(config={"fails": 2.0}, space=str(space), trials=2),
            here(tmp_path / "study", plugin),
        )


@pytest.mark.slow
def test_the_cap_counts_in_trial_order(tmp_path: Path, plugin: Path, asked: Ask) -> None:
    """A trial's runs see 645 rows each; after two trials the cap of 2,000 is used up."""
    bodies = [
        tune(asked(cap_images=2000), where(tmp_path / str(n), plugin, n)).body for n in (1, 4)
    ]
    assert bodies[0] == bodies[1]
    assert [trial.status for trial in bodies[0].trials] == ["done", "done", "over-cap"]
    assert bodies[0].budget["started"] == 2 and bodies[0].budget["images"] >= 2000


def test_a_changed_plan_is_another_study(copy: Callable, plugin: Path, asked: Ask) -> None:
    folder = copy()
    before = (folder / "ledger.jsonl").read_bytes()
    space = folder / "space.json"
    space.write_text('{"power": [1.0, 3.0]}')
    for changed in ({"trials": 4}, {"seeds": (0, 2)}, {"criterion": "acc"}, {"space": str(space)}):
        with pytest.raises(BadPlan, match=next(iter(changed))):
            tune(asked(**changed), where(folder, plugin))
    assert (folder / "ledger.jsonl").read_bytes() == before


def test_states_go_forward_only(copy: Callable, tmp_path: Path, plugin: Path, asked: Ask) -> None:
    with pytest.raises(WrongPhase, match="no ledger"):
        evaluate(tmp_path)
    folder = copy()
    lines = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    sealed = next(i for i, line in enumerate(lines) if b'"kind":"sealed"' in line)
    unsealed = copy()
    (unsealed / "ledger.jsonl").write_bytes(b"".join(lines[:sealed]))
    with pytest.raises(WrongPhase, match="still tuning"):
        evaluate(unsealed)
    with pytest.raises(WrongPhase, match="1 complete evaluation"):
        evaluate(folder, plugins=(plugin,))
    assert evaluate(folder, plugins=(plugin,), again=True).evaluation_number == 2
    assert verify(folder).problems == []
    ledger = Ledger(folder)
    ledger.append("trial", key="runs/trial-009", trial=9, config={})
    assert any("after the seal" in problem for problem in verify(folder).problems)


def test_an_interrupted_evaluation_is_continued_and_counted_once(
    copy: Callable, plugin: Path
) -> None:
    folder = copy()
    lines = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    opened = next(i for i, line in enumerate(lines) if b'"kind":"opened"' in line)
    (folder / "ledger.jsonl").write_bytes(b"".join(lines[: opened + 1]))
    before = json.loads((folder / "evaluations/1/evaluation.json").read_text())
    after = evaluate(folder, plugins=(plugin,))
    assert after.evaluation_number == 1
    assert [s.result for s in after.seeds] == [s["result"] for s in before["seeds"]]


def test_another_method_file_is_refused(copy: Callable, plugin: Path, tmp_path: Path) -> None:
    other = tmp_path / "power.py"
    other.write_text(plugin.read_text() + "\n# looked at the result\n")
    with pytest.raises(Tampered, match="file of power"):
        evaluate(copy(), plugins=(other,), again=True)


def test_evaluation_takes_no_options_of_the_strategy() -> None:
    import inspect

    from clgym.cli import main

    names = set(inspect.signature(evaluate).parameters)
    assert names == {"folder", "pool", "data_root", "plugins", "sandbox", "again", "on_event"}
    assert main(["evaluate", ".", "--lr", "0.1"]) == 2
    assert main(["evaluate", ".", "--seeds", "0..1"]) == 2


def test_a_side_of_a_pair_is_described_in_words() -> None:
    from clgym.protocol.pairs import find_pair

    pair = find_pair("digits-t2")
    assert pair.tuning.words == "digits, classes 0 to 4"
    assert pair.evaluation.words == "digits, classes 5 to 9"


# --- modes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["oracle", "first_task", "first_k", "current_task", "default"])
def test_selection_modes_tune_on_their_side_of_the_pair(
    tmp_path: Path, plugin: Path, asked: Ask, mode: str
) -> None:
    out, seeds, trials = tmp_path / "study", (0, 1), 2
    certificate = tune(asked(mode=mode, k=1, trials=trials), here(out, plugin))
    body = certificate.body
    assert body.plan.tunes_on_evaluation == (mode != "default")
    evaluation = evaluate(out, PoolSpec("inline"), plugins=(plugin,))
    assert evaluation.mode == mode
    assert any("tuned on the evaluation source" in f for f in evaluation.flags) == (
        mode != "default"
    )
    if mode == "default":
        assert body.trials == () and body.chosen[0].configs == ({},)
        assert [s.status for s in evaluation.seeds] == ["done", "done"]
        return
    assert [choice.seed for choice in body.chosen] == [0, 1] and body.plan.evaluation_seeds == seeds
    records = [open_run(path.parent).result for path in (out / "runs").rglob("record.json")]
    assert all(record.scored_on == "valid" for record in records)
    shown = {len(record.accuracy_matrix) for record in records}
    assert shown == {"oracle": {2}, "first_task": {1}, "first_k": {1}, "current_task": {1, 2}}[mode]
    if mode == "current_task":
        assert all(len(choice.configs) == 2 for choice in body.chosen)
        assert len(body.trials) == 2 * trials * len(seeds)
    assert verify(out).problems == []


def test_first_k_never_evaluates_on_its_experiences(
    tmp_path: Path, plugin: Path, asked: Ask
) -> None:
    out = tmp_path / "study"
    tune(asked(mode="first_k", k=1, trials=1), here(out, plugin))
    evaluation = evaluate(out, PoolSpec("inline"), plugins=(plugin,))
    for seed in evaluation.seeds:
        looked_at = open_run(out / f"runs/stream-{seed.seed}/trial-000/seed-{seed.seed}").result
        scored = open_run(out / f"evaluations/1/{seed.record}").result
        assert len(looked_at.class_order) == 3 and len(scored.class_order) == 2
        assert not set(looked_at.class_order) & set(scored.class_order)


def test_stability_decay_takes_the_first_that_learns(
    tmp_path: Path, plugin: Path, asked: Ask
) -> None:
    space = tmp_path / "space.json"
    space.write_text('{"lr": [0.1, 0.2]}')
    certificate = tune(
        asked(mode="stability_decay", space=str(space), seeds=(0,)),
        here(tmp_path / "study", plugin),
    )
    for t in range(2):
        own = [trial for trial in certificate.body.trials if trial.experience == t]
        plain, attempts = own[:2], own[2:]
        assert [trial.config["power"] for trial in plain] == [0.0, 0.0]
        powers = [trial.config["power"] for trial in attempts]
        assert powers == [4.0 * 0.5**i for i in range(len(powers))]
        wanted = 0.8 * max(trial.score or 0 for trial in plain)
        assert (attempts[-1].score or 0) >= wanted
        assert all((trial.score or 0) < wanted for trial in attempts[:-1])


# --- kills ---------------------------------------------------------------------------------------

COMMAND = "import sys; from clgym.cli import main; sys.exit(main(sys.argv[1:]))"


def tuning(out: Path, plugin: Path, workers: int = 2) -> list[str]:
    words = ["tune", "power", "digits-t2", "--trials", "3", "--seeds", "0..1", "--out", str(out)]
    words += ["--workers", str(workers), "--plugin", str(plugin), "--json"]
    return [sys.executable, "-c", COMMAND, *words]


def children(pid: int) -> list[int]:
    task = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in task.read_text().split()] if task.exists() else []


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_kills_change_nothing(tmp_path: Path, plugin: Path, seed: int) -> None:
    """Kill a worker, then the coordinator, at random moments; go on; compare."""
    if not Path("/proc/self/task").exists():
        pytest.skip("needs /proc to find workers")
    generator = random.Random(seed)
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = time.monotonic()
    subprocess.run(tuning(tmp_path / "whole", plugin), check=True, **quiet)
    took = time.monotonic() - started
    out = tmp_path / "cut"
    process = subprocess.Popen(tuning(out, plugin), **quiet)
    for victim in ("worker", "coordinator"):
        end = time.monotonic() + generator.uniform(0.2, 0.6) * took
        while time.monotonic() < end and process.poll() is None:
            time.sleep(0.02)
        workers = children(process.pid)
        if victim == "coordinator":
            process.kill()
            process.wait()
        elif workers:
            os.kill(generator.choice(workers), signal.SIGKILL)
    subprocess.run(tuning(out, plugin), check=True, **quiet)
    whole, cut = read_certificate(tmp_path / "whole"), read_certificate(out)
    assert cut.body == whole.body
    keys = [e.body["key"] for e in read_ledger(out / "ledger.jsonl") if e.kind == "run"]
    assert sorted(keys) == sorted(set(keys)) and len(keys) == 6
    assert verify(out).problems == []


# --- what lies in the files ----------------------------------------------------------------------


def test_files_of_a_study_contain_no_paths_or_host_names(finished: Path, plugin: Path) -> None:
    import getpass
    import socket

    secrets = [str(finished), str(plugin.parent), str(Path.home()), socket.gethostname()]
    secrets += [getpass.getuser() + "@", os.environ.get("CLGYM_CACHE", "no cache")]
    files = [p for p in finished.rglob("*") if p.suffix in (".json", ".jsonl")]
    assert len(files) > 10
    for path in files:
        text = path.read_text()
        assert not [secret for secret in secrets if len(secret) > 3 and secret in text], path


def test_hashes_are_what_their_descriptions_say(finished: Path) -> None:
    """By canonical JSON and SHA-256 alone."""
    text = json.loads((finished / "certificate.json").read_text())
    assert sha256(canonical_json(text["body"])) == text["hash"]
    assert sha256(canonical_json(text["body"]["plan"])) == text["body"]["plan_hash"]
    entries = read_ledger(finished / "ledger.jsonl")
    seal = next(entry for entry in entries if entry.kind == "sealed")
    assert seal.body["certificate"] == sha256((finished / "certificate.json").read_bytes())
    assert entries[0].kind == "plan" and entries[0].body["plan_hash"] == text["body"]["plan_hash"]
    assert Certificate.model_validate(text).envelope.ledger_head == entries[seal.seq - 1].hash
    for entry in entries:
        if entry.kind == "run":
            record = finished / entry.body["key"] / "record.json"
            assert entry.body["record"] == sha256(record.read_bytes())


def test_a_refused_study_leaves_nothing(tmp_path: Path, plugin: Path, asked: Ask) -> None:
    with pytest.raises(BadPlan):
        tune(asked(mode="luck"), ExecutionOptions(tmp_path / "study", plugins=(plugin,)))
    assert not (tmp_path / "study").exists()


def test_two_phase_streams_cannot_form_a_pair(tmp_path: Path, plugin: Path) -> None:
    pair = find_pair("both", "digits[0-3]", "digits[4-7]", "learn-then-shift")
    study = StudySpec("power", pair, mode="default")
    with pytest.raises(BadPlan, match="for which there is no criterion"):
        tune(study, ExecutionOptions(tmp_path / "study", plugins=(plugin,)))


@pytest.mark.slow
def test_weights_from_a_file_go_by_their_hash(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    file = tmp_path / "weights.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), file)
    config = {"backbone": f"test_resnet@{file}", "image_size": 32}
    study = StudySpec("nmc", find_pair("digits-t2"), config, mode="default", seeds=(0,))
    folder = tmp_path / "study"
    certificate = tune(study, ExecutionOptions(folder))
    assert str(certificate.body.plan.base["backbone"]).startswith("test_resnet@sha256:")
    evaluate(folder)
    assert verify(folder).problems == []
    assert str(tmp_path) not in (folder / "ledger.jsonl").read_text()


@pytest.mark.parametrize(
    ("space", "config"),
    [
        ({"later_peak": [0.5, 1.0]}, {"kind": "cosine"}),
        ({"kind": ["cosine", "rewarmed-cosine"]}, {"later_peak": 0.5}),
    ],
)
def test_a_space_whose_values_have_no_effect_is_refused(
    tmp_path: Path, space: dict[str, Any], config: dict[str, Any]
) -> None:
    file, out = tmp_path / "space.json", tmp_path / "study"
    file.write_text(json.dumps(space))
    asked = StudySpec("lr-schedule", find_pair("digits-t2"), config, str(file), seeds=(0,))
    with pytest.raises(BadPlan, match="later_peak only with --kind rewarmed-cosine") as raised:
        tune(asked, ExecutionOptions(out, PoolSpec()))
    assert raised.value.found == "a study with kind cosine" and not out.exists()
