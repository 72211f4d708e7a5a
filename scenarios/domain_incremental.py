"""The same classes in one domain after another: permuted pixels, rotated images, or folders.

No domain id is given; all domains are scored after each experience, the future ones too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Le

from clgym.data.sources import Source
from clgym.errors import BadStream
from clgym.scenario import Scenario, ScenarioConfig, Seed, Step, Stream, Transform, split_validation

from .class_incremental import image_shape

PRESETS = {
    "permuted-digits": {"source": "digits", "domains": 5, "memory_size": 100},
    "permuted-digits-v2": {
        "source": "digits",
        "domains": 5,
        "memory_size": 100,
        # Of 1, 3 and 5 epochs the one with the highest last accuracy on held-out training rows
        # (--validation 0.2), mean of naive, replay, er-ace and derpp with seeds 0 to 2.
        "default_epochs": 5,
    },
    "permuted-mnist": {"source": "mnist", "domains": 10, "memory_size": 200},
    "rotated-mnist": {"source": "mnist", "kind": "rotate", "domains": 10, "memory_size": 200},
    "domain-pacs": {
        "source": "pacs-photo,pacs-art-painting,pacs-cartoon,pacs-sketch",
        "kind": "sources",
        "resize": 64,
        "network": "resnet18",
        "memory_size": 200,
    },
    "domain-core50": {
        "source": "core50-s1,core50-s2,core50-s4,core50-s5,"
        "core50-s6,core50-s8,core50-s9,core50-s11",
        "kind": "sources",
    },
}


@dataclass(frozen=True)
class DomainIncrementalConfig(ScenarioConfig):
    """Options of `DomainIncremental`."""

    kind: Literal["permute", "rotate", "sources"] = "permute"
    """Kind of domain: a pixel permutation, a rotation, or one source of a comma-separated list."""
    domains: Annotated[int, Ge(1), Le(1000)] = 5
    """Number of domains for permute and rotate; the first one shows the images unchanged."""
    degrees: Annotated[float, Ge(0), Le(360)] = 180.0
    """Upper end of the rotation angles in degrees, excluded; they rise from 0 in equal steps."""
    default_epochs: Annotated[int, Ge(1)] = 1
    """Number of epochs per experience of strategies whose own default is one."""
    order_seed: Seed | None = None
    """First seed of the permutations (none: 0), or seed of the order of the sources."""


class DomainIncremental(Scenario):
    """One set of classes; what changes is how the images look."""

    Config = DomainIncrementalConfig

    def source_names(self) -> Sequence[str]:
        """One source, or the domains of the list."""
        names = self.config.source.split(",") if self.config.kind == "sources" else None
        return names or [self.config.source]

    def stream(self, sources: Sequence[Source], order_seed: int | None) -> Stream:
        """All rows of a source in every domain; see `Scenario.stream`."""
        seed = self.config.order_seed if order_seed is None else order_seed
        classes = sources[0].classes
        self._check_alike(sources)
        steps = [
            self._step(sources[number], number, transform)
            for number, transform in self._domains(len(sources), seed)
        ]
        return Stream(
            name=self.name,
            setting="domain-incremental",
            sources=tuple(s.name for s in sources),
            fingerprints=tuple(s.fingerprint for s in sources),
            image_shape=image_shape(sources[0], self.config.resize),
            columns=tuple(tuple(range(len(classes))) for _ in sources),
            steps=tuple(steps),
            class_order=classes,
        )

    def _domains(self, n_sources: int, seed: int | None) -> list[tuple[int, Transform | None]]:
        config, start = self.config, seed or 0
        if config.kind == "sources":
            order = range(n_sources)
            if seed is not None:
                order = np.random.RandomState(seed).permutation(n_sources).tolist()
            return [(number, None) for number in order]
        if config.kind == "rotate":
            amounts = [config.degrees * i / config.domains for i in range(config.domains)]
        else:
            amounts = [float(start + i) for i in range(config.domains)]
        made = [(0, Transform(config.kind, amount)) for amount in amounts]
        return [(0, None), *made[1:]]

    def _step(self, source: Source, number: int, transform: Transform | None) -> Step:
        rows = np.arange(len(source.train.labels))
        train, valid = split_validation(rows, source.train.labels, self.config.validation)
        classes = tuple(np.unique(source.train.labels[train]).tolist())
        test = np.arange(len(source.test.labels))
        return Step(train, test, classes, valid, number, transform)

    def _check_alike(self, sources: Sequence[Source]) -> None:
        names = [[c.rsplit("/", 1)[-1] for c in source.classes] for source in sources]
        shapes = [image_shape(source, self.config.resize) for source in sources]
        for source, name, shape in zip(sources, names, shapes, strict=True):
            if name != names[0] or shape != shapes[0]:
                raise BadStream(
                    expected=f"domains alike in classes and image shape ({sources[0].name})",
                    found=f"{source.name} with {len(name)} classes and images {shape}",
                    fix="Give --resize, or sources with the same classes",
                )
