"""Whatever is changed in a sealed study is found, field by field."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clgym._version import __version__
from clgym.errors import BadRecord
from clgym.files import canonical_json, sha256
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.protocol import repeat
from clgym.protocol.audit import Audit
from clgym.protocol.ledger import START, LedgerEntry
from clgym.protocol.plan import code_identity
from clgym.protocol.runs import RETRY_FAILED
from clgym.protocol.study import read_certificate
from clgym.protocol.verify import verify
from clgym.results.stored import open_run

PLUGIN = Path(__file__).parents[1] / "plugins/power.py"
STREAM = Path(__file__).parents[1] / "plugins/old_stream.py"  # of another kind
FILES = [
    "certificate.json",
    "evaluations/1/evaluation.json",
    "runs/trial-001/seed-0/record.json",
    "evaluations/1/seed-*/record.json",
]


def leaves(value: Any, place: tuple = ()) -> Iterator[tuple]:
    """Places of all values that hold no others."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*place, key))
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from leaves(inner, (*place, number))
    else:
        yield place


def changed(value: Any, place: tuple, how: int) -> Any:
    """The same with another value at a place, or with the place gone."""
    if not place:
        return _other(value, how)
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(place) == 1 and how == 3:
        del copy[place[0]]
        return copy
    copy[place[0]] = changed(value[place[0]], place[1:], how)
    return copy


def _other(value: Any, how: int) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return [value + 1, value / 2 + 0.125, -value - 1][how % 3]
    if isinstance(value, str):
        flipped = {"a": "b", "0": "1"}.get(value[:1], "a") + value[1:]
        return [flipped, value + "x", value[:-1] if value else "y"][how % 3]
    return [0, "x", [1]][how % 3]


def test_an_untouched_study_holds(finished: Path) -> None:
    audit = verify(finished)
    assert audit.problems == [] and len(audit.checks) >= 11
    for path in (finished / "certificate.json", finished / "evaluations/1"):
        assert verify(path).problems == []


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("digit", "0f")
def test_a_certificate_is_compared_with_its_hash(copy: Callable, digit: str, alone: bool) -> None:
    """Whether the hash that it states is smaller or larger than the right one."""
    path = copy() / "certificate.json"
    if alone:
        (path.parent / "ledger.jsonl").unlink()
        assert verify(path).problems == []
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps({**content, "hash": digit * 64}))
    assert "body does not hash to `hash`" in " ".join(verify(path).problems)


@pytest.mark.parametrize("digit", "0f")
def test_a_certificates_plan_is_compared_with_its_hash(copy: Callable, digit: str) -> None:
    path = copy() / "certificate.json"
    (path.parent / "ledger.jsonl").unlink()
    content = json.loads(path.read_bytes())
    content["body"]["plan_hash"] = digit * 64
    path.write_text(json.dumps(content))
    assert "body.plan does not hash to body.plan_hash" in " ".join(verify(path).problems)


@pytest.mark.parametrize("digit", "0f")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hash", "the rest does not hash to `hash`"),
        ("ledger_head", "ledger_head is not the link before its end"),
    ],
)
def test_an_evaluations_links_are_compared(
    copy: Callable, name: str, words: str, digit: str
) -> None:
    folder = copy()
    path = folder / "evaluations/1/evaluation.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), name: digit * 64}))
    assert f"evaluation 1: {words}" in verify(folder).problems


@pytest.mark.parametrize(
    ("name", "count", "wrong"),
    [
        ("evaluations_before", -1, True),
        ("evaluations_before", 0, False),
        ("evaluations_before", 1, False),
        ("study_number", 0, True),
        ("study_number", 1, False),
        ("study_number", 2, False),
    ],
)
def test_counts_of_evaluations_are_counts(
    copy: Callable, name: str, count: int, wrong: bool
) -> None:
    folder = copy()
    path = folder / "evaluations/1/evaluation.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), name: count}))
    problems = " ".join(verify(folder).problems)
    assert ("study_number or evaluations_before is no count" in problems) == wrong


