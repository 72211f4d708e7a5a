"""The order in which the images of an adaptation stream arrive, which the learner cannot compute.

A plan follows from public seeds, and all segments show the same images: a plugin that knew the
places of an image in all of them could combine its predictions. So images are permuted by the run's
key before they are sent. The record contains the key, from which the order can be computed again.
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
    """The stream with the rows of every segment in the order of arrival.

    Args:
        stream: The plan.
        labels: Labels of every segment, int64 [n].
        key: Key of the order, from `clgym.gym.withheld_order.order_key`.
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
    """Return for each place the index of its item, int64 [n], which has the same group."""
    order = np.empty_like(shuffled)
    order[np.argsort(groups, kind="stable")] = shuffled[np.argsort(groups[shuffled], kind="stable")]
    return order
