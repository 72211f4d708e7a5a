"""Accuracy at any time: single-pass streams are tested inside their experiences, too.

Koh et al. (ICLR 2022) test at regular numbers of training images on all classes seen so far, and
report the area under that curve (A_AUC; `clgym.results.metrics.area_under_curve`).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from clgym.data.sources import Source
from clgym.gym.scoring import TestPool
from clgym.results.metrics import area_under_curve
from clgym.scenario import Stream

__all__ = ["anytime_facts", "exposed_pool", "moments"]

Arrays = Mapping[str, np.ndarray]


def moments(stream: Stream, index: int) -> tuple[int, ...]:
    """Numbers of training images in experience ``index`` at which it is tested, up to its end."""
    sizes = [len(step.train) for step in stream.steps]
    start, total = sum(sizes[:index]), sum(sizes)
    wanted = (-(-k * total // stream.anytime) for k in range(1, stream.anytime + 1))
    inside = {moment - start for moment in wanted if start < moment < start + sizes[index]}
    return (*sorted(inside), sizes[index])


def exposed_pool(stream: Stream, sources: Sequence[Source], index: int) -> TestPool:
    """All test rows of the classes in experience ``index`` and earlier ones.

    In blurry streams these are more rows than those of the experiences scored so far.
    """
    seen = stream.columns_after(index)
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for j, step in enumerate(stream.steps):
        split = getattr(sources[step.source], step.measured_on)
        label = np.array(stream.columns[step.source])[split.labels[step.test]]
        here = label < seen
        parts.append((np.full(int(here.sum()), j, np.int64), step.test[here], label[here]))
    return TestPool(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def anytime_facts(stream: Stream, saved: Sequence[Arrays]) -> dict[str, object] | None:
    """Block of the record, from the arrays saved after each experience; None without such tests."""
    images: list[int] = []
    accuracy: list[float] = []
    start = 0
    for step, arrays in zip(stream.steps, saved, strict=False):
        if "anytime_images" in arrays:
            predicted = arrays["anytime_predicted"].reshape(len(arrays["anytime_images"]), -1)
            images += (start + arrays["anytime_images"]).tolist()
            accuracy += (predicted == arrays["anytime_label"]).mean(1).tolist()
        start += len(step.train)
    if not images:
        return None
    return {"images": images, "accuracy": accuracy, "area": area_under_curve(images, accuracy)}
