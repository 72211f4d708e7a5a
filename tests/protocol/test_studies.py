"""Several studies instead of a lucky one: the median is the result."""

import json
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from clgym.cli import main
from clgym.engines.pool import PoolSpec
from clgym.errors import BadPlan, WrongPhase
from clgym.protocol.evaluation import evaluate
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.studies import evaluate_studies, spread_of, studies_in, tune_studies
from clgym.protocol.study import tune
from clgym.protocol.verify import verify
from clgym.protocol.verify_studies import verify_studies

pytestmark = pytest.mark.slow


HERE = PoolSpec("inline")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, plugin: Path, asked: Callable) -> Path:
    """Three sealed studies of one trial each; not to be changed."""
    out = tmp_path_factory.mktemp("three") / "studies"
    where = ExecutionOptions(out, PoolSpec(), plugins=(plugin,))
    tune_studies(asked(trials=1, seeds=(0,)), 3, where)
    return out


@pytest.fixture
def studies(three: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(three, tmp_path / "studies"))


def test_the_median_is_the_result_and_each_study_says_so(studies: Path, plugin: Path) -> None:
    found = evaluate_studies(studies, HERE, plugins=(plugin,))
    spread = spread_of(found)["last_accuracy"]
    means = [statistics.mean(s.last_accuracy or 0 for s in e.seeds) for e in found]
    assert spread is not None
    assert spread.median == pytest.approx(statistics.median(means))
    assert (spread.lowest, spread.highest) == pytest.approx((min(means), max(means)))
    for number, (study, evaluation) in enumerate(zip(studies_in(studies), found, strict=True), 1):
        assert f"study {number} of 3: their median is the result" in evaluation.flags
        assert verify(study).problems == []
    configs = [[c["power"] for c in e.chosen[0].configs] for e in found]
    assert len(configs) == 3 and len({str(c) for c in configs}) > 1, "the draws are the same"


def test_the_luckiest_of_several_cannot_be_shown_alone(studies: Path, plugin: Path) -> None:
    """By itself it says that it is one of three; without that its certificate does not hold."""
    second = studies / "study-2"
    assert (
        "study 2 of 3: their median is the result" in evaluate(second, HERE, None, (plugin,)).flags
    )
    file = second / "certificate.json"
    content = json.loads(file.read_text())
    del content["body"]["plan"]["one_of"]
    file.write_text(json.dumps(content))
    assert verify(second).problems != []


def test_a_set_that_lacks_a_study_has_no_median(studies: Path, plugin: Path) -> None:
    shutil.rmtree(studies / "study-2")
    with pytest.raises(WrongPhase, match="2 sealed of 3"):
        evaluate_studies(studies, HERE, plugins=(plugin,))


def test_studies_made_one_by_one_are_counted(
    tmp_path: Path, plugin: Path, asked: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tuning again with other draws until one is lucky: the last says how many came before."""
    monkeypatch.setenv("CLGYM_STATE", str(tmp_path / "state"))
    found = []
    for seed in range(3):
        monkeypatch.setenv("CLGYM_WITHHELD", "[]")
        out = tmp_path / str(seed) / "study"
        where = ExecutionOptions(out, HERE, plugins=(plugin,))
        tune(asked(trials=1, seeds=(0,), sampler_seed=seed), where)
        monkeypatch.setenv("CLGYM_WITHHELD", "[]")
        found.append(evaluate(out, HERE, plugins=(plugin,)))
    assert [(e.study_number, e.evaluations_before) for e in found] == [(1, 0), (2, 1), (3, 2)]


def test_the_engine_inline_is_refused(tmp_path: Path, plugin: Path, asked: Callable) -> None:
    with pytest.raises(BadPlan, match="--engine inline"):
        tune_studies(asked(), 2, ExecutionOptions(tmp_path / "s", HERE, plugins=(plugin,)))


@pytest.mark.parametrize("changed", [{"sampler": "grid"}, {"mode": "default"}])
def test_studies_that_would_draw_the_same_are_refused(
    tmp_path: Path, plugin: Path, asked: Callable, changed: dict
) -> None:
    with pytest.raises(BadPlan, match="a sampler that draws by its seed"):
        where = ExecutionOptions(tmp_path / "s", HERE, plugins=(plugin,))
        tune_studies(asked(**changed), 3, where)
    assert not (tmp_path / "s").exists()


def test_a_set_of_studies_is_verified_as_a_whole(
    studies: Path, plugin: Path, capsys: pytest.CaptureFixture
) -> None:
    evaluate_studies(studies, HERE, plugins=(plugin,))
    capsys.readouterr()
    own = ["--plugin", str(plugin)]
    assert main(["verify", str(studies), "--studies", "3", *own]) == 0
    shown = capsys.readouterr().out
    assert "median last accuracy of 3 studies: " in shown and "all hold" in shown
    assert main(["verify", str(studies), "--studies", "4", *own]) == 1
    assert "expected studies 1 to 4 of 4; found 1 of 3, 2 of 3, 3 of 3" in capsys.readouterr().out
    record = next(studies.glob("study-2/evaluations/1/seed-*/record.json"))
    record.write_text(record.read_text().replace('"seed": ', '"seed": 1'))
    shutil.rmtree(studies / "study-3")
    problems = verify_studies(studies).problems
    assert any(problem.startswith("study-2: ") for problem in problems)
    assert any("found 1 of 3, 2 of 3" in problem for problem in problems)


def test_studies_of_another_plan_are_no_set(
    studies: Path, tmp_path: Path, plugin: Path, asked: Callable
) -> None:
    """A study from another set, moved among these, has other seeds."""
    where = ExecutionOptions(tmp_path / "other", PoolSpec(), plugins=(plugin,))
    tune_studies(asked(trials=1, seeds=(1,)), 3, where)
    shutil.rmtree(studies / "study-2")
    shutil.copytree(tmp_path / "other/study-2", studies / "study-2")
    problems = verify_studies(studies, 3).problems
    assert problems == ["the set of studies: the plan of study-2 differs by more than its draws"]


def test_a_folder_without_studies_is_no_set(tmp_path: Path) -> None:
    with pytest.raises(BadPlan, match="study-1"):
        verify_studies(tmp_path)


def test_the_commands(tmp_path: Path, plugin: Path, capsys: pytest.CaptureFixture) -> None:
    out, own = str(tmp_path / "s"), ["--plugin", str(plugin)]
    tuned = ["tune", "power", "digits-t2", "--trials", "1", "--seeds", "0", "--studies", "2"]
    assert main([*tuned, "--out", out, *own]) == 0
    assert main(["evaluate", out, *own]) == 0
    shown = capsys.readouterr().out
    assert "last accuracy over 2 studies: median" in shown
    assert shown.count("publish this head") == 2


def test_the_median_waits_for_all_evaluations(studies: Path, plugin: Path) -> None:
    first = studies_in(studies)[0]
    assert "not every study is evaluated: there is no median yet" in verify_studies(studies).notes
    evaluate_studies(studies, HERE, plugins=(plugin,))
    evaluate(first, HERE, plugins=(plugin,), again=True)
    notes = verify_studies(studies).notes
    assert "the studies were evaluated different numbers of times" in notes
    assert any(note.startswith("median last accuracy of 3 studies: ") for note in notes)
    file = max(first.glob("evaluations/*/evaluation.json"))
    file.write_text("{}")
    audit = verify_studies(studies)
    assert audit.problems and not any("median" in note for note in audit.notes)
