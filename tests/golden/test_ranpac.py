"""RanPAC: the ridge head on given features, and whole sessions, against the authors' code."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from given import GivenExperience, moved, near, sizes_before, tensor
from torch import Tensor

from clgym.config import build
from clgym.models.ridge import STRENGTHS, hold_out_errors, project
from clgym.registry import find, load_class
from clgym.strategy import Batch, Strategy, TrainBatch
from factories import stream_info

FAMILY = ("ranpac_",)

COMPARED = slice(4, None)
"""Strengths from 1e-4 on: below, errors are rounding where the matrix is singular."""


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(shape: tuple[int, ...], **options: Any) -> Any:
    cls = load_class(find("strategies", "ranpac"), Strategy)
    strategy = cls(build(cls.Config, {"fit": "stretch", "dropout": 0.0, **options}, "ranpac"))
    strategy.setup(stream_info(shape))
    return strategy


class GivenFeatures(GivenExperience):
    """All rows of a session at once, with their features."""

    def __init__(self, features: Tensor, labels: Tensor, index: int, columns: int) -> None:
        images = torch.zeros(len(labels), 3, 1, 1)
        batch = TrainBatch(images, labels, features=features)
        super().__init__([batch], index, sorted(set(labels.tolist())))
        self.columns = columns


def compare_errors(rows: Tensor, labels: Tensor, total: int, wanted: np.ndarray) -> None:
    errors = hold_out_errors(rows, F.one_hot(labels, total).to(rows))
    np.testing.assert_allclose(errors[COMPARED].numpy(), wanted[COMPARED], rtol=1e-7)


@pytest.mark.golden("ranpac_head_*")
def test_head(golden) -> None:
    width, size = golden["W_rand"].shape
    vit = f"img_size=1,patch_size=1,embed_dim={width},depth=1,num_heads=1"
    strategies = {
        head: make(
            (3, 1, 1),
            backbone=f"vit_tiny_patch16_224[{vit}]@random",
            image_size=1,
            adapt="none",
            projection=size,
            head=head,
        )
        for head in ("linear", "cosine")
    }
    projection = tensor(golden["W_rand"])
    total, seen = int(golden["n_classes_total"]), 0
    for session in range(golden.count("x_session_")):
        x, y = (tensor(golden[f"{k}_session_{session}"]) for k in "xy")
        seen = max(seen, int(y.max()) + 1)
        compare_errors(project(x, projection), y, total, golden[f"ridge_losses_{session}"])
        for head, strategy in strategies.items():
            strategy.projection = projection
            strategy.train(GivenFeatures(x, y, session, seen))
            near(strategy.gram, golden[f"G_{session}"])
            near(strategy.cross, golden[f"Q_{session}"][:, :seen])
            assert strategy.strength == pytest.approx(float(golden[f"ridge_{session}"]))
            near(strategy.weights, golden[f"W_out_{session}"], 1e-7)
            test = tensor(golden["x_test"])
            scores = strategy.predict(Batch(torch.zeros(len(test), 3, 1, 1), features=test))
            near(scores, golden[f"logits_{head}_{session}"], 1e-7)
            pred = golden[f"pred_{head}_{session}"]
            np.testing.assert_array_equal(scores.argmax(1).numpy(), pred)


def adapter_key(key: str) -> str:
    _, block, _, layer, kind = key.split(".")
    return f"{layer.removesuffix('_proj')}.{block}.{kind}"


@pytest.mark.golden("ranpac_session*")
def test_session(golden, backbone_name: Any) -> None:
    side = int(golden["vit_config"][0])
    same = {name: float(golden[name]) for name in ("lr", "momentum", "weight_decay")}
    strategy = make(
        (golden["vit.patch_embed.proj.weight"].shape[1], side, side),
        backbone=backbone_name(golden),
        image_size=side,
        rank=int(golden["adapter_rank"]),
        projection=int(golden["M"]),
        epochs=int(golden["epochs"]),
        **same,
    )
    initial = {adapter_key(k): v for k, v in golden.group("initial.").items()}
    strategy.module.load_state_dict({k: tensor(v) for k, v in initial.items()})
    strategy.projection = tensor(golden["W_rand"])
    scale = {}

    def begin(experience: Any) -> None:
        strategy.proxy.resize(experience.columns)
        state = {"weight": tensor(golden["fc_initial"]), "scale": tensor(golden["sigma_initial"])}
        strategy.proxy.load_state_dict(state)

    strategy.begin, clear = begin, strategy.proxy.resize

    def watched(columns: int) -> None:
        if not columns:  # it is thrown away
            scale.update(strategy.proxy.state_dict())
        clear(columns)

    strategy.proxy.resize = watched
    x = tensor(golden["x_test"])
    for session in range(golden.count("ridge_losses_")):
        batch = TrainBatch(
            tensor(golden[f"proto_x_{session}"]), tensor(golden[f"proto_y_{session}"])
        )
        before, size = sizes_before(golden, session)
        proto = GivenExperience([batch], session, range(before, before + size))
        if session == 0:
            first = GivenExperience(
                [
                    TrainBatch(tensor(golden[f"train_x_{i}"]), tensor(golden[f"train_y_{i}"]))
                    for i in range(golden.count("train_x_"))
                ],
                0,
                proto.classes,
            )
            strategy.adapt_network(first)
            near(first.losses, golden["losses"])
            for key, wanted in golden.group("trained.").items():
                name = adapter_key(key)
                moved(strategy.module.get_parameter(name), wanted, initial[name])
            moved(scale["weight"], golden["fc_after_training"], golden["fc_initial"])
            moved(scale["scale"], golden["sigma_after_training"], golden["sigma_initial"])
            strategy.adapt_network = lambda experience: None
        strategy.train(proto)
        total = int(golden["n_classes_total"])
        rows, _ = strategy.rows(proto)
        compare_errors(rows, proto.labels, total, golden[f"ridge_losses_{session}"])
        assert strategy.strength == pytest.approx(float(golden[f"ridge_{session}"]))
        near(strategy.weights, golden[f"W_out_{session}"], 1e-7)
        near(strategy.gram.trace(), golden[f"trace_G_{session}"])
        near(strategy.cross.sum(0), golden[f"sum_Q_{session}"][: proto.columns])
        near(strategy.adapted(x), golden["features_test"])
        scores = strategy.predict(Batch(x))
        near(scores, golden[f"logits_linear_{session}"], 1e-7)
        np.testing.assert_array_equal(scores.argmax(1).numpy(), golden[f"pred_linear_{session}"])
        unit = F.normalize(strategy.represent(Batch(x))) @ F.normalize(strategy.weights).T
        near(scale["scale"] * unit, golden[f"logits_cosine_{session}"], 1e-7)


def test_errors_equal_those_of_separate_solves() -> None:
    for rows_count, width in ((23, 7), (23, 60)):
        rows = torch.randn(rows_count, width, generator=torch.Generator().manual_seed(width))
        targets = F.one_hot(torch.arange(rows_count) % 3).to(rows)
        x, y = rows.numpy(), targets.numpy()
        fit = int(0.8 * rows_count)
        for strength, error in zip(STRENGTHS, hold_out_errors(rows, targets), strict=True):
            if strength < 1e-4:
                continue
            gram = x[:fit].T @ x[:fit] + strength * np.eye(width)
            solved = np.linalg.solve(gram, x[:fit].T @ y[:fit])
            assert float(error) == pytest.approx(((x[fit:] @ solved - y[fit:]) ** 2).mean(), 1e-7)
