"""Networks that papers on continual learning use besides ResNets for small images.

torchvision is slow to import, so each function imports it.
"""

from typing import Any

from torch import nn

__all__ = ["BOTTLENECK", "bottleneck_resnet50", "small_mobilenetv2", "vgg"]

BOTTLENECK = 256
"""Number of features of the ResNet-50 for DomainNet-126."""
_VGG = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3)}
"""Number of convolutions with 64, 128, 256, 512 and 512 channels before each pooling, by depth."""


def small_mobilenetv2(image_shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    """MobileNetV2 (Sandler et al., CVPR 2018) whose first two strides are 1: 8 in all, not 32."""
    from torchvision.models import MobileNetV2

    strides = [1, 1, 2, 2, 1, 2, 1]
    shapes = [(1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)]
    setting = [[*shape, stride] for shape, stride in zip(shapes, strides, strict=True)]
    features: Any = MobileNetV2(1, inverted_residual_setting=setting).features
    features[0][0] = nn.Conv2d(image_shape[0], 32, 3, 1, 1, bias=False)
    nn.init.kaiming_normal_(features[0][0].weight, mode="fan_out")
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 1280


def vgg(image_shape: tuple[int, int, int], depth: int) -> tuple[nn.Module, int]:
    """VGG (Simonyan & Zisserman, ICLR 2015) with batch normalisation, in the form used for CIFAR.

    The map after five poolings is averaged; poolings round up, so that small images give 1 x 1.
    """
    layers: list[nn.Module] = []
    wide_in = image_shape[0]
    for width, count in zip((64, 128, 256, 512, 512), _VGG[depth], strict=True):
        for _ in range(count):
            conv = nn.Conv2d(wide_in, width, 3, 1, 1)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            layers += [conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            wide_in = width
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 512


def bottleneck_resnet50(image_shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    """ResNet-50 of torchvision with a linear layer to 256 features and their batch normalisation.

    The network for DomainNet-126 in test-time adaptation (Chen et al., AdaContrast, CVPR 2022).
    Parameter names are those of its published files without the prefix ``encoder.``.
    """
    from torchvision.models import resnet50

    body = resnet50()
    if image_shape[0] != 3:
        body.conv1 = nn.Conv2d(image_shape[0], 64, 7, 2, 3, bias=False)
    body.fc = nn.Linear(body.fc.in_features, BOTTLENECK)
    return nn.Sequential(body, nn.BatchNorm1d(BOTTLENECK)), BOTTLENECK
