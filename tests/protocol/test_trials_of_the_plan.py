"""The ledger's trials are those that the plan determines, in the order in which they start."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clgym.engines.pool import PoolSpec
from clgym.files import canonical_json
from clgym.protocol import jobs
from clgym.protocol.ledger import Ledger
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.study import tune
from clgym.protocol.verify import verify
from clgym.results.stored import open_run
from factories import copy_plugin
from forged import Lines, chain, lines_of

FIRST, SECOND = "trial-000", "trial-001"


def of_tuning(study: Path) -> Lines:
    """The ledger's lines before the seal; the study is taken back to where they end."""
    lines = lines_of(study)
    shutil.rmtree(study / "evaluations")
    (study / "certificate.json").unlink()
    return [line for line in lines if line["kind"] in ("plan", "session", "trial", "run")]


def exchange(study: Path, lines: Lines, kinds: tuple[str, ...]) -> None:
    """Exchange the folders of the first two trials, and their names in lines of these kinds."""
    names = {FIRST: SECOND, SECOND: FIRST}
    for line in lines:
        body = line["body"]
        if line["kind"] in kinds and body["trial"] in (0, 1):
            old = f"trial-{body['trial']:03}"
            body |= {"trial": 1 - body["trial"], "key": body["key"].replace(old, names[old])}
    runs = study / "runs"
    (runs / FIRST).rename(runs / "other")
    (runs / SECOND).rename(runs / FIRST)
    (runs / "other").rename(runs / SECOND)


def sealed_again(study: Path, lines: Lines, plugin: Path, asked: Callable) -> list[str]:
    """Problems of a study whose ledger was rewritten and which was sealed afterwards."""
    chain(study, lines)
    tune(asked(), ExecutionOptions(study, PoolSpec("inline"), plugins=(plugin,)))
    return verify(study).problems


def test_exchanged_trials_are_found(copy: Callable, plugin: Path, asked: Callable) -> None:
    """Another setting is chosen than the one with that score, and all hashes agree."""
    study = copy()
    lines = of_tuning(study)
    exchange(study, lines, ("trial", "run"))
    problems = sealed_again(study, lines, plugin, asked)
    assert "trials: runs/trial-001 is not the 1. trial that the plan starts" in problems


def test_exchanged_trials_below_lines_of_the_plan_are_found(
    copy: Callable, plugin: Path, asked: Callable
) -> None:
    """The lines of the trials stay as they were; the records are of the other trial's options."""
    study = copy()
    lines = of_tuning(study)
    exchange(study, lines, ("run",))
    problems = sealed_again(study, lines, plugin, asked)
    assert any(
        p.endswith("seed-0: result.strategy.config.power is not the plan's") for p in problems
    )
    assert not any(p.startswith("trials:") for p in problems)


def test_trials_without_lines_are_found(copy: Callable, plugin: Path, asked: Callable) -> None:
    study = copy()
    lines = [line for line in of_tuning(study) if line["kind"] != "trial"]
    problems = sealed_again(study, lines, plugin, asked)
    assert "trials: the ledger has runs of runs/trial-002, and no line of its start" in problems


def test_a_run_of_another_seed_is_found(copy: Callable, plugin: Path, asked: Callable) -> None:
    """Two seeds of one trial are exchanged, whose lines say so truly under each other's name."""
    study = copy()
    lines = of_tuning(study)
    own = study / "runs/trial-000"
    (own / "seed-0").rename(own / "other")
    (own / "seed-1").rename(own / "seed-0")
    (own / "other").rename(own / "seed-1")
    for line in lines:
        if line["kind"] == "run" and line["body"]["trial"] == 0:
            line["body"]["seed"] = 1 - line["body"]["seed"]
            summary = jobs.run_summary(open_run(study / line["body"]["key"]))
            line["body"] |= json.loads(canonical_json(summary))
    problems = sealed_again(study, lines, plugin, asked)
    assert "trials: runs/trial-000/seed-0: trial or seed is not that of its name" in problems
    assert "runs/trial-000/seed-0: result.seed is not the plan's" in problems


MODES: list[dict[str, Any]] = [
    {"cap_images": 1500},
    {"mode": "oracle", "cap_images": 1500, "trials": 4},
]
SLOWER: list[dict[str, Any]] = [
    {"mode": "oracle"},
    {"mode": "first_task"},
    {"mode": "first_task", "cap_images": 700, "trials": 4},
    {"mode": "current_task"},
    {"sampler": "tpe", "generation": 1},
]


@pytest.mark.parametrize(
    "changed",
    [*MODES, *(pytest.param(changed, marks=pytest.mark.slow) for changed in SLOWER)],
    ids=lambda c: "-".join(map(str, c.values())),
)
def test_every_mode_starts_the_trials_that_verification_derives(
    tmp_path: Path, plugin: Path, asked: Callable, changed: dict[str, Any]
) -> None:
    if changed.get("sampler"):
        pytest.importorskip("optuna")
    study = tmp_path / "study"
    tune(asked(**changed), ExecutionOptions(study, PoolSpec("inline"), plugins=(plugin,)))
    assert verify(study).problems == []
    lines = [vars(entry) for entry in Ledger(study).entries]
    trial = next(line for line in lines if line["kind"] == "trial")
    trial["body"]["config"]["power"] = 3.5
    chain(study, lines)
    assert any("is not the 1. trial that the plan starts" in p for p in verify(study).problems)


def test_options_of_another_stream_are_derived_where_trials_share_a_name(
    tmp_path: Path, asked: Callable
) -> None:
    """In `stability_decay` the seeds may learn at different rates, under one trial's name."""
    plugin = copy_plugin("rated", tmp_path)
    study, space = tmp_path / "study", tmp_path / "space.json"
    space.write_text('{"lr": [0.0, 1.0]}')
    spec = replace(asked(mode="stability_decay", space=str(space)), strategy="rated")
    body = tune(spec, ExecutionOptions(study, PoolSpec("inline"), plugins=(plugin,))).body
    assert len({choice.configs[0]["lr"] for choice in body.chosen}) == 2, "the seeds must differ"
    assert verify(study).problems == []


@pytest.mark.slow
def test_several_workers_and_sessions_start_trials_in_one_order(
    tmp_path: Path, plugin: Path, asked: Callable
) -> None:
    study = tmp_path / "study"
    where = ExecutionOptions(study, PoolSpec("process", 4), plugins=(plugin,))
    tune(asked(), where)
    assert verify(study).problems == []
    lines = [vars(entry) for entry in Ledger(study).entries]
    started = [place for place, line in enumerate(lines) if line["kind"] == "trial"]
    chain(study, lines[: started[1] + 1])  # as if it had been killed there
    (study / "certificate.json").unlink()
    assert verify(study).problems == []
    tune(asked(), where)
    assert verify(study).problems == []
