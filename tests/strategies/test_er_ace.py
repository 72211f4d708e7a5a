"""ER-ACE against its equation in NumPy."""

import numpy as np
import pytest
import torch

from clgym import registry
from clgym.strategy import Strategy


def er_ace() -> type:
    return registry.load_class(registry.find("strategies", "er-ace"), Strategy)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    shifted = logits - logits.max(1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]).mean())


def asymmetric(logits: np.ndarray, labels: np.ndarray, new: int) -> float:
    present = np.unique(labels[:new])
    loss = cross_entropy(logits[:new][:, present], np.searchsorted(present, labels[:new]))
    return loss + (cross_entropy(logits[new:], labels[new:]) if new < len(labels) else 0.0)


@pytest.fixture
def steps(monkeypatch, experiences, learner):
    """Logits, labels, number of new samples and loss of every step."""
    found, cls = [], er_ace()
    loss = cls.loss

    def watched(self, logits, labels):
        value = loss(self, logits, labels)
        plain = (logits.detach().double().numpy(), labels.numpy().copy())
        found.append((*plain, len(self.batch.new), float(value.detach())))
        return value

    monkeypatch.setattr(cls, "loss", watched)
    strategy = learner(cls, batch_size=8, replay_batch=6, memory_size=20)
    for experience in experiences(setting="class-incremental"):
        strategy.train(experience)
    return found


def test_every_step_has_the_loss_of_the_paper(steps):
    mixed = 0
    for logits, labels, new, loss in steps:
        assert loss == pytest.approx(asymmetric(logits, labels, new), rel=1e-5)
        mixed += new < len(labels)
    assert 0 < mixed < len(steps)


def test_a_plain_mean_over_the_batch_is_another_loss(steps):
    logits, labels, _, loss = steps[-1]
    assert abs(loss - cross_entropy(logits, labels)) > 1e-3


def test_new_samples_do_not_move_the_weights_of_absent_classes(experiences, learner):
    strategy = learner(er_ace(), batch_size=8, momentum=0.0, weight_decay=0.0)
    first, second = list(experiences(steps=2, setting="class-incremental"))
    strategy.train(first)
    strategy.info.memory.keep(torch.zeros(0, dtype=torch.int64))
    # Without a memory nothing speaks for the old classes, and nothing against them.
    strategy.rehearse = lambda batch: None
    before = strategy.network.head.weight.detach()[: first.columns].clone()
    strategy.train(second)
    absent = [c for c in range(first.columns) if c not in second.classes]
    assert absent and torch.equal(strategy.network.head.weight[absent], before[absent])
