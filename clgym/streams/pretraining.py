"""A stream without labels for the learner: features are learned, and evaluated by probes.

The labels stay with the gym. After each experience the learner returns features of training and
test images of all classes that have arrived; the gym fits classifiers (the probes) on the former
and scores them on the latter. The probe is part of the plan, since it determines what is measured.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

from clgym.scenario import Stream

__all__ = ["PretrainingStream", "Probe", "probe_rows"]


@dataclass(frozen=True)
class Probe:
    """Hyper-parameters of the classifiers that are fitted on features."""

    rows: int | None
    """Maximum number of training rows per class, the first of each experience; None: all."""
    strength: float
    """Inverse strength of the linear probe's L2 penalty, scikit-learn's ``C``."""
    iterations: int
    """Maximum number of iterations of the linear probe's solver."""
    neighbours: int
    """Number of nearest neighbours that vote."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PretrainingStream(Stream):
    """Plan of experiences without labels, and of the probe."""

    probe: Probe

    @property
    def digest(self) -> str:
        """SHA-256 of the whole plan, the probe included, hex."""
        parts = f"{super().digest} {json.dumps(astuple(self.probe))}"
        return hashlib.sha256(parts.encode()).hexdigest()


def probe_rows(
    stream: PretrainingStream, labels: Sequence[np.ndarray], index: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training rows that the probe is fitted on after experience ``index``.

    Args:
        stream: The plan.
        labels: Labels of the training split of each source.
        index: The experience just learned.

    Returns:
        Experience, row number in the training split, and class index of each, int64 [n].
    """
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for number, step in enumerate(stream.steps[: index + 1]):
        columns = np.array(stream.columns[step.source])[labels[step.source][step.train]]
        chosen = [np.flatnonzero(columns == c)[: stream.probe.rows] for c in step.classes]
        places = np.sort(np.concatenate(chosen))
        found.append((np.full(len(places), number), step.train[places], columns[places]))
    experience, row, label = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return experience, row, label
