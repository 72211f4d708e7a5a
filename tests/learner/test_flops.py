"""Operations of training and of predictions, against what the layers' shapes need."""

import itertools

import pytest
import torch
from torch import nn

from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.learner.flops import FlopSampler
from clgym.results.record import result_hash

INSIDE, HIDDEN, CLASSES = 64, 32, 10


def step_flops(images: int) -> int:
    """A step of two linear layers: forward, both gradients of the weights, one of an input."""
    first, second = 2 * images * INSIDE * HIDDEN, 2 * images * HIDDEN * CLASSES
    return 2 * first + 3 * second  # the images themselves need no gradient


def train(sampler: FlopSampler, sizes: list[int]) -> tuple[torch.Tensor, list[bool]]:
    """Train on batches of these sizes; the last weights, and which steps were watched."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(INSIDE, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))
    optimizer, watched = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9), []
    for size in sizes:
        sampler.begin_step(size)
        watched.append(sampler.is_watching)
        loss = network(torch.randn(size, INSIDE)).logsumexp(1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return next(network.parameters()).detach().clone(), watched


def test_an_experience_is_the_sum_of_its_steps() -> None:
    sampler, sizes = FlopSampler(), [16] * 9 + [5]
    train(sampler, sizes)
    assert sampler.finish(sum(sizes)) == sum(map(step_flops, sizes))


def test_few_steps_are_watched() -> None:
    _, watched = train(FlopSampler(), [4] * 255)
    assert [i for i, seen in enumerate(watched) if seen] == [0, 15]


def test_a_size_of_batch_is_watched_when_it_first_comes() -> None:
    _, watched = train(FlopSampler(), [4, 4, 4, 4, 4, 3, 3])
    assert watched[4:] == [False, True, False]


def test_many_sizes_are_not_all_watched() -> None:
    sampler, sizes = FlopSampler(), list(range(1, 101))
    _, watched = train(sampler, sizes)
    assert sum(watched) < 10
    assert sampler.finish(sum(sizes)) == pytest.approx(sum(map(step_flops, sizes)))


def test_training_is_bit_for_bit_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    with_counting, _ = train(FlopSampler(), [16] * 9 + [5])
    monkeypatch.setattr(FlopSampler, "begin_step", lambda self, images, looks=False: None)
    without, _ = train(FlopSampler(), [16] * 9 + [5])
    assert torch.equal(with_counting, without)


def test_what_an_earlier_session_trained_counts_by_its_images() -> None:
    sampler = FlopSampler()
    train(sampler, [16] * 4)
    assert sampler.finish(16 * 8) == 8 * step_flops(16)


def test_a_pass_that_only_looks_is_no_step_of_training() -> None:
    """Forward passes over batches of the same size, after training."""
    sampler, network = FlopSampler(), nn.Linear(INSIDE, CLASSES)
    train(sampler, [16] * 5)
    for _ in range(4):
        sampler.begin_step(16, True)
        with torch.no_grad():
            network(torch.randn(16, INSIDE))
    looked = 2 * 16 * INSIDE * CLASSES
    assert sampler.finish(16 * 9) == 5 * step_flops(16) + 4 * looked


def test_compiled_networks_are_not_watched() -> None:
    sampler = FlopSampler(watches=False)
    _, watched = train(sampler, [16] * 5)
    assert not any(watched)
    assert sampler.finish(80) is None


def test_without_a_batch_nothing_is_known() -> None:
    assert FlopSampler().finish(0) is None


@pytest.mark.parametrize("strategy", ["replay", "derpp"])
def test_a_run_counts_and_its_result_stays(strategy, tmp_path, monkeypatch) -> None:
    request = Request(strategy, "split-digits", out=tmp_path / "counted", engine="inline")
    counted = run(request)
    width = counted.result.parameters  # weights and biases of 64 -> h -> h -> 10, or 64 -> h -> 10
    per_image = counted.cost.predict_flops_per_image
    assert per_image is not None and per_image < 2 * width
    assert per_image > 1.8 * width, "all but the biases are multiplied and added"
    train_flops = counted.cost.total_train_flops
    assert train_flops is not None
    assert train_flops > 2 * per_image * counted.cost.train_images, "backward passes count"
    with monkeypatch.context() as patched:
        patched.setattr(FlopSampler, "begin_step", lambda self, images, looks=False: None)
        plain = run(Request(strategy, "split-digits", out=tmp_path / "plain", engine="inline"))
    assert plain.cost.total_train_flops is None
    assert result_hash(plain) == result_hash(counted)


def test_costs_stand_outside_of_the_result(tmp_path) -> None:
    record = run(Request("nmc", "split-digits", out=tmp_path / "run", engine="inline"))
    names = set(itertools.chain(record.result.model_dump()))
    assert not names & {"cpu_seconds", "train_flops", "energy_joules", "idle_memory_bytes"}
    cost = record.cost
    assert cost.cpu_seconds is not None and cost.cpu_seconds > 0
    assert cost.idle_memory_bytes is not None and cost.added_memory_bytes is not None
    assert cost.added_memory_bytes == max(0, cost.peak_memory_bytes - cost.idle_memory_bytes)
