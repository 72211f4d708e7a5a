"""The order in which the images of an adaptation stream arrive, which the learner cannot compute.

A plan follows from public seeds, and all segments show the same images: a plugin that knew the
places of an image in all of them could add up its answers. So images are exchanged under the run's
key before they go out. The key stands in the record, from which the order follows again.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from clgym.gym.withheld_order import permutation
from clgym.streams.adaptation import AdaptationStream, Segment

__all__ = ["in_order_of_arrival"]


def in_order_of_arrival(
    stream: AdaptationStream, labels: Sequence[np.ndarray], key: str
) -> AdaptationStream:
    """The stream with the rows of every segment as they arrive.

    Args:
        stream: The plan.
        labels: Labels of every segment, int64 [n].
        key: See `clgym.gym.withheld_order.order_key`.
    """
    if stream.exchanged is None:
        return stream
    arriving: list[Segment] = []
    for number, segment in enumerate(stream.segments):
        groups = {
            "all": np.zeros_like(segment.row),
            "class": labels[number],
            "domain": segment.domain,
        }[stream.exchanged]
        order = _exchange(groups, permutation(key, len(groups), number, -3))
        arriving.append(Segment(segment.name, segment.domain[order], segment.row[order]))
    return replace(stream, segments=tuple(arriving))


def _exchange(groups: np.ndarray, shuffled: np.ndarray) -> np.ndarray:
    """Return the item of each place, int64 [n]; a place keeps its group."""
    order = np.empty_like(shuffled)
    order[np.argsort(groups, kind="stable")] = shuffled[np.argsort(groups[shuffled], kind="stable")]
    return order
