"""The CIFAR ResNets of He et al. (CVPR 2016, 4.2): 6 n + 2 layers, parameter-free shortcuts.

Parameter names are those of the widely used weights (akamaster/pytorch_resnet_cifar10), whose final
layer is called ``linear``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clgym.models.staged import StagedNetwork

__all__ = ["CifarResNet"]


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions; a shortcut that changes the shape is strided and padded with zeros."""

    def __init__(self, wide_in: int, wide_out: int, stride: int, last_relu: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(wide_in, wide_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide_out)
        self.conv2 = nn.Conv2d(wide_out, wide_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(wide_out)
        self._stride, self._pad = stride, (wide_out - wide_in) // 2
        self._last_relu = last_relu

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self._pad:
            x = F.pad(x[:, :, :: self._stride, :: self._stride], (0, 0, 0, 0, self._pad, self._pad))
        return torch.relu(out + x) if self._last_relu else out + x


class CifarResNet(StagedNetwork):
    """Maps normalised images [n, C, H, W] to features [n, 64]; stages of 16, 32, 64 channels."""

    width = 64

    def __init__(self, blocks: int, channels: int = 3, *, last_relu: bool = True) -> None:
        """Build the network.

        Args:
            blocks: Number of blocks per stage: 3 gives ResNet-20, 5 gives ResNet-32.
            channels: Number of channels of the images.
            last_relu: Whether the last map is rectified; PODNet's is not.
        """
        layers: dict[str, nn.Module] = {
            "conv1": nn.Conv2d(channels, 16, 3, 1, 1, bias=False),
            "bn1": nn.BatchNorm2d(16),
            "relu": nn.ReLU(),
            "layer1": _stage(16, 16, blocks, 1),
            "layer2": _stage(16, 32, blocks, 2),
            "layer3": _stage(32, 64, blocks, 2, last_relu),
        }
        super().__init__(layers, ("layer1", "layer2", "layer3"), 64)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)


def _stage(
    wide_in: int, wide_out: int, blocks: int, stride: int, last_relu: bool = True
) -> nn.Sequential:
    last = blocks - 1
    shapes = [(wide_in, stride), *[(wide_out, 1)] * last]
    return nn.Sequential(
        *(
            _BasicBlock(wide, wide_out, step, last_relu or i < last)
            for i, (wide, step) in enumerate(shapes)
        )
    )
