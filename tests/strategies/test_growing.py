"""Expandable, MEMO, FOSTER and BEEF: what stands still, what goes on after a kill, what is kept."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from clgym.data.generators import seed_generators
from clgym.registry import find, load_module
from clgym.strategy import Batch, Experience, Memory
from factories import stream_info

NAMES = ("expandable", "memo", "foster", "beef")
SHAPE, SIZES = (3, 6, 6), (2, 2, 2)
OPTIONS: dict[str, dict[str, Any]] = {
    "memo": {"stem": "3x3"},
    "foster": {"compression_epochs": 2},
    "beef": {"fusion_epochs": 2, "energy_weight": 0.1},
}
STAGES = {"expandable": 1, "memo": 1, "foster": 2, "beef": 2}


def made(name: str, **options: Any) -> Any:
    """A small strategy that is set up."""
    module = load_module(find("strategies", name))
    small = {
        "network": "two-convolutions",
        "first_epochs": 2,
        "epochs": 2,
        "batch_size": 7,
        "memory_size": 13,
        "augment": "crop-flip",
    }
    cls = getattr(module, name.title())
    config = cls.Config(**{**small, **OPTIONS.get(name, {}), **options})
    seed_generators(0, "setup")
    strategy = cls(config)
    strategy.setup(stream_info(SHAPE, memory=Memory(strategy.needs.memory)))
    return strategy


def experiences(
    per_class: int = 8, safe_point: Callable[[], None] = lambda: None
) -> Iterator[Experience]:
    """Three experiences of two classes each, of bright and dark images."""
    generator = torch.Generator().manual_seed(0)
    for task in range(len(SIZES)):
        seen, columns = sum(SIZES[:task]), sum(SIZES[: task + 1])
        labels = torch.arange(seen, columns).repeat_interleave(per_class)
        noise = torch.randint(0, 120, (len(labels), *SHAPE), generator=generator)
        pixels = (noise + 20 * labels[:, None, None, None]).to(torch.uint8)
        yield Experience(
            task,
            pixels,
            labels,
            classes=tuple(range(seen, columns)),
            columns=columns,
            seed=0,
            scale=1 / 255,
            safe_point=safe_point,
        )


def train(strategy: Any, experience: Experience) -> None:
    """Train as the gym does, which seeds the generators before every hook."""
    seed_generators(0, "train", experience=experience.index)
    strategy.train(experience)
    experience.close()


def trained(name: str, count: int = len(SIZES), **options: Any) -> Any:
    strategy = made(name, **options)
    for experience in list(experiences())[:count]:
        train(strategy, experience)
    return strategy


def answers(strategy: Any) -> dict[str, Tensor]:
    images = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return strategy.predict_by_head(Batch(images))


def values(module: torch.nn.Module, buffers: bool = True) -> dict[str, Tensor]:
    """Copies of parameters, and of running statistics."""
    found = dict(module.state_dict() if buffers else module.named_parameters())
    return {key: value.detach().clone() for key, value in found.items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", NAMES)
def test_a_kill_in_any_stage_changes_nothing(name):
    """Saved after every step of the second experience; resumed from one step of each stage."""
    whole = made(name)
    states: list[tuple[int, Any, Any]] = []

    def save() -> None:
        if whole.experience.index == 1:
            state, memory = whole.state_dict(), whole.info.memory.state_dict()
            states.append((whole.stage_index, copy.deepcopy(state), copy.deepcopy(memory)))

    for experience in experiences(safe_point=save):
        train(whole, experience)
    stages = [stage for stage, *_ in states]
    assert sorted(set(stages)) == list(range(STAGES[name]))
    ends = [len(stages) - 1] if STAGES[name] == 1 else [stages.index(1) - 1, len(stages) - 1]
    for stop in {1, *ends, *(end - 2 for end in ends)}:
        resumed = made(name)
        torch.rand(11)  # draws before the resumption do not count
        _, state, memory = states[stop]
        resumed.info.memory.load_state_dict(memory, torch.device("cpu"))
        resumed.load_state_dict(state)
        for experience in list(experiences())[1:]:
            train(resumed, experience)
        assert same(values(whole.network), values(resumed.network)), stop
        assert same(answers(whole), answers(resumed)), stop
        assert same(whole.info.memory.columns(), resumed.info.memory.columns()), stop


@pytest.mark.parametrize("name", NAMES)
def test_frozen_branches_stand_still(name):
    options = {"variant": "fixed"} if name == "beef" else {}
    strategy = trained(name, 2, **options)
    if name == "foster":  # it goes on from the student
        before = [values(strategy.student.backbone.last)]
    else:
        before = [values(branch) for branch in strategy.network.backbone.branches]
    train(strategy, list(experiences())[2])
    after = [values(branch) for branch in strategy.network.backbone.branches]
    assert len(after) == len(before) + 1
    assert all(same(b, a) for b, a in zip(before, after, strict=False))
    assert not same(after[0], after[-1])


def test_released_beef_lets_the_statistics_of_middle_branches_drift():
    strategy = trained("beef", 2)
    before = [values(branch) for branch in strategy.network.backbone.branches]
    train(strategy, list(experiences())[2])
    first, middle, _ = strategy.network.backbone.branches
    assert same(before[0], values(first))
    assert not same(before[1], values(middle))
    weights = [name for name, _ in middle.named_parameters()]
    assert all(torch.equal(before[1][name], values(middle)[name]) for name in weights)


@pytest.mark.parametrize("name", ["expandable", "foster", "beef"])
def test_frozen_branches_take_part_in_no_graph(name):
    network = trained(name).network.train()
    images = torch.rand(3, *SHAPE)
    first = network.backbone.branches[0](network.normalised(images))
    assert not first.requires_grad
    assert network.features(images).requires_grad


def test_memos_base_learns_through_all_branches():
    """A gradient that comes from the frozen branch alone reaches the base."""
    network = trained("memo", 2).network.train()
    images = torch.rand(3, *SHAPE)
    first = network.backbone.branches[0](network.backbone.base(network.normalised(images)))
    first.sum().backward()
    assert network.backbone.base.conv1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("learns", [True, False])
def test_memos_base_learns_after_the_first_experience_unless_told_otherwise(learns):
    strategy = trained("memo", 1, train_base=learns)
    before = values(strategy.network.backbone.base)
    train(strategy, list(experiences())[1])
    after = values(strategy.network.backbone.base)
    assert same(before, after) is not learns


def test_memos_batch_of_extraction_changes_nothing():
    first, second = (trained("memo", exemplar_batch=size) for size in (3, 16))
    pixels = [strategy.info.memory["pixels"] for strategy in (first, second)]
    assert torch.equal(*pixels)
    assert same(values(first.network), values(second.network))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [6, 13])
def test_exemplars_stay_within_the_memory(name, size):
    strategy = made(name, memory_size=size)
    for experience in experiences():
        columns = experience.columns
        train(strategy, experience)
        labels = strategy.info.memory["labels"]
        assert len(labels) <= size
        assert labels.tolist() == sorted(list(range(columns)) * (size // columns))


def test_compressed_foster_answers_with_its_student():
    boosted, compressed = trained("foster"), trained("foster", evaluate="compressed")
    assert [len(s.network.backbone) for s in (boosted, compressed)] == [2, 1]
    assert same(values(boosted.student), values(compressed.network))
    images = torch.rand(4, *SHAPE)
    with torch.no_grad():
        student = boosted.student.eval()(images)
        assert torch.equal(compressed.predict_by_head(Batch(images))["linear"], student)
    assert compressed.means.shape[1] == 32 and boosted.means.shape[1] == 64


def test_fosters_boosting_takes_a_value_of_beta1_per_experience():
    """A list that repeats one value is that value; another last value changes the last one."""
    plain = trained("foster", beta1=0.9)
    listed = trained("foster", beta1_by_task=(0.9, 0.9))
    other = trained("foster", beta1_by_task=(0.9, 0.5))
    assert same(values(plain.network), values(listed.network))
    assert not same(values(plain.network), values(other.network))


@pytest.mark.parametrize("name", NAMES)
def test_a_state_of_any_size_is_loaded(name):
    small, large = trained(name, 1), trained(name, 3)
    states = [copy.deepcopy(strategy.network.state_dict()) for strategy in (small, large)]
    small.network.load_state_dict(states[1])
    large.network.load_state_dict(states[0])
    assert same(values(small.network), states[1]) and same(values(large.network), states[0])
    learning = [len(strategy.network.trained()) for strategy in (small, large)]
    again = [len(trained(name, count).network.trained()) for count in (3, 1)]
    assert learning == again
