"""Failed runs tried again by choice; what must be refused before a ledger begins; plugins found."""

import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from clgym.engines.pool import PoolSpec
from clgym.errors import BadPlan, MissingExtra, Tampered, WrongPhase
from clgym.files import sha256
from clgym.protocol.evaluation import evaluate
from clgym.protocol.ledger import Ledger, read_ledger
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.study import StudySpec, read_certificate, tune
from clgym.protocol.verify import verify
from factories import copy_plugin

Ask = Callable[..., StudySpec]


@pytest.fixture
def broken(tmp_path: Path) -> Callable[..., Path]:
    """A plugin that raises at some powers while a file exists, which is there at first."""
    flag = tmp_path / "broken"
    flag.touch()

    def make(*powers: float) -> Path:
        return copy_plugin("power", tmp_path, FULL_DISK=flag, FULL_DISK_AT=powers)

    return make


def here(out: Path, file: Path) -> ExecutionOptions:
    """Not inline: this process would keep the plugin, and sources closed."""
    return ExecutionOptions(out, PoolSpec(), plugins=(file,))


def _all_fail(out: Path, file: Path, asked: StudySpec) -> None:
    with pytest.raises(BadPlan, match="trials that failed"):
        tune(asked, here(out, file))


@pytest.mark.slow
def test_failed_runs_are_tried_again_by_choice_alone(
    tmp_path: Path, broken: Callable, asked: Ask
) -> None:
    file, out = broken(0.5, 1.0, 2.0, 4.0), tmp_path / "study"
    _all_fail(out, file, asked())
    (tmp_path / "broken").unlink()
    _all_fail(out, file, asked())  # not by itself
    certificate = tune(asked(), here(out, file), retry_failed=True)
    assert [trial.status for trial in certificate.body.trials] == ["done"] * 3
    assert certificate.body.budget["retried"] == 6 == certificate.envelope.retries
    kinds = [entry.kind for entry in read_ledger(out / "ledger.jsonl")]
    assert kinds.count("retry-failed") == 6 and kinds.count("run") == 12
    assert verify(out).problems == []

    whole = tune(asked(), here(tmp_path / "whole", file)).body
    assert certificate.body.trials == whole.trials and "retried" not in whole.budget
    assert "6 failed tuning runs were retried" in evaluate(out).flags
    assert verify(out).problems == []


@pytest.mark.slow
def test_a_device_without_memory_is_a_failed_trial(tmp_path: Path, asked: Ask) -> None:
    """torch's error is no MemoryError; the other trials go on, on devices that are shared."""
    file, out = copy_plugin("power", tmp_path, OUT_OF_MEMORY_AT=(1.0, 2.0)), tmp_path / "study"
    pool = PoolSpec(workers=2)
    body = tune(asked(seeds=(0,)), ExecutionOptions(out, pool, plugins=(file,))).body
    powers = [trial.config["power"] for trial in body.trials]
    expected = ["failed" if power in (1.0, 2.0) else "done" for power in powers]
    assert [trial.status for trial in body.trials] == expected
    assert {"failed", "done"} <= set(expected)
    failed = [e.body for e in read_ledger(out / "ledger.jsonl") if e.body.get("status") == "failed"]
    assert all(run["error"] == "OutOfMemory" for run in failed)
    assert all("OutOfMemoryError: CUDA out of memory" in str(run["reason"]) for run in failed)


def test_a_forged_retry_is_found(tmp_path: Path, broken: Callable, asked: Ask) -> None:
    file, out = broken(0.5, 1.0, 2.0, 4.0), tmp_path / "study"
    _all_fail(out, file, asked(trials=1, seeds=(0,)))
    ledger = Ledger(out)
    key = ledger.of("run")[0].body["key"]
    ledger.append("run", **{**ledger.of("run")[0].body, "status": "done"})
    assert any("counts run" in problem for problem in verify(out).problems)
    ledger.append("retry-failed", key=key, error="StrategyFailed")
    ledger.append("retry-failed", key=key, error="StrategyFailed")
    assert any("had not failed" in problem for problem in verify(out).problems)


@pytest.mark.slow
def test_a_sealed_study_takes_no_retry(tmp_path: Path, broken: Callable, asked: Ask) -> None:
    out = tmp_path / "study"
    first = tune(asked(), here(tmp_path / "first", broken())).body.trials[0].config["power"]
    file = broken(first)
    tune(asked(), here(out, file))
    before = (out / "ledger.jsonl").read_bytes()
    with pytest.raises(WrongPhase, match="a sealed study with"):
        tune(asked(), here(out, file), retry_failed=True)
    assert (out / "ledger.jsonl").read_bytes() == before


