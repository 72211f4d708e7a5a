"""Strategies that each break one rule; by the name of the check that must catch it."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor, nn

from clgym.avalanche import SGDStrategy
from clgym.config import Search
from clgym.data.generators import StepGenerators
from clgym.strategies.nmc import NMC, NMCConfig  # pyright: ignore[reportMissingImports]
from clgym.strategies.replay import Replay  # pyright: ignore[reportMissingImports]
from clgym.strategy import Batch, Config, Experience, Needs, Strategy

_ALL_SEEN: list[Tensor] = []
_SIZES: list[int] = []


class PeeksAtLabels(NMC):
    def predict(self, batch: Batch) -> Tensor:
        scores = super().predict(batch)
        labels = getattr(batch, "labels", None)
        if labels is not None:
            scores = scores + 10 * F.one_hot(labels, scores.shape[1])
        return scores


class KeepsPastData(NMC):
    def setup(self, info: Any) -> None:
        super().setup(info)
        self.kept: list[Tensor] = []

    def train(self, experience: Experience) -> None:
        self.kept.append(experience.pixels[:3].clone())
        super().train(experience)


class KeepsPastDataOutside(NMC):
    """In a variable of its module, normalised and flipped."""

    def train(self, experience: Experience) -> None:
        _ALL_SEEN.append(experience.to_float(experience.pixels[:2]).flip(3) * 2 - 1)
        super().train(experience)


class KeepsFeatures(NMC):
    def setup(self, info: Any) -> None:
        super().setup(info)
        self.features_seen: list[np.ndarray] = []

    def train(self, experience: Experience) -> None:
        projected = experience.pixels.flatten(1).float() @ torch.ones(64, 16).cumsum(1)
        self.features_seen.append(projected.numpy())
        super().train(experience)


class ExceedsItsMemory(Replay):
    def train(self, experience: Experience) -> None:
        super().train(experience)
        self.more = experience.pixels[:1].clone()


class PredictsUnseenClasses(NMC):
    def predict(self, batch: Batch) -> Tensor:
        return F.pad(super().predict(batch), (0, 2), value=-1e9)


class ForgetsItsOptimizer(SGDStrategy):
    CHECK_CONFIG = {"momentum": 0.9}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.position._loaded = None


class ForgetsItsCounts(NMC):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.classes.counts = torch.ones_like(self.classes.counts)


class CountsInItsModule(NMC):
    """How many images there were, which a restored learner does not know."""

    def train(self, experience: Experience) -> None:
        _SIZES.append(len(experience))
        super().train(experience)


class DrawsFromItsOwnGenerator(SGDStrategy):
    generator_of_mine = random.Random()

    def begin(self, experience: Experience) -> None:
        super().begin(experience)
        nn.init.normal_(self.network.head.bias, std=0.1 + self.generator_of_mine.random())


class IgnoresTheSeed(SGDStrategy):
    def train(self, experience: Experience) -> None:
        torch.manual_seed(0)
        experience._generators = StepGenerators(0, experience.index)
        super().train(experience)

    def make_network(self, columns: int) -> Any:
        torch.manual_seed(0)
        return super().make_network(columns)


class ClaimsToBeDeterministic(SGDStrategy):
    DETERMINISTIC = True


class LearnsFromTestImages(NMC):
    """Entropy-free test-time drift: each image moves the mean that it is nearest to."""

    def predict(self, batch: Batch) -> Tensor:
        scores = super().predict(batch)
        assert self.classes.sums is not None
        self.classes.sums.index_add_(0, scores.argmax(1), self.embed(batch))
        return scores


class NormalisesByTheBatch(NMC):
    def predict(self, batch: Batch) -> Tensor:
        scores = super().predict(batch)
        return scores - scores.mean(0, keepdim=True)


class DropsOutAtTest(SGDStrategy):
    def predict(self, batch: Batch) -> Tensor:
        return super().predict(Batch(F.dropout(batch.images, 0.3)))


class NeedsTwoInABatch(NMC):
    def train(self, experience: Experience) -> None:
        for batch in experience.batches(8):
            pixels = batch.images.flatten(1)
            nn.BatchNorm1d(pixels.shape[1])(pixels)
        super().train(experience)


class DividesByTheVariance(NMC):
    """A standard deviation a class, which one image does not have."""

    def train(self, experience: Experience) -> None:
        super().train(experience)
        for c in experience.classes:
            own = experience.pixels[experience.labels == c].float()
            if own.std(0).isnan().any():
                raise ValueError("degrees of freedom <= 0")


@dataclass(frozen=True)
class _AnyConfig(NMCConfig):
    temperature: float = 1.0
    """Divides the distances."""


class TakesAnything(NMC):
    Config = _AnyConfig


@dataclass(frozen=True)
class _OddConfig(NMCConfig):
    temperature: Annotated[float, Ge(0), Le(1)] = 7.0
    """Divides the distances."""


class RefusesItsOwnDefault(NMC):
    Config = _OddConfig
    CHECK_CONFIG = {"temperature": 0.5}


@dataclass(frozen=True)
class _SearchedConfig(NMCConfig):
    temperature: Annotated[float, Ge(0), Le(1), Search(0.5, 2.0)] = 0.5
    """Divides the distances."""


class SearchesOutsideItsLimits(NMC):
    Config = _SearchedConfig


@dataclass(frozen=True)
class _SilentConfig(Config):
    batch_size: Annotated[int, Ge(1)] = 8


class ExplainsNothing(NMC):
    Config = _SilentConfig


class CannotBePickled(NMC):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.distance: Callable[[Tensor], Tensor] = lambda x: x.square()


class HidesItsScale(NMC):
    """Answers by numbers of another module."""

    def train(self, experience: Experience) -> None:
        super().train(experience)
        F.scale = torch.ones(3, dtype=torch.float64)  # type: ignore[attr-defined]

    def predict(self, batch: Batch) -> Tensor:
        return super().predict(batch) * F.scale.sum()  # type: ignore[attr-defined]


class DoesNotRun(Strategy):
    """Nothing at all."""

    needs = Needs()  # type: ignore[assignment]


class SaysItFails(PeeksAtLabels):
    KNOWN_FAILURES = {"no-labels": "it is a bad example"}


class SaysItFailsAndPasses(NMC):
    KNOWN_FAILURES = {"no-labels": "it was a bad example once"}


CAUGHT = {
    PeeksAtLabels: "no-labels",
    KeepsPastData: "past-data",
    KeepsPastDataOutside: "past-data",
    KeepsFeatures: "past-data",
    ExceedsItsMemory: "past-data",
    PredictsUnseenClasses: "unseen-classes",
    ForgetsItsOptimizer: "resume",
    ForgetsItsCounts: "state-round-trip",
    CountsInItsModule: "state-is-complete",
    DrawsFromItsOwnGenerator: "same-seed",
    IgnoresTheSeed: "other-seed",
    ClaimsToBeDeterministic: "other-seed",
    LearnsFromTestImages: "predict-keeps-state",
    NormalisesByTheBatch: "batch-independence",
    DropsOutAtTest: "batch-independence",
    NeedsTwoInABatch: "one-sample-batch",
    DividesByTheVariance: "one-image-class",
    TakesAnything: "config-bounds",
    RefusesItsOwnDefault: "config-bounds",
    SearchesOutsideItsLimits: "config-bounds",
    ExplainsNothing: "described",
    CannotBePickled: "pickling",
    HidesItsScale: "parameters-counted",
    DoesNotRun: "unseen-classes",
    SaysItFailsAndPasses: "no-labels",
}
