"""EASE against the authors' code: completion and scores on given features, and whole sessions."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from given import GivenExperience, moved, near, session_of, tensor

from clgym.config import build
from clgym.models import peft
from clgym.registry import find, load_module
from clgym.strategy import Batch, TrainBatch
from factories import stream_info

FAMILY = ("ease_",)

ease = load_module(find("strategies", "ease"))


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.golden("ease_complement*")
def test_completion_and_scores(golden) -> None:
    sizes, width = golden["classes_per_session"].tolist(), int(golden["dim"])
    known, features = tensor(golden["known"]), tensor(golden["features"])
    for session in range(len(sizes)):
        seen, blocks = sum(sizes[: session + 1]), session + 1
        session_of = torch.arange(blocks).repeat_interleave(torch.tensor(sizes[:blocks]))
        rows = known[:seen, : blocks * width].reshape(seen, blocks, width)
        done = ease.complete(rows, session_of)
        near(done.flatten(1), golden[f"completed_{session}"])
        if f"newest_only_{session}" in golden and session >= 2:  # the variant that is off
            assert not np.allclose(done.flatten(1), golden[f"newest_only_{session}"])
        here = features[:, : blocks * width].reshape(-1, blocks, width)
        for key, wanted in golden.group(f"logits_{session}_alpha_").items():
            near(ease.scores(here, done, session_of, float(key)), wanted)


def adapter_state(golden: Any, prefix: str) -> dict[str, np.ndarray]:
    found = {}
    for key, value in golden.group(prefix).items():
        _, block, _, layer, kind = key.split(".")
        found[f"{layer.removesuffix('_proj')}.{block}.{kind}"] = value
    return found


@pytest.mark.golden("ease_session*")
def test_sessions(golden, backbone_name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hp, side = json.loads(str(golden["hp"])), int(golden["vit_config"][0])
    monkeypatch.setattr(peft, "SCALE", hp["adapter_scale"])
    sizes = golden["classes_per_session"].tolist()
    later = sizes[0] != sizes[-1]  # then the released code takes the later numbers
    options = {name: hp[name] for name in ("optimizer", "momentum", "weight_decay", "alpha")} | {
        "backbone": backbone_name(golden),
        "image_size": side,
        "fit": "stretch",
        "dropout": 0.0,
        "rank": hp["adapter_rank"],
        "min_lr": hp["min_lr"],
        "epochs": hp["epochs_first"],
        "lr": hp["lr_first"],
        "later_epochs": hp["epochs_later"] if later else None,
        "later_lr": hp["lr_later"] if later else None,
    }
    strategy = ease.Ease(build(ease.EaseConfig, options, "ease"))
    channels = golden["vit.patch_embed.proj.weight"].shape[1]
    strategy.setup(stream_info((channels, side, side)))
    trained: dict[str, Any] = {}

    def begin(experience: Any) -> None:
        initial = adapter_state(golden, f"initial_{experience.index}.")
        strategy.current.load_state_dict({k: tensor(v) for k, v in initial.items()})
        strategy.proxy.resize(len(experience.classes))
        with torch.no_grad():
            strategy.proxy.weight.copy_(tensor(golden[f"proxy_initial_{experience.index}"]))

    clear = strategy.proxy.resize

    def watched(columns: int) -> None:
        if not columns:  # it is thrown away
            trained.update(strategy.proxy.state_dict())
        clear(columns)

    strategy.begin, strategy.proxy.resize = begin, watched
    x = tensor(golden["x_test"])
    for session in range(golden.count("losses_")):
        experience = session_of(golden, session, "train_x_{}_{}", "train_y_{}_{}")
        begin(experience)
        strategy.fit_adapter(experience)
        near(experience.losses, golden[f"losses_{session}"])
        initial = adapter_state(golden, f"initial_{session}.")
        for key, wanted in adapter_state(golden, f"trained_{session}.").items():
            moved(strategy.current.get_parameter(key), wanted, initial[key])
        before = golden[f"proxy_initial_{session}"]
        moved(trained["weight"], golden[f"proxy_trained_{session}"], before)
        near(trained["scale"], golden[f"proxy_sigma_{session}"])
        strategy.bank.add(strategy.current)
        batch = TrainBatch(
            tensor(golden[f"proto_x_{session}"]), tensor(golden[f"proto_y_{session}"])
        )
        strategy.measure(GivenExperience([batch], session, experience.classes))
        wanted = golden[f"prototypes_after_session_{session}"]
        near(strategy.prototypes.flatten(1), wanted)
        with torch.no_grad():
            features = strategy.subspaces(strategy.backbone.prepare(x))
            scores = strategy.predict(Batch(x))
        near(features.flatten(1), golden[f"test_features_{session}"])
        near(scores, golden[f"test_logits_{session}"])
        np.testing.assert_array_equal(scores.argmax(1).numpy(), golden[f"test_pred_{session}"])
        plain = F.normalize(features.flatten(1)) @ F.normalize(strategy.prototypes.flatten(1)).T
        near(plain, golden[f"test_logits_plain_cosine_{session}"])
