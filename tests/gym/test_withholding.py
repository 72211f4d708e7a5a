"""A strategy that looks everywhere for evaluation labels, in a run as users start it.

The snoop runs in the learner's process. It scans what it is handed, every object the garbage
collector knows, every frame of every thread, and the open pipe, for the labels of the test rows
and for arrays that split the pool as the experiences do. It reports what it found by its answers.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clgym.data.sources import load_source
from clgym.errors import StrategyFailed
from clgym.gym.request import Request
from clgym.gym.run import run
from factories import copy_plugin


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("snoop")
    plugin = copy_plugin("snoop", folder, REPORT=folder / "report")
    request = Request(
        "snoop", "split-digits", out=folder / "run", plugins=(plugin,), sandbox="none"
    )
    run(request)  # it writes its report outside
    return [json.loads(line) for line in (folder / "report").read_text().splitlines()]


def test_batches_carry_neither_label_nor_task(report: list[dict]) -> None:
    batches = [line for line in report if line["what"] == "batch"]
    assert len(batches) >= 5
    assert not any(line["labels"] or line["task"] is not None for line in batches)


def test_no_array_in_reach_tells_the_test_labels(report: list[dict]) -> None:
    """No array is the labels of a scored pool, nor its experiences, in whichever order."""
    arrays = [np.array(a) for line in report for a in line.get("arrays", [])]
    assert len(arrays) > 3, "the snoop saw no array: the test proves nothing"
    assert not any(_tells(array) for array in arrays)


def test_the_snoop_would_have_found_them_in_the_gyms_process(tmp_path: Path) -> None:
    """The check can fail: with both sides in one process the labels are in reach."""
    plugin = copy_plugin("snoop", tmp_path, REPORT=tmp_path / "report")
    run(Request("snoop", "split-digits", out=tmp_path / "r", plugins=(plugin,), engine="inline"))
    lines = [json.loads(line) for line in (tmp_path / "report").read_text().splitlines()]
    assert any(_tells(np.array(a)) for line in lines for a in line.get("arrays", []))


def _tells(values: np.ndarray) -> bool:
    """Whether an array has, in some order, the labels or the experiences of a pool's rows."""
    labels = load_source("digits").test.labels
    for secret in (labels, labels // 2):
        for upto in (2, 5):
            pool = secret[labels < 2 * upto]
            if len(values) == len(pool) and np.array_equal(np.sort(values), np.sort(pool)):
                return True
    return False


def test_nothing_waits_in_the_pipe_and_the_gym_is_not_loaded(report: list[dict]) -> None:
    assert all(line["waiting"] == [] for line in report if line["what"] == "pipe")
    assert all(line["gym"] == [] for line in report if line["what"] == "modules")


@pytest.mark.parametrize("look", ["pixels", "labels", "batches"])
def test_past_rows_are_out_of_reach(tmp_path: Path, look: str) -> None:
    """In one process: an experience that was kept; otherwise nothing that was kept is there."""
    plugin = copy_plugin("keeper", tmp_path, LOOK=look)
    request = Request("keeper", "split-digits", out=tmp_path / "run", plugins=(plugin,))
    with pytest.raises(Exception, match="experience 0 is over") as caught:
        run(replace(request, engine="inline"))
    assert type(caught.value).__name__ == "OutOfReach"
    assert not isinstance(caught.value, StrategyFailed)
