"""RandLoRA and CorDA layers, and InfLoRA's subspaces and branches, against the authors' code."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from given import near, tensor
from torch import Tensor

from clgym.models import lowrank
from clgym.models.subspaces import DirectionMemory, RunningCovariance, design

FAMILY = ("randlora_", "corda_", "inflora_")


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def shapes_of(golden: Any, targets: list[str]) -> list[tuple[int, int]]:
    return [tuple(golden[f"base.{name}.weight"].shape) for name in targets]  # type: ignore[misc]


@pytest.mark.golden("randlora_*")
def test_randlora(golden) -> None:
    hp = json.loads(str(golden["hp"]))
    rank, alpha, targets = hp["r"], hp["alpha"], hp["targets"]
    shapes = shapes_of(golden, targets)
    kind = "very-sparse" if hp["very_sparse"] else "sparse" if hp["sparse"] else "uniform"
    bases = lowrank.RandomBases(shapes, rank, torch.Generator().manual_seed(0), kind)
    for name, key in (("down", "basis_A"), ("up", "basis_B")):
        assert bases.get_buffer(name).shape == golden[key].shape
        assert float(bases.get_buffer(name).std()) == pytest.approx(1)
    if hp["sparse"] or hp["very_sparse"]:
        assert len(bases.down.unique()) <= 3
    bases.down, bases.up = tensor(golden["basis_A"]), tensor(golden["basis_B"])
    weights, trained = {}, 0
    for name, (outputs, inputs) in zip(targets, shapes, strict=True):
        layer = lowrank.RandLora(inputs, outputs, rank, alpha)
        trained += sum(p.numel() for p in layer.parameters())
        near(layer.row_scales, golden[f"{name}.lambda_init"])
        near(layer.column_scales, golden[f"{name}.gamma_init"])
        assert not layer.weight_change(bases).any()
        scales = {"row_scales": f"{name}.lambda", "column_scales": f"{name}.gamma"}
        layer.load_state_dict({k: tensor(golden[v]) for k, v in scales.items()})
        near(layer.weight_change(bases), golden[f"{name}.delta"])
        base = tensor(golden[f"base.{name}.weight"])
        weights[name] = base + layer.weight_change(bases)
        x = tensor(golden[f"{name}.x"]).requires_grad_()
        y = F.linear(x, weights[name], bias_of(golden, name))
        near(y, golden[f"{name}.y"])
        (y * tensor(golden[f"{name}.probe"])).sum().backward()
        near(layer.row_scales.grad, golden[f"{name}.lambda_grad"])
        near(layer.column_scales.grad, golden[f"{name}.gamma_grad"])
        near(x.grad, golden[f"{name}.x_grad"])
        near(weights[name], golden[f"merged.{name}.weight"])
    assert trained == hp["trainable_parameters"]
    near(model_of(golden, weights)(tensor(golden["x_model"])), golden["y_model"])
    near(model_of(golden, weights)(tensor(golden["x_model"])), golden["y_merged"])


def bias_of(golden: Any, name: str) -> Tensor | None:
    key = f"base.{name}.bias"
    return tensor(golden[key]) if key in golden else None


def model_of(golden: Any, weights: dict[str, Tensor]) -> Any:
    def layer(name: str, x: Tensor) -> Tensor:
        weight = weights.get(name, tensor(golden[f"base.{name}.weight"]))
        return F.linear(x, weight, bias_of(golden, name))

    return lambda x: layer("same", layer("down", torch.tanh(layer("up", x))))


@pytest.mark.golden("corda_*")
def test_corda(golden) -> None:
    hp = json.loads(str(golden["hp"]))
    rank, scale = hp["r"], hp["alpha"] / hp["r"]
    weight, x = tensor(golden["base.lin.weight"]), tensor(golden["x"])
    covariance = lowrank.input_covariance(tensor(golden["inputs"]))
    near(covariance, golden["covariance"])
    mode: Any = {"kpm": "preserve", "ipm": "adapt"}[hp["method"]]
    down, up = lowrank.corda_split(weight, covariance, rank, scale, mode)
    near(scale * up @ down, golden["product"], 1e-7)
    near(weight - scale * up @ down, golden["residual"], 1e-7)
    near(down.abs(), np.abs(golden["lora_A"]), 1e-7)
    near(up.abs(), np.abs(golden["lora_B"]), 1e-7)
    raised, _ = lowrank.damped(
        covariance, hp["damp_start"], hp["damp_factor"], hp["inverse_error_limit"]
    )
    values = torch.linalg.svdvals(weight @ raised)
    kept = values[-rank:] if mode == "preserve" else values[:rank]
    near(kept, golden["singular_values_kept"], 1e-7)
    layer = lowrank.LowRank(hp["in_features"], hp["out_features"], rank, hp["alpha"])
    layer.begin_at(down, up)
    layer.begin_at(tensor(golden["lora_A"]), tensor(golden["lora_B"]))  # the file's signs
    base = F.linear(x, weight, bias_of(golden, "lin"))
    y = base + layer(x)
    near(y, golden["y"], 1e-7)
    near(y, base.numpy(), 1e-7)  # it begins as nothing
    (y * tensor(golden["probe"])).sum().backward()
    near(layer.down.grad, golden["lora_A_grad"], 1e-7)
    near(layer.up.grad, golden["lora_B_grad"], 1e-7)
    torch.optim.SGD(layer.parameters(), hp["sgd_lr"]).step()
    near(weight + layer.weight_change(), golden["merged_after_step"], 1e-7)


@pytest.mark.golden("inflora_subspace_*")
def test_inflora_subspaces(golden) -> None:
    hp = json.loads(str(golden["hp"]))
    memories = [DirectionMemory(hp["dim"]) for _ in range(hp["n_layers"])]
    for task in range(hp["n_tasks"]):
        threshold = hp["lamb"] + (hp["lame"] - hp["lamb"]) * task / hp["total_sessions"]
        assert threshold == pytest.approx(hp["threshold"][task])
        for number, memory in enumerate(memories):
            place = f"task{task}.layer{number}."
            admitted = memory.admitted(tensor(golden[f"{place}cov_before"]))
            if task:
                near(admitted, golden[f"{place}projected"])
            rows, defined = design(admitted, hp["rank"])
            wanted = golden[f"{place}A"]
            assert defined == int(golden[f"{place}A_defined_rows"])
            assert not rows[defined:].any()
            near(rows[:defined].abs(), np.abs(wanted[:defined]), 1e-7)
            memory.update(tensor(golden[f"{place}cov_after"]), threshold)
            assert memory.basis.shape[1] == int(golden[f"{place}n_directions"])
            assert (memory.kind == "retain") == bool(golden[f"{place}retain"])
            near(memory.projection, golden[f"{place}projection"], 1e-7)


@pytest.mark.golden("inflora_attention*")
def test_inflora_branches(golden) -> None:
    from timm.models.vision_transformer import Block

    hp = json.loads(str(golden["hp"]))
    attention: Any = Block(hp["dim"], hp["heads"], qkv_bias="qkv.bias" in golden).attn
    attention.requires_grad_(False)
    names = [name for name in attention.state_dict() if name in golden]
    attention.load_state_dict({name: tensor(golden[name]) for name in names}, strict=False)
    branches = []
    for task in range(hp["n_tasks"]):
        branch = lowrank.PackedLowRank(hp["dim"], hp["rank"], (1, 2))
        pairs = [
            (torch.stack([tensor(golden[f"lora_{kind}_{p}.{task}.weight"]) for p in "kv"]), name)
            for kind, name in (("A", "down"), ("B", "up"))
        ]
        branch.load_state_dict({name: value for value, name in pairs})
        branches.append(branch)
    x, net = tensor(golden["x"]), torch.nn.Module()
    net.attn = attention
    for task in range(hp["n_tasks"]):
        merged = lowrank.DenseChanges()
        for branch in branches[: task + 1]:
            merged.merge("attn.qkv", branch.weight_change())
        with merged.on(net):
            near(attention(x), golden[f"y_task{task}"])
        if task == hp["task"]:
            weight = attention.qkv.weight + merged.weights["attn.qkv"]
            near(weight, golden["merged_qkv_weight"])
    active, earlier = branches[hp["task"]], lowrank.DenseChanges()
    for branch in branches[: hp["task"]]:
        earlier.merge("attn.qkv", branch.weight_change())
    with earlier.on(net), lowrank.LinearChanges({"attn.qkv": active}).on(net):
        y = attention(x)
    near(y, golden["y"])
    (y * tensor(golden["probe"])).sum().backward()
    assert active.up.grad is not None
    for number, part in enumerate("kv"):
        near(active.up.grad[number], golden[f"grad.lora_B_{part}"])
    covariance = RunningCovariance()
    covariance.add(x)
    near(covariance.mean, golden["cov_after_x"])
    covariance.add(tensor(golden["x2"]))
    near(covariance.mean, golden["cov_after_x_and_x2"])
