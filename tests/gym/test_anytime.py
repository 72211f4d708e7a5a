"""Accuracy at any time: single-pass streams are tested inside their experiences, too."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from clgym.api import make_scenario
from clgym.gym.anytime import exposed_pool, moments
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.messages import CheckpointSaved
from clgym.results.consistency import own_problems, prediction_problems
from clgym.results.metrics import area_under_curve
from clgym.results.predictions import StoredPredictions
from clgym.scenario import Stream

CLASSES: dict[str, Any] = {"classes": (0, 1, 2, 3)}


def go(out, name="replay", scenario="online-digits", options=None, **more):
    strategy = {"batch_size": 8, "network": "slim-resnet18"} if name != "nmc" else {}
    return run(
        Request(
            name,
            scenario,
            strategy_config=strategy,
            scenario_config={**CLASSES, **(options or {})},
            out=out,
            threads=1,
            **more,
        )
    ).result


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), min_size=1, max_size=20))
def test_the_area_is_that_under_the_steps(pairs):
    """Against the curve drawn image by image: before its first measurement it has that value."""
    gaps, accuracy = zip(*pairs, strict=True)
    drawn = np.repeat(accuracy, gaps)
    images = np.cumsum(gaps).tolist()
    assert area_under_curve(images, list(accuracy)) == pytest.approx(drawn.mean())


def test_equal_distances_give_the_mean():
    assert area_under_curve([100, 200, 300], [0.9, 0.6, 0.3]) == pytest.approx(0.6)
    assert area_under_curve([10, 100], [1.0, 0.0]) == pytest.approx(0.1)


@pytest.mark.parametrize("anytime", [1, 3, 20, 5000])
def test_moments_are_equally_spaced_over_the_stream(anytime):
    stream = make_scenario("online-digits", anytime=anytime)
    assert isinstance(stream, Stream)
    sizes = [len(step.train) for step in stream.steps]
    starts = np.cumsum([0, *sizes])
    found = [s + m for j, s in enumerate(starts[:-1]) for m in moments(stream, j)]
    total = sum(sizes)
    wanted = {int(np.ceil(k * total / anytime)) for k in range(1, anytime + 1)}
    assert found == sorted(wanted | set(starts[1:].tolist()))


@pytest.mark.slow
def test_a_run_is_measured_inside_its_experiences(tmp_path):
    result = go(tmp_path / "run")
    curve = result.anytime
    assert curve is not None
    total = make_scenario("online-digits", **CLASSES).outline()
    ends = np.cumsum([step.train for step in total]).tolist()
    assert len(curve.images) >= 20 and curve.images[-1] == ends[-1]
    assert set(ends) <= set(curve.images)
    # All classes that have come are those that are scored after an experience.
    at_ends = [curve.accuracy[curve.images.index(end)] for end in ends]
    assert at_ends == pytest.approx(result.accuracy_after)
    gaps = np.diff([0, *curve.images])
    assert curve.area == pytest.approx(float((gaps * curve.accuracy).sum()) / ends[-1])
    first = [a for n, a in zip(curve.images, curve.accuracy, strict=True) if n <= ends[0]]
    assert len(first) > 5 and min(first) < max(first)


@pytest.mark.slow
def test_testing_in_between_changes_nothing(tmp_path):
    """Batch normalisation, the memory's draws and all later answers are what they were."""
    often, never = (go(tmp_path / str(n), options={"anytime": n}, seed=3) for n in (20, 0))
    assert never.anytime is None and often.anytime is not None
    assert often.accuracy_matrix == never.accuracy_matrix
    assert often.scenario.digest == never.scenario.digest
    kept = [load_file(tmp_path / n / "predictions.safetensors") for n in ("20", "0")]
    for key, values in kept[1].items():
        assert np.array_equal(kept[0][key], values), key
    state = [load_file(tmp_path / n / "state.safetensors") for n in ("20", "0")]
    assert all(np.array_equal(state[0][key], value) for key, value in state[1].items())


@pytest.mark.slow
def test_a_run_that_is_cut_inside_an_experience_has_the_same_curve(tmp_path):
    saves = 0

    def cut(event):
        nonlocal saves
        saves += isinstance(event, CheckpointSaved)
        if saves == 7:
            raise KeyboardInterrupt

    def request(out):
        return Request(
            "replay",
            "online-digits",
            strategy_config={"batch_size": 8},
            scenario_config=CLASSES,
            out=tmp_path / out,
            threads=1,
            checkpoint_minutes=1e-6,
        )

    with pytest.raises(KeyboardInterrupt):
        run(request("cut"), cut)
    resumed, whole = run(request("cut")), run(request("whole"))
    assert resumed.cost.train_images == whole.cost.train_images  # those before the cut, too
    assert resumed.result == whole.result
    assert resumed.result.anytime is not None and len(resumed.result.anytime.images) > 15


def test_without_safe_points_the_ends_are_measured(tmp_path):
    result = go(tmp_path / "run", "nmc")
    assert result.anytime is not None
    assert result.anytime.accuracy == pytest.approx(result.accuracy_after)


@pytest.mark.slow
def test_blurry_streams_are_measured_on_all_classes_that_have_come(tmp_path):
    result = go(tmp_path / "run", scenario="i-blurry-digits")
    stream = make_scenario("i-blurry-digits", **CLASSES)
    assert isinstance(stream, Stream) and result.anytime is not None
    kept = load_file(tmp_path / "run" / "predictions.safetensors")
    for j in range(len(stream)):
        assert set(kept[f"{j}/anytime_label"]) == set(range(stream.columns_after(j)))
    assert stream.columns_after(0) == 3  # two of its own, one of the blurry ones of later
    assert len(kept["0/anytime_label"]) > len(kept["0/label"])


def test_the_audit_computes_the_curve_again(tmp_path):
    record = run(
        Request("nmc", "online-digits", scenario_config=CLASSES, out=tmp_path / "run", threads=1)
    )
    arrays = load_file(tmp_path / "run" / "predictions.safetensors")
    curve = record.result.anytime
    assert curve is not None

    def problems(curve):
        other = record.model_copy(
            update={"result": record.result.model_copy(update={"anytime": curve})}
        )
        stored = StoredPredictions(arrays, other.result, tmp_path)
        return [*own_problems(other), *prediction_problems(other.result, stored)]

    assert not problems(curve)
    (found,) = problems(curve.model_copy(update={"area": curve.area + 0.01}))
    assert "anytime.area" in found
    later = curve.model_copy(update={"images": [n + 1 for n in curve.images]})
    assert any("anytime.images does not follow from the predictions" in p for p in problems(later))
    better = [1.0] * len(curve.accuracy)
    assert any(
        "anytime.accuracy" in p for p in problems(curve.model_copy(update={"accuracy": better}))
    )


def test_the_pool_is_that_of_the_classes_that_have_come():
    from clgym.data.sources import load_source

    stream = make_scenario("i-blurry-digits", disjoint=0.8)
    assert isinstance(stream, Stream)
    source = load_source("digits")
    for j in range(len(stream)):
        pool = exposed_pool(stream, [source], j)
        label = np.array(stream.columns[0])[source.test.labels]
        wanted = np.flatnonzero(label < stream.columns_after(j))
        assert sorted(pool.row) == wanted.tolist()
        assert np.array_equal(pool.label, label[pool.row])
