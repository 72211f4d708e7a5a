"""RoTTA against the paper's equations in NumPy and plain lists."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from clgym import registry
from clgym.models.cifar_resnet import CifarResNet
from clgym.models.networks import Classifier
from clgym.registry import load_module
from clgym.strategy import Batch, Memory, Strategy
from factories import stream_info

ENTRY = registry.find("strategies", "rotta")


def start(capacity: int = 8, **options):
    kind = registry.load_class(ENTRY, Strategy)
    torch.manual_seed(0)
    classifier = Classifier(CifarResNet(1), CifarResNet.width, 4)
    with torch.no_grad():
        classifier.train()(torch.rand(64, 3, 12, 12) * 0.5)
    strategy = kind(kind.Config(memory_size=capacity, **options))
    strategy.setup(
        stream_info(
            (3, 12, 12),
            "adaptation",
            mean=(),
            std=(),
            batch_size=16,
            classifier=classifier.eval(),
            memory=Memory(capacity),
        )
    )
    return strategy


def images(count: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(seed))


def test_robust_statistics_follow_the_batch_by_a_share():
    layer: Any = nn.BatchNorm2d(5).eval()  # its statistics may be None, by their types
    with torch.no_grad():
        layer.running_mean += torch.randn(5)
        layer.running_var *= 2
        layer.weight *= 3
        layer.bias += 1
    before = layer.running_mean.double().numpy().copy(), layer.running_var.double().numpy().copy()
    robust = load_module(ENTRY).RobustNorm(layer, 0.05)
    x = torch.randn(7, 5, 4, 3)
    plain = robust(x)
    np.testing.assert_allclose(plain.detach(), layer(x).detach(), rtol=1e-4, atol=1e-5)
    array = x.double().numpy()
    mean = 0.95 * before[0] + 0.05 * array.mean((0, 2, 3))
    var = 0.95 * before[1] + 0.05 * array.var((0, 2, 3))
    column = (1, 5, 1, 1)
    wanted = (array - mean.reshape(column)) / np.sqrt(var.reshape(column) + 1e-5) * 3 + 1
    np.testing.assert_allclose(robust.train()(x).detach(), wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(robust.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(robust.var, var, rtol=1e-5)


class Lists:
    """CSTU as lists of [entropy, age] by class."""

    def __init__(self, capacity: int, classes: int) -> None:
        self.capacity, self.classes = capacity, classes
        self.data: list[list[list[float]]] = [[] for _ in range(classes)]

    def score(self, entropy: float, age: float) -> float:
        return 1 / (1 + math.exp(-age / self.capacity)) + entropy / math.log(self.classes)

    def makes_room(self, among: list[int], entropy: float) -> bool:
        items = [(c, i) for c in among for i in range(len(self.data[c]))]
        scores = [self.score(*self.data[c][i]) for c, i in items]
        if max(scores) > self.score(entropy, 0):
            c, i = items[scores.index(max(scores))]
            self.data[c].pop(i)
            return True
        return False

    def offer(self, label: int, entropy: float) -> None:
        sizes = [len(items) for items in self.data]
        if sizes[label] < self.capacity / self.classes:
            largest = [c for c in range(self.classes) if sizes[c] == max(sizes)]
            room = sum(sizes) < self.capacity or self.makes_room(largest, entropy)
        else:
            room = self.makes_room([label], entropy)
        if room:
            self.data[label].append([entropy, 0])
        for items in self.data:
            for item in items:
                item[1] += 1


@pytest.mark.parametrize("capacity", [6, 8, 11])
def test_the_bank_is_cstu(capacity):
    strategy, lists = start(capacity), Lists(capacity, 4)
    draw = np.random.default_rng(capacity)
    for _ in range(150):
        label, entropy = (
            int(draw.integers(4) * draw.integers(2)),
            float(draw.random() * math.log(4)),
        )
        strategy.offer(images(1), label, entropy)
        lists.offer(label, entropy)
        bank = strategy.info.memory
        held = sorted(
            zip(
                bank["labels"].tolist(), bank["entropy"].tolist(), bank["age"].tolist(), strict=True
            )
        )
        wanted = [(c, entropy, age) for c in range(4) for entropy, age in lists.data[c]]
        assert held == sorted(wanted)
    assert len(strategy.info.memory) > 4


def test_an_update_is_weighted_cross_entropy_against_the_teacher():
    strategy = start()
    strategy.view = lambda x: x.flip(3)
    for number in range(8):
        strategy.offer(images(1, number), number % 4, 0.1 * number)
    bank = strategy.info.memory
    pixels, age = bank["images"].clone(), bank["age"].double().numpy()
    with torch.no_grad():
        strategy.teacher.train()
        strategy.model.train()
        state = [{k: v.clone() for k, v in m.state_dict().items()} for m in _both(strategy)]
        target = strategy.teacher(pixels).softmax(1).double().numpy()
        answers = strategy.model(pixels.flip(3)).log_softmax(1).double().numpy()
        for module, saved in zip(_both(strategy), state, strict=True):
            module.load_state_dict(saved)
    a = age / 8
    weight = np.exp(-a) / (1 + np.exp(-a))
    wanted = float((weight * -(target * answers).sum(1)).mean())
    logged = []
    strategy.log = lambda **numbers: logged.append(numbers)
    before = [p.detach().clone() for p in strategy.teacher.parameters()]
    strategy.update()
    assert logged[0]["loss"] == pytest.approx(wanted, rel=1e-4)
    students = strategy.model.parameters()
    for old, now, student in zip(before, strategy.teacher.parameters(), students, strict=True):
        np.testing.assert_allclose(
            now.detach(), 0.999 * old + 0.001 * student.detach(), rtol=1e-5, atol=1e-7
        )
    assert not strategy.model.training and not strategy.teacher.training


def _both(strategy):
    return strategy.teacher, strategy.model


def test_answers_come_from_the_teacher_before_the_update():
    strategy = start(interval=4)
    batch = images(8)
    with torch.no_grad():
        wanted = strategy.teacher(batch).clone()
    before = [p.detach().clone() for p in strategy.model.parameters()]
    assert torch.equal(strategy.adapt(Batch(batch)), wanted)
    learned = [
        not torch.equal(a, b) for a, b in zip(before, strategy.model.parameters(), strict=True)
    ]
    names = [name for name, _ in strategy.model.named_parameters()]
    moved = {name.rpartition(".")[2] for name, has in zip(names, learned, strict=True) if has}
    assert moved == {"weight", "bias"} and not any(
        has for name, has in zip(names, learned, strict=True) if "conv" in name or "head" in name
    )
    assert strategy.arrived == 8 and len(strategy.info.memory) > 0
