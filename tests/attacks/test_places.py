"""What a plugin makes of the place at which an image comes on an adaptation stream."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from clgym import api
from clgym.gym.arrival import in_order_of_arrival
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.gym.withheld_order import order_key
from clgym.streams.adaptation import AdaptationStream

PLUGIN = Path(__file__).parent / "plugins" / "adds_up_by_place.py"
FOUR = {"corruptions": "gaussian-noise,fog,contrast,pixelate", "severity": 5}


def error(strategy: str, out: Path, **options: Any) -> float:
    """Mean error of a run on the corruptions of digits."""
    request = Request(
        strategy, "digits-c", scenario_config=options, out=out, plugins=(PLUGIN,), threads=1
    )
    found = run(request).result.adaptation
    assert found is not None
    return found.mean_error


def test_adding_up_answers_by_place_gains_nothing(tmp_path: Path) -> None:
    """In the published order it loses two thirds of its errors, and adapts to nothing."""
    name = "adds-up-by-place"
    plain = error("source", tmp_path / "plain")
    assert error(name, tmp_path / "withheld") > plain
    gained = error(name, tmp_path / "published", arrival="published")
    assert gained < 0.5 * plain


def test_a_method_without_memory_answers_alike_in_any_order(tmp_path: Path) -> None:
    """Its answers to each image do not depend on the order, nor on where a batch ends."""
    answers = []
    for arrival in ("withheld", "published"):
        error("source", tmp_path / arrival, arrival=arrival, **FOUR)
        kept = load_file(tmp_path / arrival / "predictions.safetensors")
        order = [np.argsort(kept[f"{i}/row"]) for i in range(4)]
        answers.append([kept[f"{i}/predicted"][order[i]] for i in range(4)])
    np.testing.assert_array_equal(*answers)


def planned(**options: Any) -> AdaptationStream:
    stream = api.make_scenario("digits-c", **{**FOUR, **options})
    assert isinstance(stream, AdaptationStream)
    return stream


@pytest.mark.parametrize("order", ["iid", "sorted", "dirichlet"])
def test_the_key_exchanges_images_and_keeps_the_order_of_classes(order: str) -> None:
    plan, generator = planned(order=order, delta=5.0), np.random.default_rng(0)
    classes = generator.integers(0, 10, size=360)  # by row
    labels = [classes[segment.row] for segment in plan.segments]
    arriving, other = (in_order_of_arrival(plan, labels, order_key(k)) for k in ("a", "b"))
    for before, after, label in zip(plan.segments, arriving.segments, labels, strict=True):
        assert sorted(after.row) == sorted(before.row)
        same_class = np.array_equal(classes[after.row], label)
        assert same_class == (order != "iid")
        assert (after.row == before.row).mean() < 0.15
    assert not np.array_equal(arriving.segments[0].row, other.segments[0].row)
    again = in_order_of_arrival(plan, labels, order_key("a"))
    np.testing.assert_array_equal(again.segments[2].row, arriving.segments[2].row)


def test_domains_move_with_their_images_and_a_published_plan_stays() -> None:
    mixed = planned(setting="mixed", corruptions="fog,contrast")
    labels = [np.zeros(720, dtype=np.int64)]
    (segment,) = in_order_of_arrival(mixed, labels, order_key("a")).segments
    pairs = set(zip(segment.domain.tolist(), segment.row.tolist(), strict=True))
    assert len(pairs) == 720
    published = planned(arrival="published")
    assert in_order_of_arrival(published, [], order_key("a")) is published
