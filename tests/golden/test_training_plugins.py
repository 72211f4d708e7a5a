"""Plug-ins around SGD strategies against the released code, in float64."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clgym import registry
from clgym.models.schedules import Cosine

FAMILY = ("dema_", "rs2_", "reweight_", "sam_", "ssd_")

ema, sam, rs2, reweight, ssd = (
    registry.load_module(registry.find("strategies", name))
    for name in ("ema", "sam", "rs2", "reweight", "ssd")
)


def settings(golden) -> dict[str, Any]:
    return json.loads(str(golden["hp"]))


def tensors(group: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(value.copy()) for name, value in group.items()}


def near(found: Any, wanted: np.ndarray, tolerance: Mapping[str, float], what: str = "") -> None:
    found = found.detach().numpy() if isinstance(found, Tensor) else np.asarray(found)
    np.testing.assert_allclose(
        found,
        wanted,
        rtol=tolerance.get("rtol", 0.0),
        atol=tolerance.get("atol", 0.0),
        err_msg=what,
    )


def all_near(found: Mapping[str, Tensor], wanted: Mapping[str, np.ndarray], tolerance: Any) -> None:
    assert wanted and set(wanted) <= set(found)
    for name, value in wanted.items():
        near(found[name], value, tolerance, name)


class Net(nn.Module):
    """The network of a file, in float64: ``mlp`` or ``bn``."""

    def __init__(self, net: Mapping[str, Any]) -> None:
        super().__init__()
        self.net = net
        if net["type"] == "mlp":
            for i, (a, b) in enumerate(zip(net["dims"], net["dims"][1:], strict=False), start=1):
                self.add_module(f"fc{i}", nn.Linear(a, b))
        else:
            self.conv = nn.Conv2d(net["in"], net["width"], 3, padding=1, bias=False)
            self.bn = nn.BatchNorm2d(net["width"])
            self.fc = nn.Linear(net["width"] * net["side"] ** 2, net["classes"])
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        if self.net["type"] == "bn":
            return self.fc(torch.relu(self.bn(self.conv(x))).flatten(1))
        layers = list(self.children())
        for layer in layers[:-1]:
            x = torch.relu(layer(x))
        return layers[-1](x)

    def fill(self, *groups: Mapping[str, np.ndarray]) -> "Net":
        values = {k: v for group in groups for k, v in tensors(group).items()}
        self.load_state_dict(values, strict=False)
        return self


@pytest.mark.golden("rs2_*")
def test_subsets(golden) -> None:
    hp = settings(golden)
    mode = {"exact": "without-replacement", "with_replacement": "with-replacement"}.get(
        hp["mode"], hp["mode"]
    )
    assert round(hp["n"] * hp["fraction"]) == hp["subset_size"]
    subsets = rs2.Subsets(hp["n"], hp["subset_size"], mode, lambda i: torch.Generator())
    blocks = subsets.blocks(torch.from_numpy(order) for order in golden["permutations"])
    epochs = [next(blocks) for _ in range(hp["epochs"])]
    assert [len(rows) for rows in epochs] == golden["epoch_lengths"].tolist()
    np.testing.assert_array_equal(torch.cat(epochs).numpy(), golden["rows"])
    steps, size = golden["steps_per_epoch"].tolist(), hp["batch_size"]
    used = [len(r) - len(r) % size if hp["drop_last"] else len(r) for r in epochs]
    assert [-(-rows // size) for rows in used] == steps
    total = hp["scheduled_steps"]
    assert total == steps[0] * hp["epochs"]
    cosine = Cosine(hp["lr"] - hp["min_lr"], total)
    rates = [hp["min_lr"] + cosine(step) for step in range(total)]
    near(rates, golden["lr_scheduled"], hp["tol"])


@pytest.mark.golden("reweight_*")
def test_weights(golden) -> None:
    hp = settings(golden)
    {"loss_reweight_batch": one_batch, "loss_reweight_train": training}[hp["kind"]](golden, hp)


def one_batch(golden, hp) -> None:
    targets = torch.from_numpy(golden["targets"])
    for curve in hp["strategies"]:
        for r in hp["r"]:
            logits = torch.from_numpy(golden["logits"]).requires_grad_()
            losses = cross_entropy(logits, targets, reduction="none")
            near(losses, golden["losses"], hp["tol"])
            weights = reweight.weights_of(losses, curve, r, hp["delta"])
            terms = weights * losses
            if hp["token_lengths"]:
                lengths = torch.from_numpy(golden["lengths"])
                terms = terms * len(losses) * lengths / lengths.sum()
            (gradient,) = torch.autograd.grad(terms.sum(), logits)
            prefix = f"{curve}.r{r}."
            near(weights, golden[f"{prefix}weights"], hp["tol"], prefix)
            near(terms.sum(), golden[f"{prefix}loss"], hp["tol"], prefix)
            near(gradient, golden[f"{prefix}grad_logits"], hp["tol"], prefix)


def training(golden, hp) -> None:
    net = Net(hp["net"]).fill(golden.group("before."))
    optimizer = torch.optim.SGD(net.parameters(), hp["lr"], hp["momentum"])
    config = reweight.ReweightConfig(
        curve=hp["strategy"],
        sharpness=hp["r"],
        warmup=hp["warmup_mode"],
        warmup_steps=hp["warmup_steps"],
        scope="batch",
    )
    weigh = reweight._Weigh(config)
    for step in range(hp["steps"]):
        x, y = torch.from_numpy(golden[f"x{step}"]), torch.from_numpy(golden[f"y{step}"])
        optimizer.zero_grad()
        logits = net(x)
        losses = cross_entropy(logits, y, reduction="none")
        near(losses, golden[f"losses{step}"], hp["tol"])
        r = weigh.sharpness()
        weights = (
            torch.full_like(losses, 1 / len(losses))
            if r is None
            else reweight.weights_of(losses, hp["strategy"], r, hp["delta"])
        )
        near(weights, golden[f"weights{step}"], hp["tol"])
        weigh.loss(logits, y).backward()
        optimizer.step()
        weigh.after_update(None)
        all_near(dict(net.named_parameters()), golden.group(f"after{step}."), hp["tol"])


@pytest.mark.golden("dema_*")
def test_average(golden) -> None:
    hp = settings(golden)
    {"dynamic_ema_trajectory": trajectory, "dynamic_ema_stream": stream}[hp["kind"]](golden, hp)


def config_of(hp) -> Any:
    return ema.EMAConfig(
        rule=hp["variant"].replace("_", "-"),
        decay=hp.get("decay", 0.99),
        fallback=hp["fallback"],
        scope=hp["scope"],
        init=hp["init"],
        start_experience=hp.get("start_exp", 0),
    )


def trajectory(golden, hp) -> None:
    shadow = ema.Shadow(config_of(hp))
    if hp["init"] == "start":
        shadow.start(tensors(golden.group("theta_0.")))
    for t in range(1, hp["steps"] + 1):
        used = shadow.update(
            tensors(golden.group(f"theta_{t}.")), tensors(golden.group(f"grad_{t}."))
        )
        all_near(shadow.weights, golden.group(f"shadow_{t}."), hp["tol"])
        near([float(used[name][0]) for name in hp["names"]], golden["w"][t - 1], hp["tol"])
        fell = [bool(used[name][1]) for name in hp["names"]]
        assert fell == golden["used_fallback"][t - 1].astype(bool).tolist()


class Feed:
    """What the companion reads of a template."""

    def __init__(self, model: nn.Module, index: int) -> None:
        self.model, self.feed, self.experience, self.index = model, self, self, index


def stream(golden, hp) -> None:
    net = Net(hp["net"]).fill(golden.group("before."))
    optimizer = torch.optim.SGD(net.parameters(), hp["lr"], hp["momentum"])
    average = ema._Average(config_of(hp))
    for k in range(hp["n_exp"]):
        seen = Feed(net, k)
        average.before_training_exp(seen)
        for x, y in zip(*(torch.from_numpy(golden[f"{n}_exp{k}"]) for n in "xy"), strict=True):
            optimizer.zero_grad()
            (hp["loss_scale"] * cross_entropy(net(x), y)).backward()
            optimizer.step()
            average.after_update(seen)
        all_near(dict(net.named_parameters()), golden.group(f"live_end_exp{k}."), hp["tol"])
        average.after_training_exp(seen)
        all_near(dict(net.named_parameters()), golden.group(f"after_exp{k}."), hp["tol"])


@pytest.mark.golden("sam_*")
def test_uphill(golden) -> None:
    hp = settings(golden)
    net = Net(hp["net"]).fill(golden.group("before."), golden.group("before_stat."))
    named = dict(net.named_parameters())
    groups = hp["groups"] or [{"names": list(named)}]
    rho = {name: g.get("rho", hp["rho"]) for g in groups for name in g["names"]}
    optimizer = optimizer_of(
        hp,
        [{"params": [named[n] for n in g["names"]], "lr": g.get("lr", hp["lr"])} for g in groups],
    )
    device = torch.device("cpu")
    for s in range(hp["steps"]):
        x, y = torch.from_numpy(golden[f"x{s}"]), torch.from_numpy(golden[f"y{s}"])
        random = sam._random_state(device)
        optimizer.zero_grad()
        first = cross_entropy(net(x), y)
        first.backward()
        gradients = {n: p.grad.clone() for n, p in named.items() if p.grad is not None}
        moves = sam.uphill(named, gradients, rho, adaptive=hp["adaptive"])
        all_near(moves, golden.group(f"perturbation{s}."), hp["tol"])
        with sam._moved(named, moves), sam._repeated(net, device, random):
            optimizer.zero_grad()
            second = cross_entropy(net(x), y)
            second.backward()
        optimizer.step()
        near(first, golden["loss_first"][s], hp["tol"])
        near(second, golden["loss_second"][s], hp["tol"])
        all_near(named, golden.group(f"after{s}."), hp["tol"])
        if statistics := golden.group(f"after{s}_stat."):
            all_near(dict(net.named_buffers()), statistics, hp["tol"])


def optimizer_of(hp, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    if hp["optimizer"] == "sgd":
        return torch.optim.SGD(
            groups,
            momentum=hp["momentum"],
            weight_decay=hp["weight_decay"],
            nesterov=hp["nesterov"],
        )
    return {"adam": torch.optim.Adam}[hp["optimizer"]](groups, weight_decay=hp["weight_decay"])


@pytest.mark.golden("ssd_*")
def test_ssd(golden) -> None:
    hp = json.loads(str(golden["hp"]))
    model = Net(hp["net"]).fill(golden.group("before."), golden.group("before_stat."))
    model.train(hp["mode"] == "train")

    def batches(part: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [
            (torch.from_numpy(golden[f"{part}_x{i}"]), torch.from_numpy(golden[f"{part}_y{i}"]))
            for i in range(hp[f"n_{part}_batches"])
        ]

    full = ssd.batch_importance(model, [*batches("retain"), *batches("forget")])
    forget = ssd.batch_importance(model, batches("forget"))
    parameters = dict(model.named_parameters())
    chosen = ssd.dampen(
        parameters,
        full,
        forget,
        alpha=hp["selection_weighting"],
        dampening=hp["dampening_constant"],
        exponent=hp["exponent"],
        bound=hp["lower_bound"],
    )
    wanted = {
        "importance_full.": full,
        "importance_forget.": forget,
        "after.": parameters,
        "selected.": {name: mask.double() for name, mask in chosen.items()},
    }
    for group, found in wanted.items():
        values = golden.group(group)
        assert set(values) == set(found)
        for name, value in values.items():
            got = found[name].detach().numpy()
            np.testing.assert_allclose(got, value, **hp["tol"], err_msg=f"{group}{name}")
    assert 0 < sum(mask.sum() for mask in chosen.values()) < sum(m.numel() for m in chosen.values())
