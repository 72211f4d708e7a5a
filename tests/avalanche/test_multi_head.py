"""Avalanche's strategies on task-incremental streams: as its own multi-head examples train."""

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets, with_classes_timeline
from avalanche.benchmarks.scenarios.task_aware import with_task_labels
from avalanche.benchmarks.utils.classification_dataset import (
    _make_taskaware_classification_dataset as as_dataset,
)
from avalanche.models import MultiHeadClassifier, MultiTaskModule
from avalanche.models.packnet import PackNetModel, PackNetPlugin
from avalanche.training import AGEM, EWC, GEM, MAS, LwF, Naive, SynapticIntelligence
from avalanche.training.plugins import EvaluationPlugin
from torch import nn

from clgym.avalanche.adapter import adapt
from clgym.avalanche.catalogue import RECIPES
from clgym.avalanche.heads import MASK, TaskNetwork
from clgym.config import fields_of
from clgym.errors import ClgymError
from clgym.models import networks
from clgym.strategy import Batch, Experience

TASKS = "task-incremental"


@pytest.fixture
def in_order(monkeypatch):
    """Batches in the stored order, as a stock loader gives them without shuffling."""
    batches = Experience.batches
    monkeypatch.setattr(
        Experience,
        "batches",
        lambda self, size, **k: batches(self, size, **{**k, "shuffle": False}),
    )


def seed(number):
    for seeded in (torch.manual_seed, np.random.seed, random.seed):
        seeded(number)


class StockNetwork(MultiTaskModule):
    """As in Avalanche's examples of task-incremental learning: a body, and its multi-head layer."""

    def __init__(self, network, width):
        super().__init__()
        self.body, self.mean, self.std = network.backbone, network.mean, network.std
        self.classifier = MultiHeadClassifier(width)

    def get_features(self, x):
        return self.body((x - self.mean) / self.std)

    def forward_single_task(self, x, task_label):
        return self.classifier(self.get_features(x), task_label)


def stock_stream(experiences):
    """Each task's classes are 0 and 1, as in those examples."""
    datasets = []
    for experience in experiences:
        labels = experience.labels - min(experience.classes)
        images = experience.to_float(experience.pixels)
        samples: Any = [(x, int(y)) for x, y in zip(images, labels, strict=True)]
        datasets.append(as_dataset(samples, targets=labels.tolist(), task_labels=experience.task))
    bench: Any = with_task_labels(with_classes_timeline(benchmark_from_datasets(train=datasets)))
    for experience in bench.train_stream:
        experience.classes_in_this_experience = sorted(experience.classes_in_this_experience)
        yield experience


STOCK = {
    "Naive": (Naive, {}),
    "EWC": (EWC, {"ewc_lambda": 100.0}),
    "LwF": (LwF, {"alpha": 1.0, "temperature": 2.0}),
    "SynapticIntelligence": (SynapticIntelligence, {"si_lambda": 0.1}),
    "MAS": (MAS, {"lambda_reg": 1.0, "alpha": 0.5}),
    "GEM": (GEM, {"patterns_per_exp": 48, "memory_strength": 0.5}),
    "AGEM": (AGEM, {"patterns_per_exp": 48, "sample_size": 96}),
}
ROUNDED = {"LwF", "MAS", "GEM", "AGEM"}
"""Gradients are summed in another order: of a memory, of all heads at once, beside masks."""


@pytest.mark.parametrize("name", STOCK)
def test_it_trains_as_avalanches_own_multi_head_example(experiences, learner, in_order, name):
    """The same rows in the same order, the same weights at first: the same weights at last."""
    cls, options = STOCK[name]
    ours_only = {"memory_size": 3 * 48} if RECIPES[name].memory else {}
    ours = learner(adapt(name), TASKS, lr=0.1, epochs=2, **options, **ours_only)
    stock_network: Any = StockNetwork(copy.deepcopy(ours.network), ours.network.width)
    ours.network.add(0, (0, 1))
    first = stock_network.classifier.classifiers["0"].classifier
    ours.network.heads["0"].load_state_dict(first.state_dict())
    stock = cls(
        model=stock_network,
        optimizer=torch.optim.SGD(stock_network.parameters(), 0.1),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=32,
        train_epochs=2,
        evaluator=EvaluationPlugin(loggers=[]),
        **options,
    )
    for mine, theirs in zip(experiences(TASKS), stock_stream(experiences(TASKS)), strict=True):
        seed(mine.index)
        ours.train(mine)
        seed(mine.index)
        stock.train(theirs, shuffle=False)
    atol = 1e-6 if name in ROUNDED else 0.0
    for key, value in stock_network.body.state_dict().items():
        mine = ours.network.backbone.state_dict()[key]
        assert torch.allclose(mine, value, rtol=0, atol=atol), key
    for task, head in stock_network.classifier.classifiers.items():
        for key, value in head.classifier.state_dict().items():
            mine = ours.network.heads[task].state_dict()[key]
            assert torch.allclose(mine, value, rtol=0, atol=atol), (task, key)


