"""oEWC, DER and CLS-ER: one step each against its formula, worked out beside the strategy."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, mse_loss

from clgym.api import make_strategy
from clgym.registry import find
from clgym.strategy import Batch, Experience, Memory, TrainBatch
from factories import stream_info

LR, ROWS = 0.1, 8


def set_up(name: str, side: int = 4, **options: Any) -> Any:
    torch.manual_seed(0)
    strategy = make_strategy(name, lr=LR, batch_size=ROWS, **options)
    total = 4 if strategy.needs.total_classes else None
    memory = Memory(strategy.needs.memory)
    strategy.setup(stream_info((1, side, side), total_columns=total, memory=memory))
    return strategy


class InOrder(Experience):
    """One batch, in the order of the rows."""

    def batches(self, size: int, **options: Any) -> Iterator[TrainBatch]:
        return super().batches(size, **{**options, "shuffle": False})


def experience(index: int, side: int = 4) -> Experience:
    generator = torch.Generator().manual_seed(index)
    return InOrder(
        index,
        torch.randint(0, 256, (ROWS, 1, side, side), dtype=torch.uint8, generator=generator),
        torch.arange(ROWS) % 2 + 2 * index,
        classes=(2 * index, 2 * index + 1),
        columns=2 * index + 2,
        seed=0,
        scale=1 / 255,
    )


def weights(net: Any) -> list[Tensor]:
    return [p.detach().clone() for p in net.parameters()]


def check_step(before: Any, loss: Tensor, after: Any) -> None:
    """``after`` is ``before``, one SGD step down ``loss`` later."""
    gradients = torch.autograd.grad(loss, list(before.parameters()))
    for p, g, q in zip(before.parameters(), gradients, after.parameters(), strict=True):
        torch.testing.assert_close(q, p - LR * g, rtol=1e-5, atol=1e-7)


def test_oewc_pulls_by_the_fisher_of_single_samples() -> None:
    strategy = set_up("oewc", strength=5.0, decay=0.5)
    strategy.train(experience(0))
    first = copy.deepcopy(strategy.network)
    data = experience(0)
    x, wanted = data.to_float(data.pixels), [torch.zeros_like(p) for p in first.parameters()]
    for i in range(ROWS):
        value = log_softmax(first(x[i : i + 1]), 1)[0, data.labels[i]]
        for f, g in zip(wanted, torch.autograd.grad(value, list(first.parameters())), strict=True):
            f += value.exp().detach() * g**2 / ROWS
    names = [n for n, _ in first.named_parameters()]
    for name, value in zip(names, wanted, strict=True):
        torch.testing.assert_close(strategy.fisher[name], value, rtol=1e-4, atol=1e-8)
    # From elsewhere than theta*, so that the pull has a gradient.
    with torch.no_grad():
        for p in strategy.network.parameters():
            p += 0.05
    strategy.network.grow(4)
    before, data = copy.deepcopy(strategy.network), experience(1)
    strategy.train(data)
    pull = torch.zeros(())
    for p, q, f in zip(before.parameters(), first.parameters(), wanted, strict=True):
        old = tuple(slice(0, n) for n in q.shape)
        pull = pull + (f * (p[old] - q.detach()) ** 2).sum()
    loss = cross_entropy(before(data.to_float(data.pixels)), data.labels) + 5.0 * pull
    check_step(before, loss, strategy.network)


def test_oewc_estimates_with_each_sample_s_own_statistics() -> None:
    """`bn_mode=train`: the Fisher information of a network whose normalisation sees one sample."""
    strategy = set_up("oewc", side=16, network="slim-resnet18", bn_mode="train")
    strategy.train(experience(0, side=16))
    net, data = strategy.network, experience(0, side=16)
    x, names = data.to_float(data.pixels), [n for n, _ in net.named_parameters()]
    for mode in ("train", "eval"):
        wanted = [torch.zeros_like(p) for p in net.parameters()]
        for i in range(ROWS):
            copied = copy.deepcopy(net).train(mode == "train")
            value = log_softmax(copied(x[i : i + 1]), 1)[0, data.labels[i]]
            gradients = torch.autograd.grad(value, list(copied.parameters()))
            for f, g in zip(wanted, gradients, strict=True):
                f += value.exp().detach() * g**2 / ROWS
        alike = [
            torch.allclose(strategy.fisher[name], value, rtol=1e-2, atol=1e-7)
            for name, value in zip(names, wanted, strict=True)
        ]
        assert all(alike) == (mode == "train")


def test_der_matches_stored_logits() -> None:
    strategy = set_up("der", alpha=0.7, replay_batch=5)
    strategy.train(experience(0))
    memory, before, data = strategy.info.memory, copy.deepcopy(strategy.network), experience(1)
    assert len(memory) == ROWS
    drawn = memory.draw(5, data.generator("replay", epoch=0, step=0))
    strategy.train(data)
    new = cross_entropy(before(data.to_float(data.pixels)), data.labels)
    old = mse_loss(before(data.to_float(drawn["pixels"])), drawn["logits"])
    check_step(before, new + 0.7 * old, strategy.network)


def test_cls_er_matches_the_surer_copy_and_moves_both() -> None:
    rates: dict[str, Any] = {"stable_rate": 1.0, "plastic_rate": 1.0}
    rates |= {"stable_decay": 0.9, "plastic_decay": 0.4}
    strategy = set_up("cls-er", strength=0.7, replay_batch=5, **rates)
    strategy.train(experience(0))
    memory, data = strategy.info.memory, experience(1)
    with torch.no_grad():  # copies that disagree
        for p in strategy.stable.parameters():
            p += 0.1 * torch.randn_like(p)
    before = copy.deepcopy(strategy.network)
    copies = {name: copy.deepcopy(getattr(strategy, name)) for name in ("stable", "plastic")}
    drawn = memory.draw(5, data.generator("replay", epoch=0, step=0))
    strategy.train(data)
    x, y = data.to_float(data.pixels), data.labels
    b, labels = data.to_float(drawn["pixels"]), drawn["labels"]
    z = [slow(b) for slow in copies.values()]
    chosen = torch.stack(
        [
            z[0][i] if z[0][i].softmax(0)[c] > z[1][i].softmax(0)[c] else z[1][i]
            for i, c in enumerate(labels.tolist())
        ]
    ).detach()
    loss = cross_entropy(before(torch.cat([x, b])), torch.cat([y, labels]))
    check_step(before, loss + 0.7 * mse_loss(before(b), chosen), strategy.network)
    # Step 2: shares are min(1 - 1/3, decay).
    for slow, share in (("stable", 2 / 3), ("plastic", 0.4)):
        old, new = copies[slow], getattr(strategy, slow)
        trained = strategy.network.parameters()
        for p, q, w in zip(old.parameters(), new.parameters(), trained, strict=True):
            torch.testing.assert_close(q, share * p + (1 - share) * w, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["oewc", "der", "cls-er"])
def test_a_state_restores_the_answers(name: str) -> None:
    strategy, again = set_up(name), set_up(name)
    strategy.train(experience(0))
    again.info.memory.load_state_dict(strategy.info.memory.state_dict(), torch.device("cpu"))
    again.load_state_dict(copy.deepcopy(strategy.state_dict()))
    for each in (strategy, again):
        torch.manual_seed(3)  # the head grows
        each.train(experience(1))
    images = torch.rand(3, 1, 4, 4)
    with torch.no_grad():
        assert torch.equal(strategy.predict(Batch(images)), again.predict(Batch(images)))


def test_er_is_another_name_of_replay() -> None:
    assert find("strategies", "er").name == "replay"
