"""ResNets for small and for large images, made of torchvision's blocks.

torchvision is slow to import, so import this module only where it is used.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from clgym.models.staged import StagedNetwork, init_by_fan_out

__all__ = ["STEMS", "ResNet", "Stem", "resnet18", "resnet50"]

Stem = Literal["3x3", "3x3-pool", "7x7", "7x7-pool"]
STEMS: dict[Stem, tuple[int, int, bool]] = {
    "3x3": (3, 1, False),
    "3x3-pool": (3, 1, True),
    "7x7": (7, 2, False),
    "7x7-pool": (7, 2, True),
}
"""Side and stride of the first convolution, and whether a 3x3 max-pooling of stride 2 follows."""


class _SignedBlock(BasicBlock):
    """torchvision's block without the final ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + shortcut


class ResNet(StagedNetwork):
    """Four stages of torchvision's blocks after one of the `STEMS`, with torchvision's names."""

    def __init__(
        self,
        channels: int,
        width: int,
        block: Any,
        depths: Sequence[int],
        stem: Stem = "3x3",
        *,
        last_relu: bool = True,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        """Build the network.

        Args:
            channels: Number of channels of the images.
            width: Number of channels of the first stage, which doubles with every stage.
            block: ``BasicBlock`` or ``Bottleneck``.
            depths: Number of blocks per stage.
            stem: One of `STEMS`.
            last_relu: Whether the last map is rectified; PODNet's is not. Basic blocks only.
            norm: Makes a normalisation layer for a number of channels.
        """
        side, stride, pool = STEMS[stem]
        layers: dict[str, nn.Module] = {
            "conv1": nn.Conv2d(channels, width, side, stride, side // 2, bias=False),
            "bn1": norm(width),
            "relu": nn.ReLU(inplace=True),
        }
        if pool:
            layers["maxpool"] = nn.MaxPool2d(3, 2, 1)
        wide_in, stages = width, []
        for number, depth in enumerate(depths):
            planes, stride = width * 2**number, 1 if number == 0 else 2
            last = _SignedBlock if not last_relu and number == len(depths) - 1 else block
            stages.append(f"layer{number + 1}")
            layers[stages[-1]] = _stage(block, wide_in, planes, stride, depth, norm, last)
            wide_in = planes * block.expansion
        super().__init__(layers, stages, wide_in)
        init_by_fan_out(self)


def _stage(
    block: Any,
    wide_in: int,
    planes: int,
    stride: int,
    depth: int,
    norm: Callable[[int], nn.Module],
    last: Any,
) -> nn.Sequential:
    shortcut, wide_out = None, planes * block.expansion
    if stride != 1 or wide_in != wide_out:
        conv = nn.Conv2d(wide_in, wide_out, 1, stride, bias=False)
        shortcut = nn.Sequential(conv, norm(wide_out))
    first = block(wide_in, planes, stride, shortcut, norm_layer=norm)
    kinds = [*[block] * (depth - 2), last]
    return nn.Sequential(first, *(kind(wide_out, planes, norm_layer=norm) for kind in kinds))


def resnet18(channels: int, width: int = 64, **options: Any) -> ResNet:
    """ResNet-18; ``width`` 20 is GEM's slim one. For ``options`` see `ResNet`."""
    return ResNet(channels, width, BasicBlock, (2, 2, 2, 2), **options)


def resnet50(channels: int) -> ResNet:
    """ResNet-50 with the stem for small images."""
    return ResNet(channels, 64, Bottleneck, (3, 4, 6, 3))
