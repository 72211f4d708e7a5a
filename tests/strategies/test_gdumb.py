"""GDumb: algorithm 1 of the paper as plain lists, and PyTorch's own schedule with restarts."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from clgym import registry
from clgym.data.held_rows import HandedOut
from clgym.strategy import Strategy


def gdumb() -> type:
    return registry.load_class(registry.find("strategies", "gdumb"), Strategy)


def algorithm_1(labels: list[int], capacity: int, draws: torch.Generator) -> dict[int, list[int]]:
    """Numbers of the samples that are kept, by class."""
    kept: dict[int, list[int]] = {}
    for number, label in enumerate(labels):
        if label in kept and not len(kept[label]) < capacity / len(kept):
            continue
        if sum(map(len, kept.values())) >= capacity:
            largest = min(c for c in kept if len(kept[c]) == max(map(len, kept.values())))
            place = int(torch.randint(len(kept[largest]), (1,), generator=draws))
            kept[largest].pop(place)
        kept.setdefault(label, []).append(number)
    return kept


@pytest.mark.parametrize("capacity", [7, 10, 33])
@pytest.mark.parametrize("order", ["by class", "mixed", "skewed"])
def test_the_sampler_is_algorithm_1(learner, experiences, capacity, order):
    strategy = learner(gdumb(), memory_size=capacity)
    (experience,) = experiences(steps=1)
    draw = np.random.default_rng(0)
    labels = {
        "by class": np.repeat(np.arange(6), 20),
        "mixed": draw.permutation(np.repeat(np.arange(6), 20)),
        "skewed": np.minimum(draw.geometric(0.4, 120) - 1, 5),
    }[order]

    rows = SimpleNamespace(  # the pixels tell a sample's number
        labels=torch.from_numpy(labels),
        pixels=torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1),
    )
    strategy._experience = experience
    strategy.sample(rows)
    memory = strategy.info.memory
    found = dict.fromkeys(Counter(memory["labels"].tolist()))
    for label in found:
        own = (memory["labels"] == label).nonzero()[:, 0]
        found[label] = sorted(memory["pixels"].flatten()[own].tolist())
    wanted = algorithm_1(labels.tolist(), capacity, strategy.rng("displaced"))
    assert found == {label: sorted(kept) for label, kept in wanted.items() if kept}
    assert len(memory) == capacity


def test_the_learning_rate_is_that_of_warm_restarts(learner):
    strategy = learner(gdumb(), lr=0.05, min_lr=0.0005)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.05)
    schedule = CosineAnnealingWarmRestarts(optimizer, T_0=1, T_mult=2, eta_min=0.0005)
    wanted = []
    for _ in range(40):
        wanted.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert [strategy.rate(number) for number in range(40)] == pytest.approx(wanted)


def test_the_network_depends_on_the_memory_alone(learner, experiences):
    first, second = (learner(gdumb(), memory_size=12, passes=3) for _ in range(2))
    earlier, later = list(experiences(steps=2, setting="class-incremental"))
    first.train(earlier)
    held = first.info.memory.state_dict()
    second.info.memory.load_state_dict(held, torch.device("cpu"))
    for strategy in (first, second):  # another network each, the same memory
        torch.manual_seed(5)
        strategy.train(later)
    for one, other in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_each_image_of_the_stream_is_read_once(learner, experiences):
    strategy = learner(gdumb(), memory_size=12, passes=3)
    (experience,) = experiences(steps=1)
    experience.single_pass = True
    experience._handed_out = HandedOut(len(experience))
    strategy.train(experience)
    assert experience.images == len(experience)