@pytest.mark.parametrize("digit", "0f")
def test_a_certificates_link_to_the_ledger_is_compared(copy: Callable, digit: str) -> None:
    folder = copy()
    content = json.loads((folder / "certificate.json").read_bytes())
    content["envelope"]["ledger_head"] = digit * 64
    (folder / "certificate.json").write_text(json.dumps(content))
    problems = " ".join(verify(folder).problems)
    assert "envelope.ledger_head does not follow from the ledger" in problems


def test_a_study_that_is_not_sealed_yet_holds(copy: Callable) -> None:
    folder = copy()
    entries = entries_of(folder)
    seal = entries.index(first(entries, "sealed"))
    (folder / "ledger.jsonl").write_bytes(rechained(entries[:seal]))
    (folder / "certificate.json").unlink()
    shutil.rmtree(folder / "evaluations")
    audit = verify(folder)
    assert audit.problems == [] and "not sealed yet" in audit.notes


def test_a_certificate_that_was_deleted_is_found(copy: Callable) -> None:
    folder = copy()
    (folder / "certificate.json").unlink()
    assert verify(folder).problems == [
        "certificate.json: the file, which the ledger seals, is missing",
        "evaluation 1: certificate.json, from which it follows, is missing",
    ]


def test_the_last_link_as_the_published_head_covers_everything(finished: Path) -> None:
    audit = verify(finished, head=entries_of(finished)[-1]["hash"])
    assert audit.problems == [] and not [n for n in audit.notes if "does not cover" in n]


def test_problems_of_a_study_with_one_run_for_all_experiences_name_none(copy: Callable) -> None:
    folder = copy()
    record = next(folder.glob("evaluations/1/seed-*/record.json"))
    content = json.loads(record.read_bytes())
    content["result"]["last_accuracy"] = 0.5
    record.write_text(json.dumps(content))
    problems = verify(folder).problems
    assert problems and not [p for p in problems if "experience 0" in p], problems


def test_an_evaluation_that_was_deleted_is_found(copy: Callable) -> None:
    folder = copy()
    (folder / "evaluations/1/evaluation.json").unlink()
    problems = " ".join(verify(folder).problems)
    assert "evaluation 1: evaluation.json, which the ledger names, is missing" in problems


@pytest.mark.parametrize("pattern", FILES)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_every_changed_field_is_found(copy: Callable, pattern: str, data: Any) -> None:
    folder = _once(copy)
    path = next(folder.glob(pattern))
    before = path.read_bytes()
    content = json.loads(before)
    place = data.draw(st.sampled_from(list(leaves(content))))
    try:
        path.write_text(json.dumps(changed(content, place, data.draw(st.integers(0, 3))), indent=1))
        if path.read_bytes() != before:
            assert verify(folder).problems, place
    finally:
        path.write_bytes(before)


_made: dict[int, Path] = {}


def _once(copy: Callable) -> Path:
    """One copy for all examples of a test."""
    if id(copy) not in _made:
        _made[id(copy)] = copy()
    return _made[id(copy)]


@pytest.mark.slow
@pytest.mark.parametrize("pattern", FILES[:2])
def test_every_field_of_certificate_and_evaluation(copy: Callable, pattern: str) -> None:
    folder = copy()
    path = next(folder.glob(pattern))
    before = path.read_bytes()
    content = json.loads(before)
    missed = []
    for place in leaves(content):
        path.write_text(json.dumps(changed(content, place, 0), indent=1))
        if not verify(folder).problems:
            missed.append(place)
    assert missed == []


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_every_changed_field_of_the_ledger_is_found(copy: Callable, data: Any) -> None:
    folder = _once(copy)
    path = folder / "ledger.jsonl"
    before = path.read_bytes()
    lines = before.splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    entry = json.loads(lines[number])
    place = data.draw(st.sampled_from(list(leaves(entry))))
    lines[number] = canonical_json(changed(entry, place, data.draw(st.integers(0, 3))))
    try:
        path.write_bytes(b"\n".join(lines) + b"\n")
        if path.read_bytes() != before:
            problems = verify(folder).problems
            assert any(f"line {number + 1} of the ledger" in p for p in problems), problems
    finally:
        path.write_bytes(before)


