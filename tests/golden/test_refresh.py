"""Refresh learning against the authors' unlearn, Fisher and DER++ steps, in float64."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clgym import registry
from clgym.config import Wrapped
from clgym.models.fisher import fisher_sum
from clgym.strategy import Experience, Memory, Strategy
from factories import stream_info

FAMILY = ("refresh_",)
TOLERANCE = {"rtol": 0, "atol": 1e-10}

refresh = registry.load_module(registry.find("strategies", "refresh"))
derpp = registry.load_module(registry.find("strategies", "derpp"))


class Tiny(nn.Module):  # its layers are those of the file
    """The vectors' networks, with what a strategy asks of a classifier."""

    def __init__(self, weights: Mapping[str, np.ndarray], stats: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        for name in dict.fromkeys(key.partition(".")[0] for key in weights):
            shape = weights[f"{name}.weight"].shape
            if len(shape) == 4:
                out, into, side, _ = shape
                layer: nn.Module = nn.Conv2d(into, out, side, padding=side // 2, bias=False)
            elif len(shape) == 1:
                layer = nn.BatchNorm2d(shape[0])
            else:
                layer = nn.Linear(shape[1], shape[0])
            self.add_module(name, layer)
        self.double()
        self.load_state_dict({k: torch.from_numpy(v) for k, v in {**weights, **stats}.items()})
        self.columns: int = [m for m in self.modules() if isinstance(m, nn.Linear)][-1].out_features

    def forward(self, x: Tensor) -> Tensor:
        layer: Any = self._modules
        if "conv" in layer:
            return layer["fc"](torch.relu(layer["bn"](layer["conv"](x))).flatten(1))
        return layer["fc2"](torch.relu(layer["fc1"](x)))

    def grow(self, columns: int) -> None:
        assert columns == self.columns


def named(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters())


def tensors(group: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(value.copy()) for name, value in group.items()}


def same(found: Mapping[str, Tensor], wanted: Mapping[str, np.ndarray]) -> None:
    assert wanted and set(wanted) <= set(found)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name].detach().numpy(), value, **TOLERANCE, err_msg=name)


@pytest.mark.golden("refresh_unlearn*")
def test_unlearn(golden) -> None:
    net = Tiny(golden.group("before."), {})
    x, y = torch.from_numpy(golden["x"]), torch.from_numpy(golden["y"])
    for noise, wanted in (("noise.", "after."), ("noise2.", "after2.")):
        loss = cross_entropy(net(x), y)
        gradients = dict(
            zip(named(net), torch.autograd.grad(loss, list(net.parameters())), strict=True)
        )
        refresh.ascend(
            named(net),
            gradients,
            tensors(golden.group("fisher.")),
            tensors(golden.group(noise)),
            refresh.RefreshConfig(),
        )
        same(named(net), golden.group(wanted))
        if wanted == "after.":
            np.testing.assert_allclose(loss.item(), golden["ce_before"], **TOLERANCE)
            after = cross_entropy(net(x), y).item()
            np.testing.assert_allclose(after, golden["ce_after"], **TOLERANCE)


@pytest.mark.golden("refresh_fisher*")
def test_fisher(golden) -> None:
    net = Tiny(golden.group("param."), {})
    refresher = refresh.Refresher(refresh.RefreshConfig(), seed=0)
    refresher.fisher = tensors(golden.group("fisher_prior."))
    x, y = torch.from_numpy(golden["x"]), torch.from_numpy(golden["y"])
    total = fisher_sum(net, x, y, "train")
    refresher.decay(net, total, int(golden["n_batches"]) * int(golden["batch_size"]))
    same(refresher.fisher, golden.group("fisher_after."))


class Exact(Experience):
    """Its images are the vectors' float64 numbers, not stored pixels."""

    def to_float(self, pixels: Tensor) -> Tensor:
        return pixels


