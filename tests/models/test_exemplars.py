"""Herding and means of exemplars against NumPy, the growing head, alignment."""

import numpy as np
import pytest
import torch
from torch import nn

from clgym.models.exemplars import class_means, herding, nearest_mean_logits
from clgym.models.incremental import IncrementalClassifier, align_new_rows, grown
from clgym.models.norm import refuses_single_images


def herding_by_numpy(features: np.ndarray, count: int) -> list[int]:
    """The rule as it is written, one sum after the other."""
    v = features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-8)
    mean, taken = v.mean(0), []
    for k in range(1, count + 1):
        apart = [
            np.inf if i in taken else np.linalg.norm(mean - (v[[*taken, i]]).sum(0) / k)
            for i in range(len(v))
        ]
        taken.append(int(np.argmin(np.array(apart))))
    return taken


@pytest.mark.parametrize("seed", range(5))
def test_herding(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(1, 1, (int(rng.integers(5, 30)), int(rng.integers(2, 9))))
    count = len(features)
    found = herding(torch.from_numpy(features), count)
    assert found.tolist() == herding_by_numpy(features, count)
    assert herding(torch.from_numpy(features), 3).tolist() == found[:3].tolist()


def test_herding_of_fewer_images_than_wanted_takes_them_all_once() -> None:
    found = herding(torch.eye(3), 10)
    assert sorted(found.tolist()) == [0, 1, 2]
    assert herding(torch.eye(3), 0).tolist() == []


def test_the_first_of_equal_images_wins() -> None:
    assert herding(torch.ones(4, 2), 4).tolist() == [0, 1, 2, 3]


def test_means_have_unit_length_and_classes_without_a_sample_lose() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    means = class_means(features, torch.tensor([0, 0, 2]), 4)
    half = 0.5**0.5
    np.testing.assert_allclose(means[[0, 2]].numpy(), [[half, half], [half, half]], atol=1e-7)
    logits = nearest_mean_logits(torch.tensor([[0.0, 5.0]]), means)
    np.testing.assert_allclose(logits[0, [0, 2]].numpy(), half * 2 - 2, atol=1e-7)
    assert torch.isinf(logits[0, [1, 3]]).all()


def test_a_head_grows_by_the_rule() -> None:
    torch.manual_seed(0)
    head = grown(nn.Linear(5, 2), 400, width=12)
    old = nn.Linear(12, 400)
    with torch.no_grad():
        old.weight.copy_(head.weight), old.bias.copy_(head.bias)
    new = grown(old, 1000)
    assert torch.equal(new.weight[:400], old.weight) and torch.equal(new.bias[:400], old.bias)
    fresh, bound = new.weight[400:].detach(), (3 / 12) ** 0.5
    assert float(fresh.abs().max()) <= bound and float(fresh.abs().max()) > 0.99 * bound
    assert float(fresh.std()) == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not new.bias[400:].any()


def test_a_classifier_begins_without_a_class_and_takes_the_size_of_a_state() -> None:
    make = lambda: IncrementalClassifier(nn.Flatten(), 4)  # noqa: E731
    grew, other = make(), make()
    assert grew.columns == 0 and grew(torch.ones(3, 1, 2, 2)).shape == (3, 0)
    grew.grow(3), grew.grow(5)
    other.load_state_dict(grew.state_dict())
    images = torch.rand(2, 1, 2, 2)
    assert torch.equal(other(images), grew(images))


def test_alignment_may_strengthen_new_rows() -> None:
    weight = torch.tensor([[3.0, 4.0], [0.0, 5.0], [0.0, 1.0], [3.0, 0.0]])
    gamma = align_new_rows(weight, 2)
    assert gamma == pytest.approx(2.5)
    np.testing.assert_allclose(weight.numpy(), [[3, 4], [0, 5], [0, 2.5], [7.5, 0]])


def test_single_images_are_refused_where_maps_have_one_place() -> None:
    small = nn.Sequential(nn.Conv2d(1, 2, 3, 2, 1), nn.BatchNorm2d(2))
    before = {name: value.clone() for name, value in small.state_dict().items()}
    assert refuses_single_images(small, torch.rand(3, 1, 2, 2))
    assert not refuses_single_images(small, torch.rand(3, 1, 4, 4))
    assert not refuses_single_images(nn.Flatten(), torch.rand(3, 1, 4, 4))
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())
