"""Tests left out: the same learner, the same tested rows, no number that looks like the usual."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.numpy import load_file

import clgym
from clgym.board.reading.entries import run_flags
from clgym.cli._again import rerun
from clgym.cli._main import main
from clgym.errors import BadConfig, BadRecord, ClgymError, Incompatible
from clgym.gym.numerics import numeric_facts
from clgym.gym.plan import resolve
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.messages import Event, Scored
from clgym.protocol.against_source import compare_with_sources
from clgym.protocol.audit import Audit
from clgym.results.grouping import method_of
from clgym.results.numerics import NumericFacts
from clgym.results.record import LearningResult, make_result
from clgym.results.stored import StoredRun, open_run
from factories import copy_plugin

OVER_EXPERIENCES = (
    "average_incremental_accuracy",
    "forgetting",
    "backward_transfer",
    "forward_transfer",
)


def stored(request: Request, out: Path) -> StoredRun:
    run(replace(request, out=out))
    return open_run(out)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, StoredRun]:
    """One run of nmc by the experiences that are tested."""
    folder = tmp_path_factory.mktemp("runs")
    request = Request("nmc", "split-digits", engine="inline", threads=1)
    return {
        every: stored(replace(request, evaluate_every=every), folder / f"{every}")
        for every in (1, 2, "last")
    }


@pytest.mark.parametrize(("every", "tested"), [(2, [1, 3, 4]), ("last", [4])])
def test_tested_rows_are_those_of_a_whole_run_and_all_others_are_empty(
    runs: dict[Any, StoredRun], every: Any, tested: list[int]
) -> None:
    whole, found = runs[1].result, runs[every].result
    assert isinstance(found, LearningResult) and found.numerics is not None
    assert found.numerics.evaluate_every == every
    for i in range(5):
        expected = (whole.accuracy_matrix[i], whole.accuracy_after[i])
        row = (found.accuracy_matrix[i], found.accuracy_after[i])
        assert row == (expected if i in tested else ([None] * 5, None))
    assert found.last_accuracy == whole.last_accuracy
    assert [getattr(found, name) for name in OVER_EXPERIENCES] == [None] * 4
    arrays = {name.partition("/")[0] for name in runs[every].predictions().arrays}
    assert arrays == {str(i) for i in tested}
    assert len(runs[every].record.cost.predict_seconds) == 5
    assert not list(runs[every].problems())


@pytest.mark.parametrize(
    ("strategy", "engine", "config"),
    [
        ("nmc", "inline", {}),
        ("replay", "inline", {"memory_size": 40}),
        pytest.param("replay", "process", {"memory_size": 40}, marks=pytest.mark.slow),
        pytest.param("wa", "process", {"first_epochs": 1, "epochs": 1}, marks=pytest.mark.slow),
    ],
)
def test_the_learner_is_the_same_bit_for_bit(
    strategy: str, engine: Any, config: dict[str, Any], tmp_path: Path
) -> None:
    """Inline, a test draws from the same generators as training, if from any."""
    request = Request(strategy, "split-digits", strategy_config=config, threads=1, engine=engine)
    whole = stored(request, tmp_path / "whole")
    last = stored(replace(request, evaluate_every="last"), tmp_path / "last")
    expected, found = whole.predictions().arrays, last.predictions().arrays
    assert set(found) == {name for name in expected if name.startswith("4/")}
    for name in found:
        assert np.array_equal(expected[name], found[name]), name
    states = [load_file(run.folder / "state.safetensors") for run in (whole, last)]
    assert states[0].keys() == states[1].keys()
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
    assert last.record.conduct == whole.record.conduct


def test_a_run_that_goes_on_is_the_undisturbed_one_with_all_heads(tmp_path: Path) -> None:
    plugin = copy_plugin("two_heads", tmp_path)
    request = Request("two-heads", "split-digits", plugins=(plugin,), evaluate_every=2)
    whole = stored(request, tmp_path / "whole")
    assert isinstance(whole.result, LearningResult) and whole.result.heads is not None
    assert whole.result.heads["mean"] == pytest.approx(whole.result.accuracy_after)
    assert [value is None for value in whole.result.heads["next"]] == [True, False] * 2 + [False]

    def cut(event: Event) -> None:
        if isinstance(event, Scored) and event.experience == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(replace(request, out=tmp_path / "cut"), cut)
    again = run(replace(request, out=tmp_path / "cut"))
    assert again.cost.resumed == 1
    assert again.result == whole.result
    assert len(again.cost.train_seconds) == len(again.cost.predict_seconds) == 5


def test_each_experience_is_an_event_and_logged_images_count_on(tmp_path: Path) -> None:
    events: list[Event] = []
    clgym.run(
        "nmc",
        "split-digits",
        evaluate_every="last",
        engine="inline",
        threads=1,
        out=tmp_path / "run",
        log=["csv"],
        callbacks=[events.append],
    )
    scored = [event for event in events if isinstance(event, Scored)]
    assert [event.experience for event in scored] == [0, 1, 2, 3, 4]
    assert [event.accuracy is None for event in scored] == [True] * 4 + [False]
    with (tmp_path / "run" / "log.csv").open() as file:
        (row,) = [row for row in csv.DictReader(file) if row["name"] == "accuracy"]
    assert (row["experience"], int(row["images"])) == ("5", sum(event.images for event in scored))


@pytest.mark.parametrize("scenario", ["permuted-digits", "repetition-digits", "task-digits"])
def test_other_kinds_of_learning_streams_have_no_false_measures(
    scenario: str, tmp_path: Path
) -> None:
    request = Request("nmc", scenario, engine="inline", threads=1, evaluate_every=3)
    found = stored(request, tmp_path / "run")
    assert [getattr(found.result, name) for name in OVER_EXPERIENCES] == [None] * 4
    assert not list(found.problems())


@pytest.mark.parametrize(
    "scenario",
    [
        "online-digits",
        "si-blurry-digits",
        "digits-c",
        "learn-then-shift-digits",
        "deletion-digits",
        "pretrain-digits",
    ],
)
def test_streams_with_other_measures_refuse_it(scenario: str) -> None:
    with pytest.raises(Incompatible, match="evaluate-every last"):
        resolve(Request("nmc", scenario, threads=1, evaluate_every="last"))


@pytest.mark.parametrize("every", [0, -1, True, "first", 1.5])
def test_other_values_are_refused(every: Any) -> None:
    with pytest.raises(BadConfig, match="at least 1, or last"):
        resolve(Request("nmc", "split-digits", evaluate_every=every))


def test_such_a_run_neither_continues_another_nor_is_continued(
    runs: dict[Any, StoredRun], tmp_path: Path
) -> None:
    request = Request("nmc", "split-digits", threads=1, after=runs[1].folder)
    with pytest.raises(BadConfig, match="continues another"):
        resolve(replace(request, evaluate_every=2))
    first = Request("nmc", "split-digits", engine="inline", threads=1, part=(0, 3))
    partly = stored(replace(first, evaluate_every=2), tmp_path / "first")
    with pytest.raises(BadRecord, match="not tested"):
        run(replace(first, part=None, after=partly.folder, out=tmp_path / "rest"))


def test_it_is_another_run_and_says_so(runs: dict[Any, StoredRun]) -> None:
    whole, last = runs[1], runs["last"]
    assert method_of(whole.result) != method_of(last.result)
    assert "tested only after the last experience" in run_flags([last.record])
    assert "tested after every 2 experiences and the last" in run_flags([runs[2].record])
    assert not [flag for flag in run_flags([whole.record]) if "tested" in flag]
    assert "--evaluate-every last" in rerun(last.record)
    with pytest.raises(ClgymError, match="another"):
        run(Request("nmc", "split-digits", engine="inline", threads=1, out=last.folder))


def test_without_it_nothing_is_serialised(runs: dict[Any, StoredRun]) -> None:
    assert runs[1].result.numerics is None
    assert numeric_facts(Request("nmc", "split-digits", evaluate_every=1), 5) == NumericFacts()
    assert list(NumericFacts(eval_batch=5).model_dump(mode="json")) == [
        "arithmetic",
        "channels_last",
        "compile",
        "eval_batch",
    ]


def facts_of(run: StoredRun) -> dict[str, Any]:
    return run.result.model_dump()


def test_a_record_has_holes_exactly_where_its_options_say(runs: dict[Any, StoredRun]) -> None:
    whole, last = facts_of(runs[1]), facts_of(runs["last"])
    assert make_result(last) == runs["last"].result
    options = last["numerics"]
    contradictions = [
        {**last, "numerics": None},
        {**last, "numerics": {**options, "evaluate_every": 2}},
        {**whole, "numerics": options},
        {**whole, "average_incremental_accuracy": None},
        {**last, "accuracy_matrix": whole["accuracy_matrix"]},
        {**last, "task_aware_accuracy_after": whole["task_aware_accuracy_after"]},
    ]
    for facts in contradictions:
        with pytest.raises(ValidationError):
            make_result(facts)


@pytest.mark.parametrize("name", OVER_EXPERIENCES)
def test_a_measure_over_all_experiences_is_a_problem(runs: dict[Any, StoredRun], name: str) -> None:
    found = runs["last"]
    edited = found.record.model_copy(
        update={"result": found.result.model_copy(update={name: 0.25})}
    )
    problems = list(StoredRun(found.folder, edited, found.sha256).problems())
    assert f"result.{name} does not follow from the matrix" in problems


def test_rows_of_the_tests_are_compared_with_the_images(runs: dict[Any, StoredRun]) -> None:
    audit = Audit(records=[str(runs[2].folder)])
    compare_with_sources(audit)
    assert audit.checks and not audit.problems and not audit.notes


def test_predictions_of_a_test_that_was_left_out_are_a_problem(
    runs: dict[Any, StoredRun], tmp_path: Path
) -> None:
    """A whole run is edited to say that only its end was tested; its predictions stay."""
    whole, last = runs[1], runs["last"]
    result = last.result.model_copy(update={"predictions": whole.result.predictions})
    edited = whole.record.model_copy(update={"result": result})
    problems = list(StoredRun(whole.folder, edited, whole.sha256).problems())
    assert [p for p in problems if "which was not tested" in p] == [
        f"predictions after experience {i}, which was not tested" for i in (1, 2, 3, 4)
    ]


def test_streams_that_need_all_tests_have_no_record_without_them(tmp_path: Path) -> None:
    online = stored(
        Request("nmc", "online-digits", engine="inline", threads=1), tmp_path / "online"
    )
    size = len(online.result.accuracy_after)  # type: ignore[union-attr]
    facts = {**facts_of(online), "numerics": NumericFacts(evaluate_every="last").model_dump()}
    for name in ("accuracy_after", "task_aware_accuracy_after"):
        facts[name] = [None] * (size - 1) + facts[name][-1:]
    facts["accuracy_matrix"] = [[None] * size] * (size - 1) + facts["accuracy_matrix"][-1:]
    facts |= dict.fromkeys(OVER_EXPERIENCES)
    edited = online.record.model_copy(update={"result": make_result(facts)})
    wanted = "result.numerics leaves out tests, though this stream needs all of them"
    assert wanted in list(StoredRun(online.folder, edited, online.sha256).problems())


def test_options_for_speed_draw_no_other_order_of_test_images(runs: dict[Any, StoredRun]) -> None:
    """Otherwise each would be another try for a learner whose answers depend on its batches."""
    assert len({run.record.environment.order_key for run in runs.values()}) == 1
    request = Request("nmc", "split-digits", engine="inline", threads=1)
    planned = [resolve(replace(request, eval_batch=size)) for size in (None, 50)]
    assert planned[0].order_source == planned[1].order_source == planned[0].key
    assert planned[0].key != planned[1].key


@pytest.mark.parametrize("every", [5, 6, 10, "last"])
def test_equal_choices_of_tests_have_one_name(every: Any) -> None:
    request = Request("nmc", "split-digits", engine="inline", evaluate_every=every)
    assert resolve(request).numeric_facts.evaluate_every == "last"
    single = replace(request, scenario_config={"classes": [0, 1]})
    assert resolve(single).numeric_facts.evaluate_every is None


def test_a_budget_of_bytes_needs_all_tests(tmp_path: Path) -> None:
    plugin = str(copy_plugin("budgeted", tmp_path))
    with pytest.raises(Incompatible, match="a budget of 100,000 bytes"):
        clgym.run(plugin, "split-digits", evaluate_every="last", engine="inline")


@pytest.mark.slow
def test_several_seeds_are_shown_without_an_average(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "nmc", "split-digits", "--evaluate-every", "last", "--seeds", "0,1"]
    assert main([*words, "--workers", "2", "--out", str(tmp_path / "x")]) == 0
    said = capsys.readouterr()
    assert "last 90." in said.out + said.err and "average 9" not in said.out + said.err
