"""A classifier of one domain meets others of the same classes, one after another, unlabelled.

Continual DomainNet-126 and its kin (RMT, Doebler et al. 2023): the first source is the one that the
classifier learned, the others arrive in turn, with all their images. ImageNet-R is such a sequence
of one, for a classifier of ImageNet whose data need not be here (``--model torchvision:resnet50@
FILE``, of whose outputs the 200 classes are kept).

DomainNet-126 lies in ``domainnet-126/DOMAIN/CLASS/`` of the data root (http://ai.bu.edu/M3SDA; the
126 classes are those of the lists in https://github.com/VisionLearningGroup/SSDA_MME), ImageNet-R
in ``imagenet-r/`` (https://github.com/hendrycks/imagenet-r). Images are decoded with the shorter
side at the card's and cut square, where the authors stretch theirs to 256 pixels and cut out 224.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clgym.data.sources import Source
from clgym.errors import BadStream
from clgym.streams.adaptation import (
    AdaptationConfig,
    AdaptationScenario,
    AdaptationStream,
    Domain,
    Segment,
    stream_of,
)
from clgym.streams.arrangement import arranged, labels_of, rows_of

PRESETS = {
    "domainnet126-real": {
        "source": "domainnet126-real,domainnet126-clipart,domainnet126-painting,"
        "domainnet126-sketch",
        "batch_size": 128,
        "arrival": "published",
    },
    "domainnet126-clipart": {
        "source": "domainnet126-clipart,domainnet126-sketch,domainnet126-real,"
        "domainnet126-painting",
        "batch_size": 128,
        "arrival": "published",
    },
    "domainnet126-painting": {
        "source": "domainnet126-painting,domainnet126-real,domainnet126-sketch,"
        "domainnet126-clipart",
        "batch_size": 128,
        "arrival": "published",
    },
    "domainnet126-sketch": {
        "source": "domainnet126-sketch,domainnet126-painting,domainnet126-clipart,"
        "domainnet126-real",
        "batch_size": 128,
        "arrival": "published",
    },
    "imagenet-r-shift": {
        "source": "none,imagenet-r",
        "batch_size": 64,
        "arrival": "published",
        "resize": 224,
        "model": "torchvision:resnet50@resnet50-0676ba61.pth",
    },
    "pacs-photo-shift": {
        "source": "pacs-photo,pacs-art-painting,pacs-cartoon,pacs-sketch",
        "batch_size": 64,
        "resize": 64,
    },
    "pacs-sketch-shift": {
        "source": "pacs-sketch,pacs-photo,pacs-art-painting,pacs-cartoon",
        "batch_size": 64,
        "resize": 64,
    },
}


@dataclass(frozen=True)
class DomainSequenceConfig(AdaptationConfig):
    """Options of `DomainSequence`."""

    source: str
    """Comma-separated sources: the source domain of the classifier, then those that arrive; write
    none for the first if its data are not available."""


class DomainSequence(AdaptationScenario):
    """One segment a domain, each with all images of its source."""

    Config = DomainSequenceConfig
    CHECK_CONFIG = {"source": "tiny,tiny,tiny"}

    def source_names(self) -> Sequence[str]:
        """The sources of the list that are here."""
        return [name for name in self._names() if name != "none"]

    def _names(self) -> list[str]:
        names = [name.strip() for name in self.config.source.split(",")]
        if len(names) < 2 or "none" in names[1:]:
            raise BadStream(
                expected="the classifier's own source (or none), then at least one that arrives",
                found=repr(self.config.source),
                fix="Give --source A,B,C",
            )
        return names

    def stream(self, sources: Sequence[Source], order_seed: int | None) -> AdaptationStream:
        """All rows of each later source; see `Scenario.stream`."""
        config = self.config
        seed = config.order_seed if order_seed is None else order_seed
        first = 0 if self._names()[0] == "none" else 1
        domains = [Domain(s.name, first + i, "all") for i, s in enumerate(sources[first:])]
        segments = []
        for number, domain in enumerate(domains):
            labels = labels_of(domain, sources)
            rows = rows_of(domain, sources, config, seed, len(labels))
            rows = arranged(rows, labels, config, seed)
            segments.append(Segment(domain.name, np.full(len(rows), number), rows))
        home = 0 if first else None
        return stream_of(self, sources, domains, segments, home=home, home_part="all")
