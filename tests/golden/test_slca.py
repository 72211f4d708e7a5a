"""SLCA against the reference code: slow training of the backbone, and the alignment."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from given import GivenExperience, moved, near, session_of, sizes_before, tensor

from clgym.config import build
from clgym.registry import find, load_module
from factories import stream_info

FAMILY = ("slca_",)

slca = load_module(find("strategies", "slca"))


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(shape: tuple[int, ...], **options: Any) -> Any:
    strategy = slca.Slca(build(slca.SlcaConfig, {"fit": "stretch", **options}, "slca"))
    strategy.setup(stream_info(shape))
    return strategy


def add_layer(strategy: Any, golden: Any, group: str, session: int) -> None:
    weight, bias = (golden[f"{group}.{session}.{kind}"] for kind in ("weight", "bias"))
    layer = strategy.heads.add(len(bias))
    layer.load_state_dict({"weight": tensor(weight), "bias": tensor(bias)})


@pytest.mark.golden("slca_stage1*")
def test_slow_training(golden, backbone_name: Any) -> None:
    hp, side = json.loads(str(golden["hp"])), int(golden["vit_config"][0])
    same = ("lr", "momentum", "weight_decay", "epochs", "lr_decay")
    strategy = make(
        (golden["vit.patch_embed.proj.weight"].shape[1], side, side),
        backbone=backbone_name(golden),
        image_size=side,
        backbone_rate=hp["backbone_lr_scale"],
        drops=hp["milestones"],
        **{name: hp[name] for name in same},
    )
    before, x = golden.group("vit."), tensor(golden["x_test"])
    for session in range(golden.count("losses_")):
        experience = session_of(golden, session, "train_x_{}_{}", "train_y_{}_{}")
        add_layer(strategy, golden, "head_initial", session)
        strategy.fit_network(experience)
        near(experience.losses, golden[f"losses_{session}"])
        after = golden.group(f"vit_after_{session}.")
        for key, wanted in after.items():
            moved(strategy.network.get_parameter(key), wanted, before[key])
        before = after
        for number, layer in enumerate(strategy.heads.layers):
            for kind in ("weight", "bias"):
                wanted = golden[f"head_after_{session}.{number}.{kind}"]
                moved(getattr(layer, kind), wanted, golden[f"head_initial.{number}.{kind}"])
        with torch.no_grad():
            logits = strategy.heads(strategy.embedded(x))
        near(logits, golden[f"test_logits_{session}"], 1e-7)


@pytest.mark.golden("slca_align*")
def test_alignment(golden) -> None:
    hp, sizes = json.loads(str(golden["hp"])), golden["classes_per_session"].tolist()
    width, classes = golden["sampling_mean"].shape[1], len(golden["sampling_mean"])
    strategy = make(
        (3, 1, 1),
        backbone="vit_tiny_patch16_224"
        f"[img_size=1,patch_size=1,embed_dim={width},depth=1,num_heads=1]@random",
        image_size=1,
        lr=hp["lr"],
        momentum=hp["momentum"],
        weight_decay=hp["weight_decay"],
        align_epochs=hp["ca_epochs"],
        logit_norm=hp.get("logit_temperature") or 0.0,
        jitter=hp["jitter"],
        draws=golden["samples"].shape[2],
    )
    found = [strategy.moments(tensor(golden[f"features_class{c}"])) for c in range(classes)]
    for number, (mean, covariance) in enumerate(found):
        near(mean, golden[f"mean_class{number}"])
        near(covariance, golden[f"covariance_class{number}"])
    strategy.means = torch.stack([mean for mean, _ in found])
    strategy.covariances = torch.stack([covariance for _, covariance in found])
    strategy.session_sizes = sizes
    for session in range(len(sizes)):
        add_layer(strategy, golden, "head_before", session)
    near(strategy.sampling_means(), golden["sampling_mean"], 1e-6)  # kept in float32
    samples, orders = tensor(golden["samples"]), tensor(golden["permutations"])
    strategy.draw = lambda experience, epoch: (samples[epoch], orders[epoch])
    strategy.aligned = strategy.heads
    first, size = sizes_before(golden, len(sizes) - 1)
    experience = GivenExperience([], len(sizes) - 1, range(first, first + size))
    strategy.align(experience)
    near(experience.losses, golden["losses"])
    for number, layer in enumerate(strategy.aligned.layers):
        for kind in ("weight", "bias"):
            before = golden[f"head_before.{number}.{kind}"]
            moved(getattr(layer, kind), golden[f"head_after.{number}.{kind}"], before)


def test_draws_have_the_shrunken_moments() -> None:
    strategy = make(
        (3, 1, 1),
        backbone="vit_tiny_patch16_224[img_size=1,patch_size=1,embed_dim=4,depth=1,num_heads=1]@random",
        image_size=1,
        draws=20000,
    )
    root = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    strategy.session_sizes, strategy.means = [1, 1], torch.full((2, 4), 10.0)
    strategy.covariances = (root @ root.T + 0.1 * torch.eye(4)).expand(2, 4, 4)
    samples, order = strategy.draw(GivenExperience([], 1, [1]), 0)
    assert sorted(order.tolist()) == list(range(40000))
    np.testing.assert_allclose(samples[0].mean(0), np.full(4, 9.5), atol=0.1)
    np.testing.assert_allclose(samples[1].mean(0), np.full(4, 10.0), atol=0.1)
    np.testing.assert_allclose(np.cov(samples[1].T), strategy.covariances[1], atol=0.2)
