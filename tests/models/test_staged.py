"""Backbones in stages against torchvision's, and against their formulas."""

from typing import Any

import pytest
import torch
from torch import nn

from clgym.errors import BadConfig, UnknownName
from clgym.models.networks import staged
from clgym.models.staged import TwoConvolutions

NAMES = ("resnet18", "slim-resnet18", "resnet32", "two-convolutions")


def test_the_pooled_7x7_stem_is_torchvisions_resnet18():
    from torchvision.models import resnet18

    network, peer = staged("resnet18", 3, "7x7-pool"), resnet18()
    peer.fc = nn.Identity()  # type: ignore[assignment]
    peer.load_state_dict(network.state_dict())
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(network.train()(images), peer.train()(images), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network.eval()(images), peer.eval()(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_features_are_the_means_of_the_last_map(name):
    torch.manual_seed(0)
    network = staged(name, 1).eval()
    images = torch.rand(3, 1, 16, 16)
    maps = network.maps(images)
    assert len(maps) == len(network.stages)
    assert torch.equal(network(images), maps[-1].mean((2, 3)))
    assert network(images).shape == (3, network.width)


@pytest.mark.parametrize("name", NAMES)
def test_without_the_last_rectification_it_is_missing_there_alone(name):
    torch.manual_seed(0)
    signed = staged(name, 3, last_relu=False).eval()
    plain = staged(name, 3).eval()
    plain.load_state_dict(signed.state_dict())
    images = torch.rand(3, 3, 16, 16)
    ours, theirs = signed.maps(images), plain.maps(images)
    assert all(torch.equal(a, b) for a, b in zip(ours[:-1], theirs[:-1], strict=True))
    assert ours[-1].min() < 0
    assert torch.equal(ours[-1].relu(), theirs[-1])


@pytest.mark.parametrize("name", NAMES)
def test_the_two_halves_are_the_network(name):
    torch.manual_seed(0)
    network = staged(name, 3).eval()
    base, branch = network.split()
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(branch(base(images)), network(images))
    assert torch.equal(base(images), network.maps(images)[-2])
    names = {*base.state_dict(), *branch.state_dict()}
    assert names == set(network.state_dict())


@pytest.mark.parametrize("name", ["resnet18", "resnet32"])
def test_convolutions_are_drawn_by_fan_out(name):
    torch.manual_seed(0)
    network: Any = staged(name, 3)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 5_000:
            side = module.kernel_size[0]
            spread = (2 / (side**2 * module.out_channels)) ** 0.5
            assert float(module.weight.detach().std()) == pytest.approx(spread, rel=0.05)
        if isinstance(module, nn.BatchNorm2d):
            assert bool((module.weight == 1).all()) and bool((module.bias == 0).all())


def test_two_convolutions_are_their_formula():
    torch.manual_seed(0)
    network: Any = TwoConvolutions(3, (4, 6)).eval()
    images = torch.rand(2, 3, 5, 5)
    first = network.bn1(nn.functional.conv2d(images, network.conv1.weight, padding=1)).relu()
    second = nn.functional.conv2d(first, network.conv2.weight, stride=2, padding=1)
    assert torch.equal(network(images), network.bn2(second).relu().mean((2, 3)))


def test_refusals():
    with pytest.raises(UnknownName, match="resnet18"):
        staged("resnet-18", 3)  # type: ignore[arg-type]
    with pytest.raises(BadConfig, match="stem 3x3, which resnet32 has"):
        staged("resnet32", 3, "7x7-pool")
