"""How runs are judged: criteria of a trial, comparison of a repetition, attempts of a search."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clgym.engines.pool import PoolSpec
from clgym.errors import BadPlan, Tampered
from clgym.protocol import modes, pairs, repeat
from clgym.protocol.evaluation import evaluate
from clgym.protocol.ledger import NAME
from clgym.protocol.pairs import find_pair
from clgym.protocol.plan import RunScore
from clgym.protocol.runs import criterion_of
from clgym.protocol.space import find_space
from clgym.protocol.study import CERTIFICATE, read_certificate
from clgym.protocol.verify import verify
from clgym.results.stored import StoredRun, open_run

share = st.floats(0, 1)


@given(last=share, average=share)
def test_criteria_are_their_formulas(last: float, average: float) -> None:
    run = RunScore(seed=0, status="done", last_accuracy=last, average_incremental_accuracy=average)
    assert criterion_of("acc", run) == last
    assert criterion_of("avg_acc", run) == average
    assert criterion_of("mean", run) == pytest.approx((last + average) / 2)
    harmonic = 0.0 if not last or not average else 1 / ((1 / last + 1 / average) / 2)
    assert criterion_of("harmonic", run) == pytest.approx(harmonic, abs=1e-12)


@pytest.fixture
def stored(finished: Path) -> StoredRun:
    return open_run(next(finished.glob("evaluations/1/seed-*")))


@pytest.mark.parametrize(("part", "differs"), [(0.0, False), (0.9, False), (1.1, True)])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("last_accuracy", 0.01),
        ("average_incremental_accuracy", 0.01),
        ("forgetting", 0.01),
        ("accuracy_matrix[1][0]", 0.05),
    ],
)
def test_on_a_gpu_measurements_may_differ_a_little(
    finished: Path,
    stored: StoredRun,
    name: str,
    tolerance: float,
    sign: int,
    part: float,
    differs: bool,
) -> None:
    """By one point, of a few images by five; on a CPU the bits must be equal."""
    shift = part * tolerance
    before = stored.record
    field = name.partition("[")[0]
    value = deepcopy(getattr(before.result, field))
    if field == "accuracy_matrix":
        value[1][0] += sign * shift
    else:
        value += sign * shift
    result = before.result.model_copy(update={field: value})
    again = before.model_copy(update={"result": result})
    plan = read_certificate(finished).body.plan
    gpu = plan.model_copy(update={"device": "cuda"})
    problems = [*repeat._compared("seed 1", gpu, before, again, [])]
    assert bool(problems) == differs and all(name in problem for problem in problems)
    assert bool([*repeat._compared("seed 1", plan, before, again, [])]) == (shift > 0)


@pytest.mark.parametrize("change", [lambda m: m[:1], lambda m: [[None, *m[0][1:]], *m[1:]]])
def test_on_a_gpu_other_experiences_are_a_difference(
    finished: Path, stored: StoredRun, change: Callable
) -> None:
    """Not only numbers: an accuracy that is missing is no accuracy within the tolerance."""
    before = stored.record
    matrix = change(before.result.accuracy_matrix)
    result = before.result.model_copy(update={"accuracy_matrix": matrix})
    again = before.model_copy(update={"result": result})
    plan = read_certificate(finished).body.plan.model_copy(update={"device": "cuda"})
    assert [*repeat._compared("seed 1", plan, before, again, [])]


def test_attempts_grow_weaker_one_option_at_a_time_and_then_all() -> None:
    strongest = {"a": 8.0, "b": 4.0}
    first, *rest = modes._weaker(strongest)
    assert first == strongest and len(rest) + 1 >= modes.ATTEMPTS
    decay = modes.DECAY
    assert rest[:3] == [
        {"a": 8.0 * decay, "b": 4.0},
        {"a": 8.0, "b": 4.0 * decay},
        {"a": 8.0 * decay, "b": 4.0 * decay},
    ]
    alone = modes._weaker({"a": 8.0})
    assert alone == [{"a": 8.0 * decay**n} for n in range(len(alone))]


@pytest.mark.parametrize("text", ["", "3-1", "a-b", "1,,2", "4-"])
def test_classes_that_are_no_numbers_are_refused(text: str) -> None:
    with pytest.raises(BadPlan, match="class numbers such as"):
        pairs.numbers(text)


def test_classes_are_counted_once() -> None:
    assert pairs.numbers("7,0-2,1") == (0, 1, 2, 7)


@pytest.mark.parametrize("name", ["space.toml", "space.json", "missing.toml"])
def test_a_file_that_is_no_space_is_named(tmp_path: Path, name: str) -> None:
    if name != "missing.toml":
        (tmp_path / name).write_text("lr = [0.1")
    with pytest.raises(BadPlan, match=f"a search space in .*{name}"):
        find_space("replay", str(tmp_path / name), [])


def test_a_pair_without_a_name_needs_both_sides() -> None:
    assert find_pair("digits-t2").name == "digits-t2"
    with pytest.raises(Exception, match="a pair; found 'no-such-pair'"):
        find_pair("no-such-pair", tuning="digits")


def test_another_certificate_opens_no_evaluation(copy: Callable, plugin: Path) -> None:
    folder = copy()
    file = folder / CERTIFICATE
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(Tampered, match="the hash in the ledger's seal; found a different file"):
        evaluate(folder, PoolSpec("inline"), plugins=(plugin,))


def test_the_runs_of_what_is_no_study_are_not_repeated(copy: Callable) -> None:
    run = next(copy().glob("evaluations/1/seed-*"))
    alone = run.rename(run.parents[3] / "alone")
    with pytest.raises(BadPlan, match="no complete evaluation"):
        verify(alone, rerun=1)
    folder = copy()
    for file in folder.glob("evaluations/*/evaluation.json"):
        file.unlink()
    with pytest.raises(BadPlan, match="no complete evaluation"):
        verify(folder, rerun=1)


def test_a_ledger_whose_end_is_missing_is_found(copy: Callable) -> None:
    folder = copy()
    whole = (folder / NAME).read_bytes()
    (folder / NAME).write_bytes(whole[:-1])
    assert "the last line is cut off" in " ".join(verify(folder).problems)
    (folder / NAME).write_bytes(b"")
    assert "the last line is cut off" in " ".join(verify(folder).problems)
