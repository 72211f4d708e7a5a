"""Channel-wise reprogramming against the authors' layer, conversion and training."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from clgym.models.networks import Classifier
from clgym.registry import find, load_module
from clgym.strategy import Batch, Experience, TrainBatch
from factories import stream_info

FAMILY = ("clr_",)
VARIANTS = {"base": "full", "v1": "clr", "v2": "mixed", "reduced_v1": "clr", "reduced_v2": "mixed"}

clr = load_module(find("strategies", "clr"))


def tensor(value: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(value))


@pytest.mark.golden("clr_layer*")
def test_layer(golden) -> None:
    weight, bias = golden["conv_weight"], "conv_bias" in golden
    conv = nn.Conv2d(
        weight.shape[1],
        weight.shape[0],
        int(golden["kernel"]),
        int(golden["stride"]),
        int(golden["padding"]),
        bias=bias,
    ).double()
    conv.weight.data = tensor(weight)
    if bias:
        assert conv.bias is not None
        conv.bias.data = tensor(golden["conv_bias"])
    net = nn.Sequential(conv)
    reprogram(net, "full", {"0": int(golden["clr_kernel"])})
    layer: Any = net[0]
    close(layer.kernel.weight, golden["clr_weight_init"])
    x = tensor(golden["x"])
    assert torch.equal(net(x), conv(x))
    close(net(x), golden["out_init"])
    layer.kernel.weight.data = tensor(golden["clr_weight"])
    out = net(x)
    close(out, golden["out"])
    (out * tensor(golden["probe"])).sum().backward()
    close(layer.kernel.weight.grad, golden["clr_weight_grad"])
    assert (conv.weight.grad is not None) == bool(golden["conv_has_grad"])
    assert (layer.kernel.bias is not None) == bool(golden["clr_has_bias"])


def reprogram(net: nn.Module, variant: Any, sides: Mapping[str, int]) -> None:
    """Convert, with kernels of the file's sides."""
    assert set(clr.convert(net, variant, max(sides.values()))) == set(sides)
    for name, side in sides.items():
        layer: Any = net.get_submodule(name)
        assert layer.kernel.kernel_size[0] == side


def close(found: Tensor, wanted: np.ndarray, atol: float = 1e-10) -> None:
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=0, atol=atol)


@pytest.mark.golden("clr_convert*")
def test_conversion(golden) -> None:
    arch = golden.name.removeprefix("clr_convert_")
    variants = sorted({key.partition(".")[0] for key in golden if ".converted" in key})
    for variant in variants:
        with torch.device("meta"):
            net: Any = torchvision.models.get_model(arch)
        convs = [name for name, m in net.named_modules() if isinstance(m, nn.Conv2d)]
        total = sum(p.numel() for p in net.parameters())
        last = [m for m in net.modules() if isinstance(m, nn.Linear)][-1]
        assert total == golden["backbone_params_with_fc"]
        names = clr.convert(net, VARIANTS[variant])
        facts = golden.group(f"{variant}.")
        layers: list[Any] = [net.get_submodule(name) for name in names]
        assert names == facts["converted"].tolist()
        assert [m.kernel.kernel_size[0] for m in layers] == facts["clr_kernel"].tolist()
        assert [m.kernel.out_channels for m in layers] == facts["channels"].tolist()
        rest = [name for name in convs if name not in names]
        assert rest == facts["not_converted"].tolist()
        kernels = sum(p.numel() for m in layers for p in m.kernel.parameters())
        norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
        affine = sum(p.numel() for m in norms for p in m.parameters())
        stats = sum(b.numel() for m in norms for b in m.buffers() if b.dim())
        head = (last.in_features + 1) * int(golden["n_classes"])
        assert kernels == facts["clr_params"]
        assert affine == facts["bn_affine_params"] and stats == facts["bn_running_stats"]
        assert head == facts["head_params"]
        assert kernels + affine + head == facts["trainable_total"]
        plain = total - sum(p.numel() for p in last.parameters())
        assert plain == golden["backbone_params_no_fc"]


class Tiny(nn.Module):
    """The vectors' convolutions with their normalisations; the last has stride 2."""

    def __init__(self, weights: Mapping[str, np.ndarray], groups: list[int]) -> None:
        super().__init__()
        self.count = len(groups)
        for i in range(1, self.count + 1):
            w = weights[f"conv{i}.weight"]
            side = w.shape[-1]
            conv = nn.Conv2d(
                w.shape[1] * groups[i - 1],
                w.shape[0],
                side,
                2 if i == self.count else 1,
                side // 2,
                groups=groups[i - 1],
                bias=f"conv{i}.bias" in weights,
            )
            self.add_module(f"conv{i}", conv)
            self.add_module(f"bn{i}", nn.BatchNorm2d(w.shape[0]))

    def forward(self, x: Tensor) -> Tensor:
        layer: Any = self._modules
        for i in range(1, self.count + 1):
            x = torch.relu(layer[f"bn{i}"](layer[f"conv{i}"](x)))
        return x.mean((2, 3))


