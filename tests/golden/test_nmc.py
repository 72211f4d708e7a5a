"""Nearest class mean against the authors' code."""

from typing import Any

import numpy as np
import pytest
import torch

from clgym.registry import find, load_class
from clgym.strategy import Batch, Strategy
from factories import stream_info

FAMILY = ("nmc_",)


def make(width: int) -> Any:
    cls = load_class(find("strategies", "nmc"), Strategy)
    strategy = cls(cls.Config())
    strategy.setup(stream_info((1, 1, width)))
    return strategy


def given(features: torch.Tensor) -> Batch:
    """Images whose pixels are these features, [n, d]."""
    return Batch(features[:, None, None])


def count(strategy: Any, features: torch.Tensor, labels: torch.Tensor, columns: int) -> None:
    strategy.classes.update(strategy.embed(given(features)), labels, columns)


def predicted(strategy: Any, features: np.ndarray) -> np.ndarray:
    return strategy.predict(given(torch.from_numpy(features))).argmax(1).numpy()


@pytest.mark.golden("nmc_classinc*")
def test_class_incremental(golden) -> None:
    strategy, size = make(golden["x_train"].shape[1]), int(golden["classes_per_task"])
    x, y = torch.from_numpy(golden["x_train"]), torch.from_numpy(golden["y_train"])
    accuracies = golden["accuracy_per_task"]
    for task, accuracy in enumerate(accuracies):
        new = (y >= task * size) & (y < (task + 1) * size)
        count(strategy, x[new], y[new], (task + 1) * size)
        seen = golden["y_test"] < (task + 1) * size
        found = predicted(strategy, golden["x_test"][seen])
        np.testing.assert_array_equal(found, golden[f"pred_after_task_{task}"])
        assert np.mean(found == golden["y_test"][seen]) == pytest.approx(accuracy, abs=1e-6)
    np.testing.assert_allclose(strategy.classes.means.numpy(), golden["class_means"], atol=1e-6)


@pytest.mark.golden("nmc_online*")
def test_sessions_of_unequal_size(golden) -> None:
    strategy = make(golden["x_test"].shape[1])
    sessions = golden.count("x_train_")
    columns = len(golden["class_means_final"])
    for session in range(sessions):
        x, y = (torch.from_numpy(golden[f"{k}_train_{session}"]) for k in "xy")
        for part in torch.arange(len(y)).tensor_split(session + 2):  # however batches are cut
            count(strategy, x[part], y[part], columns)
        found = predicted(strategy, golden["x_test"])
        np.testing.assert_array_equal(found, golden[f"pred_after_session_{session}"])
    np.testing.assert_array_equal(strategy.classes.counts.numpy(), golden["class_counts_final"])
    means = strategy.classes.means.numpy()
    np.testing.assert_allclose(means, golden["class_means_final"], atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_files_of_other_sizes(seed: int, oracles: Any, written: Any) -> None:
    rng = np.random.default_rng(seed)
    test_class_incremental(written("nmc_classinc", **oracles.nmc_class_incremental(rng)))
    test_sessions_of_unequal_size(written("nmc_online", **oracles.nmc_sessions(rng)))
