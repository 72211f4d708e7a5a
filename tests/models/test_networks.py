from typing import Any

import pytest
import torch

from clgym.errors import UnknownName
from clgym.models import networks


def test_mlp_is_its_formula():
    torch.manual_seed(0)
    net = networks.build("mlp", (1, 4, 5), 3, (0.5,), (0.25,))
    images = torch.rand(7, 1, 4, 5)
    first = net.backbone[1]  # type: ignore[index]
    flat = ((images - 0.5) / 0.25).reshape(7, 20).double()
    hidden = (flat @ first.weight.double().T + first.bias.double()).clamp(min=0)
    wanted = hidden @ net.head.weight.double().T + net.head.bias.double()
    torch.testing.assert_close(net(images).double(), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(net.features(images).double(), hidden, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("unknown", [(), (0.0,)])
def test_unknown_statistics_leave_the_scale(unknown):
    torch.manual_seed(0)
    net = networks.build("mlp", (1, 4, 4), 3, unknown, unknown)
    images = torch.rand(5, 1, 4, 4)
    assert torch.equal(net.features(images), net.backbone(images))


def test_resnet18_is_torchvisions_with_another_stem():
    from torchvision.models import resnet18

    torch.manual_seed(0)
    net = networks.build("resnet18", (3, 16, 16), 10)
    peer: Any = resnet18(num_classes=10)
    peer.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    peer.maxpool = torch.nn.Identity()
    peer.load_state_dict(
        {**net.backbone.state_dict(), **{f"fc.{k}": v for k, v in net.head.state_dict().items()}}
    )
    images = torch.rand(4, 3, 16, 16)
    torch.testing.assert_close(net.eval()(images), peer.eval()(images), rtol=1e-4, atol=1e-5)


def test_slim_resnet18_is_as_large_as_avalanches():
    from avalanche.models import SlimResNet18

    net = networks.build("slim-resnet18", (3, 32, 32), 10)
    assert count(net) == count(SlimResNet18(10, 20))


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_growing_keeps_the_old_rows_bits(name):
    torch.manual_seed(0)
    net = networks.build(name, (3, 8, 8), 2).eval()
    images = torch.rand(3, 3, 8, 8)
    before, weight = net(images), net.head.weight.clone()
    net.grow(5)
    assert net.columns == 5
    assert torch.equal(net.head.weight[:2], weight)
    torch.testing.assert_close(net(images)[:, :2], before)
    head = net.head
    net.grow(4)
    assert net.head is head  # it never shrinks


def test_unknown_network_names_near_ones():
    with pytest.raises(UnknownName, match="resnet18"):
        networks.build("resnet-18", (3, 8, 8), 2)