class StockPacked(PackNetModel):
    """Avalanche's PackNet around the body, its multi-head layer on top, as the paper has heads."""

    def __init__(self, network, width):
        super().__init__(network.backbone)
        self.mean, self.std = network.mean, network.std
        self.classifier = MultiHeadClassifier(width)

    def forward(self, input, task_id):
        features = super().forward((input - self.mean) / self.std, task_id)
        return self.classifier(features, int(task_id[0]))


def test_packnet_trains_as_avalanches_own(experiences, learner, in_order):
    options = {"epochs": 4, "post_prune_epochs": 2, "prune_proportion": 0.6}
    ours = learner(adapt("PackNet"), TASKS, lr=0.1, momentum=0.9, **options)
    body: Any = networks.build("mlp", (1, 6, 6), 1, (0.4,), (0.2,))
    layer: Any = ours.network.backbone[1].wrappee
    body.backbone[1].load_state_dict(layer.state_dict())
    model = StockPacked(body, ours.network.width)
    ours.network.add(0, (0, 1))
    first: Any = model.classifier.classifiers["0"]
    ours.network.heads["0"].load_state_dict(first.classifier.state_dict())
    stock = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), 0.1, momentum=0.9),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=32,
        train_epochs=4,
        evaluator=EvaluationPlugin(loggers=[]),
        plugins=[PackNetPlugin(2, 0.6)],  # type: ignore[list-item]
    )
    for mine, theirs in zip(experiences(TASKS), stock_stream(experiences(TASKS)), strict=True):
        seed(mine.index)
        ours.train(mine)
        seed(mine.index)
        stock.train(theirs, shuffle=False)
    packed = ours.template.model.wrappee.backbone.state_dict()
    assert any("task_index" in key for key in packed)
    for key, value in model.wrappee.state_dict().items():
        assert torch.equal(packed[key], value), key
    for task, head in model.classifier.classifiers.items():
        for key, value in head.classifier.state_dict().items():  # type: ignore[union-attr]
            assert torch.equal(ours.network.heads[task].state_dict()[key], value), (task, key)


def test_packnet_never_changes_an_earlier_task(experiences, learner):
    strategy = learner(adapt("PackNet"), TASKS, epochs=4, post_prune_epochs=2, momentum=0.9)
    images, answers = torch.rand(9, 1, 6, 6), []
    for experience in experiences(TASKS):
        strategy.train(experience)
        with torch.no_grad():
            found = [strategy.predict(Batch(images, task=t)) for t in range(experience.index + 1)]
        for before, now in zip(answers, found, strict=False):
            assert torch.equal(now[:, : before.shape[1]], before)
        answers = found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_decay": 0.1}, "no weight decay"),
        ({"epochs": 3, "post_prune_epochs": 3}, "before and one after the pruning"),
        ({"network": "slim-resnet18"}, "without normalisation"),
    ],
)
def test_packnet_refuses_what_it_cannot_do(learner, options, message):
    with pytest.raises(ClgymError, match=message):
        learner(adapt("PackNet"), TASKS, **options)


def test_lwf_distils_every_task(experiences, learner):
    """By task label: with one head it matched the first task alone, whatever came after."""
    strategy = learner(adapt("LwF"), TASKS)
    for experience in experiences(TASKS):
        strategy.train(experience)
        plugin = strategy.template.plugins[0]
        known = plugin.lwf.prev_classes_by_task
        assert known == {t: {2 * t, 2 * t + 1} for t in range(experience.index + 1)}
        assert set(plugin.lwf.prev_model.own) == set(known)


@pytest.mark.parametrize("name", sorted(n for n, r in RECIPES.items() if r.multi_head))
def test_samples_are_answered_for_by_their_own_task(experiences, learner, name, monkeypatch):
    """New ones and those of memories: else a label's logit were `MASK`, and the loss near 1000."""
    memory = {"memory_size": 60} if RECIPES[name].memory else {}
    strategy = learner(adapt(name), TASKS, **memory)
    forward, answered, losses = type(strategy.network).forward, set(), []

    def watched(self, images, task_labels=None):
        answers = forward(self, images, task_labels)
        if isinstance(task_labels, torch.Tensor):
            columns = [tuple((out > MASK).nonzero().flatten().tolist()) for out in answers]
            answered.update(zip(task_labels.tolist(), columns, strict=True))
        return answers

    monkeypatch.setattr(type(strategy.network), "forward", watched)
    for experience in experiences(TASKS, report=lambda event: losses.append(event["loss"])):
        seed(experience.index)
        strategy.train(experience)
        experience.close()
    assert answered == {(t, (2 * t, 2 * t + 1)) for t in range(3)}
    assert losses and max(losses) < 50


def test_strategies_without_task_support_have_one_head(experiences, learner):
    for name, recipe in RECIPES.items():
        assert ("heads" in {f.name for f in fields_of(adapt(name).Config)}) == recipe.multi_head
    strategy = learner(adapt("DER"), TASKS, memory_size=20)
    assert not isinstance(strategy.network, TaskNetwork)
