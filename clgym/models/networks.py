"""Networks by name, each a backbone with one linear head that grows as classes arrive.

==========================  ========================================================================
``mlp``                     hidden layers of ``hidden`` units, one of 100 by default
``resnet18``                3x3 stem with stride 1 and no pooling, for small images
``slim-resnet18``           the same, 20 channels instead of 64 (GEM)
``slim-resnet18-7x7-pool``  the same with the stem for large images: 7x7, stride 2, max-pooling
``resnet18-7x7``            7x7 stem with stride 2 and no pooling
``resnet18-dst``            the same, as in DST: batch normalisation by the batch's statistics only,
                            also at test, without scale and shift; no bias in the head
``resnet32``                He et al.'s for CIFAR: stages of 16, 32, 64 channels
``resnet50``                the small-image stem of ``resnet18``
``resnet50-bottleneck``     torchvision's, ending in 256 features (DomainNet-126)
``mobilenetv2``             strides for small images: 8 in all, where ImageNet's has 32
``vgg11``, ``vgg16``        batch normalisation, and average pooling instead of hidden linear layers
==========================  ========================================================================
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from torch import nn

from clgym.errors import BadConfig, UnknownName, near
from clgym.models.cifar_resnet import CifarResNet
from clgym.models.paper_networks import bottleneck_resnet50, small_mobilenetv2, vgg
from clgym.models.staged import StagedNetwork, TwoConvolutions, init_by_fan_out
from clgym.strategy import Classifier

__all__ = ["HIDDEN", "NETWORKS", "Classifier", "StagedName", "StemName", "build", "staged"]

StagedName = Literal["resnet18", "slim-resnet18", "resnet32", "two-convolutions"]
StemName = Literal["3x3", "3x3-pool", "7x7-pool"]

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
    """Return a new network, whose weights are drawn from torch's global generator.

    Args:
        name: One of `NETWORKS`.
        image_shape: Channels, height, width.
        columns: Number of classes at the beginning.
        mean: Mean of images in [0, 1] by channel.
        std: Standard deviation of images in [0, 1] by channel.
        hidden: Widths of the hidden layers of ``mlp``.

    Raises:
        UnknownName: There is no network called ``name``.
        BadConfig: Hidden layers other than ``HIDDEN`` are given for a network that has none.
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


def staged(
    name: StagedName, channels: int, stem: StemName = "3x3", *, last_relu: bool = True
) -> StagedNetwork:
    """Return a new backbone whose maps can be read by stage, initialised by fan-out.

    Args:
        name: ``slim-resnet18`` has 20 channels instead of 64; ``resnet32`` is He et al.'s for
            CIFAR; ``two-convolutions`` is for tiny images.
        channels: Number of channels of the images.
        stem: First convolution of the ResNet-18s: 3x3 of stride 1, or 7x7 of stride 2; with
            ``-pool`` a max-pooling of stride 2 follows.
        last_relu: Whether the last map is rectified; PODNet's is not.

    Raises:
        UnknownName: There is no such network.
        BadConfig: The network has only one stem, which is another one.
    """
    if name not in (names := get_args(StagedName)):
        raise UnknownName(
            expected=f"a network with stages ({', '.join(names)})",
            found=repr(name),
            fix=f"{near(name, names)}Give --network another name",
        )
    if name.endswith("resnet18"):
        from clgym.models.resnet import resnet18  # slow to import: only where it is used

        width = 20 if name.startswith("slim") else 64
        return resnet18(channels, width, stem=stem, last_relu=last_relu)
    if stem != "3x3":
        raise BadConfig(
            expected=f"the stem 3x3, which {name} has",
            found=repr(stem),
            fix="Remove --stem, or give --network resnet18",
        )
    if name == "two-convolutions":
        return TwoConvolutions(channels, last_relu=last_relu)
    network = CifarResNet(5, channels, last_relu=last_relu)
    init_by_fan_out(network)
    return network


def _mlp(
    image_shape: tuple[int, int, int], hidden: Sequence[int] = HIDDEN
) -> tuple[nn.Module, int]:
    widths = (math.prod(image_shape), *hidden)
    layers: list[nn.Module] = [nn.Flatten()]
    for wide_in, wide_out in itertools.pairwise(widths):
        layers += [nn.Linear(wide_in, wide_out), nn.ReLU()]
    return nn.Sequential(*layers), widths[-1]


def _resnet18(
    image_shape: tuple[int, int, int], width: int = 64, **options: Any
) -> tuple[nn.Module, int]:
    from clgym.models.resnet import resnet18  # torchvision is slow to import: only where it is used

    net = resnet18(image_shape[0], width, **options)
    return net, net.width


def _resnet18_7x7(image_shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    return _resnet18(image_shape, stem="7x7")


def _resnet18_dst(image_shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    norm = functools.partial(nn.BatchNorm2d, affine=False, track_running_stats=False)
    return _resnet18(image_shape, stem="7x7", norm=norm)


def _slim_resnet18(image_shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    return _resnet18(image_shape, 20)


def _slim_resnet18_7x7_pool(image_shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    return _resnet18(image_shape, 20, stem="7x7-pool")


def _resnet32(image_shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    return CifarResNet(5, image_shape[0]), CifarResNet.width


def _resnet50(image_shape: tuple[int, int, int]) -> tuple[nn.Module, int]:
    from clgym.models.resnet import resnet50

    net = resnet50(image_shape[0])
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
    "slim-resnet18-7x7-pool": _slim_resnet18_7x7_pool,
    "vgg11": functools.partial(vgg, depth=11),
    "vgg16": functools.partial(vgg, depth=16),
}
"""Builders by name: functions from the image shape to (backbone, feature width)."""
