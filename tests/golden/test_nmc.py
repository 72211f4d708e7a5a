"""Nearest class mean against the authors' code."""

from typing import Any

import numpy as np
import pytest
import torch

from clgym.registry import find, load_class
from clgym.strategy import Strategy, StreamInfo

FAMILY = ("nmc_",)


def make() -> Any:
    cls = load_class(find("strategies", "nmc"), Strategy)
    strategy = cls(cls.Config())
    device = torch.device("cpu")
    strategy.setup(StreamInfo((1, 1, 16), "class-incremental", device, 0, (0.0,), (1.0,)))
    return strategy


def predicted(strategy: Any, features: np.ndarray) -> np.ndarray:
    return strategy.scores(torch.from_numpy(features)).argmax(1).numpy()


@pytest.mark.golden("nmc_classinc*")
def test_class_incremental(golden) -> None:
    strategy, size = make(), int(golden["classes_per_task"])
    x, y = torch.from_numpy(golden["x_train"]), torch.from_numpy(golden["y_train"])
    accuracies = golden["accuracy_per_task"]
    for task, accuracy in enumerate(accuracies):
        new = (y >= task * size) & (y < (task + 1) * size)
        strategy.update(x[new], y[new], (task + 1) * size)
        seen = golden["y_test"] < (task + 1) * size
        found = predicted(strategy, golden["x_test"][seen])
        np.testing.assert_array_equal(found, golden[f"pred_after_task_{task}"])
        assert np.mean(found == golden["y_test"][seen]) == pytest.approx(accuracy, abs=1e-6)
    np.testing.assert_allclose(strategy.classes.means.numpy(), golden["class_means"], atol=1e-6)


@pytest.mark.golden("nmc_online*")
def test_sessions_of_unequal_size(golden) -> None:
    strategy = make()
    sessions = sum(key.startswith("x_train_") for key in golden)
    columns = len(golden["class_means_final"])
    for session in range(sessions):
        x, y = (torch.from_numpy(golden[f"{k}_train_{session}"]) for k in "xy")
        for part in torch.arange(len(y)).split(20):  # however the batches are cut
            strategy.update(x[part], y[part], columns)
        found = predicted(strategy, golden["x_test"])
        np.testing.assert_array_equal(found, golden[f"pred_after_session_{session}"])
    np.testing.assert_array_equal(strategy.classes.counts.numpy(), golden["class_counts_final"])
    means = strategy.classes.means.numpy()
    np.testing.assert_allclose(means, golden["class_means_final"], atol=1e-6)