@pytest.mark.slow
def test_no_retry_where_later_trials_followed_from_the_failed(
    tmp_path: Path, broken: Callable, asked: Ask
) -> None:
    file, out = broken(0.5, 1.0, 2.0, 4.0), tmp_path / "study"
    study = asked(mode="current_task")
    _all_fail(out, file, study)
    with pytest.raises(BadPlan, match="no trial depends on the score of another"):
        tune(study, here(out, file), retry_failed=True)


# --- before the ledger ---------------------------------------------------------------------------


def _submitit(monkeypatch: pytest.MonkeyPatch) -> None:
    """submitit as it behaves where there is no SLURM."""

    class AutoExecutor:
        def __init__(self, folder: str, cluster: str) -> None:
            raise RuntimeError('Could not detect "srun", are you indeed on a slurm cluster?')

    fake = types.ModuleType("submitit")
    fake.AutoExecutor = AutoExecutor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "submitit", fake)
    monkeypatch.delitem(sys.modules, "clgym.engines.slurm_pool", raising=False)


def test_slurm_off_a_cluster_leaves_no_ledger(
    tmp_path: Path, plugin: Path, asked: Ask, copy: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    _submitit(monkeypatch)
    slurm = PoolSpec("slurm")
    with pytest.raises(BadPlan, match="detect .srun.*a machine of the cluster"):
        tune(asked(), ExecutionOptions(tmp_path / "study", slurm, plugins=(plugin,)))
    assert not (tmp_path / "study").exists()
    folder = copy()
    before = (folder / "ledger.jsonl").read_bytes()
    with pytest.raises(BadPlan, match="srun"):
        evaluate(folder, slurm, plugins=(plugin,), again=True)
    assert (folder / "ledger.jsonl").read_bytes() == before
    assert not (folder / "evaluations/2").exists()


def test_an_engine_that_is_not_installed_leaves_no_ledger(
    tmp_path: Path, plugin: Path, asked: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.delitem(sys.modules, "clgym.engines.slurm_pool", raising=False)
    with pytest.raises(MissingExtra, match="slurm"):
        tune(asked(), ExecutionOptions(tmp_path / "study", PoolSpec("slurm"), plugins=(plugin,)))
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("changed", "words"),
    [({"sampler": "grid", "trials": 50}, "at most 12 trials"), ({"mode": "stability_decay"}, "lr")],
)
def test_a_study_that_cannot_begin_leaves_no_ledger(
    tmp_path: Path, plugin: Path, asked: Ask, changed: dict, words: str
) -> None:
    with pytest.raises(BadPlan, match=words):
        tune(asked(**changed), here(tmp_path / "study", plugin))
    assert not (tmp_path / "study").exists()


# --- the plugin of a study -----------------------------------------------------------------------


@pytest.mark.slow
def test_an_evaluation_finds_the_plugin_by_path_and_hash(
    tmp_path: Path, plugin: Path, asked: Ask
) -> None:
    home = tmp_path / "work"
    (home / "methods").mkdir(parents=True)
    file = Path(shutil.copy(plugin, home / "methods/power.py"))
    out = home / "studies/one"
    certificate = tune(asked(trials=1, seeds=(0,)), here(out, file))
    listed = Ledger(out).of("session")[0].body["plugins"]
    digest = sha256(file.read_bytes())
    assert listed == [{"path": "../../methods/power.py", "class": "", "sha256": digest}]

    moved = home.rename(tmp_path / "elsewhere")  # together: the path is from the study's folder
    out = moved / "studies/one"
    assert evaluate(out).certificate == certificate.hash

    file = moved / "methods/power.py"
    file.write_text(file.read_text() + "# changed\n")
    with pytest.raises(Tampered, match="different content.*--plugin"):
        evaluate(out, again=True)
    file.unlink()
    with pytest.raises(Tampered, match="no such file"):
        evaluate(out, again=True)
    evaluate(out, plugins=(plugin,), again=True)
    assert read_certificate(out).hash == certificate.hash


@pytest.mark.slow
def test_a_class_of_a_file_is_found_again(tmp_path: Path, asked: Ask) -> None:
    file = copy_plugin("several", tmp_path)
    out = tmp_path / "study"
    tune(asked(trials=1, seeds=(0,)), here(out, Path(f"{file}:Power")))
    assert evaluate(out).strategy == "power"
