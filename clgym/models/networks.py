"""Networks by name, each a backbone with one linear head that grows as classes arrive.

========================  =========================================================================
``mlp``                   hidden layers of ``hidden`` units, one of 100 by default
``resnet18``              3x3 stem with stride 1 and no pooling, for small images
``slim-resnet18``         the same, 20 channels instead of 64 (GEM)
``resnet18-7x7``          7x7 stem with stride 2 and no pooling
``resnet18-dst``          the same, as in DST: batch normalisation by the batch's statistics alone,
                          also at test, without scale and shift; no bias in the head
``resnet32``              He et al.'s for CIFAR: stages of 16, 32, 64 channels
``resnet50``              the small-image stem of ``resnet18``
``resnet50-bottleneck``   torchvision's, ending in 256 features (DomainNet-126)
``mobilenetv2``           strides for small images: 8 in all, where ImageNet's has 32
``vgg11``, ``vgg16``      batch normalisation, and average pooling instead of hidden linear layers
========================  =========================================================================
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from clgym.errors import BadConfig, UnknownName, near
from clgym.models.cifar_resnet import CifarResNet
from clgym.models.paper_networks import bottleneck_resnet50, small_mobilenetv2, vgg
from clgym.strategy import Classifier

__all__ = ["HIDDEN", "NETWORKS", "Classifier", "build"]

HIDDEN = (100,)
"""Default widths of mlp's hidden layers."""
_WITHOUT_BIAS = ("resnet18-dst",)
"""Networks whose head has no bias."""


def build(
    name: str,
    image_shape: tuple[int, int, int],
    columns: int,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    hidden: Sequence[int] = HIDDEN,
) -> Classifier:
    """A fresh network, its weights drawn from torch's global generator.

    Args:
        name: One of `NETWORKS`.
        image_shape: Channels, height, width.
        columns: Classes at first.
        mean: Per channel of images in [0, 1].
        std: Per channel of images in [0, 1].
        hidden: Widths of the hidden layers of ``mlp``.

    Raises:
        UnknownName: no network goes by ``name``.
        BadConfig: other hidden layers than ``HIDDEN`` for a network that has none.
    """
    if name not in NETWORKS:
        raise UnknownName(
            expected=f"a network ({', '.join(NETWORKS)})",
            found=repr(name),
            fix=f"{near(name, NETWORKS)}Give --network another name",
        )
    hidden = tuple(hidden)
    if name != "mlp" and hidden != HIDDEN:
        raise BadConfig(
            expected="hidden layers for the network mlp only",
            found=f"hidden = {' '.join(str(width) for width in hidden)} for {name}",
            fix="Remove --hidden, or give --network mlp",
        )
    made = _mlp(image_shape, hidden) if name == "mlp" else NETWORKS[name](image_shape)
    classifier = Classifier(*made, columns, mean, std)
    if name in _WITHOUT_BIAS:
        classifier.head.register_parameter("bias", None)
    return classifier


def _mlp(
    image_shape: tuple[int, int, int], hidden: Sequence[int] = HIDDEN
) -> tuple[nn.Module, int]:
    widths = (math.prod(image_shape), *hidden)
    layers: list[nn.Module] = [nn.Flatten()]
    for wide_in, wide_out in itertools.pairwise(widths):
        layers += [nn.Linear(wide_in, wide_out), nn.ReLU()]
    return nn.Sequential(*layers), widths[-1]


class _ResNet(nn.Module):
    """A ResNet for small images: a 3x3 stem with stride 1, or a 7x7 one with 2; no max-pooling.

    The blocks and the names of the parameters are torchvision's.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        block: Any,
        depths: Sequence[int],
        kernel: int = 3,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        stride = 1 if kernel == 3 else 2
        self.conv1 = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)
        self.bn1 = norm(width)
        wide_in, layers = width, []
        for stage, depth in enumerate(depths):
            planes, stride = width * 2**stage, 1 if stage == 0 else 2
            layers.append(_stage(block, wide_in, planes, stride, depth, norm))
            wide_in = planes * block.expansion
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.width = wide_in
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        maps = torch.relu_(self.bn1(self.conv1(images)))
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        return maps.mean((2, 3))


def _stage(
    block: Any,
    wide_in: int,
    planes: int,
    stride: int,
    depth: int,
    norm: Callable[[int], nn.Module],
) -> nn.Sequential:
    shortcut, wide_out = None, planes * block.expansion
    if stride != 1 or wide_in != wide_out:
        conv = nn.Conv2d(wide_in, wide_out, 1, stride, bias=False)
        shortcut = nn.Sequential(conv, norm(wide_out))
    first = block(wide_in, planes, stride, shortcut, norm_layer=norm)
    later = (block(wide_out, planes, norm_layer=norm) for _ in range(depth - 1))
    return nn.Sequential(first, *later)


def _resnet18(
    image_shape: tuple[int, int, int], width: int = 64, **stem: Any
) -> tuple[nn.Module, int]:
    from torchvision.models.resnet import BasicBlock  # slow to import: only where it is used

    net = _ResNet(image_shape[0], width, BasicBlock, (2, 2, 2, 2), **stem)
    return net, net.width


def _resnet18_7x7(image_shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    return _resnet18(image_shape, kernel=7)


def _resnet18_dst(image_shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    norm = functools.partial(nn.BatchNorm2d, affine=False, track_running_stats=False)
    return _resnet18(image_shape, kernel=7, norm=norm)


def _slim_resnet18(image_shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    return _resnet18(image_shape, 20)


def _resnet32(image_shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    return CifarResNet(5, image_shape[0]), CifarResNet.width


def _resnet50(image_shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    from torchvision.models.resnet import Bottleneck

    net = _ResNet(image_shape[0], 64, Bottleneck, (3, 4, 6, 3))
    return net, net.width


NETWORKS: dict[str, Callable[[tuple[int, int, int]], tuple[nn.Module, int]]] = {
    "mlp": _mlp,
    "mobilenetv2": small_mobilenetv2,
    "resnet18": _resnet18,
    "resnet18-7x7": _resnet18_7x7,
    "resnet18-dst": _resnet18_dst,
    "resnet32": _resnet32,
    "resnet50": _resnet50,
    "resnet50-bottleneck": bottleneck_resnet50,
    "slim-resnet18": _slim_resnet18,
    "vgg11": functools.partial(vgg, depth=11),
    "vgg16": functools.partial(vgg, depth=16),
}
"""Builders by name: functions from the image shape to (backbone, feature width)."""
