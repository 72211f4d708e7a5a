"""A patient cheat swaps results and writes every hash anew; what was published is compared."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clgym.board.reading.entries import Board
from clgym.board.reading.found import read_study
from clgym.board.reading.studies import add_study
from clgym.cli import main
from clgym.engines.pool import PoolSpec
from clgym.files import canonical_json, sha256
from clgym.protocol import evaluation, jobs, repeat
from clgym.protocol.outcome import seed_result, summarised
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.study import tune
from clgym.protocol.verify import verify
from clgym.results.stored import open_run
from forged import Lines, chain, lines_of, perfect

Change = Callable[[dict[str, Any]], None]


def edit(record: Path, change: Change) -> None:
    """Change a record's content."""
    content = json.loads((record / "record.json").read_text())
    change(content)
    (record / "record.json").write_text(json.dumps(content))


def evaluation_again(study: Path) -> dict[str, Any]:
    """Write evaluation.json anew from the records as they are now."""
    path = study / "evaluations/1/evaluation.json"
    content = json.loads(path.read_text())
    seeds = []
    for seed in content["seeds"]:
        own = study / "evaluations/1" / seed["record"]
        seeds.append(seed_result(seed["seed"], open_run(own)))
    content["seeds"] = [seed.model_dump(mode="json") for seed in seeds]
    content["summary"] = summarised(seeds)
    content["evaluation_seconds"] = float(sum(s.wall_seconds or 0 for s in seeds))
    content["ledger_head"] = lines_of(study)[-1]["prev"]
    content["hash"] = sha256(canonical_json({k: v for k, v in content.items() if k != "hash"}))
    path.write_text(json.dumps(content))
    return content


def told_again(study: Path) -> None:
    """Let the ledger's last line name the evaluation as it is now."""
    lines = lines_of(study)
    content = evaluation_again(study)
    file = study / "evaluations/1/evaluation.json"
    lines[-1]["body"]["file"] = sha256(file.read_bytes())
    if "hash" in lines[-1]["body"]:
        lines[-1]["body"]["hash"] = content["hash"]
    chain(study, lines)


def everything_again(study: Path) -> None:
    """Let every line of the ledger follow from the records of the evaluation as they are now."""
    lines = lines_of(study)
    for line in lines:
        if line["kind"] == "evaluated":
            own = study / f"evaluations/1/seed-{line['body']['seed']}"
            reply = jobs.run_summary(open_run(own))
            line["body"] |= {"record": reply["record"], "result": reply["result"]}
    chain(study, lines)
    told_again(study)


def first_record(study: Path) -> Path:
    return sorted((study / "evaluations/1").glob("seed-*/record.json"))[0].parent


def test_results_swapped_behind_the_lines_of_the_ledger_are_found(copy: Callable) -> None:
    """The lines of the seeds stay; records, evaluation.json and the last line are new."""
    study = copy()
    perfect(first_record(study))
    told_again(study)
    problems = verify(study).problems
    assert any("result is not what the ledger says" in p for p in problems), problems
    assert any("record is not what the ledger says" in p for p in problems), problems


def test_the_published_head_covers_the_results(copy: Callable, finished: Path) -> None:
    """With the whole ledger written anew only the head that was published tells."""
    study, published = copy(), lines_of(finished)[-1]["hash"]
    assert verify(finished, head=published).problems == []
    perfect(first_record(study))
    everything_again(study)
    assert verify(study).problems == []  # nothing inside of the folder can tell
    (problem,) = verify(study, head=published).problems
    assert "the published head is no link of this chain" in problem


def test_an_older_head_says_what_it_does_not_cover(finished: Path) -> None:
    sealed = next(line for line in lines_of(finished) if line["kind"] == "sealed")
    audit = verify(finished, head=sealed["hash"])
    assert audit.problems == []
    assert any("does not cover 4 later lines" in note for note in audit.notes), audit.notes


