"""Claimed beside measured: the verdict follows from numbers that are computed here anew."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from scipy import stats

from clgym.files import sha256
from clgym.papers import Claim
from clgym.papers.verdicts import Measured, judge, not_run
from clgym.results.record import Record
from clgym.results.stored import StoredRun, open_run

FACTS: dict[str, Any] = {"where": "main table", "known": "verified"}


def record(accuracy: float, forgetting: float = 0.1) -> Record:
    """One with what a claim can be about; everything else is filler."""
    digest = "0" * 64
    result: dict[str, Any] = {
        "kind": "learning",
        "strategy": {"name": "s", "source_hash": digest, "config": {}},
        "scenario": {"name": "c", "setting": "class-incremental", "config": {}, "digest": digest},
        "sources": [],
        "seed": 0,
        "order_seed": None,
        "class_order": ["a", "b"],
        "accuracy_matrix": [[accuracy]],
        "test_counts": [4],
        "accuracy_after": [accuracy],
        "task_aware_accuracy_after": [accuracy],
        "last_accuracy": accuracy,
        "average_incremental_accuracy": accuracy,
        "forgetting": forgetting,
        "backward_transfer": None,
        "forward_transfer": None,
        "chance": [0.1],
        "parameters": 1,
        "stored_samples": 0,
        "predictions": {"file": "predictions.safetensors", "sha256": digest},
    }
    cost = {
        "wall_seconds": 1,
        "train_seconds": [],
        "predict_seconds": [],
        "images_per_second": 1,
        "peak_memory_bytes": 1,
        "state_bytes": 1,
        "resumed": 0,
    }
    environment = {
        "clgym": "0",
        "python": "3",
        "packages": {},
        "platform": "p",
        "machine": "m",
        "device": "cpu",
        "threads": 1,
        "engine": "process",
    }
    return Record.model_validate({"result": result, "cost": cost, "environment": environment})


def unstored(found: Record) -> StoredRun:
    return StoredRun(Path("nowhere"), found, "0" * 64)


def measured(*accuracies: float, tuning: float | None = None) -> Measured:
    return Measured(tuple(unstored(record(a)) for a in accuracies), tuning)


def number(value: float, tolerance: float) -> Claim:
    return Claim(measure="last_accuracy", of="a", value=value, tolerance=tolerance, **FACTS)


def order(measure: str = "last_accuracy") -> Claim:
    return Claim(measure=measure, better="a", worse="b", **FACTS)


@given(
    st.lists(st.integers(0, 1000), min_size=1, max_size=4),
    st.integers(0, 1000),
    st.integers(0, 50),
)
def test_a_number_is_reproduced_within_its_tolerance(found, claimed, tolerance):
    status = judge(
        number(claimed / 10, tolerance / 10), {"a": measured(*(f / 1000 for f in found))}
    )
    apart = abs(sum(found) - claimed * len(found))  # in thousandths, times the number of seeds
    assert (status.verdict == "reproduced") == (apart <= tolerance * len(found))


def test_a_number_that_differs_says_by_how_much():
    status = judge(number(50.0, 1.0), {"a": measured(0.52, 0.54)})
    assert (status.verdict, status.why) == ("differs", "by +3.00")
    assert status.measured.startswith("53.00")


def test_an_order_over_seeds_has_the_interval_of_student():
    ones, others = [0.60, 0.64, 0.66], [0.50, 0.52, 0.57]
    status = judge(order(), {"a": measured(*ones), "b": measured(*others)})
    differences = 100 * np.subtract(ones, others)
    low, high = stats.t.interval(0.95, 2, loc=differences.mean(), scale=stats.sem(differences))
    assert status.verdict == "order reproduced"
    assert status.why == f"by {differences.mean():+.2f} [{low:+.2f}, {high:+.2f}] over 3 seeds"


def test_an_order_whose_interval_holds_zero_is_within_noise():
    status = judge(order(), {"a": measured(0.5, 0.7), "b": measured(0.49, 0.60)})
    assert status.verdict == "order as claimed, within noise"


def test_an_order_that_is_reversed_is_not_reproduced():
    status = judge(order(), {"a": measured(0.5, 0.5), "b": measured(0.64, 0.66)})
    assert status.verdict == "order not reproduced" and "by -15.00" in status.why
    status = judge(order(), {"a": measured(0.5, 0.5), "b": measured(0.6, 0.7)})
    assert status.verdict == "order not as claimed, within noise" and "by -15.00" in status.why


def test_less_is_better_where_the_measure_says_so():
    few, many = (
        Measured(tuple(unstored(record(0.5, f)) for f in values))
        for values in ((0.1, 0.12), (0.3, 0.33))
    )
    assert judge(order("forgetting"), {"a": few, "b": many}).verdict == "order reproduced"
    assert judge(order("forgetting"), {"a": many, "b": few}).verdict == "order not reproduced"


def _answered(folder: Path, wrong: dict[str, slice], forgetting: float = 0.1) -> Measured:
    """One run; by phase (a prefix of names) which of its 200 answers are wrong."""
    label = np.zeros(200, np.int32)
    answers, accuracy, predicted = {}, 0.0, label
    for prefix, where in wrong.items():
        predicted = label.copy()
        predicted[where] = 1
        accuracy = accuracy or float((predicted == label).mean())
        row = np.arange(200, dtype=np.int64)
        columns = {"label": label, "predicted": predicted, "row": row, "experience": label}
        columns |= {"domain": label, "confidence": np.ones(200, np.float32)}
        answers |= {f"{prefix}0/{name}": v for name, v in columns.items()}
    folder.mkdir()
    save_file(answers, folder / "predictions.safetensors")
    facts = record(accuracy, forgetting).model_dump()
    facts["result"]["predictions"]["sha256"] = sha256(
        (folder / "predictions.safetensors").read_bytes()
    )
    if "shift/" in wrong:
        facts["result"]["scenario"]["setting"] = "learn-then-shift"
        facts["result"]["kind"] = "two-phases"
        facts["result"]["adaptation"] = _shift(int((predicted != label).sum()) / 200)
    (folder / "record.json").write_text(Record.model_validate(facts).model_dump_json())
    return Measured((open_run(folder),))


def _shift(error: float) -> dict:
    segment = {"name": "fog-5", "images": 200, "error": error, "calibration_error": 0.0}
    segment |= {"largest_class": 0.0, "recovery": 0.0}
    return {
        "model": {"name": "learned", "sha256": "0" * 64},
        "predict": "before",
        "batch_size": 8,
        "reset_each_segment": False,
        "segments": [segment],
        "domains": {"fog": error},
        "mean_error": error,
        "pooled_error": error,
        "per_class": {},
        "forward_per_image": None,
        "backward_per_image": None,
    }


def test_one_seed_is_judged_over_test_images(tmp_path):
    """200 images; A alone has 40 of them right, B alone 2: the interval is far from zero."""
    sides = {
        "a": _answered(tmp_path / "a", {"": slice(0, 2)}),
        "b": _answered(tmp_path / "b", {"": slice(2, 42)}),
    }
    status = judge(order(), sides)
    assert status.verdict == "order reproduced"
    assert "by +19.00 [" in status.why and "one seed" in status.why


def test_each_phase_is_judged_by_its_own_answers(tmp_path):
    """Learned alike; under the shift B alone has 38 answers wrong more."""
    sides = {
        "a": _answered(tmp_path / "a", {"": slice(0, 40), "shift/": slice(0, 2)}),
        "b": _answered(tmp_path / "b", {"": slice(0, 40), "shift/": slice(0, 40)}),
    }
    learned, shifted = judge(order(), sides), judge(order("mean_error"), sides)
    assert learned.verdict == "order not as claimed, within noise" and "by +0.00" in learned.why
    assert shifted.verdict == "order reproduced" and "by +19.00 [" in shifted.why


def test_answers_at_the_end_decide_no_other_measure(tmp_path):
    """One seed; A has more answers right at the end, which says nothing of its forgetting."""
    sides = {
        "a": _answered(tmp_path / "a", {"": slice(0, 2)}, forgetting=0.10),
        "b": _answered(tmp_path / "b", {"": slice(2, 42)}, forgetting=0.11),
    }
    status = judge(order("forgetting"), sides)
    assert (status.verdict, status.why) == (
        "order as claimed, within noise",
        "by +1.00 one seed",
    )


def _seeded(**accuracies: float) -> Measured:
    """Runs by seed, such as ``s7=0.5``, in this order."""
    runs = []
    for name, accuracy in accuracies.items():
        made = record(accuracy)
        update = {"seed": int(name.removeprefix("s"))}
        runs.append(made.model_copy(update={"result": made.result.model_copy(update=update)}))
    return Measured(tuple(map(unstored, runs)))


def test_runs_are_compared_by_seed_in_whatever_order_they_come():
    """Per seed A is 2.0 and 2.2 points above; by place the differences would be 20 and -16."""
    sides = {"a": _seeded(s1=0.52, s2=0.342), "b": _seeded(s2=0.32, s1=0.50)}
    status = judge(order(), sides)
    assert status.verdict == "order reproduced"
    assert status.why.startswith("by +2.10 [") and status.why.endswith("over 2 seeds")


def test_runs_of_different_seeds_are_no_pairs():
    sides = {"a": _seeded(s1=0.52, s2=0.342), "b": _seeded(s1=0.50, s3=0.32)}
    status = judge(order(), sides)
    assert status.verdict == "order as claimed, within noise"
    assert status.why == "by +2.10 over different seeds, no pairs"


@pytest.mark.parametrize(
    ("tuning", "verdict"),
    [
        ((0.5, 0.4, 0.3, 0.2), "order as claimed, within noise"),  # equal ranks
        ((0.5, 0.4, 0.2, 0.3), "order reproduced"),
        ((0.2, 0.3, 0.4, 0.5), "order not reproduced"),
    ],
)
def test_ranks_are_correlated_but_not_equal(tuning, verdict):
    claim = Claim(measure="rank_correlation", ranks=("a", "b", "c", "d"), **FACTS)
    found = {
        name: measured(score, tuning=t)
        for name, score, t in zip("abcd", (0.6, 0.5, 0.4, 0.3), tuning, strict=True)
    }
    status = judge(claim, found)
    assert status.verdict == verdict
    rho = stats.spearmanr(tuning, (0.6, 0.5, 0.4, 0.3))[0]
    assert status.measured == f"{rho:.2f} over 4 strategies"
    tau = stats.kendalltau(tuning, (0.6, 0.5, 0.4, 0.3))[0]
    both = (f"Spearman's correlation {rho:.2f} [", f"Kendall's tau-b {tau:.2f} [")
    assert all(words in status.why for words in both) or rho == pytest.approx(1)


def test_equal_scores_have_no_ranks_to_correlate():
    claim = Claim(measure="rank_correlation", ranks=("a", "b"), **FACTS)
    found = {name: measured(0.5, tuning=0.4) for name in "ab"}
    assert judge(claim, found).verdict == "not run"


def test_runs_that_lack_the_measure_give_no_verdict():
    """Without an average, as in runs that are tested only at their end."""
    whole = record(0.5)
    lacking = whole.result.model_copy(update={"average_incremental_accuracy": None})
    partly = unstored(whole.model_copy(update={"result": lacking}))
    found = {n: measured(s / 10, tuning=s / 10) for n, s in zip("ab", (3, 2), strict=True)}
    found["c"] = Measured((unstored(whole), partly), 0.1)
    ranks = Claim(measure="rank_correlation", ranks=("a", "b", "c"), **FACTS)
    assert judge(ranks, found).verdict == "not run"
    average = Claim(measure="average_incremental_accuracy", of="c", value=50, **FACTS)
    assert judge(average, found).verdict == "not run"
    # Each side has one seed left, not the same one: they are no pair.
    sides = {"a": found["c"], "b": Measured((partly, unstored(whole)))}
    assert judge(order("average_incremental_accuracy"), sides).verdict == "not run"


def test_a_row_that_did_not_run_gives_the_reason():
    status = not_run(order(), "no weights")
    assert (status.verdict, status.why, status.measured) == ("not run", "no weights", "-")


@pytest.mark.parametrize(
    "wrong",
    [
        {"of": "a"},  # a number without its value
        {"better": "a"},
        {"of": "a", "value": 1.0, "better": "a", "worse": "b"},
        {"of": "a", "value": 1.0, "measure": "luck"},
    ],
)
def test_a_claim_that_claims_nothing_definite_is_refused(wrong):
    with pytest.raises(ValueError):
        Claim(**{"measure": "last_accuracy", **FACTS, **wrong})