def rechained(entries: list[dict[str, Any]]) -> bytes:
    """A ledger whose chain holds again after a change: what a patient cheat would write."""
    prev, lines = START, []
    for number, entry in enumerate(entries):
        made = LedgerEntry.of(number, prev, entry["kind"], entry["time"], entry["body"])
        prev = made.hash
        lines.append(canonical_json(vars(made)) + b"\n")
    return b"".join(lines)


def entries_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]


def first(entries: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(entry for entry in entries if entry["kind"] == kind)


def _one_option(e: list) -> None:
    first(e, "plan")["body"]["plan"]["base"]["lr"] = 0.2


def _space_value(e: list) -> None:
    first(e, "plan")["body"]["plan"]["space"][0]["values"][0] = 0.25


def _seed_list(e: list) -> None:
    first(e, "plan")["body"]["plan"]["evaluation_seeds"][0] = 7


def _score(e: list) -> None:
    first(e, "run")["body"]["last_accuracy"] = 1.0


def _config(e: list) -> None:
    first(e, "trial")["body"]["config"]["power"] = 3.0


def _left_out(e: list) -> None:
    e.remove(first(e, "run"))


def _twice(e: list) -> None:
    e.insert(4, first(e, "run"))


def _hidden_evaluation(e: list) -> None:
    e.remove(first(e, "opened"))


def _hidden_end(e: list) -> None:
    e.remove(first(e, "complete"))


def _plan_later(e: list) -> None:
    e[0], e[1] = e[1], e[0]


def _two_plans(e: list) -> None:
    e.insert(1, e[0])


def _retried(e: list) -> None:
    run = first(e, "run")
    e.insert(e.index(run) + 1, {**run, "kind": RETRY_FAILED, "body": {"key": run["body"]["key"]}})


def _failed_and_retried(e: list) -> None:
    """The line of a failed run and of its retry before the run, as ``--retry-failed`` writes."""
    run = first(e, "run")
    body = {"key": run["body"]["key"], "status": "failed"}
    retry = {**run, "kind": RETRY_FAILED, "body": {"key": body["key"]}}
    e[e.index(run) : e.index(run)] = [{**run, "body": body}, retry]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_one_option, "plan: it does not hash to plan_hash"),
        (_space_value, "plan: space does not hash to space_hash"),
        (_seed_list, "evaluation_seeds are not the derived ones"),
        (_score, "certificate.json: body.trials"),
        (_score, "runs/trial-.*: last_accuracy is not what the ledger says"),
        (_config, "trials: runs/trial-000 is not the 1. trial that the plan starts"),
        (_left_out, "certificate.json: expected every run"),
        (_twice, "counts run runs/.* twice"),
        (_hidden_evaluation, "of an evaluation that was not opened"),
        (_hidden_end, "evaluation.json is not the file in the ledger"),
        (_plan_later, "the ledger does not begin with its one plan"),
        (_two_plans, "the ledger does not begin with its one plan"),
        (_retried, "retries .*, which had not failed"),
    ],
)
def test_a_ledger_that_was_chained_again_is_found(
    copy: Callable, change: Callable[[list], None], words: str
) -> None:
    import re

    folder = copy()
    entries = entries_of(folder)
    change(entries)
    (folder / "ledger.jsonl").write_bytes(rechained(entries))
    problems = verify(folder).problems
    assert any(re.search(words, problem) for problem in problems), problems


def test_a_retry_of_a_run_that_had_failed_is_in_order(copy: Callable) -> None:
    folder = copy()
    entries = entries_of(folder)
    _failed_and_retried(entries)
    (folder / "ledger.jsonl").write_bytes(rechained(entries))
    problems = verify(folder).problems
    assert not [p for p in problems if "order of the ledger" in p], problems


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tuning_score", 0.99),
        ("tuning_seconds", 1e308),
        ("flags", ["nothing to see"]),
        ("pair", "another"),
        ("tuning_fingerprint", "0" * 64),
        ("scenario_hash", "0" * 64),
        ("evaluation_seconds", -5.0),
        ("study_number", -1),
    ],
)
def test_an_evaluation_that_was_hashed_and_chained_again_is_found(
    copy: Callable, name: str, value: Any
) -> None:
    folder = copy()
    path = folder / "evaluations/1/evaluation.json"
    content = {**json.loads(path.read_text()), name: value}
    content["hash"] = sha256(canonical_json({k: v for k, v in content.items() if k != "hash"}))
    path.write_text(json.dumps(content))
    entries = entries_of(folder)
    first(entries, "complete")["body"]["file"] = sha256(path.read_bytes())
    (folder / "ledger.jsonl").write_bytes(rechained(entries))
    problems = verify(folder).problems
    assert any(name in problem for problem in problems), problems


