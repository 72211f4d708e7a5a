from typing import Any

import pytest
import torch
from avalanche.training import Naive
from avalanche.training.plugins import EWCPlugin, SupervisedPlugin
from torch import nn

from clgym.avalanche import SGDStrategy
from clgym.avalanche.loop import EVENTS, fast, hooks_of
from clgym.models import networks
from clgym.strategy import Batch, torch_generator


class Recorder(SupervisedPlugin):
    """Notes every callback that Avalanche knows of a training step, and of an epoch."""

    def __init__(self):
        super().__init__()
        self.heard = []


class SavedEWC(EWCPlugin):
    """Avalanche's plugin under the two methods that a run needs of it."""

    def state_dict(self):
        return {"importances": dict(self.importances), "saved_params": dict(self.saved_params)}

    def load_state_dict(self, state):
        self.importances.update(state["importances"])
        self.saved_params.update(state["saved_params"])


def _listen(event):
    def heard(self, strategy, **kwargs):
        self.heard.append(event)

    return heard


for _event in (
    *EVENTS,
    "before_training",
    "before_training_exp",
    "before_training_epoch",
    "after_training_epoch",
    "after_training_exp",
    "after_training",
):
    setattr(Recorder, _event, _listen(_event))


def with_plugins(*plugins):
    class Plugged(SGDStrategy):
        def plugins(self):
            return plugins

    return Plugged


def bare_loop(network, experience, epochs, size, lr, momentum):
    """The same training with nothing but PyTorch."""
    optimizer = torch.optim.SGD(network.parameters(), lr, momentum)
    network.train()
    for epoch in range(epochs):
        draws = torch_generator(0, "order", experience=experience.index, epoch=epoch)
        order = torch.randperm(len(experience), generator=draws)
        for start in range(0, len(experience), size):
            rows = order[start : start + size]
            images = experience.pixels[rows].float() * (1 / 255)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(images), experience.labels[rows])
            loss.backward()
            optimizer.step()


@pytest.mark.parametrize("name", ["mlp", "slim-resnet18"])
def test_training_equals_a_bare_loop_bit_for_bit(experiences, learner, name):
    strategy = learner(SGDStrategy, network=name, epochs=2, batch_size=20, lr=0.1, momentum=0.9)
    torch.manual_seed(0)
    network = networks.build(name, (1, 6, 6), 1, (0.4,), (0.2,))
    for experience in experiences(steps=2):
        torch.manual_seed(experience.index)
        strategy.train(experience)
        torch.manual_seed(experience.index)
        network.grow(experience.columns)
        bare_loop(network, experience, 2, 20, 0.1, 0.9)
    for key, value in network.state_dict().items():
        assert torch.equal(strategy.network.state_dict()[key], value), key


def test_hooks_come_in_avalanches_order(experiences, learner):
    ours, theirs = Recorder(), Recorder()
    (experience,) = experiences(steps=1, rows=10)
    learner(with_plugins(ours), batch_size=4, epochs=2).train(experience)

    samples: Any = [
        (experience.to_float(x), int(y))
        for x, y in zip(experience.pixels, experience.labels, strict=True)
    ]
    from avalanche.benchmarks import benchmark_from_datasets
    from avalanche.benchmarks.utils.classification_dataset import (
        _make_taskaware_classification_dataset as as_dataset,
    )

    dataset = as_dataset(samples, targets=[y for _, y in samples], task_labels=0)
    options: dict[str, Any] = {"evaluator": None}
    stock = Naive(
        model=(model := networks.build("mlp", (1, 6, 6), 2)),
        optimizer=torch.optim.SGD(model.parameters(), 0.1),
        train_mb_size=4,
        train_epochs=2,
        plugins=[theirs],
        **options,
    )
    bench: Any = benchmark_from_datasets(train=[dataset])
    stock.train(bench.train_stream)
    assert ours.heard == theirs.heard
    assert len(ours.heard) == 4 + 2 * (2 + 3 * len(EVENTS))


