"""Corrupted test images arrive without labels: continual, gradual, mixed, or reset at each shift.

The streams of test-time adaptation on CIFAR-C and ImageNet-C (Hendrycks & Dietterich 2019; CoTTA,
Wang et al. 2022; RMT, Doebler et al. 2023), on any source: corruptions are generated here, or read
from the published files. In published comparisons all segments show the images in one order; the
presets of sources that are compared so do the same (``arrival``), the others withhold the order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Le

from clgym.data import corruptions
from clgym.data.sources import Source
from clgym.scenario import Seed
from clgym.streams import orders
from clgym.streams.adaptation import (
    AdaptationConfig,
    AdaptationScenario,
    AdaptationStream,
    Domain,
    Segment,
    stream_of,
)
from clgym.streams.arrangement import arranged, labels_of, rows_by_segment, rows_of

PRESETS = {
    "digits-c": {"source": "digits", "batch_size": 64},
    "digits-c-gradual": {"source": "digits", "batch_size": 64, "setting": "gradual"},
    "digits-c-mixed": {"source": "digits", "batch_size": 64, "setting": "mixed"},
    "digits-c-reset": {"source": "digits", "batch_size": 64, "setting": "reset"},
    "mnist-c": {"source": "mnist"},
    "cifar10-c-v2": {"source": "cifar10", "model": "cifar10-resnet20"},
    "cifar10-c-gradual-v2": {
        "source": "cifar10",
        "model": "cifar10-resnet20",
        "setting": "gradual",
    },
    "cifar10-c-mixed-v2": {"source": "cifar10", "model": "cifar10-resnet20", "setting": "mixed"},
    "cifar10-c-reset-v2": {"source": "cifar10", "model": "cifar10-resnet20", "setting": "reset"},
    "cifar10-c-sorted-v2": {"source": "cifar10", "model": "cifar10-resnet20", "order": "sorted"},
    "cifar10-c-published": {
        "source": "cifar10",
        "model": "cifar10-resnet20",
        "corruptions": "standard",
        "published": "CIFAR-10-C",
        "arrival": "published",
    },
    "cifar100-c-v2": {"source": "cifar100"},
    "cifar100-c-published": {
        "source": "cifar100",
        "corruptions": "standard",
        "published": "CIFAR-100-C",
        "arrival": "published",
    },
    "tiny-imagenet-c-v2": {"source": "tiny-imagenet", "batch_size": 64},
    "imagenet100-c-v2": {"source": "imagenet100", "batch_size": 64},
    # The images of ImageNet-C whose classes are among the hundred.
    "imagenet100-c-published": {
        "source": "imagenet100",
        "batch_size": 64,
        "corruptions": "standard",
        "published": "ImageNet-C",
        "arrival": "published",
    },
    # These keep the images that they had before there was a v2, and their published order.
    "cifar10-c": {
        "source": "cifar10",
        "model": "cifar10-resnet20",
        "hsv": "scaled",
        "arrival": "published",
    },
    "cifar10-c-gradual": {
        "source": "cifar10",
        "model": "cifar10-resnet20",
        "setting": "gradual",
        "hsv": "scaled",
        "arrival": "published",
    },
    "cifar10-c-mixed": {
        "source": "cifar10",
        "model": "cifar10-resnet20",
        "setting": "mixed",
        "hsv": "scaled",
        "arrival": "published",
    },
    "cifar10-c-reset": {
        "source": "cifar10",
        "model": "cifar10-resnet20",
        "setting": "reset",
        "hsv": "scaled",
        "arrival": "published",
    },
    "cifar10-c-sorted": {
        "source": "cifar10",
        "model": "cifar10-resnet20",
        "order": "sorted",
        "hsv": "scaled",
        "arrival": "published",
    },
    "cifar100-c": {"source": "cifar100", "hsv": "scaled", "arrival": "published"},
    "tiny-imagenet-c": {
        "source": "tiny-imagenet",
        "batch_size": 64,
        "hsv": "scaled",
        "arrival": "published",
    },
    "imagenet100-c": {
        "source": "imagenet100",
        "batch_size": 64,
        "hsv": "scaled",
        "arrival": "published",
    },
}
GRADUAL = (1, 2, 3, 4, 5, 4, 3, 2, 1)


@dataclass(frozen=True)
class CorruptionsConfig(AdaptationConfig):
    """Options of `Corruptions`."""

    corruptions: str = "no-frost"
    """Corruptions in order of arrival: standard (15), no-frost (the 14 that need no texture
    photographs), extra (4), or names separated by commas."""
    severity: Annotated[int, Ge(1), Le(5)] = 5
    """Severity of the corruptions, from 1 to 5; gradual streams rise to 5 and fall again."""
    setting: Literal["continual", "gradual", "mixed", "reset"] = "continual"
    """Protocol: one corruption after another (continual); severities 1 to 5 to 1 of each (gradual);
    all shuffled together (mixed); or continual with a reset of the strategy at each (reset)."""
    probe: bool = False
    """Add the clean images as a further segment after every corruption, to measure forgetting."""
    corruption_seed: Seed = 0
    """Seed of the random numbers of the corruptions."""
    published: str | None = None
    """Folder with published corrupted images in the data root, such as CIFAR-10-C; none: clgym
    generates them."""
    hsv: Literal["exact", "scaled"] = "exact"
    """How brightness and saturate change colours: through HSV and back as in the published code, or
    by scaling channels, which is one grey level off in 0.2 to 3 % of the values. On grey images
    both are the same."""


class Corruptions(AdaptationScenario):
    """The test split of one source under corruptions."""

    Config = CorruptionsConfig

    def stream(self, sources: Sequence[Source], order_seed: int | None) -> AdaptationStream:
        """Every corruption of the same test images; see `Scenario.stream`."""
        config = self.config
        seed = config.order_seed if order_seed is None else order_seed
        domains = self._domains(corruption_names(config.corruptions))
        count = len(labels_of(domains[0], sources, self.data_root))
        rows = rows_of(domains[0], sources, config, seed, count)
        if config.setting == "mixed":
            segments = [self._mixed(domains, rows, sources, seed)]
        else:
            labels = labels_of(domains[0], sources, self.data_root)
            own = rows_by_segment(rows, labels, config, seed, len(domains))
            segments = [
                Segment(domain.name, np.full(len(own[number]), number), own[number])
                for number, domain in enumerate(domains)
            ]
        if config.probe:
            plain = replace(config, order="iid")
            probes = rows_by_segment(rows, rows, plain, seed + 1, len(segments))
            clean = [Segment("clean", np.full(len(rows), len(domains)), own) for own in probes]
            segments = [part for pair in zip(segments, clean, strict=True) for part in pair]
            domains.append(Domain("clean", 0))
        reset = config.setting == "reset"
        return stream_of(self, sources, domains, segments, home=0, reset_each_segment=reset)

    def _domains(self, names: Sequence[str]) -> list[Domain]:
        config = self.config
        severities = GRADUAL if config.setting == "gradual" else (config.severity,)
        return [
            Domain(
                f"{name}-{severity}",
                0,
                "test",
                name,
                severity,
                config.corruption_seed,
                config.published,
                config.hsv,
            )
            for name in names
            for severity in severities
        ]

    def _mixed(
        self, domains: Sequence[Domain], rows: np.ndarray, sources: Sequence[Source], seed: int
    ) -> Segment:
        """The union of all domains, shuffled together, then arranged."""
        domain = np.repeat(np.arange(len(domains)), len(rows))
        row = np.tile(rows, len(domains))
        order = orders.shuffled(len(row), seed)
        order = arranged(
            order, labels_of(domains[0], sources, self.data_root)[row], self.config, seed
        )
        return Segment("mixed", domain[order], row[order])


def corruption_names(asked: str) -> list[str]:
    """The corruptions of a set, or those of a list, checked.

    Raises:
        UnknownName: a name that is none of them.
    """
    sets = {
        "standard": corruptions.STANDARD,
        "no-frost": tuple(name for name in corruptions.STANDARD if name != "frost"),
        "extra": corruptions.EXTRA,
    }
    names = sets.get(asked) or [n.strip().replace("-", "_") for n in asked.split(",")]
    for name in names:
        corruptions.check(name, 1)
    return list(names)
