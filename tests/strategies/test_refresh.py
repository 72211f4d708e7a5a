"""Refresh over any base: laws of one unlearning step, what it leaves alone, resumption."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, log_softmax

from clgym.api import make_strategy
from clgym.config import Wrapped
from clgym.errors import BadConfig, Incompatible, UnknownName
from clgym.gym.request import Request
from clgym.gym.run import run
from clgym.models import networks
from clgym.models.fisher import fisher_sum
from clgym.registry import find, load_module
from clgym.strategy import Experience, Memory
from factories import stream_info

refresh = load_module(find("strategies", "refresh"))

BASES = ("naive", "replay", "derpp", "avalanche:EWC", "avalanche:LwF", "avalanche:Replay")
SMALL = {"source": "digits", "classes": (0, 1, 2, 3)}


def set_up(base: str, total: int | None = 4, network: str = "mlp", **options: Any) -> Any:
    strategy = make_strategy(
        "refresh", **{"base": base, "base.network": network, "fisher_samples": 8, **options}
    )
    shape = (3, 8, 8) if network != "mlp" else (1, 8, 8)
    needs = strategy.needs
    known = total if needs.total_classes else None
    strategy.setup(stream_info(shape, total_columns=known, memory=Memory(needs.memory)))
    return strategy


def experience(index: int, shape: tuple[int, int, int] = (1, 8, 8), rows: int = 48) -> Experience:
    torch.manual_seed(index)
    first = 2 * index
    return Experience(
        index,
        torch.randint(0, 256, (rows, *shape), dtype=torch.uint8),
        torch.arange(rows) % 2 + first,
        classes=(first, first + 1),
        columns=first + 2,
        seed=0,
        scale=1 / 255,
    )


@pytest.mark.parametrize("base", BASES)
def test_any_base_learns_the_same_bits_when_nothing_is_unlearned(base: str) -> None:
    torch.manual_seed(0)
    plain = make_strategy(base)
    wrapped = set_up(base, delta=0.0)
    torch.manual_seed(0)
    wrapped = set_up(base, delta=0.0)
    torch.manual_seed(0)
    known = 4 if plain.needs.total_classes else None
    memory = Memory(plain.needs.memory)
    plain.setup(stream_info((1, 8, 8), total_columns=known, memory=memory))
    for index in (0, 1):
        for strategy in (plain, wrapped):
            data = experience(index)
            torch.manual_seed(100 + index)
            strategy.train(data)
            data.close()
    ours, theirs = wrapped.base.template.model.state_dict(), plain.template.model.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert wrapped.companion.step == 4
    assert wrapped.costs()["unlearn_seconds"] > 0 and wrapped.costs()["fisher_seconds"] > 0


@pytest.mark.parametrize("base", BASES)
def test_unlearning_changes_the_outcome_of_every_base(base: str) -> None:
    outcomes = []
    for delta in (0.0, 1e-2):
        torch.manual_seed(0)
        strategy = set_up(base, delta=delta)
        torch.manual_seed(100)
        strategy.train(experience(0))
        outcomes.append(strategy.base.template.model.state_dict())
    assert not all(torch.equal(outcomes[0][n], v) for n, v in outcomes[1].items())


def test_statistics_and_memory_are_left_alone_while_weights_climb() -> None:
    strategy = set_up("replay", network="slim-resnet18", noise=0.0)
    strategy.train(experience(0, (3, 8, 8), rows=8))
    template, net = strategy.base.template, strategy.base.network
    data = experience(1, (3, 8, 8), rows=8)
    net.grow(4)
    net.train()
    template.mbatch = [data.to_float(data.pixels), data.labels, torch.zeros(8)]
    template.feed = type("Feed", (), {"n_new": 8})()
    buffers = {n: b.clone() for n, b in net.named_buffers()}
    weights = {n: p.detach().clone() for n, p in net.named_parameters()}
    memory = strategy.info.memory.state_dict()
    generator = torch.get_rng_state()
    strategy.companion.fisher = {}
    strategy.companion.unlearn(template)
    assert all(torch.equal(buffers[n], b) for n, b in net.named_buffers())
    assert torch.equal(generator, torch.get_rng_state())
    after = strategy.info.memory.state_dict()
    assert after["seen"] == memory["seen"]
    assert all(torch.equal(after["columns"][n], v) for n, v in memory["columns"].items())
    for name, parameter in net.named_parameters():
        moved = (parameter.detach().double() - weights[name].double()).norm()
        # Every tensor by delta of its own norm; float32 rounds the sum.
        if weights[name].norm() > 0:
            assert float(moved / weights[name].norm()) == pytest.approx(1e-5, rel=0.02), name
        else:
            assert moved == 0


def net_and_batch() -> tuple[networks.Classifier, torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    net = networks.build("slim-resnet18", (1, 8, 8), 3).double()
    return net, torch.rand(6, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("bn_mode", ["eval", "train"])
def test_fisher_equals_a_loop_over_samples(bn_mode: str) -> None:
    net, x, y = net_and_batch()
    # One sample a batch needs maps of more than one pixel everywhere.
    x = torch.rand(6, 1, 16, 16, dtype=torch.float64)
    found = fisher_sum(net, x, y, bn_mode)
    wanted = {n: torch.zeros_like(p) for n, p in net.named_parameters()}
    buffers = {n: b.clone() for n, b in net.named_buffers()}
    for i in range(6):
        net.load_state_dict(buffers, strict=False)
        net.train(bn_mode == "train")
        value = log_softmax(net(x[i : i + 1]), 1)[0, y[i]]
        gradients = torch.autograd.grad(value, list(net.parameters()))
        for (name, _), g in zip(net.named_parameters(), gradients, strict=True):
            wanted[name] += value.exp().detach() * g**2
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12)


def test_the_papers_rule_is_its_formula() -> None:
    torch.manual_seed(0)
    p, g, z, phi = torch.rand(4, 5, dtype=torch.float64).unbind(0)
    config = refresh.RefreshConfig(rule="paper", gamma=0.02, damping=0.5, noise=0.1)
    moved = p.clone()
    refresh.ascend({"p": moved}, {"p": g}, {"p": phi}, {"p": z}, config)
    wanted = p + 0.02 / (phi + 0.5) * g + 0.1 * torch.sqrt(2 * 0.02 / (phi + 0.5)) * z
    torch.testing.assert_close(moved, wanted, rtol=1e-12, atol=0)


def test_the_full_loss_is_the_bases_own() -> None:
    """With a memory in play, its gradient is that of new and old samples together."""
    strategy = set_up("replay", loss="full", noise=0.0)
    strategy.train(experience(0))
    data = experience(1)
    seen: list[torch.Tensor] = []
    unlearn = strategy.companion.unlearn

    def watched(template: Any) -> None:
        net = strategy.base.network
        before = {n: p.detach().clone() for n, p in net.named_parameters()}
        kept = template.mbatch
        unlearn(template)
        assert template.mbatch is kept
        if seen:
            return
        drawn = strategy.info.memory.draw(32, strategy.base.rng("replay"))
        x = torch.cat([kept[0], data.to_float(drawn["pixels"])])
        y = torch.cat([kept[1], drawn["labels"]])
        now = {n: p.detach().clone() for n, p in net.named_parameters()}
        net.load_state_dict(before, strict=False)
        g = torch.autograd.grad(cross_entropy(net(x), y), net.head.weight)[0]
        w = net.head.weight.detach()
        seen.append((now["head.weight"] - w) - 1e-5 * w.norm() * g / g.norm())
        net.load_state_dict(now, strict=False)

    strategy.companion.unlearn = watched
    strategy.train(data)
    assert seen[0].abs().max() < 2e-8  # float32 beside weights of order 0.1


def test_refresh_of_refresh_takes_options_by_their_path() -> None:
    strategy = make_strategy(
        "refresh", **{"base": "refresh", "base.base": "derpp", "base.base.lr": 0.5}
    )
    assert strategy.base.base.config.lr == 0.5
    assert isinstance(strategy.config.base, Wrapped)


def test_mistakes_are_named() -> None:
    with pytest.raises(UnknownName, match="memory_size"):
        make_strategy("refresh", **{"base": "derpp", "base.memory_sice": 3})
    with pytest.raises(BadConfig, match=r"base\.lr"):
        make_strategy("refresh", **{"base": "derpp", "base.lr": -1})
    with pytest.raises(UnknownName, match="derpp"):
        make_strategy("refresh", base="derp")
    with pytest.raises(Incompatible, match="SGD"):
        make_strategy("refresh", base="nmc").setup(stream_info((1, 8, 8)))


def test_a_run_keeps_the_preset_the_options_and_the_costs(tmp_path: Path) -> None:
    request = Request(
        "refresh",
        "split-digits",
        strategy_config={"base": "derpp", "base.lr": 0.05, "base.epochs": 1},
        scenario_config=SMALL,
        out=tmp_path / "run",
        engine="inline",
        threads=1,
    )
    record = run(request)
    config = record.result.strategy.config
    assert config["base"] == "derpp" and config["base.lr"] == 0.05
    assert config["base.memory_size"] == 100  # of the preset
    assert record.cost.own["fisher_seconds"] > 0
    other = Request(**{**vars(request), "out": tmp_path / "again"})
    assert run(other).result == record.result
