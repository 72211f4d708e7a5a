from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from clgym.errors import BadConfig, UnknownName
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


def test_mlp_of_two_hidden_layers_is_its_formula():
    torch.manual_seed(0)
    net = networks.build("mlp", (1, 4, 5), 3, (0.5,), (0.25,), (7, 6))
    images = torch.rand(9, 1, 4, 5)
    hidden = ((images - 0.5) / 0.25).reshape(9, 20).double().numpy()
    layers: Any = [m for m in net.backbone.modules() if isinstance(m, torch.nn.Linear)]
    assert [layer.out_features for layer in layers] == [7, 6]
    with torch.no_grad():
        for layer in layers:
            weight, bias = layer.weight.double().numpy(), layer.bias.double().numpy()
            hidden = np.maximum(hidden @ weight.T + bias, 0)
        wanted = hidden @ net.head.weight.double().numpy().T + net.head.bias.double().numpy()
        np.testing.assert_allclose(net(images).numpy(), wanted, rtol=1e-5, atol=1e-5)


def test_hidden_layers_are_for_mlp_alone():
    with pytest.raises(BadConfig, match="hidden = 100 100 for resnet18"):
        networks.build("resnet18", (1, 8, 8), 2, hidden=(100, 100))


def test_one_hidden_layer_of_100_has_the_weights_that_it_had():
    torch.manual_seed(0)
    old = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 100), torch.nn.ReLU())
    head = torch.nn.Linear(100, 2)
    torch.manual_seed(0)
    net = networks.build("mlp", (1, 8, 8), 2)
    for ours, theirs in zip(
        net.backbone.state_dict().values(), old.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert torch.equal(net.head.weight, head.weight)


@pytest.mark.parametrize("unknown", [(), (0.0,)])
def test_unknown_statistics_leave_the_scale(unknown):
    torch.manual_seed(0)
    net = networks.build("mlp", (1, 4, 4), 3, unknown, unknown)
    images = torch.rand(5, 1, 4, 4)
    assert torch.equal(net.features(images), net.backbone(images))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_deep_ones_are_torchvisions_with_another_stem(name):
    from torchvision.models import get_model

    torch.manual_seed(0)
    net = networks.build(name, (3, 16, 16), 10)
    peer: Any = get_model(name, num_classes=10)
    peer.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    peer.maxpool = torch.nn.Identity()
    peer.load_state_dict(
        {**net.backbone.state_dict(), **{f"fc.{k}": v for k, v in net.head.state_dict().items()}}
    )
    images = torch.rand(4, 3, 16, 16)
    # Fresh ones of 50 layers grow large maps: only batch statistics keep them in range.
    torch.testing.assert_close(net.train()(images), peer.train()(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18-7x7", "resnet18-dst"])
def test_the_7x7_stem_is_torchvisions_without_its_pooling(name):
    from torchvision.models import resnet18

    plain = name == "resnet18-dst"
    peer: Any = resnet18(num_classes=10)  # fresh scales and shifts are 1 and 0
    peer.maxpool = nn.Identity()
    if plain:
        peer.fc = nn.Linear(512, 10, bias=False)
    net = networks.build(name, (3, 64, 64), 10)
    head = {f"fc.{k}": v for k, v in net.head.state_dict().items()}
    peer.load_state_dict({**net.backbone.state_dict(), **head}, strict=not plain)
    images = torch.rand(3, 3, 64, 64)
    for mode in (True, False):  # DST's normalises by the batch at test too
        ours, theirs = net.train(mode)(images), peer.train(mode or plain)(images)
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_the_bottleneck_is_torchvisions_resnet50_with_256_features():
    from torchvision.models import resnet50

    net = networks.build("resnet50-bottleneck", (3, 64, 64), 10).eval()
    peer: Any = resnet50(num_classes=256)
    norm = nn.BatchNorm1d(256)
    nn.Sequential(peer, norm).load_state_dict(net.backbone.state_dict())
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(net.features(images), norm.eval()(peer.eval()(images)))
    assert net.head.in_features == 256


def test_vgg_is_torchvisions_features_averaged():
    from torchvision.models import vgg16_bn

    net = networks.build("vgg16", (3, 32, 32), 10).eval()
    features: Any = vgg16_bn().eval().features
    features.load_state_dict(net.backbone.state_dict())
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(net.features(images), features(images).mean((2, 3)))


def test_mobilenetv2_is_torchvisions_with_two_strides_less():
    from torchvision.models import mobilenet_v2

    net = networks.build("mobilenetv2", (3, 32, 32), 10).eval()
    features: Any = mobilenet_v2().eval().features
    features[0][0].stride = features[2].conv[1][0].stride = (1, 1)
    state = net.backbone.state_dict()
    features.load_state_dict({key.partition(".")[2]: value for key, value in state.items()})
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(net.features(images), features(images).mean((2, 3)))


def basic(wide, planes, stride=1, projected=True):
    """Parameters of a block of two 3x3 convolutions, normalised."""
    shortcut = wide * planes + 2 * planes if projected and (stride > 1 or wide != planes) else 0
    return 9 * wide * planes + 9 * planes**2 + 4 * planes + shortcut


def bottleneck(wide, planes, first):
    """Parameters of 1x1, 3x3 and 1x1 to four times as many channels, normalised."""
    shortcut = 4 * wide * planes + 8 * planes if first else 0
    return wide * planes + 9 * planes**2 + 4 * planes**2 + 12 * planes + shortcut


def resnet18_size(channels, width, classes):
    stem, wide, total = 9 * channels * width + 2 * width, width, 0
    for planes in (width, 2 * width, 4 * width, 8 * width):
        total += basic(wide, planes, 1 if planes == width else 2) + basic(planes, planes)
        wide = planes
    return stem + total + (wide + 1) * classes


def resnet32_size(channels, classes):
    total, wide = 9 * channels * 16 + 32, 16
    for planes in (16, 32, 64):
        total += basic(wide, planes, projected=False) + 4 * basic(planes, planes)
        wide = planes
    return total + 65 * classes


def resnet50_size(channels, classes):
    total, wide = 9 * channels * 64 + 128, 64
    for planes, depth in ((64, 3), (128, 4), (256, 6), (512, 3)):
        total += bottleneck(wide, planes, first=True)
        total += (depth - 1) * bottleneck(4 * planes, planes, first=False)
        wide = 4 * planes
    return total + 2049 * classes


def vgg_size(channels, counts, classes):
    total, wide = 513 * classes, channels
    for planes, count in zip((64, 128, 256, 512, 512), counts, strict=True):
        for _ in range(count):
            total += 9 * wide * planes + 3 * planes  # a bias, scale and shift of the normalisation
            wide = planes
    return total


def mobilenetv2_size(channels, classes):
    """Sandler et al., table 2: expansion, channels, blocks."""
    total, wide = 9 * channels * 32 + 64, 32
    for factor, planes, count in (
        (1, 16, 1),
        (6, 24, 2),
        (6, 32, 3),
        (6, 64, 4),
        (6, 96, 3),
        (6, 160, 3),
        (6, 320, 1),
    ):
        for _ in range(count):
            inner = factor * wide
            total += (wide + 2) * inner if factor > 1 else 0
            total += 9 * inner + 2 * inner + inner * planes + 2 * planes
            wide = planes
    return total + 320 * 1280 + 2 * 1280 + 1281 * classes


def resnet18_dst_size(channels, classes):
    """No scale, shift or bias: the weights of 20 convolutions and a linear layer, 21 tensors."""
    normed = resnet18_size(channels, 64, classes) + 40 * channels * 64
    norms = 2 * (64 + 4 * 64 + 5 * 128 + 5 * 256 + 5 * 512)
    return normed - norms - classes


@pytest.mark.parametrize("channels", [1, 3])
def test_sizes_follow_from_the_layers(channels):
    stem = 40 * channels * 64  # 7 x 7 instead of 3 x 3
    wanted = {
        "mobilenetv2": mobilenetv2_size(channels, 10),
        "resnet18-7x7": resnet18_size(channels, 64, 10) + stem,
        "resnet18-dst": resnet18_dst_size(channels, 10),
        "resnet50-bottleneck": resnet50_size(channels, 0) + stem + 2049 * 256 + 2 * 256 + 257 * 10,
        "vgg11": vgg_size(channels, (1, 1, 2, 2, 2), 10),
        "vgg16": vgg_size(channels, (2, 2, 3, 3, 3), 10),
        "mlp": channels * 1024 * 100 + 100 + 101 * 10,
        "resnet18": resnet18_size(channels, 64, 10),
        "slim-resnet18": resnet18_size(channels, 20, 10),
        "slim-resnet18-7x7-pool": resnet18_size(channels, 20, 10) + 40 * channels * 20,
        "resnet32": resnet32_size(channels, 10),
        "resnet50": resnet50_size(channels, 10),
    }
    shape = (channels, 32, 32)
    assert {name: count(networks.build(name, shape, 10)) for name in networks.NETWORKS} == wanted


def test_published_sizes():
    """Those of networks for CIFAR-10; He et al.'s table 6 rounds the first to 0.46 M."""
    assert resnet32_size(3, 10) == 464_154
    assert resnet18_size(3, 64, 10) == 11_173_962
    assert resnet50_size(3, 10) == 23_520_842


def test_timms_weights_of_a_name_that_both_have_are_timms(tmp_path):
    import safetensors.torch
    import timm

    from clgym.models.source_models import ClassifierSpec, resolve

    torch.manual_seed(0)
    zeros, cpu = (0.0,) * 3, torch.device("cpu")
    wanted = ClassifierSpec((3, 32, 32), ("a", "b"), zeros, (1.0,) * 3, "", None)
    images = torch.rand(2, 3, 32, 32)
    ours = networks.build("resnet18", (3, 32, 32), 2, zeros, (1.0,) * 3).eval()
    theirs = timm.create_model("resnet18", num_classes=2).eval()
    for number, net in enumerate((ours, theirs)):
        file = tmp_path / f"{number}.safetensors"
        safetensors.torch.save_file(net.state_dict(), file)
        found, _ = resolve(f"resnet18@{file}", wanted, None, cpu)
        scaled = images if net is ours else (images - found.mean) / found.std
        torch.testing.assert_close(found(images), net(scaled), rtol=1e-4, atol=1e-5)


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


def test_an_unknown_network_shows_near_matches():
    with pytest.raises(UnknownName, match="resnet18"):
        networks.build("resnet-18", (3, 8, 8), 2)
