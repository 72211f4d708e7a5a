"""Strategies that forget: exactness of retrain and s3t, the rule of ssd, what is recorded."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from clgym.api import make_strategy
from clgym.data.generators import seed_generators
from clgym.errors import Incompatible
from clgym.strategy import Batch, Experience, ForgetRequest, Memory
from factories import stream_info

SHAPE = (1, 8, 8)
FEW: dict[str, Any] = {"epochs": 2, "lr": 0.1, "batch_size": 8}


def experience(index: int, pixels: torch.Tensor | None = None, without: int = -1) -> Experience:
    """24 rows of two classes; those of one class may be left out."""
    draws = torch.Generator().manual_seed(index)
    images = torch.randint(0, 256, (24, *SHAPE), dtype=torch.uint8, generator=draws)
    labels = torch.arange(24) % 2 + 2 * index
    images = images if pixels is None else pixels
    kept = labels != without
    return Experience(
        index,
        images[kept],
        labels[kept],
        classes=tuple(sorted(set(labels[kept].tolist()))),
        columns=2 * index + 2,
        seed=0,
        scale=1 / 255,
    )


def learner(name: str, **options: Any) -> Any:
    strategy = make_strategy(name, **options)
    torch.manual_seed(0)
    strategy.setup(stream_info(SHAPE, memory=Memory(strategy.needs.memory)))
    return strategy


def learn(strategy: Any, data: Sequence[Experience]) -> None:
    for part in data:
        torch.manual_seed(part.index)
        strategy.train(part)
        part.close()


def answers(strategy: Any) -> np.ndarray:
    images = torch.rand(50, *SHAPE, generator=torch.Generator().manual_seed(99))
    with torch.no_grad():
        return strategy.predict(Batch(images)).numpy()


def others(rows: int = 24) -> torch.Tensor:
    """Other images, in the place of rows to be forgotten."""
    generator = torch.Generator().manual_seed(12345)
    return torch.randint(0, 256, (rows, *SHAPE), dtype=torch.uint8, generator=generator)


def request(
    forgotten: Sequence[Experience], classes: tuple[int, ...], rest: Sequence[Experience] | None
) -> ForgetRequest:
    return ForgetRequest(0, "class", classes, 8, forgotten, rest, seed=0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("retrain", {"base": "replay", **{f"base.{k}": v for k, v in FEW.items()}}),
        ("s3t", {**FEW, "shards": 1}),
        ("s3t", {**FEW, "shards": 3}),
        ("s3t", {**FEW, "shards": 2, "network": "slim-resnet18"}),
    ],
)
def test_what_answers_after_a_request_was_never_given_the_rows(name: str, options: Any):
    """Bit for bit the same with other images in the place of those to be forgotten."""
    found = []
    for images in (None, others()):
        strategy = learner(name, **options)
        learn(strategy, [experience(i, images if i == 1 else None) for i in range(4)])
        before = answers(strategy)
        asked = experience(1, images)
        rest = [experience(i) for i in (0, 2, 3)] if name == "retrain" else None
        torch.manual_seed(77)
        strategy.forget(request([asked], (2, 3), rest))
        found.append((before, answers(strategy), strategy.state_dict()))
    (before, after, state), (other_before, other_after, other_state) = found
    assert not np.array_equal(before, other_before), "the rows had no effect before the request"
    np.testing.assert_array_equal(after, other_after)
    assert equal(state, other_state)


def equal(one: Any, other: Any) -> bool:
    """Whether two states are the same, bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def test_retrain_is_a_fresh_base_on_what_remains():
    """The oracle is the base by itself, on the rows without those of class 2."""
    own = {f"base.{k}": v for k, v in FEW.items()}
    strategy = learner("retrain", base="replay", **own)
    learn(strategy, [experience(i) for i in range(3)])
    rest = [experience(0), experience(1, without=2), experience(2)]
    strategy.forget(request([experience(1)], (2,), rest))
    alone = make_strategy("replay", **FEW)
    seed_generators(0, "setup")
    alone.setup(stream_info(SHAPE, memory=Memory(alone.needs.memory)))
    for part in [experience(0), experience(1, without=2), experience(2)]:
        seed_generators(0, "train", experience=part.index)
        alone.train(part)
    np.testing.assert_array_equal(answers(strategy), answers(alone))
    held = strategy.info.memory
    assert torch.equal(held["pixels"], alone.info.memory["pixels"]) and held.seen == 60


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_a_request_drops_what_was_trained_after_it_in_its_shard(shards: int):
    strategy = learner("s3t", **FEW, shards=shards)
    learn(strategy, [experience(i) for i in range(5)])
    before = answers(strategy)
    strategy.forget(request([experience(1)], (3,), None))
    gone = [i for i in range(5) if i >= 1 and i % shards == 1 % shards]
    columns = [c for i in gone for c in (2 * i, 2 * i + 1)]
    after = answers(strategy)
    assert np.isneginf(after[:, columns]).all()
    kept = [c for c in range(10) if c not in columns]
    np.testing.assert_array_equal(after[:, kept], before[:, kept])
    assert strategy.costs()["slices_dropped"] == len(gone)