def test_a_certificate_that_was_hashed_again_is_found_by_field(copy: Callable) -> None:
    folder = copy()
    path = folder / "certificate.json"
    content = json.loads(path.read_text())
    content["body"]["chosen"][0]["configs"][0]["power"] = 9.0
    content["hash"] = sha256(canonical_json(content["body"]))
    path.write_text(json.dumps(content))
    problems = verify(folder).problems
    assert (
        "certificate.json: body.chosen[0].configs[0].power does not follow from the ledger"
        in problems
    )
    assert "certificate.json: the file is not the one that the ledger seals" in problems


def test_a_class_order_that_is_not_the_seeds_is_found(copy: Callable) -> None:
    folder = copy()
    path = next(folder.glob("evaluations/1/seed-*/record.json"))
    content = json.loads(path.read_text())
    order = content["result"]["class_order"]
    order[0], order[1] = order[1], order[0]
    path.write_text(json.dumps(content))
    assert any("class_order is not the order of its seed" in p for p in verify(folder).problems)


def test_a_record_by_itself_is_audited(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(Request("nmc", "split-digits", out=out, order_seed=3))
    audit = verify(out)
    assert audit.problems == [] and audit.notes[0].startswith("a record by itself")
    path = out / "record.json"
    before = json.loads(path.read_text())
    for name in (
        "last_accuracy",
        "forgetting",
        "average_incremental_accuracy",
        "backward_transfer",
    ):
        wrong = json.loads(path.read_text())
        wrong["result"][name] += 0.01
        path.write_text(json.dumps(wrong))
        assert any(name in problem for problem in verify(out).problems)
        path.write_text(json.dumps(before))
    wrong = json.loads(path.read_text())
    wrong["result"]["accuracy_matrix"][2][1] = 0.5
    path.write_text(json.dumps(wrong))
    assert any("accuracy_matrix[2]" in problem for problem in verify(out).problems)


def test_the_seeds_of_a_run_are_audited_together(tmp_path: Path) -> None:
    for seed in range(2):
        run(Request("nmc", "split-digits", seed=seed, out=tmp_path / f"seed-{seed}"))
    audit = verify(tmp_path)
    assert audit.problems == [] and len(audit.checks) == len(audit.records) == 2
    assert audit.notes[0].startswith("records by themselves")
    path = tmp_path / "seed-1/record.json"
    path.write_text(path.read_text().replace('"last_accuracy": 0.', '"last_accuracy": 0.0'))
    (problem,) = verify(tmp_path).problems
    assert problem.startswith("seed-1/record.json: result.last_accuracy")


def test_nothing_to_audit_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadRecord):
        verify(tmp_path)


@pytest.mark.slow
def test_runs_are_repeated_and_compared(copy: Callable, plugin: Path) -> None:
    import shutil

    folder = copy()
    assert verify(folder, rerun=1, plugins=(plugin,)).problems == []
    other = shutil.copy(plugin, folder / "power.py")
    Path(other).write_text(plugin.read_text().replace("self.config.power", "1.5"))
    problems = verify(folder, rerun=1, plugins=(Path(other),)).problems
    assert any("another result" in problem for problem in problems)


def _rewritten(folder: Path, change: Callable[[dict], object]) -> None:
    for path in folder.glob("evaluations/1/seed-*/record.json"):
        record = json.loads(path.read_bytes())
        change(record)
        path.write_text(json.dumps(record))