def test_the_commands_print_and_take_the_head(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = lines_of(finished)[-1]["hash"]
    assert main(["verify", str(finished)]) == 0
    assert f"head   {head}" in capsys.readouterr().out
    assert main(["verify", str(finished), "--head", head]) == 0
    assert main(["verify", str(finished), "--head", "f" * 64]) == 1
    assert main(["verify", str(finished), "--head", "nonsense"]) == 2
    assert main(["verify", str(finished), "--rerun", "-1"]) == 2


def _dropped(lines: Lines) -> None:
    lines.remove(next(line for line in lines if line["kind"] == "evaluated"))


def _failed(lines: Lines) -> None:
    line = next(line for line in lines if line["kind"] == "evaluated")
    line["body"] |= {"error": "StrategyFailed", "record": None, "result": None}


def _late(lines: Lines) -> None:
    line = next(line for line in lines if line["kind"] == "evaluated")
    lines.remove(line)
    lines.append(line)


def _other_seeds(lines: Lines) -> None:
    next(line for line in lines if line["kind"] == "opened")["body"]["seeds"] = [1, 2]


def _sealed(lines: Lines) -> None:
    next(line for line in lines if line["kind"] == "sealed")["body"]["hash"] = "0" * 64


def _surveyed(lines: Lines) -> None:
    lines[0]["body"]["survey"]["withheld_images"] = ["0" * 64]


def _end(lines: Lines) -> None:
    lines[-1]["body"]["hash"] = "0" * 64


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_dropped, "the ledger has no line of its run"),
        (_failed, "error is not what the ledger says"),
        (_late, "adds a run to an evaluation that was complete"),
        (_other_seeds, "seeds of the ledger's opening are not the plan's"),
        (_sealed, "`hash` is not the one in the ledger's seal"),
        (_surveyed, "withheld_images is not what the look at both sides found"),
        (_end, "`hash` is not the one in the ledger"),
    ],
)
def test_every_line_is_compared_with_what_it_names(
    copy: Callable, change: Callable[[Lines], None], words: str
) -> None:
    study = copy()
    lines = lines_of(study)
    change(lines)
    chain(study, lines)
    problems = verify(study).problems
    assert any(words in problem for problem in problems), problems


def _method(content: dict[str, Any]) -> None:
    content["result"]["strategy"]["source_hash"] = "1" * 64


def _failures(content: dict[str, Any]) -> None:
    content["result"]["strategy"]["known_failures"] = {"no-labels": "it is allowed to"}


def _threads(content: dict[str, Any]) -> None:
    content["environment"]["threads"] = 7


def _device(content: dict[str, Any]) -> None:
    content["environment"]["device"] = "cuda:0"


def _scorer(content: dict[str, Any]) -> None:
    content["environment"]["clgym"] = "9.9"


def _packages(content: dict[str, Any]) -> None:
    content["environment"]["packages"]["torch"] = "0.1"


def _scenario(content: dict[str, Any]) -> None:
    content["result"]["scenario"]["name"] = "split-digits"


def _source(content: dict[str, Any]) -> None:
    content["result"]["sources"][0]["name"] = "mnist"


def _part(content: dict[str, Any]) -> None:
    content["result"]["part"] = [0, 1]


PLANNED = [
    (_method, "result.strategy.source_hash"),
    (_failures, "result.strategy.known_failures"),
    (_threads, "environment.threads"),
    (_device, "environment.device"),
    (_scenario, "result.scenario.name"),
    (_source, "result.sources"),
    (_part, "result.part"),
]


@pytest.mark.parametrize(("change", "name"), PLANNED)
def test_records_of_another_method_do_not_pass_as_results(
    copy: Callable, change: Change, name: str
) -> None:
    """All hashes are those of the changed record; the plan alone tells."""
    study = copy()
    edit(first_record(study), change)
    everything_again(study)
    problems = verify(study).problems
    assert any(f"{name} is not the plan's" in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("change", "name"), [*PLANNED, (_scorer, "environment"), (_packages, "environment")]
)
def test_records_of_another_method_do_not_pass_as_trials(
    copy: Callable, change: Change, name: str
) -> None:
    study = copy()
    own = study / "runs/trial-000/seed-0"
    edit(own, change)
    lines = lines_of(study)
    for line in lines:
        if line["body"].get("key") == "runs/trial-000/seed-0":
            line["body"] |= json.loads(canonical_json(jobs.run_summary(open_run(own))))
    chain(study, lines)
    problems = verify(study).problems
    assert any(f"seed-0: {name} is not the plan's" in problem for problem in problems), problems


def test_another_version_of_the_scorer_is_flagged(copy: Callable) -> None:
    """The code of an evaluation may change between its sessions, and then it says so."""
    study = copy()
    edit(first_record(study), _scorer)
    everything_again(study)
    assert any("flags does not follow" in problem for problem in verify(study).problems)


def test_the_head_decides_which_runs_are_repeated() -> None:
    runs = [(number, seed) for number in (1, 2) for seed in range(5)]
    draws = {repeat.drawn(sha256(str(i).encode()), runs, 1)[0] for i in range(200)}
    assert draws == set(runs), "a run that no head draws is safe from being repeated"
    head = "a" * 64
    assert repeat.drawn(head, runs, 3) == repeat.drawn(head, runs[::-1], 3)
    assert sorted(repeat.drawn(head, runs, "all")) == runs