def pairing(golden: Any, net: Tiny) -> Strategy:
    """Refresh over derpp on the vectors' network, with their buffer in memory."""
    lr, decay = float(golden["lr"]), float(golden["weight_decay"])
    stored, new = len(golden["buf_x_end"]), len(golden["step0.x"])
    base = derpp.DerppConfig(
        lr=lr,
        weight_decay=decay,
        alpha=float(golden["alpha"]),
        beta=float(golden["beta"]),
        memory_size=stored,
        replay_batch=stored,  # a draw is the whole memory
        batch_size=new,
    )
    Based = type("Based", (derpp.Derpp,), {"make_network": lambda self, columns: net})
    config = refresh.RefreshConfig(base=Wrapped("derpp", Based, base), fisher_samples=0)
    strategy = refresh.Refresh(config)
    memory, shape = Memory(stored), (1, 1, golden["buf_x"][0].size)
    strategy.setup(stream_info(shape, total_columns=net.columns, memory=memory))
    x, y, logits = (torch.from_numpy(golden[f"buf_{key}"]) for key in ("x", "y", "logits"))
    memory.add(torch.Generator(), pixels=x, labels=y, logits=logits)
    strategy.companion.fisher = tensors(golden.group("fisher."))
    return strategy


@pytest.mark.golden("refresh_derpp*")
def test_full_steps_over_derpp(golden, monkeypatch: pytest.MonkeyPatch) -> None:
    stats = golden.group("before_stat.")
    net = Tiny(golden.group("before."), stats)
    strategy: Any = pairing(golden, net)
    for step in range(int(golden["steps"])):
        group = f"step{step}."
        noise = tensors(golden.group(f"{group}noise."))
        monkeypatch.setattr(strategy.companion, "draw", lambda parameters, z=noise: z)
        seen: dict[str, Tensor] = {}

        def watched(template: Any, seen: dict = seen) -> None:
            refresh.Refresher.unlearn(strategy.companion, template)
            seen.update({n: p.detach().clone() for n, p in net.state_dict().items()})

        monkeypatch.setattr(strategy.companion, "unlearn", watched)
        x, y = (torch.from_numpy(golden[group + key]) for key in "xy")
        losses: list[float] = []
        experience = Exact(
            step,
            x,
            y,
            classes=tuple(range(net.columns)),
            columns=net.columns,
            seed=0,
            scale=1.0,
            report=lambda event, losses=losses: losses.append(event["loss"]),
        )
        strategy.train(experience)
        same(seen, golden.group(f"{group}after_unlearn."))
        same(named(net), golden.group(f"{group}after_relearn."))
        # Told in float32; what it does to the weights is checked above in float64.
        assert losses[-1] == pytest.approx(float(golden[f"{group}loss"]), rel=1e-6)
        if stats:
            same(seen, golden.group(f"{group}after_unlearn_stat."))
            same(dict(net.named_buffers()), golden.group(f"{group}after_relearn_stat."))
    check_memory(strategy.info.memory, golden)


def check_memory(memory: Memory, golden: Any) -> None:
    """The same samples, in any order: our batches come shuffled."""
    wanted = [golden[f"buf_{key}_end"] for key in ("x", "y", "logits")]
    found = [memory[key].numpy() for key in ("pixels", "labels", "logits")]
    for x, y, logits in zip(*wanted, strict=True):
        place = np.flatnonzero(np.abs(found[0] - x).reshape(len(found[0]), -1).max(1) < 1e-12)
        assert len(place) == 1
        assert found[1][place[0]] == y
        np.testing.assert_allclose(found[2][place[0]], logits, **TOLERANCE)
    assert len(memory) == len(wanted[1])


@pytest.mark.parametrize("seed", range(4))
def test_files_of_other_sizes(
    seed: int, oracles: Any, written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(seed)
    test_unlearn(written("refresh_unlearn", **oracles.refresh_unlearn(rng)))
    test_fisher(written("refresh_fisher", **oracles.refresh_fisher(rng)))
    steps = written("refresh_derpp_mlp", **oracles.refresh_derpp(rng))
    test_full_steps_over_derpp(steps, monkeypatch)
