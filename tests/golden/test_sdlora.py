"""SD-LoRA against the authors' code: gradients, steps, merged weights, and the task boundary."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from given import near, tensor
from torch import Tensor, nn

from clgym.registry import find, load_module

FAMILY = ("sdlora_",)

sd_lora = load_module(find("strategies", "sd-lora"))


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def filled(branches: Any, golden: Any, group: str) -> None:
    """Give the present branch the values of a group of the file."""
    rows = {
        name: torch.stack([tensor(golden[f"{group}.{kind}_{part}"]) for part in "qv"])
        for kind, name in (("A", "down"), ("B", "up"))
    }
    branches.current.load_state_dict(rows)


def magnitudes_of(golden: Any, step: int) -> Tensor:
    both = [tensor(golden[f"step{step}.magnitude_{kind}"]) for kind in ("old", "current")]
    return torch.cat(both)


@pytest.mark.golden("sdlora_*")
def test_steps(golden) -> None:
    hp = json.loads(str(golden["hp"]))
    state = {name: tensor(value) for name, value in golden.group("qkv.").items()}
    qkv = nn.Linear(hp["dim"], 3 * hp["dim"], bias="bias" in state).requires_grad_(False)
    qkv.load_state_dict(state)
    branches = sd_lora.DecoupledBranches(hp["dim"], hp["rank"])
    for task in range(hp["task_id"]):
        filled(branches, golden, f"old{task}")
        branches.next_task(keep_length=False)
    filled(branches, golden, "step0")
    magnitudes = torch.full((hp["task_id"] + 1,), hp["magnitude_init"], requires_grad=True)
    near(magnitudes, magnitudes_of(golden, 0).numpy())
    optimizer = torch.optim.SGD([*branches.parameters(), magnitudes], hp["lr"], hp["momentum"])
    for step in range(hp["steps"]):
        x = tensor(golden[f"x{step}"])
        y = qkv(x) + branches(x, magnitudes)
        near(y, golden[f"y{step}"])
        optimizer.zero_grad()
        (y * tensor(golden[f"probe{step}"])).sum().backward()
        for number, part in enumerate("qv"):
            near(branches.current.down.grad[number], golden[f"grad{step}.A_{part}"])
            near(branches.current.up.grad[number], golden[f"grad{step}.B_{part}"])
        assert magnitudes.grad is not None
        near(magnitudes.grad[-1:], golden[f"grad{step}.magnitude_current"])
        if hp["task_id"]:
            near(magnitudes.grad[:-1], golden[f"grad{step}.magnitude_old"])
        optimizer.step()
        near(magnitudes, magnitudes_of(golden, step + 1).numpy())
        for number, part in enumerate("qv"):
            near(branches.current.down[number], golden[f"step{step + 1}.A_{part}"])
            near(branches.current.up[number], golden[f"step{step + 1}.B_{part}"])
    near(qkv.weight + branches.weight_change(magnitudes), golden["merged_end_of_task"])
    near(
        qkv(tensor(golden["x_end"])) + branches(tensor(golden["x_end"]), magnitudes),
        golden["y_end"],
    )
    first = torch.full((len(magnitudes) + 1,), hp["magnitude_init"])
    branches.next_task(keep_length=False)
    near(qkv.weight + branches.weight_change(first), golden["merged_as_next_task_starts"])


def test_carried_branches_leave_the_function_as_it_was() -> None:
    generator = torch.Generator().manual_seed(0)
    branches = sd_lora.DecoupledBranches(6, 2)
    x = torch.randn(3, 4, 6, generator=generator)
    for tasks in range(1, 4):
        with torch.no_grad():
            branches.current.up.normal_(generator=generator)
        magnitudes = torch.rand(tasks, generator=generator)
        before = branches(x, magnitudes)
        branches.next_task(keep_length=True)
        after = branches(x, torch.cat([magnitudes, torch.ones(1)]))
        torch.testing.assert_close(after, before, rtol=0, atol=1e-12)


def test_a_branch_that_was_never_trained_stays_nothing() -> None:
    branches = sd_lora.DecoupledBranches(6, 2)
    branches.next_task(keep_length=False)
    assert not branches.weight_change(torch.ones(2)).any()
