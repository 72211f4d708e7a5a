from typing import Any

import numpy as np
import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import nn

from clgym import registry
from clgym.models import networks
from clgym.strategy import Strategy


def replay():
    return registry.load_class(registry.find("strategies", "replay"), Strategy)


class Watch(SupervisedPlugin):
    """Looks at each batch as the network gets it."""

    def __init__(self, memory: Any):
        super().__init__()
        self.memory, self.batches = memory, []

    def before_forward(self, strategy, **kwargs):
        x, y, t = strategy.mbatch
        self.batches.append((strategy.n_new, len(self.memory), x.clone(), y.clone(), t.clone()))


def watched(learner, **config):
    strategy = learner(replay(), **config)
    watch = Watch(strategy.info.memory)
    strategy.template.plugins.append(watch)
    return strategy, watch


def test_batches_are_new_samples_then_samples_of_the_memory(experiences, learner):
    strategy, watch = watched(learner, batch_size=16, replay_batch=10, memory_size=20)
    for experience in experiences(setting="class-incremental"):
        rows = {tuple(p.flatten().tolist()) for p in experience.pixels}
        watch.batches.clear()
        strategy.train(experience)
        for new, filled, x, y, _ in watch.batches:
            assert new == 16 and len(x) == len(y) == 16 + min(10, filled)
            pixels = (x * 255).round().to(torch.uint8)
            assert {tuple(p.flatten().tolist()) for p in pixels[:new]} <= rows
            assert set(y[:new].tolist()) <= set(experience.classes)
            assert all(c <= max(experience.classes) for c in y[new:])
        old = torch.cat([y[new:] for new, _, _, y, _ in watch.batches])
        assert len(old)


def test_the_memory_holds_what_was_seen_once(experiences, learner):
    strategy = learner(replay(), batch_size=16, memory_size=25, epochs=3)
    seen = {}
    for experience in experiences():
        for pixels, label in zip(experience.pixels, experience.labels, strict=True):
            seen[tuple(pixels.flatten().tolist())] = int(label)
        strategy.train(experience)
        memory = strategy.info.memory
        assert len(memory) == 25
        assert memory.seen == len(seen)  # offered in the first epoch only
        kept = [tuple(p.flatten().tolist()) for p in memory["pixels"]]
        assert len(set(kept)) == 25
        assert [seen[k] for k in kept] == memory["labels"].tolist()


def test_the_memory_stores_unaugmented_pixels(experiences, learner):
    strategy = learner(replay(), augment="crop-flip", memory_size=60)
    (experience,) = experiences(steps=1)
    rows = {tuple(p.flatten().tolist()) for p in experience.pixels}
    strategy.train(experience)
    assert {tuple(p.flatten().tolist()) for p in strategy.info.memory["pixels"]} == rows


def test_one_step_is_cross_entropy_over_all_samples_alike(experiences, learner):
    strategy, watch = watched(learner, batch_size=24, replay_batch=8, lr=0.5)
    (experience,) = experiences(steps=1)
    torch.manual_seed(1)
    strategy.train(experience)
    network = networks.build("mlp", (1, 6, 6), 1, (0.4,), (0.2,))
    reference = learner(replay()).network  # the same first weights
    network.load_state_dict(reference.state_dict())
    torch.manual_seed(1)
    network.grow(2)
    for _, _, x, y, _ in watch.batches:
        loss = nn.functional.cross_entropy(network(x), y)
        grads = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for parameter, grad in zip(network.parameters(), grads, strict=True):
                parameter -= 0.5 * grad
    for key, value in network.state_dict().items():
        torch.testing.assert_close(strategy.network.state_dict()[key], value)


def test_the_memory_s_term_is_weighed(experiences, learner):
    """The loss of each step in NumPy: two means, the memory's times its weight."""
    strategy, watch = watched(
        learner, batch_size=16, replay_batch=7, memory_size=20, memory_weight=0.3
    )
    losses, plain = [], strategy.loss

    def noted(logits, labels):
        losses.append((logits.detach().double().numpy(), float(plain(logits, labels).detach())))
        return plain(logits, labels)

    strategy.template._criterion = noted
    for experience in experiences(steps=2):
        strategy.train(experience)
    for (new, filled, _, y, _), (logits, found) in zip(watch.batches, losses, strict=True):
        rest = logits - logits.max(1, keepdims=True)
        each = np.log(np.exp(rest).sum(1)) - rest[np.arange(len(y)), y.numpy()]
        wanted = each[:new].mean() + (0.3 * each[new:].mean() if filled else 0.0)
        assert found == pytest.approx(wanted, rel=1e-5)


def test_task_ids_stay_with_their_samples(experiences, learner):
    strategy, watch = watched(learner, memory_size=40, setting="task-incremental")
    for experience in experiences(setting="task-incremental"):
        strategy.train(experience)
    for _, _, _, y, t in watch.batches:
        assert torch.equal(t, y // 2)


@pytest.mark.parametrize("stop", [1, 2, 5, 8])
def test_a_run_that_was_cut_goes_on_with_the_same_bits(experiences, learner, stop):
    """The memory comes back from the gym, everything else from the strategy's state."""
    options = {
        "batch_size": 16,
        "epochs": 2,
        "momentum": 0.9,
        "augment": "crop-flip",
        "memory_size": 20,
    }
    whole, kept, count = learner(replay(), **options), [], 0

    def save():
        nonlocal count
        count += 1
        if count == 6 + stop - 3 if stop > 3 else count == stop:
            kept.append(copied([whole.state_dict(), whole.info.memory.state_dict()]))

    for experience in experiences(steps=2, safe_point=save):
        torch.manual_seed(experience.index)
        whole.train(experience)
    resumed = learner(replay(), **options)
    state, memory = kept[0]
    resumed.info.memory.load_state_dict(memory, torch.device("cpu"))
    resumed.load_state_dict(state)
    for experience in list(experiences(steps=2))[state["position"]["part"]["experience"] :]:
        torch.manual_seed(experience.index)
        resumed.train(experience)
    for key, value in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[key], value), key
    assert torch.equal(resumed.info.memory["pixels"], whole.info.memory["pixels"])


def copied(value):
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {k: copied(v) for k, v in value.items()}
    return [copied(v) for v in value] if isinstance(value, list) else value
