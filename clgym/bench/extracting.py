"""Extraction of frozen features with an empty cache, against a bare loop over full batches."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from clgym.bench.images import write_images
from clgym.bench.measure import Case
from clgym.data.images import Images
from clgym.data.sources import load_source
from clgym.messages import RowGroup
from clgym.models.backbones import Frozen, load
from clgym.models.features import BATCH, FrozenFeatures, SplitRows

__all__ = ["extraction_cases"]

_BACKBONE, _SIDE = "resnet18@random", 64


def extraction_cases(
    folder: Path, device: str, threads: int, quick: bool
) -> Iterator[Callable[[], list[Case]]]:
    """Yield a function that sets up the case."""
    yield lambda: [_case(folder, device, 3 * BATCH if quick else 6 * BATCH)]


def _case(folder: Path, device: str, count: int) -> Case:
    source = load_source(write_images(folder / "images", _SIDE, 3, count, 10))
    frozen, place = Frozen(_BACKBONE, _SIDE, "stretch"), torch.device(device)
    images = Images(Path(source.train.path), None, place, 3, 1, source.max_value)
    rows, where = np.arange(count), np.zeros(count, dtype=np.int64)
    group = RowGroup(source=0, split="train", transform=None)
    backbone, numbers = load(frozen, place), itertools.count()
    pixels = torch.rand(BATCH, 3, _SIDE, _SIDE, device=place)

    def rows_of(number: int, part: str) -> SplitRows:
        """Return the same images under a new name each time, so that none are in the cache."""
        return SplitRows(images, (source.fingerprint, part, next(numbers)), 1 / 255)

    features = FrozenFeatures(frozen, place, rows_of)

    def ours() -> None:
        features.of((group,), rows, where)

    @torch.no_grad()
    def bare() -> None:
        for _ in range(0, count, BATCH):
            backbone(pixels).cpu()

    name = f"frozen features, ResNet-18 at {_SIDE} px, batch {BATCH}"
    return Case(name, "bare loop", ours, bare, count // BATCH)
