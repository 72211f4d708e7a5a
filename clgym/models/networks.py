"""Networks by name, each a backbone with one linear head that grows as classes arrive."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from clgym.errors import UnknownName, near
from clgym.models.cifar_resnet import CifarResNet
from clgym.strategy import Classifier

__all__ = ["NETWORKS", "Classifier", "build"]


def build(
    name: str,
    image_shape: tuple[int, int, int],
    columns: int,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
) -> Classifier:
    """A fresh network, its weights drawn from torch's global generator.

    Args:
        name: One of `NETWORKS`.
        image_shape: Channels, height, width.
        columns: Classes at first.
        mean: Per channel of images in [0, 1].
        std: Per channel of images in [0, 1].

    Raises:
        UnknownName: no network goes by ``name``.
    """
    if name not in NETWORKS:
        raise UnknownName(
            expected=f"a network ({', '.join(NETWORKS)})",
            found=repr(name),
            fix=f"{near(name, NETWORKS)}Give --network another name",
        )
    backbone, width = NETWORKS[name](image_shape)
    return Classifier(backbone, width, columns, mean, std)


def _mlp(image_shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    channels, height, width = image_shape
    layers = [nn.Flatten(), nn.Linear(channels * height * width, 100), nn.ReLU()]
    return nn.Sequential(*layers), 100


class _ResNet(nn.Module):
    """A ResNet for small images: a 3x3 stem with stride 1 and no max-pooling.

    The blocks and the names of the parameters are torchvision's.
    """

    def __init__(self, channels: int, width: int, block: Any, depths: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        wide_in, layers = width, []
        for stage, depth in enumerate(depths):
            planes, stride = width * 2**stage, 1 if stage == 0 else 2
            layers.append(_stage(block, wide_in, planes, stride, depth))
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


def _stage(block: Any, wide_in: int, planes: int, stride: int, depth: int) -> nn.Sequential:
    shortcut, wide_out = None, planes * block.expansion
    if stride != 1 or wide_in != wide_out:
        conv = nn.Conv2d(wide_in, wide_out, 1, stride, bias=False)
        shortcut = nn.Sequential(conv, nn.BatchNorm2d(wide_out))
    first = block(wide_in, planes, stride, shortcut)
    return nn.Sequential(first, *(block(wide_out, planes) for _ in range(depth - 1)))


def _resnet18(image_shape: tuple[int, int, int], width: int = 64) -> tuple[nn.Module, int]:
    from torchvision.models.resnet import BasicBlock  # slow to import: only where it is used

    net = _ResNet(image_shape[0], width, BasicBlock, (2, 2, 2, 2))
    return net, net.width


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
    "resnet18": _resnet18,
    "resnet32": _resnet32,
    "resnet50": _resnet50,
    "slim-resnet18": _slim_resnet18,
}
"""Builders by name: image shape to (backbone, width of its features)."""
