"""Batch normalisation at test time: choice of the statistics, and access to the parameters."""

import contextlib
import copy
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from clgym.errors import Incompatible

__all__ = [
    "affine_parameters",
    "batch_norms",
    "has_batch_norm",
    "refuses_single_images",
    "reestimate",
    "single_images_refused",
    "use_batch_statistics",
]

_NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d)


def has_batch_norm(network: nn.Module) -> bool:
    """Whether the network has a batch-normalisation layer."""
    return any(isinstance(module, _BatchNorm) for module in network.modules())


def refuses_single_images(network: nn.Module, images: Tensor) -> bool:
    """Whether training on one image fails, since a batch norm gets one value per channel.

    If the maps are larger than 1 x 1, batch normalisation accepts a single image.

    Args:
        network: Network to try; it is not changed.
        images: Images [n, C, H, W], of which the first is used.
    """
    if not has_batch_norm(network):
        return False
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            copy.deepcopy(network).train()(images[:1])
        except ValueError as error:
            if "more than 1 value per channel" in str(error):
                return True
            raise
    return False


@contextlib.contextmanager
def single_images_refused(rows: int, size: int) -> Iterator[None]:
    """Turn the error of batch normalisation for a batch of one image into a named error.

    Args:
        rows: Number of images of the experience.
        size: Number of images per batch.

    Raises:
        Incompatible: Training reached a batch of one image.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise Incompatible(
            expected="batches of at least two images, since the network uses batch statistics",
            found=f"one image, of {rows} in batches of {size}",
            fix="Give --batch-size 2 or more that leaves no single image, or another network",
        ) from error


def batch_norms(network: nn.Module, wanted_by: str) -> list[_BatchNorm]:
    """All batch-normalisation layers.

    Raises:
        Incompatible: The network has none.
    """
    found = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    if not found:
        raise Incompatible(
            expected=f"a network with batch normalisation, which {wanted_by} adapts",
            found="none in the classifier",
            fix="Give --model a network with batch normalisation, or use lame or source",
        )
    return found


def use_batch_statistics(network: nn.Module) -> None:
    """Put a network in evaluation mode, but always normalise by the current batch.

    Dropout and stochastic depth stay off. The source's running statistics are deleted, so that they
    cannot be used by mistake.
    """
    network.eval()
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None


@torch.no_grad()
def reestimate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Estimate the running statistics again, as plain means over ``batches`` of images.

    Everything else in the network, such as dropout, is in evaluation mode during and after this.
    """
    network.eval()
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # in PyTorch, None means a plain mean
        layer.train()
    for images in batches:
        network(images)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()


def affine_parameters(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Scale and shift of every normalisation layer, with their names."""
    for name, module in network.named_modules():
        if isinstance(module, _NORMS):
            for part in ("weight", "bias"):
                value = getattr(module, part, None)
                if isinstance(value, nn.Parameter):
                    yield f"{name}.{part}", value
