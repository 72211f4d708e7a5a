"""nmc, simplecil, aper and mos: what the golden vectors do not show."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clgym.config import build
from clgym.data.augment import random_resized_crop_flip
from clgym.learner.assembly import make_strategy
from clgym.models.backbones import digest
from clgym.registry import find, load_class
from clgym.strategy import Batch, Experience, Strategy
from factories import stream_info

VIT = "vit_tiny_patch16_224[img_size=16,patch_size=8,embed_dim=16,depth=2,num_heads=2]@random"
SMALL = {"backbone": VIT, "image_size": 16, "fit": "stretch"}
TRAINED = {**SMALL, "epochs": 2, "batch_size": 8, "rank": 4, "lr": 0.1}


def make(name: str, **config: Any) -> Any:
    cls = load_class(find("strategies", name), Strategy)
    strategy = cls(build(cls.Config, config, name))
    torch.manual_seed(0)
    strategy.setup(stream_info((3, 8, 8), total_columns=6))
    return strategy


def experiences(**options: Any) -> Iterator[Experience]:
    """Three experiences of two classes, told apart by colour."""
    generator = torch.Generator().manual_seed(1)
    for index in range(3):
        labels = torch.tensor([2 * index, 2 * index + 1]).repeat(10)
        pixels = torch.randint(0, 60, (20, 3, 8, 8), generator=generator)
        pixels[torch.arange(20), labels % 3] += 60 + 60 * (labels[:, None, None] // 3)
        yield Experience(
            index,
            pixels.byte(),
            labels,
            classes=(2 * index, 2 * index + 1),
            columns=2 * index + 2,
            seed=0,
            scale=1 / 255,
            **options,
        )


def trained(name: str, **config: Any) -> Any:
    strategy = make(name, **config)
    for experience in experiences():
        torch.manual_seed(experience.index)
        strategy.train(experience)
    return strategy


IMAGES = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def answers(strategy: Any, images: Tensor = IMAGES) -> Tensor:
    with torch.no_grad():
        return strategy.predict(Batch(images))


def test_simplecil_is_the_cosine_to_raw_means() -> None:
    strategy = trained("simplecil", **SMALL)
    backbone = strategy.backbone
    means = []
    for experience in experiences():
        features = backbone(experience.to_float(experience.pixels)).double().numpy()
        means += [features[experience.labels.numpy() == c].mean(0) for c in experience.classes]
    x = backbone(IMAGES).double().numpy()
    rows = np.stack(means)
    wanted = x @ rows.T / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(answers(strategy).numpy(), wanted, atol=1e-5)
    unit = trained("nmc", **SMALL).classes.means.norm(dim=1)
    assert (unit < 1).all()  # nmc averages unit vectors and does not scale the mean again


@pytest.mark.parametrize("variant", ["finetune", "vpt-shallow", "vpt-deep", "ssf", "adapter"])
def test_aper_trains_in_the_first_experience_only(variant: str) -> None:
    strategy = make("aper", variant=variant, **TRAINED)
    base = digest(strategy.backbone.model)
    states = [digest(strategy.module)]
    for experience in experiences():
        strategy.train(experience)
        states.append(digest(strategy.module))
    assert states[0] != states[1] == states[2] == states[3]
    assert digest(strategy.backbone.model) == base
    width = strategy.backbone.width
    plain = strategy.backbone(IMAGES)
    torch.testing.assert_close(strategy.embed(Batch(IMAGES))[:, :width], plain, rtol=0, atol=0)
    torch.testing.assert_close(answers(strategy), answers(strategy), rtol=0, atol=0)
    assert strategy.classes.means.shape == (6, 2 * width)


def test_aper_and_mos_declare_that_they_reread_images() -> None:
    for name in ("aper", "mos"):
        assert make(name, **TRAINED).needs.rereads


def test_mos_answers_twice_alike_and_in_any_batches() -> None:
    strategy = trained("mos", align_epochs=2, **TRAINED)
    before = {k: v.clone() for k, v in strategy.bank.tensors.items()}
    first = answers(strategy)
    torch.testing.assert_close(answers(strategy), first, rtol=0, atol=0)
    parts = torch.cat([answers(strategy, part) for part in IMAGES.split(5)])
    torch.testing.assert_close(parts, first, rtol=1e-4, atol=1e-5)
    assert torch.equal(parts.argmax(1), first.argmax(1))
    for key, value in strategy.bank.tensors.items():
        assert torch.equal(value, before[key])
    assert len(strategy.bank) == 3


def test_mos_computes_visited_adapters_only() -> None:
    strategy = trained("mos", align_epochs=2, **TRAINED)
    asked: list[tuple[int, Tensor]] = []
    lazily = strategy.stored

    def watched(images: Tensor, which: Tensor) -> Tensor:
        asked.append((len(images), which))
        return lazily(images, which)

    strategy.stored = watched
    with torch.no_grad():
        _, _, visited = strategy.retrieve(strategy.backbone.prepare(IMAGES))
    needed = sum(len({0, *(v for v in row if v >= 0)}) for row in visited.tolist())
    assert sum(count for count, _ in asked) == needed < 3 * len(IMAGES)


def test_mos_goes_on_from_the_last_adapter_and_decays_old_rows_only() -> None:
    strategy = make("mos", align_epochs=0, weight_decay=0.0, **TRAINED)
    stream = list(experiences())
    strategy.train(stream[0])
    end = {k: v.clone() for k, v in strategy.current.state_dict().items()}
    old, unseen = strategy.head.weight[:2].clone(), strategy.head.weight[4:].clone()
    starts: list[bool] = []
    loss = strategy.loss

    def watched(*args: Any) -> Tensor:
        now = strategy.current.state_dict()
        starts.append(all(torch.equal(now[k], end[k]) for k in end))
        return loss(*args)

    strategy.loss = watched
    strategy.train(stream[1])
    assert starts[0]
    assert not any(starts[1:])
    torch.testing.assert_close(strategy.head.weight[:2], old, rtol=0, atol=0)
    torch.testing.assert_close(strategy.head.weight[4:], unseen, rtol=0, atol=0)


def test_released_answers_move_the_adapters() -> None:
    strategy = trained("mos", align_epochs=1, merge="released", **TRAINED)
    before = strategy.bank.tensors["up.0.weight"].clone()
    answers(strategy)
    after = strategy.bank.tensors["up.0.weight"]
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after[2], before[2])


@pytest.mark.parametrize("name", ["aper", "mos"])
def test_continues_inside_an_experience(name: str) -> None:
    saved: list[Any] = []
    strategy = make(name, **TRAINED)

    def save() -> None:
        if len(saved) < 4:
            state = strategy.state_dict()
            saved.append(_copied(state) if len(saved) == 3 else None)
            saved_rng.append(torch.get_rng_state())

    saved_rng: list[Tensor] = []
    strategy.train(next(experiences(safe_point=save)))
    other = make(name, **TRAINED)
    other.load_state_dict(saved[3])
    torch.set_rng_state(saved_rng[3])
    other.train(next(experiences()))
    torch.testing.assert_close(answers(other), answers(strategy), rtol=0, atol=0)


def _copied(state: Any) -> Any:
    if isinstance(state, Tensor):
        return state.detach().clone()
    if isinstance(state, dict):
        return {k: _copied(v) for k, v in state.items()}
    return [_copied(v) for v in state] if isinstance(state, list) else state


def test_random_resized_crop_is_a_crop_and_a_linear_resize() -> None:
    ramp = torch.arange(32.0).expand(64, 1, 32, 32).clone()
    cut = random_resized_crop_flip(ramp, 64, torch.Generator().manual_seed(0))
    assert cut.shape == (64, 1, 64, 64)
    steps = cut[:, 0, 20, 20:44].diff(dim=1)
    # Linear in the middle: one slope per image, box width over 64, mirrored for about a half.
    assert (steps - steps[:, :1]).abs().max() < 1e-3
    slopes = steps[:, 0] * 64
    assert 0.3 < (slopes < 0).float().mean() < 0.7
    assert slopes.abs().round().unique().numel() > 10
    assert cut.min() >= 0
    assert cut.max() <= 31


@pytest.mark.parametrize(
    ("variant", "authors"),
    [
        ("adapter", (20, 0.01, 48)),
        ("ssf", (20, 0.01, 48)),
        ("vpt-shallow", (20, 0.01, 48)),
        ("vpt-deep", (5, 0.05, 16)),
        ("finetune", (5, 0.01, 128)),
    ],
)
def test_a_variant_of_aper_brings_its_own_epochs_rate_and_batch(
    variant: str, authors: tuple[int, float, int]
) -> None:
    config = make_strategy("aper", {"variant": variant}).config
    assert (config.epochs, config.lr, config.batch_size) == authors
    chosen = make_strategy("aper", {"variant": variant, "epochs": 7, "lr": 0.5}).config
    assert (chosen.epochs, chosen.lr, chosen.batch_size) == (7, 0.5, authors[2])
