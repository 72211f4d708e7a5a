"""The small classifier that clgym trains on the source by itself."""

from pathlib import Path

import numpy as np
import pytest
import torch

from clgym.data.source_data import SourceData
from clgym.models.trained_classifier import trained
from clgym.models.wanted import ClassifierSpec

CPU = torch.device("cpu")


@pytest.fixture
def rows(tmp_path: Path) -> tuple[list[Path], np.ndarray]:
    """Twelve images of two classes, in two files."""
    pixels = np.random.RandomState(0).randint(0, 256, (12, 8, 8, 1), dtype=np.uint8)
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    np.save(paths[0], pixels[:5])
    np.save(paths[1], pixels[5:])
    return paths, np.arange(12) % 2


def source(rows: tuple[list[Path], np.ndarray], seed: int) -> SourceData:
    return SourceData(*rows, 1 / 255, None, CPU, seed)


def test_it_is_one_for_runs_of_all_seeds(
    rows: tuple[list[Path], np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cache knows no seed, so the first run on a machine decided for all others."""
    spec = ClassifierSpec((1, 8, 8), ("a", "b"), (0.5,), (0.2,), "f" * 64, None)
    states = []
    for seed in (0, 1):
        monkeypatch.setenv("CLGYM_CACHE", str(tmp_path / f"cache-{seed}"))
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        states.append(trained(spec, source(rows, seed), CPU, lambda event: None).state_dict())
        assert torch.equal(torch.get_rng_state(), before)  # the run's own draws go on
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_orders_of_source_rows_are_streams_of_their_own(
    rows: tuple[list[Path], np.ndarray],
) -> None:
    """Each pass has every row once; seed and pass make the order, and nothing drawn before."""

    def passes(data: SourceData, number: int) -> tuple[float, ...]:
        images, _ = data.batch(12, number)
        assert sorted(images.sum((1, 2, 3)).tolist()) == all_rows
        return tuple(images.sum((1, 2, 3)).tolist())

    ((images, _),) = source(rows, 0).once(12)
    all_rows = sorted(images.sum((1, 2, 3)).tolist())
    orders = [passes(source(rows, seed), number) for seed in (0, 1) for number in range(3)]
    assert len({*orders, tuple(images.sum((1, 2, 3)).tolist())}) == 7
    data = source(rows, 1)
    assert [passes(data, number) for number in (2, 0, 2)] == [orders[5], orders[3], orders[5]]
    assert passes(source(rows, 0).with_seed(1), 1) == orders[4]