def test_only_overridden_hooks_are_called(learner, experiences, monkeypatch):
    called = []
    for event in EVENTS:
        monkeypatch.setattr(
            SupervisedPlugin, event, lambda *a, _e=event, **k: called.append(_e), raising=False
        )
    (experience,) = experiences(steps=1)
    strategy = learner(with_plugins(SupervisedPlugin(), SavedEWC(1.0)))
    strategy.train(experience)
    assert called == []
    ewc = strategy.template.plugins[2]
    hooks: dict[str, tuple[Any, ...]] = {e: hooks_of(strategy.template, e) for e in EVENTS}
    heard = {event: [hook.__self__ for hook in own] for event, own in hooks.items()}
    assert heard["before_backward"] == [ewc]
    assert heard["after_training_iteration"] == [strategy.template.clock]
    assert not any(
        heard[e] for e in EVENTS if e not in ("before_backward", "after_training_iteration")
    )


def test_a_strategys_own_hook_method_is_kept():
    class Loud(Naive):
        def _before_forward(self, **kwargs):
            self.heard = True
            super()._before_forward(**kwargs)

    network = networks.build("mlp", (1, 6, 6), 2)
    loud = fast(Loud)(
        model=network, optimizer=torch.optim.SGD(network.parameters(), 0.1), evaluator=None
    )
    for hook in hooks_of(loud, "before_forward"):
        hook(loud)
    assert loud.heard


def test_plugins_of_avalanche_compose(experiences, learner):
    """EWC on a native strategy: a huge weight on old values holds them where they were."""
    held = learner(with_plugins(SavedEWC(1e4)), lr=1e-4)
    free = learner(SGDStrategy, lr=1e-4)
    moved = []
    for strategy in (held, free):
        first, second = experiences(steps=2)
        torch.manual_seed(1)
        strategy.train(first)
        before = strategy.network.backbone[1].weight.detach().clone()
        torch.manual_seed(1)
        strategy.train(second)
        moved.append((strategy.network.backbone[1].weight - before).norm())
    assert moved[0] < moved[1]


def test_predicting_changes_nothing(experiences, learner):
    strategy = learner(SGDStrategy, network="slim-resnet18")
    first, second = experiences(steps=2)
    strategy.train(first)
    before = {k: v.clone() for k, v in strategy.network.state_dict().items()}
    with torch.no_grad():
        whole = strategy.predict(Batch(torch.rand(9, 1, 6, 6)))
    assert whole.shape == (9, 2)
    after = strategy.network.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    strategy.train(second)
    assert strategy.network.training


def test_training_progress_is_reported(experiences, learner, monkeypatch):
    told = []
    monkeypatch.setattr("clgym.data.experience._PAUSE", 0.0)
    (experience,) = experiences(steps=1, rows=10, report=told.append)
    learner(SGDStrategy, batch_size=4, epochs=2).train(experience)
    assert [(e["epoch"], e["step"]) for e in told[:4]] == [(0, 1), (0, 2), (0, 3), (1, 1)]
    assert told[-1]["images"] == 20 and told[-1]["steps"] == 3 and told[-1]["epochs"] == 2
    assert all(e["loss"] > 0 for e in told)


@pytest.mark.parametrize("stop", [1, 3, 4, 7])
def test_training_goes_on_from_every_safe_point(experiences, learner, stop):
    """Momentum, augmentation and the position come back with the state."""
    options = {"batch_size": 16, "epochs": 3, "momentum": 0.9, "augment": "crop-flip"}
    strategy = learner(SGDStrategy, **options)
    states, count = [], 0

    def save():
        nonlocal count
        count += 1
        if count == stop:
            states.append(torch_copy(strategy.state_dict()))

    (experience,) = experiences(steps=1, safe_point=save)
    torch.manual_seed(3)
    strategy.train(experience)
    assert count == 9

    resumed = learner(SGDStrategy, **options)
    resumed.load_state_dict(states[0])
    (experience,) = experiences(steps=1)
    resumed.train(experience)
    for key, value in strategy.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[key], value), key


def torch_copy(value):
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {k: torch_copy(v) for k, v in value.items()}
    return [torch_copy(v) for v in value] if isinstance(value, list) else value