def ours(name: str, converted: set[str]) -> str:
    """The vectors' name of a tensor as the strategy's."""
    module, _, kind = name.rpartition(".")
    if kind == "clr_weight":
        return f"backbone.{module}.kernel.weight"
    if module in converted:
        return f"backbone.{module}.conv.{kind}"
    return f"head.{kind}" if module == "fc" else f"backbone.{module}.{kind}"


class Given(Experience):
    """Its batches are the vectors', in their order."""

    def __init__(self, x: Tensor, y: Tensor, classes: int, losses: list[float]) -> None:
        own = tuple(range(classes))
        super().__init__(
            0,
            x.flatten(0, 1),
            y.flatten(),
            classes=own,
            columns=classes,
            seed=0,
            scale=1.0,
            task=0,
            task_columns=(own,),
        )
        self.given, self.losses = list(zip(x, y, strict=True)), losses

    def batches(self, size: int, **_: Any) -> Iterator[TrainBatch]:
        for x, y in self.given:
            yield TrainBatch(x, y, task=self.task, pixels=x)


@pytest.mark.golden("clr_train*")
def test_one_pass_of_training(golden) -> None:
    variant = VARIANTS[golden.name.removeprefix("clr_train_").partition("_")[0]]
    before = {**golden.group("before."), **golden.group("before_stat.")}
    classes, width = golden["before.fc.weight"].shape
    sides = {
        name.removesuffix(".clr_weight"): value.shape[-1]
        for name, value in golden.group("before.").items()
        if name.endswith(".clr_weight")
    }

    class Small(clr.CLR):
        def make_network(self, columns: int) -> Classifier:
            backbone = Tiny(golden.group("before."), golden["groups"].tolist())
            network = Classifier(backbone, width, columns).double()
            reprogram(network.backbone, self.config.variant, sides)
            return network

        def make_head(self, columns: int) -> nn.Linear:
            return nn.Linear(width, columns).double()

    config = clr.CLRConfig(
        variant=variant,
        lr=float(golden["lr"]),
        penalty=float(golden["lamda"]),
        epochs=1,
        lr_drops=(),
        batch_size=golden["x"].shape[1],
    )
    strategy: Any = Small(config)
    x, y = tensor(golden["x"]), tensor(golden["y"])
    strategy.setup(stream_info(tuple(x.shape[2:]), "task-incremental"))
    net = strategy.network
    converted = {n for n, m in net.backbone.named_modules() if isinstance(m, clr.Reprogrammed)}
    named = {ours(name, converted): tensor(value) for name, value in before.items()}
    head = nn.Linear(width, classes).double()
    strategy.make_head = lambda columns: head
    strategy.network.load_state_dict(
        {n: v for n, v in named.items() if not n.startswith("head")}, strict=False
    )
    head.load_state_dict({n[5:]: v for n, v in named.items() if n.startswith("head")})
    strategy._start = {n: v for n, v in strategy._part().items() if not n.startswith("head")}
    losses: list[float] = []
    loss = strategy.loss

    def watched(logits: Tensor, labels: Tensor) -> Tensor:
        value = loss(logits, labels)
        # The authors' list also holds the frozen tensors of converted convolutions.
        frozen = [
            p.norm() for n in converted for p in net.backbone.get_submodule(n).conv.parameters()
        ]
        losses.append(value.item() + config.penalty * float(torch.stack(frozen).sum()))
        return value

    strategy.template._criterion = watched
    strategy.begin(Given(x, y, classes, losses))
    close(net.eval()(x[0]), golden["logits_before_eval"], 1e-9)
    trainable = {n for n, p in net.named_parameters() if p.requires_grad}
    assert trainable == {ours(n, converted) for n in golden["trainable"].tolist()}
    strategy.train(Given(x, y, classes, losses))
    state = net.state_dict()
    for name, value in {**golden.group("after."), **golden.group("after_stat.")}.items():
        close(state[ours(name, converted)], value, 1e-9)
    assert sum(losses) == pytest.approx(float(golden["total_loss"]), abs=1e-9)
    close(strategy.predict(Batch(x[0], task=0)), golden["logits_after_eval"], 1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_files_of_other_sizes(seed: int, oracles: Any, written: Any) -> None:
    test_layer(written("clr_layer", **oracles.clr_layer(np.random.default_rng(seed))))
