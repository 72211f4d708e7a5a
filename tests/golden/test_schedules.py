"""Learning-rate schedules and replay at a rate, against the released code of their papers."""

import json

import numpy as np
import pytest

from clgym.data.rate_replay import RateReplay, greedy_blend
from clgym.models.continual_rates import (
    ConstantAfterFirst,
    Infinite,
    Place,
    RepeatedCosine,
    Schedule,
)

FAMILY = ("lrs_", "rate_replay_")


def line(schedule: Schedule, steps: list[int]) -> np.ndarray:
    """All rates of a stream whose experiences have ``steps`` steps."""
    before = np.concatenate([[0], np.cumsum(steps)])
    places = (Place(k, t, n, int(before[k])) for k, n in enumerate(steps) for t in range(n))
    return np.array([schedule(place) for place in places])


def near(found: np.ndarray, wanted: np.ndarray, tolerance: dict[str, float]) -> None:
    np.testing.assert_allclose(
        found, wanted, rtol=tolerance.get("rtol", 0.0), atol=tolerance.get("atol", 0.0)
    )


@pytest.mark.golden("lrs_*")
def test_schedule(golden) -> None:
    hp = json.loads(str(golden["hp"]))
    {
        "lr_repeated_cosine": repeated,
        "lr_constant_after_first": constant,
        "lr_infinite": infinite,
    }[hp["kind"]](golden, hp)


def repeated(golden, hp) -> None:
    schedule = RepeatedCosine(
        hp["eta_max"],
        hp["eta_min"],
        hp["warmup_frac"],
        hp["rewarm_from"],
        hp["decay_end_frac"],
        tuple(hp["scale"] or ()),
    )
    assert [schedule.warmup_steps(n) for n in hp["S"]] == golden["warmup_steps"].tolist()
    assert [schedule.decay_steps(n) for n in hp["S"]] == golden["decay_steps"].tolist()
    near(line(schedule, hp["S"]), golden["lr"], hp["tol"])


def constant(golden, hp) -> None:
    schedule = ConstantAfterFirst(hp["eta_max"], hp["eta_min"], hp["warmup_frac"], hp["hold"])
    assert [schedule.warmup_steps(n) for n in hp["S"]] == golden["warmup_steps"].tolist()
    near(line(schedule, hp["S"]), golden["lr"], hp["tol"])


def infinite(golden, hp) -> None:
    schedule = Infinite(
        hp["eta_max"],
        hp["eta_const"],
        hp["eta_min"],
        hp["W"],
        hp["Cd"],
        hp["A"],
        hp["cooldown"],
        hp["alpha"],
    )
    steps = hp["S"]
    ends = np.cumsum(steps)
    near(line(schedule, steps), golden["lr_main"], hp["tol"])
    near(line(schedule.annealed, steps), golden["lr_chain"], hp["tol"])
    for k, (end, n) in enumerate(zip(ends, steps, strict=True)):
        start = int(end) - n + schedule.branch_start(n)
        assert start == golden["branch_start"][k]
        branch = line(schedule.annealed, steps)[start:end]
        near(branch, golden[f"lr_branch_{k}"], hp["tol"])
        evaluated = np.concatenate([line(schedule, steps)[:start], branch])
        near(evaluated, golden[f"lr_seen_by_evaluated_{k}"], hp["tol"])


@pytest.mark.golden("rate_replay_*")
def test_rate_replay(golden) -> None:
    hp = json.loads(str(golden["hp"]))
    if hp["kind"] == "replay_greedy_blend":
        new, old, rate = hp["new_weights"], hp["old_weights"], hp["replay_fraction"]
        weights = [(1 - rate) * w / sum(new) for w in new] + [rate * w / sum(old) for w in old]
        np.testing.assert_array_equal(golden["weights"], weights)
        source, sample = greedy_blend(weights, hp["n"])
        np.testing.assert_array_equal(source, golden["source_index"])
        np.testing.assert_array_equal(sample, golden["sample_index"])
        return
    sizes, batch = hp["corpus_sizes"], hp["batch_size"]
    replay = RateReplay(hp["rate"], hp["weighting"])
    for k, steps in enumerate(hp["S"]):
        replay.begin(k, sizes[k])
        for t in range(steps):
            chance, picks = golden[f"u_count_{k}"][t], golden[f"u_source_{k}"][t]
            source, row = replay.batch(batch, float(chance), picks)
            assert (source != k).sum() == golden[f"n_old_{k}"][t]
            np.testing.assert_array_equal(source, golden[f"exp_{k}"][t])
            np.testing.assert_array_equal(row, golden[f"row_{k}"][t])
