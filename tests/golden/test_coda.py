"""CODA-Prompt against the authors' code: components of one block, and whole sessions."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from given import moved, near, session_of, tensor

from clgym.config import build
from clgym.registry import find, load_module
from clgym.strategy import Batch
from factories import stream_info

FAMILY = ("coda_",)

coda = load_module(find("strategies", "coda-prompt"))

NAMES = {"K": "keys", "A": "attentions", "P": "components"}
SCHEDULES = {"constant": "constant", "steplr": "step", "cosine": "released-cosine"}


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def drawn(golden: Any, task: int, block: int) -> dict[str, Any]:
    return {name: tensor(golden[f"task{task}.draws.{k}_{block}"]) for k, name in NAMES.items()}


def fill(part: Any, golden: Any, prefix: str, block: int) -> None:
    values = {name: tensor(golden[f"{prefix}.{k}_{block}"]) for k, name in NAMES.items()}
    part.load_state_dict(values)


@pytest.mark.golden("coda_prompt_module*")
def test_components_of_one_block(golden) -> None:
    size, tasks, length = (int(golden[k]) for k in ("pool", "n_tasks", "length"))
    block, share, mu = int(golden["layers"][0]), size // tasks, float(golden["ortho_mu"])
    part = coda.Components(size, length, golden["task0.query"].shape[1])
    for task in range(golden.count("task")):
        first, end = share * task, share * (task + 1)
        if f"task{task}.before.K_{block}" in golden:
            fill(part, golden, f"task{task}.before", block)
        part.grow(first, drawn(golden, task, block))
        for kind, name in NAMES.items():
            near(part.get_parameter(name), golden[f"task{task}.after.{kind}_{block}"])
        query = tensor(golden[f"task{task}.query"])
        for mode, start in (("train", first), ("eval", end)):
            keys, values = part.prefix(query, start, end)
            near(keys.flatten(1), golden[f"task{task}.{mode}.prefix_key"].reshape(len(query), -1))
            wanted = golden[f"task{task}.{mode}.prefix_value"].reshape(len(query), -1)
            near(values.flatten(1), wanted)
        keys, values = part.prefix(query, first, end)
        penalty = mu * part.penalty(first, end)
        near(penalty, golden[f"task{task}.train.ortho_loss"])
        probes = [tensor(golden[f"task{task}.train.probe_{kind}"]) for kind in ("key", "value")]
        total = (keys.flatten(1) * probes[0].flatten(1)).sum()
        total = total + (values.flatten(1) * probes[1].flatten(1)).sum() + penalty
        part.zero_grad()
        total.backward()
        for kind, name in NAMES.items():
            near(part.get_parameter(name).grad, golden[f"task{task}.train.grad.{kind}_{block}"])


@pytest.mark.golden("coda_train_*")
def test_sessions(golden, backbone_name: Any) -> None:
    hp, side = json.loads(str(golden["hp"])), int(golden["vit_config"][0])
    same = ("optimizer", "lr", "weight_decay", "epochs", "lr_decay", "momentum", "length")
    options = {name: hp[name] for name in same if name in hp} | {
        "backbone": backbone_name(golden),
        "image_size": side,
        "fit": "stretch",
        "query": "augmented",
        "pool": hp["pool"],
        "ortho": hp["ortho_mu"],
        "schedule": SCHEDULES[hp["scheduler"]],
        "drops": hp.get("milestones", ()),
        "batch_size": len(golden["task0_x_0"]),
        "drop_last": False,
        "blocks": tuple(range(golden.count("task0.draws.K_"))),
    }
    strategy = coda.CodaPrompt(build(coda.CodaPromptConfig, options, "coda-prompt"))
    tasks = golden.count("losses_task")
    channels = golden["vit.patch_embed.proj.weight"].shape[1]
    total = len(golden["initial.head.bias"])
    strategy.setup(
        stream_info((channels, side, side), total_columns=total, total_experiences=tasks)
    )
    head = {kind: golden[f"initial.head.{kind}"] for kind in ("weight", "bias")}
    strategy.head.load_state_dict({kind: tensor(value) for kind, value in head.items()})
    started: list[dict[str, np.ndarray]] = []

    def draw(experience: Any, number: int) -> Any:
        return drawn(golden, experience.index, number)

    run = strategy.training.run

    def watched(*args: Any) -> None:
        started[:] = [
            {k: p.detach().numpy().copy() for k, p in part.named_parameters()}
            for part in strategy.parts
        ]
        run(*args)

    strategy.draw, strategy.training.run = draw, watched
    x = tensor(golden["x_test"])
    near(strategy.features(Batch(x)), golden["test_query"])
    for task in range(tasks):
        experience = session_of(golden, task, "task{}_x_{}", "task{}_y_{}")
        strategy.train(experience)
        near(experience.losses, golden[f"losses_task{task}"])
        for number, part in enumerate(strategy.parts):
            for kind, name in NAMES.items():
                wanted = golden[f"after_task{task}.{kind}_{number}"]
                moved(part.get_parameter(name), wanted, started[number][name])
        for kind in head:
            wanted = golden[f"after_task{task}.head.{kind}"]
            moved(getattr(strategy.head, kind), wanted, head[kind])
            head[kind] = wanted
        with torch.no_grad():
            query, end = strategy.features(Batch(x)), strategy.share * strategy.tasks
            near(strategy.prompted(x, query, end, end), golden[f"test_features_task{task}"], 1e-7)
            logits = strategy.logits(x, query)
        near(logits, golden[f"test_logits_task{task}"], 1e-7)
        found = strategy.predict(Batch(x)).argmax(1).numpy()
        np.testing.assert_array_equal(found, golden[f"test_pred_task{task}"])
