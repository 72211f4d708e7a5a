"""Strategies without labels: their losses by hand, and the wrappers that go with them."""

from typing import Any

import numpy as np
import pytest
import torch

from clgym.api import make_strategy
from clgym.data.augment import random_view
from clgym.errors import ClgymError, Incompatible
from clgym.learner.assembly import strategy_class
from clgym.models.continual_rates import Place, RepeatedCosine
from clgym.registry import find
from clgym.strategy import Batch, Experience
from factories import stream_info

SHAPE = (1, 8, 8)
SMALL: dict[str, Any] = {"epochs": 2, "batch_size": 16}


def module_of(name: str) -> Any:
    import sys

    return sys.modules[strategy_class(name).__module__]


def experience(index: int, rows: int = 48, shape: tuple[int, int, int] = SHAPE) -> Experience:
    torch.manual_seed(index)
    pixels = torch.randint(0, 256, (rows, *shape), dtype=torch.uint8)
    return Experience(index, pixels, None, classes=(), columns=0, seed=0, scale=1 / 255)


def trained(name: str, experiences: int = 2, **options: Any) -> Any:
    strategy = make_strategy(name, **options)
    torch.manual_seed(0)
    strategy.setup(stream_info(SHAPE, "pretraining"))
    for index in range(experiences):
        strategy.train(experience(index))
    return strategy


def features_of(strategy: Any) -> torch.Tensor:
    torch.manual_seed(9)
    with torch.no_grad():
        return strategy.represent(Batch(torch.rand(5, *SHAPE)))


# --- masked autoencoder --------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "ratio", "stay"), [(16, 0.75, 4), (196, 0.75, 49), (10, 0.9, 1)])
def test_the_share_of_hidden_patches(count: int, ratio: float, stay: int) -> None:
    """10 at 0.9: in binary 10 (1 - 0.9) is a little less than 1."""
    assert module_of("mae").visible(count, ratio) == stay


def test_the_loss_is_the_error_of_hidden_patches_by_the_papers_formula() -> None:
    strategy = trained("mae", 1, **SMALL)
    network, data = strategy.network, experience(1)
    seen: list[Any] = []
    encode = network.encode

    def noted(patches: Any, kept: Any = None) -> Any:
        seen.append((patches, kept))
        return encode(patches, kept)

    network.encode = noted
    strategy._experience = data
    batch = next(iter(data.batches(16)))
    # What a generator gives depends on the step alone, which is over for the bare iterator.
    data.epoch = data.step = 0
    with torch.no_grad():
        loss = float(strategy.objective(batch))
        ((patches, kept),) = seen
        guesses = network.decode(encode(patches, kept), kept).numpy()
    n, count, _ = patches.shape
    assert kept.shape == (16, 4) and count == 16

    images = batch.images.numpy()
    cut = images.reshape(n, 1, 4, 2, 4, 2).transpose(0, 2, 4, 1, 3, 5).reshape(n, 16, 4)
    np.testing.assert_allclose(patches.numpy(), cut, atol=1e-6)
    mask = np.ones((n, count))
    np.put_along_axis(mask, kept.numpy(), 0, axis=1)
    assert (mask.sum(1) == 12).all()
    mean, variance = cut.mean(-1, keepdims=True), cut.var(-1, ddof=1, keepdims=True)
    target = (cut - mean) / np.sqrt(variance + 1e-6)
    error = ((guesses - target) ** 2).mean(-1)
    assert loss == pytest.approx((error * mask).sum() / mask.sum(), rel=1e-4)


def test_hidden_patches_do_not_reach_the_encoder() -> None:
    network = trained("mae", 1, **SMALL).network
    images = torch.rand(3, *SHAPE)
    kept = torch.tensor([[0, 5, 9], [1, 2, 3], [4, 8, 15]])
    other = network.patches(images).clone()
    hidden = torch.ones(3, 16, dtype=torch.bool).scatter(1, kept, False)
    other[hidden] = 7.0
    with torch.no_grad():
        codes = network.encode(network.patches(images), kept)
        assert torch.equal(codes, network.encode(other, kept))
        assert not torch.equal(network.encode(other), network.encode(network.patches(images)))


def test_patches_that_do_not_fit_are_refused() -> None:
    for options in ({"patch": 3}, {"patch": 8}, {"mask_ratio": 0.99}):
        with pytest.raises(Incompatible, match="patches that fill the images"):
            trained("mae", 0, **options)


# --- SimSiam -------------------------------------------------------------------------------------


