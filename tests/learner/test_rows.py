"""Batches of test rows that mix sources: read ahead or not, they are those of NumPy."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from crossings import META, crossings

from clgym.data.read_ahead import read_ahead
from clgym.learner import rows as module
from clgym.learner.representing import batches_of
from clgym.learner.rows import RowImages

CPU = torch.device("cpu")
WHITE = (255, 15)


class Pool:
    """Eleven test rows of two sources, whose pixels have other ranges."""

    def __init__(self, folder: Path) -> None:
        draws = np.random.RandomState(0)
        self.stored = [draws.randint(0, white + 1, (9, 4, 4, 1), np.uint8) for white in WHITE]
        sources: list[SimpleNamespace] = []
        for number, (array, white) in enumerate(zip(self.stored, WHITE, strict=True)):
            np.save(folder / f"{number}.npy", array)
            sources.append(SimpleNamespace(test=folder / f"{number}.npy", max_value=white))
        self.start: Any = SimpleNamespace(sources=sources, resize=None)
        groups = [SimpleNamespace(source=n, split="test", transform=None) for n in range(2)]
        rows, where = draws.randint(0, 9, 11), draws.randint(0, 2, 11)
        where[:4] = 1  # the first batch is of one source
        self.request: Any = SimpleNamespace(rows=rows, where=where, groups=groups)

    def gathered(self, device: torch.device) -> list[torch.Tensor]:
        """The batches of four."""
        images = RowImages(self.start, 1, device)
        return list(images.of_test(self.request, batches_of(11, 4)))

    def expected(self) -> np.ndarray:
        """The rows by NumPy."""
        pairs = zip(self.request.rows, self.request.where, strict=True)
        return np.stack([self.stored[w][row].transpose(2, 0, 1) / WHITE[w] for row, w in pairs])


@pytest.mark.parametrize("ahead", [False, True])
def test_a_batch_may_mix_sources(
    ahead: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if ahead:
        monkeypatch.setattr(module, "read_ahead", lambda p, read, _: read_ahead(p, read, META))
    pool = Pool(tmp_path)
    np.testing.assert_allclose(torch.cat(pool.gathered(CPU)).numpy(), pool.expected(), atol=1e-6)


def test_batches_go_to_a_gpu_without_waiting(tmp_path: Path) -> None:
    with crossings() as found:
        batches = Pool(tmp_path).gathered(META)
    assert [len(batch) for batch in batches] == [4, 4, 3]
    assert found.good >= 3
    assert found.bad == []
