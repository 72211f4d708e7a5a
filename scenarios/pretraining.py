"""Images without labels arrive group by group; features are judged by a linear probe and by kNN.

Continual pre-training (self-supervised, such as ``mae`` and ``simsiam``). ``source`` is a list of
sources, or of some classes of them: ``cifar10,cifar100[0..49]``; with ``--increment`` each is cut
into groups of classes. The learner gets no label, neither in training nor at test, and does not
know of classes. After each experience it gives features of images of all classes that have come;
the gym fits a logistic regression and a nearest-neighbour vote on those of training images, and
scores both on test images. The probes are fitted anew each time: what they find in features is no
measure of the loss that was trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt

from clgym.data.sources import Source
from clgym.errors import BadStream
from clgym.streams.pretraining import PretrainingStream, Probe

from .multi_dataset import MultiDataset, MultiDatasetConfig, classes_of, fewer_classes

PRESETS = {
    "pretrain-digits": {"source": "digits", "increment": 2},
    "pretrain-cifar10": {
        "source": "cifar10",
        "increment": 2,
        "network": "resnet18",
        "probe_rows": 500,
    },
    "pretrain-cifar": {
        "source": "cifar10,cifar100[0..49],cifar100[50..99]",
        "network": "resnet18",
        "probe_rows": 100,
    },
}


@dataclass(frozen=True)
class PretrainingStreamConfig(MultiDatasetConfig):
    """Options of `Pretraining`."""

    increment: Annotated[int, Ge(1)] | None = None
    """Classes per experience: each source of the list is cut into groups of this size; none: each
    source is one experience."""
    probe_rows: Annotated[int, Ge(1)] | None = None
    """Maximum number of training images per class on which the probes are fitted; none: all."""
    probe_strength: Annotated[float, Gt(0)] = 1.0
    """Inverse strength of the linear probe's L2 penalty on standardised features."""
    probe_iterations: Annotated[int, Ge(1)] = 1000
    """Maximum number of iterations of the linear probe's solver."""
    neighbours: Annotated[int, Ge(1)] = 10
    """Number of nearest neighbours, by the cosine, that vote in the second probe."""


class Pretraining(MultiDataset):
    """Groups of classes whose labels the gym keeps."""

    Config = PretrainingStreamConfig
    CHECK_CONFIG = {"source": "tiny", "increment": 2}

    def source_names(self) -> Sequence[str]:
        """The sources of the list, each once."""
        return list(dict.fromkeys(name for name, _ in self._parts()))

    def stream(self, sources: Sequence[Source], order_seed: int | None) -> PretrainingStream:
        """One experience a group; see `Scenario.stream`.

        Raises:
            BadStream: no common image size, classes that a source does not have, or one twice.
        """
        config = self.config
        groups = self._groups(sources)
        seed = config.order_seed if order_seed is None else order_seed
        if seed is not None:
            order = np.random.RandomState(seed).permutation(len(groups)).tolist()
            groups = [groups[number] for number in order]
        columns = [np.full(len(source.classes), -1) for source in sources]
        steps, names = [], list[str]()
        for number, classes in groups:
            if (columns[number][classes] >= 0).any():
                raise BadStream(
                    expected="each class in one experience",
                    found=f"classes of {sources[number].name} twice in the list",
                    fix="Give --source other numbers in the brackets",
                )
            columns[number][classes] = np.arange(len(names), len(names) + len(classes))
            steps.append(self._step(sources[number], number, classes, len(names)))
            prefix = f"{number}:" if len(sources) > 1 else ""
            names += [f"{prefix}{sources[number].classes[c]}" for c in classes]
        return PretrainingStream(
            name=self.name,
            setting="pretraining",
            sources=tuple(s.name for s in sources),
            fingerprints=tuple(s.fingerprint for s in sources),
            image_shape=self._shape(sources),
            columns=tuple(tuple(c.tolist()) for c in columns),
            steps=tuple(steps),
            class_order=tuple(names),
            probe=Probe(
                rows=config.probe_rows,
                strength=config.probe_strength,
                iterations=config.probe_iterations,
                neighbours=config.neighbours,
            ),
        )

    def _groups(self, sources: Sequence[Source]) -> list[tuple[int, list[int]]]:
        """Place of the source and class numbers of each experience, in the order of the list."""
        places = {name: place for place, name in enumerate(self.source_names())}
        found: list[tuple[int, list[int]]] = []
        for name, wanted in self._parts():
            classes = fewer_classes(classes_of(sources[places[name]], wanted), self.config)
            size = self.config.increment or len(classes)
            starts = range(0, len(classes), size)
            found += [(places[name], classes[start : start + size]) for start in starts]
        return found
