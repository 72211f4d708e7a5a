"""Requirements of a classifier, and the mapping of its outputs to class indices."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from clgym.errors import Incompatible
from clgym.strategy import Classifier

__all__ = ["ClassifierSpec", "joined"]


@dataclass(frozen=True)
class ClassifierSpec:
    """Requirements of a classifier."""

    image_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    """Class names by class index."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    """Fingerprint of the source."""
    data_root: Path | None


def joined(
    backbone: nn.Module,
    weight: Tensor,
    bias: Tensor,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    wanted: ClassifierSpec,
    name: str,
) -> Classifier:
    """Return a classifier whose outputs are the stream's classes, in the order of class indices.

    Raises:
        Incompatible: The outputs are not the stream's classes.
    """
    kept = _columns(len(bias), wanted, name)
    classifier = Classifier(backbone, weight.shape[1], len(kept), mean, std)
    with torch.no_grad():
        classifier.head.weight.copy_(weight[kept])
        classifier.head.bias.copy_(bias[kept])
    return classifier


def _columns(outputs: int, wanted: ClassifierSpec, name: str) -> list[int]:
    """Indices of the outputs that belong to the stream's classes.

    If classes are named by WordNet ids, a network with 1000 outputs is one for ImageNet-1k: the
    outputs of the other classes are removed.
    """
    if outputs == len(wanted.classes):
        return list(range(outputs))
    ids = [c.removeprefix("imagenet/") for c in wanted.classes]
    if outputs == 1000 and all(re.fullmatch(r"n\d{8}", i) for i in ids):
        from timm.data.imagenet_info import ImageNetInfo

        known = {name: i for i, name in enumerate(ImageNetInfo().label_names())}
        if all(i in known for i in ids):
            return [known[i] for i in ids]
    raise Incompatible(
        expected=f"a classifier of the stream's {len(wanted.classes)} classes",
        found=f"{name} with {outputs} outputs",
        fix="Give --model a network for these classes, or --model auto",
    )
