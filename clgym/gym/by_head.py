"""Scores of the heads of a strategy that has several; see `Strategy.predict_by_head`."""

from collections.abc import Mapping, Sequence

import numpy as np

from clgym.gym.scoring import Predictions, TestPool, predictions_of, score
from clgym.scenario import Stream

__all__ = ["accuracies", "received", "sent", "series"]

_HEAD = "head/"
"""Prefix of the names of arrays that hold a head's predicted classes."""

Arrays = dict[str, np.ndarray]


def sent(
    stream: Stream, pool: TestPool, logits: Mapping[str, np.ndarray], order: np.ndarray
) -> Arrays:
    """Predicted classes of each head in the order of sending, int32 [n] each, for a piece.

    Args:
        stream: The plan.
        pool: The rows, n of them.
        logits: float [n, classes] by head, in the pool's order.
        order: Places in the pool in the order in which the rows were sent.
    """
    return {
        _HEAD + name: predictions_of(stream, pool, told).predicted[order].astype(np.int32)
        for name, told in logits.items()
    }


def received(piece: Arrays, order: np.ndarray) -> Arrays:
    """Predicted classes of each head in the pool's order, from a piece; undoes ``order``."""
    found = {name: np.empty_like(told) for name, told in piece.items() if name.startswith(_HEAD)}
    for name, predicted in found.items():
        predicted[order] = piece[name]
    return found


def accuracies(
    stream: Stream, index: int, pool: TestPool, predicted: Arrays
) -> dict[str, float | None]:
    """Accuracy of each head after an experience, by its name.

    Args:
        stream: The plan.
        index: The experience just learned.
        pool: The rows, n of them.
        predicted: What `received` returned.
    """
    return {
        name.removeprefix(_HEAD): score(stream, index, pool, Predictions(told, told)).accuracy
        for name, told in predicted.items()
    }


def series(
    after: Sequence[Mapping[str, float | None] | None],
) -> dict[str, list[float | None]] | None:
    """Accuracy after each experience of the heads that every test has; None if there are none.

    Args:
        after: Accuracy by head after each experience; None if it was not tested.
    """
    tests = [told for told in after if told is not None]
    names = [name for name in tests[0] if all(name in told for told in tests)] if tests else []
    return {
        name: [None if told is None else told[name] for told in after] for name in sorted(names)
    } or None
