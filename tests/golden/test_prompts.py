"""L2P and DualPrompt against the reference code: forward passes, choices and whole sessions."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from given import moved, near, session_of, tensor

from clgym.config import build
from clgym.models.prompts import PromptPool
from clgym.registry import find, load_class
from clgym.strategy import Batch, Strategy, TrainBatch
from factories import stream_info

FAMILY = ("l2p_", "dualprompt_")

Make = Callable[..., Any]

SCHEDULES = {"constant": "constant", "steplr": "step", "cosine": "cosine"}


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def options_of(hp: dict[str, Any]) -> dict[str, Any]:
    """Options of the method from a file's; what a file leaves out does not matter there."""
    given = {
        "pool": hp["size"],
        "top_k": hp["top_k"],
        "pull": hp["pull_constraint_coeff"],
        "selection": "batch-vote" if hp["batchwise_prompt"] else "per-sample",
        "query": "augmented",
    }
    same = ("optimizer", "lr", "weight_decay", "epochs", "min_lr", "lr_decay", "momentum")
    given |= {name: hp[name] for name in (*same, "prefix_layout") if name in hp}
    if "scheduler" in hp:
        follows = hp["schedule_follows_new_optimizer"]
        given["schedule"] = SCHEDULES[hp["scheduler"]]
        given["drops"] = tuple(hp.get("milestones", ()))
        given["schedule_scope"] = "every-session" if follows else "released"
    if "g_prompt_length" in hp:
        given["expert_length"], given["general_length"] = hp["length"], hp["g_prompt_length"]
        given["general_blocks"] = tuple(hp["g_prompt_layer_idx"])
        given["expert_blocks"] = tuple(hp["e_prompt_layer_idx"])
    else:
        given["length"] = hp["length"]
    return given


@pytest.fixture
def make(backbone_name: Any) -> Make:
    def made(golden: Any, total: int, **changed: Any) -> Any:
        cls = load_class(find("strategies", golden.name.split("_")[0]), Strategy)
        size = int(golden["vit_config"][0])
        plain = {"backbone": backbone_name(golden), "image_size": size, "fit": "stretch"}
        options = {**plain, **options_of(json.loads(str(golden["hp"]))), **changed}
        strategy = cls(build(cls.Config, options, golden.name))
        channels = golden["vit.patch_embed.proj.weight"].shape[1]
        strategy.setup(stream_info((channels, size, size), total_columns=total))
        return strategy

    return made


def fill(strategy: Any, values: dict[str, np.ndarray]) -> None:
    with torch.no_grad():
        for key, parameter in parameters_of(strategy).items():
            parameter.copy_(torch.from_numpy(values[key]))


def parameters_of(strategy: Any) -> dict[str, Any]:
    """Name in the files -> parameter."""
    pool = "e_prompt" if hasattr(strategy, "general") else "prompt"
    found = {
        f"{pool}.prompt": strategy.pool.prompts,
        f"{pool}.prompt_key": strategy.pool.keys,
        "head.weight": strategy.head.weight,
        "head.bias": strategy.head.bias,
    }
    return found | ({"g_prompt": strategy.general} if hasattr(strategy, "general") else {})


@pytest.mark.golden("l2p_forward*", "dualprompt_forward*")
def test_forward(golden, make: Make) -> None:
    state, x = golden.group("state."), tensor(golden["x"])
    layouts = ("released", "correct") if golden.name.startswith("dual") else ("",)
    for layout in layouts:
        for kind in ("batchwise", "per_sample", "masked"):
            selection = "per-sample" if kind == "per_sample" else "batch-vote"
            more = {"prefix_layout": layout} if layout else {}
            strategy = make(golden, len(state["head.bias"]), selection=selection, **more)
            fill(strategy, state)
            query = strategy.query(TrainBatch(x))
            near(query, golden["query"])
            given, count = None, strategy.config.top_k
            if kind == "masked":
                first = int(golden["task_id"]) * count
                given = torch.arange(first, first + count).expand(len(x), -1)
            made = strategy.prompted(x, query, given)
            wanted = golden[f"{kind}.prompt_idx"]
            assert [set(r) for r in made.chosen.tolist()] == [set(r) for r in wanted.tolist()]
            near(made.similarity, golden[f"{kind}.similarity"])
            pulled = strategy.pool.pull(made.similarity, made.chosen)
            near(pulled, golden[f"{kind}.reduce_sim"])
            name = f"{kind}_{layout}" if layout else kind
            near(made.logits, golden[f"{name}.logits"])
            tokens = strategy.tokens(x, torch.from_numpy(wanted))  # in the order of the file
            near(tokens, golden[f"{name}.tokens_after_norm"])


@pytest.mark.golden("l2p_train_*", "dualprompt_train_*")
def test_sessions(golden, make: Make) -> None:
    hp, initial = json.loads(str(golden["hp"])), golden.group("initial.")
    strategy = make(golden, len(initial["head.bias"]))
    fill(strategy, initial)
    before, x = initial, tensor(golden["x_test"])
    for task in range(golden.count("losses_task")):
        experience = session_of(golden, task, "task{}_x_{}", "task{}_y_{}")
        strategy.train(experience)
        near(experience.losses, golden[f"losses_task{task}"])
        after = golden.group(f"after_task{task}.")
        for key, parameter in parameters_of(strategy).items():
            moved(parameter, after[key], before[key])
        before, answers = after, []
        for number, part in enumerate(x.split(hp["test_batch_size"])):
            made = strategy.prompted(part, strategy.features(Batch(part)))
            wanted = set(golden[f"test_prompt_idx_task{task}"][number].tolist())
            assert all(set(row) == wanted for row in made.chosen.tolist())
            answers.append(made.logits)
        near(torch.cat(answers), golden[f"test_logits_task{task}"], 1e-7)
        scores = torch.cat(answers)[:, : experience.columns]
        np.testing.assert_array_equal(scores.argmax(1).numpy(), golden[f"test_pred_task{task}"])


def test_ties_in_a_vote_go_to_the_lower_number() -> None:
    pool = PromptPool((5, 1, 2), 5, 2)
    similarity = torch.tensor([[0.0, 0, 1, 0, 2], [0, 1, 0, 2, 0], [0, 2, 0, 1, 0]])
    # Votes with two each: prompts 4, 2 and 3, 1 and 1, 3.
    assert pool.choose(similarity, 2, "batch-vote").tolist() == [[1, 3]] * 3
    assert pool.choose(similarity, 1, "batch-vote").tolist() == [[1]] * 3  # of 4, 3 and 1
    assert pool.choose(similarity, 2, "per-sample").tolist() == [[4, 2], [3, 1], [1, 3]]
