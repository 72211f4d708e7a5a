"""What a strategy hands back wrongly is named, by hook and place, and never taken for a death."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from clgym.engines import open_channel
from clgym.errors import BadAnswer, StrategyFailed, WorkerDied
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.learner.replies import checked_costs, checked_logits
from factories import copy_plugin

INF = float("inf")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([[0.0, 1.0]], "a list"),
        (np.zeros((1, 2)), "a ndarray"),
        (torch.zeros(2, 2), r"\(2, 2\)"),
        (torch.zeros(1, 2, dtype=torch.complex64), "complex"),
        (torch.tensor([[0.0, float("nan")]]), "NaN"),
        (torch.tensor([[0.0, INF]]), "infinite"),
        (torch.tensor([[-INF, -INF]]), "infinite"),
    ],
)
def test_logits_of_wrong_type_shape_or_value_are_refused(answer: object, words: str) -> None:
    with pytest.raises(BadAnswer, match=f"from adapt; found .*{words}"):
        checked_logits(answer, "adapt", 1, 2)


def test_minus_infinity_and_integer_logits_are_accepted() -> None:
    found = checked_logits(torch.tensor([[-INF, 1.0]], requires_grad=True), "predict", 1, 2)
    np.testing.assert_array_equal(found, np.array([[-np.inf, 1]], np.float32))
    assert checked_logits(torch.tensor([[3, 4]]), "predict", 1, 2).dtype == np.float32


@pytest.mark.parametrize(
    ("costs", "words"),
    [
        ({"flops": torch.tensor(3.0)}, "a Tensor under 'flops'"),
        ({"flops": float("nan")}, "nan under 'flops'"),
        ({"flops": "many"}, "a str under 'flops'"),
        ({3: 1.0}, "the key 3"),
        (None, "a NoneType"),
    ],
)
def test_non_numeric_costs_are_refused(costs: object, words: str) -> None:
    with pytest.raises(BadAnswer, match=words):
        checked_costs(costs)


def test_numpy_scalars_are_accepted_as_costs() -> None:
    assert checked_costs({"a": np.float32(0.5), "b": 2}) == {"a": 0.5, "b": 2.0}


@pytest.mark.parametrize(
    ("hook", "error", "words"),
    [
        ("costs", BadAnswer, "a Tensor under 'flops'"),
        ("report", BadAnswer, "a Tensor for loss"),
        ("exit", StrategyFailed, "SystemExit: 3"),
    ],
)
def test_an_invalid_reply_ends_the_run_with_its_reason(
    tmp_path: Path, hook: str, error: type[Exception], words: str
) -> None:
    plugin = copy_plugin("odd", tmp_path, HOOK=hook)
    with pytest.raises(error, match=words) as caught:
        run(Request("odd", "split-digits", out=tmp_path / "run", plugins=(plugin,)))
    assert not isinstance(caught.value, WorkerDied)


def test_a_reply_that_cannot_be_encoded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = str(Path(__file__).parent.parent / "engines")
    monkeypatch.setenv("PYTHONPATH", f"{engines}:{os.environ.get('PYTHONPATH', '')}")
    channel = open_channel("process", "targets:Odd")
    try:
        with pytest.raises(BadAnswer, match=r"a set at deep\[1\]\.value"):
            channel.ask({"do": "set"}, lambda event: None)
        with pytest.raises(BadAnswer, match="contain themselves"):
            channel.ask({"do": "circle"}, lambda event: None)
        assert channel.ask({"do": "plain"}, lambda event: None) == {"deep": [1]}
    finally:
        channel.close()
