"""The learner's side of an adaptation stream: resources of the strategy, and the pass counter.

The gym sends the images of one batch at a time, without row number, label, or any hint about their
domain.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clgym._moved import report_renamed
from clgym.attributes import Stateful
from clgym.data.augment import resize
from clgym.data.experience import Report
from clgym.data.source_data import SourceData
from clgym.data.to_device import to_device
from clgym.data.words import class_words
from clgym.errors import Incompatible
from clgym.learner.describing import usable_device
from clgym.learner.torch_settings import be_deterministic
from clgym.messages import (
    AdaptationStart,
    ClassifierIdentity,
    FillClassifiers,
    Filled,
    Needs,
    Start,
)
from clgym.models.source_models import ClassifierSpec, identity, resolve
from clgym.strategy import Classifier

__all__ = ["PassCounter", "Resources", "build_resources", "fill_classifiers", "to_float"]

report_renamed(__name__)


class PassCounter(Stateful):
    """Counts images that pass through a backbone, forward and backward, with all its copies."""

    def __init__(self, backbone: nn.Module) -> None:
        """Hook into ``backbone``; deep copies of it keep the hook."""
        self.forward = self.backward = 0

        def on_backward(gradient: Tensor) -> None:
            self.backward += len(gradient)

        def on_forward(module: nn.Module, args: Any, features: Tensor) -> None:
            self.forward += len(features)
            if features.requires_grad:
                features.register_hook(on_backward)  # pyright: ignore[reportUnknownMemberType]

        backbone.register_forward_hook(on_forward)


@dataclass(frozen=True, eq=False)
class Resources:
    """Resources that an adaptation stream provides to a strategy."""

    batch_size: int
    class_names: tuple[str, ...] | None
    """Names of the classes in words; None unless the strategy declared the need."""
    source_data: SourceData | None
    classifier: Classifier | None
    identity: ClassifierIdentity | None
    """Identity of the classifier."""
    passes: PassCounter | None
    """Counter of the images that pass through the classifier's backbone."""


def build_resources(
    request: Start,
    needs: Needs,
    device: torch.device,
    report: Report,
) -> Resources:
    """Build the resources that the strategy declared.

    Raises:
        Incompatible: It needs source data, and the stream has none.
        ClgymError: The classifier is not available; see `clgym.models.source_models.resolve`.
    """
    stream = request.adaptation
    assert stream is not None
    source = _source(request, stream, device)
    if needs.source_data and source is None:
        raise Incompatible(
            expected="source data at test time, which this strategy needs with these options",
            found="a stream without source data",
            fix="Use its source-free options (`clgym show` lists them), or an available source",
        )
    offered_source = source if needs.source_data else None
    names = class_words(stream.classes) if needs.class_names else None
    if needs.classifier is None:
        return Resources(stream.batch_size, names, offered_source, None, None, None)
    info = request.info
    wanted = ClassifierSpec(
        info.image_shape,
        stream.classes,
        info.mean,
        info.std,
        stream.fingerprint,
        stream.data_root,
    )
    classifier, name = resolve(needs.classifier, wanted, source, device, report)
    known = ClassifierIdentity(name=name, sha256=identity(classifier))
    passes = PassCounter(classifier.backbone)
    return Resources(stream.batch_size, names, offered_source, classifier, known, passes)


def fill_classifiers(request: FillClassifiers, report: Report) -> Filled:
    """Train a classifier if the cache lacks it, in a process that loads no plugin.

    Raises:
        MissingData: The stream has no labelled images of the source domain.
    """
    start = request.start
    be_deterministic(start.threads)
    needs = Needs(classifier=request.classifier)
    build_resources(start, needs, usable_device(start.info.device), report)
    return Filled()


def _source(request: Start, stream: AdaptationStart, device: torch.device) -> SourceData | None:
    if not stream.home:
        return None
    return SourceData(
        list(stream.home),
        stream.home_labels,
        1.0 / stream.home_max,
        request.resize,
        device,
        request.info.seed,
    )


def to_float(images: np.ndarray, side: int | None, device: torch.device) -> Tensor:
    """Convert a batch from uint8 [n, H, W, C] to float32 [n, C, H, W] in [0, 1]."""
    pixels = to_device(torch.as_tensor(images), device).permute(0, 3, 1, 2)
    pixels = pixels if side is None else resize(pixels, side)
    return pixels.float().div_(255).contiguous()
