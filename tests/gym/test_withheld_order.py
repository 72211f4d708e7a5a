"""The order of the test rows: repeatable here, unknown to the learner, of no use to a guesser."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.gym.withheld_order import order_key, permutation
from clgym.results.stored import open_run
from factories import copy_plugin


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "state"
    monkeypatch.setenv("CLGYM_STATE", str(folder))
    return folder


def test_the_order_is_a_permutation_that_key_and_place_decide() -> None:
    key = order_key("a run")
    one = permutation(key, 1000, 2, None)
    assert sorted(one) == list(range(1000))
    np.testing.assert_array_equal(one, permutation(order_key("a run"), 1000, 2, None))
    others = [permutation(key, 1000, 3, None), permutation(order_key("another"), 1000, 2, None)]
    for other in others:  # as alike as two random orders: about one fixed place
        assert (one == other).sum() < 10


def test_another_installation_has_another_order(state: Path) -> None:
    first = order_key("a run")
    assert (state / "secret").stat().st_mode & 0o077 == 0
    (state / "secret").unlink()
    assert order_key("a run") != first


@pytest.mark.parametrize(
    "seeds", [range(3), pytest.param(range(3, 10), marks=pytest.mark.slow)], ids=["0-2", "3-9"]
)
def test_counting_images_does_not_reveal_the_experience(tmp_path: Path, seeds: range) -> None:
    """The six-line plugin that lifted nmc by 26 points on another order."""
    whole = run(Request("nmc", "split-digits", out=tmp_path / "nmc", threads=1)).result
    tests = whole.test_counts
    totals = np.cumsum(tests).tolist()
    file = copy_plugin("guesser", tmp_path, TESTS=tests, TOTALS=totals)
    gains = []
    for seed in seeds:
        request = Request(
            "guesser",
            "split-digits",
            plugins=(file,),
            out=tmp_path / f"g{seed}",
            threads=1,
            seed=seed,
        )
        record = run(request)
        gains.append(record.result.last_accuracy - whole.last_accuracy)
        # It fails when it is asked for more images than it has counted on.
        assert "answers depend on earlier predictions" in record.flags
    assert max(gains) < 0


def test_a_record_names_its_order_which_another_run_can_take(tmp_path: Path, state: Path) -> None:
    request = Request("naive", "split-digits", out=tmp_path / "here", threads=1)
    here = run(request)
    key = here.environment.order_key
    (state / "secret").unlink()  # as on another machine
    there = run(replace(request, out=tmp_path / "there", order_key=key))
    assert there.environment.order_key == key
    assert there.result == here.result
    assert open_run(tmp_path / "there").result == here.result


def test_pieces_of_a_run_hold_no_label_and_no_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.numpy import load_file

    from clgym.gym import session

    kept: list[set[str]] = []
    original = session.Session.save

    def save(self: session.Session, number: int, step: int, seconds: float) -> None:
        original(self, number, step, seconds)
        for file in sorted((tmp_path / "run").glob("answers-*")):
            kept.append(set(load_file(file)))
        text = (tmp_path / "run" / "progress.json").read_text()
        assert "accuracy" not in text and "label" not in text

    monkeypatch.setattr(session.Session, "save", save)
    run(Request("nmc", "split-digits", out=tmp_path / "run", threads=1))
    names = {"predicted", "task_aware", "seconds", "images", "flops", "seen"}
    assert kept and all(found == names for found in kept)
    assert not list((tmp_path / "run").glob("answers-*"))