def test_the_distance_is_the_negative_cosine_and_stops_the_gradient() -> None:
    torch.manual_seed(0)
    p, z = torch.randn(6, 4, requires_grad=True), torch.randn(6, 4, requires_grad=True)
    loss = module_of("simsiam").distance(p, z)
    a, b = p.detach().numpy().astype(float), z.detach().numpy().astype(float)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert loss.item() == pytest.approx(-cosines.mean(), rel=1e-5)
    loss.backward()
    assert p.grad is not None and z.grad is None


def test_both_views_count_alike_and_differ() -> None:
    strategy = trained("simsiam", 1, **SMALL)
    data = experience(1)
    strategy._experience = data
    batch = next(iter(data.batches(16, augment=strategy.augmentation)))
    data.epoch = data.step = 0
    views = []
    projected = strategy.network.projected

    def noted(images: torch.Tensor) -> Any:
        views.append(images)
        return projected(images)

    strategy.network.eval()
    strategy.network.projected = noted
    loss = strategy.objective(batch)
    assert len(views) == 2 and not torch.allclose(*views)
    (z1, p1), (z2, p2) = (projected(view) for view in views)
    cosine = torch.nn.functional.cosine_similarity
    expected = -(cosine(p1, z2).mean() + cosine(p2, z1).mean()) / 2
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


# --- both ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mae", "simsiam"])
def test_training_changes_features_and_reads_no_label(name: str) -> None:
    before, after = features_of(trained(name, 0, **SMALL)), features_of(trained(name, **SMALL))
    assert before.shape == after.shape and not torch.allclose(before, after)
    with pytest.raises(Incompatible, match="without labels"):
        trained(name, 0, **SMALL).network(torch.rand(2, *SHAPE))


@pytest.mark.parametrize("wrapper", ["ema", "lr-schedule", "rate-replay", "rs2", "sam", "merge"])
def test_wrappers_without_labels_compose(wrapper: str) -> None:
    small = {f"base.{name}": value for name, value in SMALL.items()}
    options: dict[str, Any] = {"ema": {"start_experience": 0}, "rate-replay": {"rate": 0.25}}
    strategy = make_strategy(wrapper, base="mae", **small, **options.get(wrapper, {}))
    torch.manual_seed(0)
    strategy.setup(stream_info(SHAPE, "pretraining"))
    strategy.train(experience(0))
    second = experience(1)
    if strategy.needs.past_data:  # then the gym sends the rows of all experiences
        pixels = torch.cat([experience(0).pixels, second.pixels])
        second = Experience(1, pixels, None, classes=(), columns=0, seed=0, scale=1 / 255)
    strategy.train(second)
    plain = features_of(trained("mae", **SMALL))
    assert not torch.allclose(features_of(strategy), plain)


def test_a_schedule_sets_the_rate_of_every_step() -> None:
    rates: list[float] = []
    small = {f"base.{name}": value for name, value in SMALL.items()}
    strategy = make_strategy("lr-schedule", base="mae", warmup=0.2, floor=0.1, **small)
    torch.manual_seed(0)
    strategy.setup(stream_info(SHAPE, "pretraining"))
    learner = strategy.learner
    objective = learner.objective

    def noted(batch: Any) -> Any:
        rates.append(learner.optimizer.param_groups[0]["lr"])
        return objective(batch)

    learner.objective = noted
    for index in range(2):
        strategy.train(experience(index))
    expected = RepeatedCosine(0.001, 0.0001, 0.2)
    places = [Place(k, step, 6, 6 * k) for k in range(2) for step in range(6)]
    assert rates == pytest.approx([expected(place) for place in places])


def test_random_views_are_what_their_options_say() -> None:
    images = torch.rand(4, 2, 6, 8)
    view = lambda *options: random_view(images, torch.Generator().manual_seed(1), *options)  # noqa: E731
    assert torch.equal(view(1.0, False, 0.0), images)
    flipped = view(1.0, True, 0.0)
    assert all(
        any(torch.equal(f, i) for i in (o, o.flip(-1)))
        for f, o in zip(flipped, images, strict=True)
    )
    assert not torch.equal(flipped, images)
    cropped = view(0.2, False, 0.0)
    assert cropped.shape == images.shape and not torch.equal(cropped, images)
    assert cropped.min() >= images.min() and cropped.max() <= images.max()
    light = view(1.0, False, 0.5)
    for new, old in zip(light, images, strict=True):  # one line for all pixels that were not cut
        inside = (new > 0) & (new < 1)
        slope = np.polyfit(old[inside].numpy(), new[inside].numpy(), 1)
        fitted = np.polyval(slope, old[inside].numpy())
        np.testing.assert_allclose(new[inside].numpy(), fitted, atol=1e-4)


def test_the_registry_knows_both() -> None:
    assert [find("strategies", name).name for name in ("mae", "simsiam")] == ["mae", "simsiam"]
    with pytest.raises(ClgymError, match="batch_size"):
        make_strategy("simsiam", batch_size=1)