@pytest.mark.slow
def test_a_made_up_seed_is_found_wherever_it_stands(copy: Callable, plugin: Path) -> None:
    """A cheat beyond the first seed: all runs are repeated, of every evaluation."""
    study = copy()
    perfect(sorted((study / "evaluations/1").glob("seed-*/record.json"))[1].parent)
    everything_again(study)
    assert verify(study).problems == []
    audit = verify(study, rerun="all", plugins=(plugin,))
    (problem,) = audit.problems
    seed = json.loads((study / "evaluations/1/evaluation.json").read_text())["seeds"]
    perfect_seed = next(s["seed"] for s in seed if s["last_accuracy"] == 1.0)
    assert problem == f"all runs repeated: seed {perfect_seed}: another result"
    assert any("repeated 2 of 2 runs" in note for note in audit.notes)


@pytest.mark.slow
def test_results_too_good_to_be_true_do_not_survive_a_repeat(copy: Callable, plugin: Path) -> None:
    """All answers of all seeds right, everything written anew: one repeated run tells."""
    study = copy()
    for record in (study / "evaluations/1").glob("seed-*/record.json"):
        perfect(record.parent)
    everything_again(study)
    assert verify(study).problems == []
    for head in lines_of(study)[-3:]:
        (problem,) = verify(study, rerun=1, plugins=(plugin,), head=head["hash"]).problems
        assert problem.endswith("another result")


@pytest.mark.slow
def test_settings_of_every_experience_are_compared(
    tmp_path: Path, plugin: Path, asked: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where settings differ between experiences each has a record: all of them are results."""
    study = tmp_path / "study"
    where = ExecutionOptions(study, PoolSpec("inline"), plugins=(plugin,))
    tune(asked(mode="current_task", trials=2, seeds=(0,)), where)
    monkeypatch.setenv("CLGYM_WITHHELD", "[]")
    evaluation.evaluate(study, PoolSpec("inline"), plugins=(plugin,))
    assert verify(study).problems == []
    first = study / "evaluations/1/seed-0-experience-0"

    def another_power(content: dict[str, Any]) -> None:
        content["result"]["strategy"]["config"]["power"] = 3.25

    edit(first, another_power)
    problems = verify(study).problems
    assert any("experience 0: its record is not the one in the ledger" in p for p in problems)
    assert any("experience 0: result.strategy.config.power" in p for p in problems)


@pytest.mark.parametrize("name", ["99", "2", "0", "z", "²", "seed-1"])
def test_a_folder_that_the_ledger_did_not_open_is_no_evaluation(copy: Callable, name: str) -> None:
    """A forged evaluation beside the true one is named, and nobody reads it."""
    study = copy()
    shutil.copytree(study / "evaluations/1", study / "evaluations" / name)
    perfect(sorted((study / "evaluations" / name).glob("seed-*/record.json"))[0].parent)
    (problem,) = verify(study).problems
    assert problem == f"evaluations: '{name}' is no evaluation that the ledger opened"
    assert [e.evaluation_number for e in read_study(study).evaluations] == [1]
    board = Board()
    add_study(board, study.parent, study)
    assert not board.entries and len(board.left_out) == 1


@pytest.mark.parametrize("number", [7, 1.0, True, [1], None])
def test_an_evaluation_is_opened_under_the_next_number(copy: Callable, number: object) -> None:
    """Where the ledger opens another one, what lies under the number in turn is not read."""
    study = copy()
    if number == 7:
        shutil.move(study / "evaluations/1", study / "evaluations/7")
    lines = lines_of(study)
    for line in lines:
        if line["kind"] in ("opened", "evaluated", "complete"):
            line["body"]["evaluation"] = number
    chain(study, lines)
    line = next(n for n, line in enumerate(lines, 1) if line["kind"] == "opened")
    told = (f"line {line} opens another evaluation than 1", "ledger: it cannot be followed")
    assert any(words in problem for problem in verify(study).problems for words in told)


def test_the_plugin_that_a_session_names_is_the_plans(copy: Callable) -> None:
    """A published plugin that is not the code of the results is no plugin of the study."""
    study = copy()
    lines = lines_of(study)
    session = next(line for line in lines if line["kind"] == "session")
    session["body"]["plugins"][0]["sha256"] = "1" * 64
    chain(study, lines)
    words = "plan: session 1 was carried out with another file of power than the plan's"
    assert words in verify(study).problems
