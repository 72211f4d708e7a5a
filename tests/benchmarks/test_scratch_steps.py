"""The bare loops that steps are measured against compute the methods' losses, to rounding."""

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from clgym.strategy import TrainBatch

FILE = Path(__file__).parents[2] / "benchmarks" / "scratch_steps.py"


@pytest.fixture(scope="module")
def steps() -> Any:
    spec = importlib.util.spec_from_file_location("scratch_steps", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


METHODS = (
    *("exemplar-replay", "icarl", "wa", "bic", "podnet", "expandable", "foster", "memo", "beef"),
)


@pytest.mark.parametrize("name", METHODS)
def test_losses_by_hand_are_the_methods(steps: Any, name: str, monkeypatch: Any) -> None:
    """In every stage of the third task, on images of old and new classes."""
    options = {**steps.METHODS[name], **({"sampling_noise": 0.0} if name == "beef" else {})}
    monkeypatch.setitem(steps.METHODS, name, options)
    given = argparse.Namespace(stem="7x7-pool", images=48, batch_size=8, task=2)
    pairs = []

    class Compared(steps.Turns):
        def both(self, *args: Any) -> None:
            if self.timed:
                stage = self.strategy.stage
                own = steps.Networks(self.strategy, given.images // steps.CLASSES)
                bare = steps.BARE[name](own, len(pairs))
                data = self.strategy.template.feed.experience
                images, labels = data.pixels[-8:].float() / 255, data.labels[-8:]
                by_hand = steps.prepared(bare, own)(images, labels)
                self.strategy.network.train()
                stage.network.train(stage.training)
                batch = TrainBatch(images, labels=labels)
                monkeypatch.setattr(self.strategy, "noise", _silent, raising=False)
                pairs.append((by_hand, stage.loss(batch, stage.network(images))))
            self.train(*args)

    turns = Compared(name, given, bare_first=True)
    for task in range(3):
        turns.learn(task)
    assert len(pairs) == (2 if name in ("bic", "podnet", "foster", "beef") else 1)
    for by_hand, own in pairs:
        assert by_hand.isfinite()
        torch.testing.assert_close(by_hand, own, rtol=2e-5, atol=1e-6)


def _silent(images: torch.Tensor) -> torch.Tensor:
    return torch.zeros((3, *images.shape))