def test_a_shard_whose_first_slice_goes_is_drawn_anew():
    strategy = learner("s3t", **FEW, shards=1)
    learn(strategy, [experience(0), experience(1)])
    old = [p.clone() for p in strategy.network.trunks.parameters()]
    strategy.forget(request([experience(0)], (0,), None))
    fresh = list(strategy.network.trunks.parameters())
    assert not any(torch.equal(a, b) for a, b in zip(old, fresh, strict=True) if a.std() > 0)
    found = answers(strategy)  # nothing is left: any class but the forgotten one
    assert np.isneginf(found[:, 0]).all() and (found[:, 1:] == 0).all()


def test_a_slice_leaves_all_that_came_before_it_as_it_was():
    """Weights and running statistics of the shard's network, and those of earlier slices."""
    strategy = learner("s3t", **FEW, shards=1, network="slim-resnet18")
    learn(strategy, [experience(0), experience(1)])
    old = {name: value.clone() for name, value in strategy.network.state_dict().items()}
    learn(strategy, [experience(2)])
    new = strategy.network.state_dict()
    assert all(torch.equal(new[name], value) for name, value in old.items())
    assert new.keys() - old.keys() == {n for n in new if n.startswith("slices.2.")}


def reference_importance(network: Any, part: Experience) -> dict[str, torch.Tensor]:
    """Mean of squared gradients of single samples, one backward pass each."""
    network.eval()
    total = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    images = part.to_float(part.pixels)
    for image, label in zip(images, part.labels, strict=True):
        network.zero_grad()
        torch.nn.functional.cross_entropy(network(image[None]), label[None]).backward()
        for name, p in network.named_parameters():
            total[name] += p.grad**2
    network.zero_grad()
    return {name: value / len(images) for name, value in total.items()}


@pytest.mark.parametrize("network", ["mlp", "slim-resnet18"])
def test_ssd_dampens_by_the_rule(network: str):
    """An oracle of its own: I_D of two experiences by their sizes, zero for rows yet to come."""
    own = {f"base.{k}": v for k, v in FEW.items()}
    strategy = learner("ssd", **own, **{"base.network": network}, alpha=1.5, dampening=0.5)
    first, second = experience(0), experience(1, without=3)
    found = []
    for part in (first, second):
        learn_and_keep(strategy, part)
        found.append(reference_importance(strategy.base.network, part))
        part.close()
    weights = {n: p.detach().clone() for n, p in strategy.base.network.named_parameters()}
    asked = experience(0)
    forget = reference_importance(strategy.base.network, asked)
    strategy.forget(request([asked], (0, 1), None))
    chosen = 0
    for name, p in strategy.base.network.named_parameters():
        one, two = found[0][name], found[1][name]
        if one.shape != two.shape:  # rows of classes that came later
            wider = torch.zeros_like(two)
            wider[: len(one)] = one
            one = wider
        full = (24 * one + 12 * two) / 36
        mask = forget[name] > 1.5 * full
        factor = torch.clamp(0.5 * full / forget[name], max=1.0)
        wanted = torch.where(mask, weights[name] * factor, weights[name])
        torch.testing.assert_close(p.detach(), wanted, rtol=1e-3, atol=1e-6)
        chosen += int(mask.sum())
    count = sum(p.numel() for p in weights.values())
    assert 0 < chosen < count
    assert strategy.costs()["selected_share"] == pytest.approx(chosen / count, abs=2e-3)


def learn_and_keep(strategy: Any, part: Experience) -> None:
    """Learn an experience whose rows are looked at once more by the test."""
    torch.manual_seed(part.index)
    strategy.train(part)


def test_ssd_refuses_bases_that_do_not_answer_by_one_network():
    for base in ("ema", "avalanche:Replay"):
        with pytest.raises(Incompatible, match="trains one network"):
            learner("ssd", base=base)
