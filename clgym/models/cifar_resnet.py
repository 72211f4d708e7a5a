"""The CIFAR ResNets of He et al. (CVPR 2016, 4.2): 6 n + 2 layers, parameter-free shortcuts.

Parameter names are those of the widely used weights (akamaster/pytorch_resnet_cifar10), whose final
layer is called ``linear``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CifarResNet"]


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions; a shortcut that changes shape is strided and padded with zeros."""

    def __init__(self, wide_in: int, wide_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(wide_in, wide_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide_out)
        self.conv2 = nn.Conv2d(wide_out, wide_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(wide_out)
        self._stride, self._pad = stride, (wide_out - wide_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self._pad:
            x = F.pad(x[:, :, :: self._stride, :: self._stride], (0, 0, 0, 0, self._pad, self._pad))
        return torch.relu(out + x)


class CifarResNet(nn.Module):
    """Images [n, C, H, W], normalised, to features [n, 64]: stages of 16, 32, 64 channels."""

    width = 64

    def __init__(self, blocks: int, channels: int = 3) -> None:
        """``blocks`` a stage: 3 makes ResNet-20, 5 makes ResNet-32."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, 1)
        self.layer2 = self._stage(16, 32, blocks, 2)
        self.layer3 = self._stage(32, 64, blocks, 2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def _stage(wide_in: int, wide_out: int, blocks: int, stride: int) -> nn.Sequential:
        later = [_BasicBlock(wide_out, wide_out, 1) for _ in range(blocks - 1)]
        return nn.Sequential(_BasicBlock(wide_in, wide_out, stride), *later)

    def forward(self, x: Tensor) -> Tensor:
        """Features after global pooling."""
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x))).mean((2, 3))