@pytest.fixture
def repeated(copy: Callable, plugin: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Audit]:
    """The audit of a study made with a release, where a repetition leaves changed records."""

    def audit(version: str, change: Callable[[dict], object]) -> Audit:
        folder, now = copy(), copy()
        _rewritten(folder, lambda record: record["environment"].update(clgym=version))
        _rewritten(now, change)

        def carried_out(requests: list[Request], where: Any, closed: list) -> Any:
            """The record of the second study: of the tuning if sources are closed."""
            place = Path(requests[-1].out or "").relative_to(where.out)
            return open_run((now if closed else now / "evaluations/1") / place).record

        monkeypatch.setattr(repeat, "_carried_out", carried_out)
        return verify(folder, rerun="all", plugins=(plugin,))

    return audit


def _other_predictions(record: dict) -> None:
    record["result"]["predictions"]["sha256"] = "0" * 64


@pytest.mark.parametrize(("version", "named"), [("0.1.0", True), (__version__, False)])
def test_a_repetition_that_differs_names_the_draws_of_an_earlier_release(
    repeated: Callable[..., Audit], version: str, named: bool
) -> None:
    problems = [p for p in repeated(version, _other_predictions).problems if "another result" in p]
    because = ", but it was made with the random draws of clgym 0.1.0, which clgym"
    assert len(problems) == 2 and all((because in problem) == named for problem in problems)
    assert not any("another file" in problem for problem in problems)


def test_a_repetition_by_another_file_names_that_too(repeated: Callable[..., Audit]) -> None:
    def change(record: dict) -> None:
        _other_predictions(record)
        record["result"]["strategy"]["source_hash"] = "0" * 64

    problems = [p for p in repeated("0.1.0", change).problems if "another result" in p]
    assert len(problems) == 2
    assert all(problem.endswith("by another file of the strategy") for problem in problems)


@pytest.mark.parametrize("tree", [code_identity().tree, "0" * 64])
@pytest.mark.parametrize(("files", "released"), [((), True), ((STREAM,), True), ((PLUGIN,), False)])
def test_another_file_of_the_strategy_is_a_problem_whatever_it_answers(
    finished: Path, tree: str, files: tuple[Path, ...], released: bool
) -> None:
    """Files of clgym change with its releases, those of a study's plugins never."""
    stored = open_run(next(finished.glob("evaluations/1/seed-*"))).record
    strategy = stored.result.strategy.model_copy(update={"source_hash": "0" * 64})
    result = stored.result.model_copy(update={"strategy": strategy})
    again = stored.model_copy(update={"result": result})
    plan = read_certificate(finished).body.plan
    plan = plan.model_copy(update={"code": plan.code.model_copy(update={"tree": tree})})
    problems = [*repeat._another_file("seed 1", plan, stored, again, files)]
    assert bool(problems) == (not released or tree == code_identity().tree)
    assert not [*repeat._another_file("seed 1", plan, stored, stored, files)]


def test_a_repetition_of_an_earlier_release_that_agrees_is_no_problem(
    repeated: Callable[..., Audit],
) -> None:
    """Runs that draw nothing are repeated across releases."""
    audit = repeated("0.1.0", lambda record: None)
    assert [problem for problem in audit.problems if "repeated" in problem] == []
    assert not any("differs" in note for note in audit.notes)


def test_other_facts_beside_equal_numbers_are_a_note(repeated: Callable[..., Audit]) -> None:
    """A release that flags a data set otherwise measures no other result."""
    audit = repeated("0.1.0", lambda r: r["result"]["sources"][0].update(flags=["a new flag"]))
    assert [problem for problem in audit.problems if "repeated" in problem] == []
    notes = [note for note in audit.notes if "equal predictions and numbers" in note]
    assert len(notes) == 2 and all("sources differs" in note for note in notes)


RECORDS = Path(__file__).parents[2] / "leaderboards/records"


@pytest.mark.parametrize("study", sorted(p.parent.name for p in RECORDS.glob("*/ledger.jsonl")))
def test_studies_of_earlier_versions_verify(study: str) -> None:
    """Their records are of schema 1, their ledgers and certificates without the later fields."""
    audit = verify(RECORDS / study)
    assert audit.problems == [] and len(audit.checks) >= 5
