"""Hooks of `SGDStrategy` for augmentation and for the optimizer."""

from typing import Any

import pytest
import torch

from clgym.avalanche import SGDConfig, SGDStrategy
from clgym.data.augment import crop_flip
from clgym.errors import BadConfig
from clgym.strategy import Batch, TrainBatch

IMAGES = torch.rand(9, 1, 6, 6, generator=torch.Generator().manual_seed(3))


class Own(SGDStrategy[SGDConfig]):
    """Augments by itself."""

    def augment(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return crop_flip(images, generator)


class Views(SGDStrategy[SGDConfig]):
    """Looks at a second view."""

    def setup(self, info: Any) -> None:
        super().setup(info)
        self.shown: list[torch.Tensor] = []

    def penalty(self, batch: TrainBatch, logits: torch.Tensor) -> None:
        pair = [self.view(batch), self.view(batch, "other")]
        self.shown += [batch.images, *pair, batch.pixels]


def answers(learner: Any, experiences: Any, cls: type, **options: Any) -> torch.Tensor:
    strategy = learner(cls, **options)
    for experience in experiences(steps=2):
        strategy.train(experience)
        experience.close()
    with torch.no_grad():
        return strategy.predict(Batch(IMAGES))


def test_augment_is_a_method(learner, experiences) -> None:
    plain = answers(learner, experiences, SGDStrategy)
    own = answers(learner, experiences, Own)
    assert torch.equal(own, answers(learner, experiences, SGDStrategy, augment="crop-flip"))
    assert not torch.equal(own, plain)


def test_views_of_one_batch_differ_and_are_of_the_same_images(learner, experiences) -> None:
    strategy = learner(Views, augment="crop-flip", batch_size=48)
    (experience,) = experiences(steps=1)
    strategy.train(experience)
    images, first, second, pixels = strategy.shown[:4]
    assert images.shape == first.shape == second.shape
    assert not torch.equal(first, second) and not torch.equal(first, images)
    plain = learner(Views, batch_size=48)
    (experience,) = experiences(steps=1)
    plain.train(experience)
    torch.testing.assert_close(plain.shown[1], pixels.float() / 255)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_optimizer_goes_by_its_name(learner, experiences, name) -> None:
    """One step of a single weight, by the formulas of Adam and AdamW."""
    strategy = learner(SGDStrategy, optimizer=name, lr=0.01, weight_decay=0.1)
    optimizer = strategy.make_optimizer()
    weight = optimizer.param_groups[0]["params"][0]
    before = weight.detach().clone()
    weight.grad = torch.full_like(weight, 0.5)
    optimizer.step()
    gradient = 0.5 + (0.1 * before if name == "adam" else 0.0)
    decayed = before if name == "adam" else before * (1 - 0.01 * 0.1)
    # In the first step both moments are corrected to the gradient and its square.
    wanted = decayed - 0.01 * gradient / (abs(gradient) + 1e-8)
    torch.testing.assert_close(weight.detach(), wanted)


def test_momentum_belongs_to_sgd(learner) -> None:
    with pytest.raises(BadConfig, match="no momentum with the optimizer adam"):
        learner(SGDStrategy, optimizer="adam", momentum=0.9)
