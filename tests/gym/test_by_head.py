"""Answers of several heads: scored and recorded beside the one that counts."""

from pathlib import Path

import pytest
from safetensors.numpy import load_file

from clgym.errors import ClgymError
from clgym.files import canonical_json
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.messages import Event, Scored
from clgym.results.consistency import prediction_problems
from clgym.results.record import LearningResult, result_hash
from clgym.results.stored import open_run
from factories import copy_plugin


def request(folder: Path, out: str, **constants: object) -> Request:
    plugin = copy_plugin("two_heads", folder, **constants)
    return Request("two-heads", "split-digits", out=folder / out, plugins=(plugin,))


def test_each_head_is_scored_on_all_classes_seen(tmp_path: Path) -> None:
    result = run(request(tmp_path, "run")).result
    assert isinstance(result, LearningResult) and result.heads is not None
    assert result.heads["mean"] == pytest.approx(result.accuracy_after)
    arrays = load_file(tmp_path / "run" / result.predictions.file)
    for i, found in enumerate(result.heads["next"]):
        shifted = (arrays[f"{i}/predicted"] + 1) % (2 * i + 2)
        assert found == pytest.approx((shifted == arrays[f"{i}/label"]).mean())
    assert result.stored_after == [0] * 5
    assert not list(open_run(tmp_path / "run").problems())


def test_other_strategies_have_one_head(tmp_path: Path) -> None:
    record = run(Request("nmc", "split-digits", out=tmp_path / "run"))
    assert record.result.heads is None
    assert "heads" not in canonical_json(record.result.model_dump(exclude_none=True)).decode()
    assert result_hash(record)


def test_a_run_that_goes_on_has_the_same_heads(tmp_path: Path) -> None:
    whole = run(request(tmp_path, "whole")).result

    def cut(event: Event) -> None:
        if isinstance(event, Scored) and event.experience == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(request(tmp_path, "cut"), cut)
    again = run(request(tmp_path, "cut"))
    assert again.cost.resumed == 1
    assert again.result == whole


def test_an_edited_accuracy_of_a_head_is_a_problem(tmp_path: Path) -> None:
    run(request(tmp_path, "run"))
    stored = open_run(tmp_path / "run")
    result = stored.result
    assert isinstance(result, LearningResult) and result.heads is not None
    better = [*result.heads["next"][:-1], 0.9]
    edited = result.model_copy(update={"heads": {**result.heads, "next": better}})
    (problem,) = prediction_problems(edited, stored.predictions())
    assert problem == "result.heads.next[4] does not follow from the predictions"
    absent = result.model_copy(update={"heads": {"other": better}})
    assert len(list(prediction_problems(absent, stored.predictions()))) == 5


def test_a_head_needs_a_plain_name(tmp_path: Path) -> None:
    with pytest.raises(ClgymError, match="name of a head"):
        run(request(tmp_path, "run", HEAD="../next"))
