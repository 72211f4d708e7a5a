"""The learner's side of an adaptation stream: what it offers a strategy, and how it counts passes.

The images of a batch come over the wire as they are due, without row number, label, or any hint of
the domain that they are from.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clgym.data.augment import resize
from clgym.data.source_data import SourceData
from clgym.errors import Incompatible
from clgym.models.source_models import Wanted, identity, resolve
from clgym.strategy import Needs

__all__ = ["Passes", "offered", "prepared"]

Message = dict[str, Any]


class Passes:
    """Counts images that go through a backbone, forward and backward, copies of it included."""

    def __init__(self, backbone: nn.Module) -> None:
        """Hook into ``backbone``; a deep copy of it carries the hook along."""
        self.forward = self.backward = 0

        def on_backward(gradient: Tensor) -> None:
            self.backward += len(gradient)

        def on_forward(module: nn.Module, args: Any, features: Tensor) -> None:
            self.forward += len(features)
            if features.requires_grad:
                features.register_hook(on_backward)

        backbone.register_forward_hook(on_forward)


def offered(
    message: Message, needs: Needs, device: torch.device, report: Callable[[Message], None]
) -> tuple[Message, Message, Passes | None]:
    """What the strategy declared: fields of its `StreamInfo`, facts for the gym, a counter.

    Raises:
        Incompatible: it needs source data, and the stream has none.
        ClgymError: the classifier cannot be had; see `clgym.models.source_models.resolve`.
    """
    facts, source = message["info"], _source(message, device)
    if needs.source_data and source is None:
        raise Incompatible(
            expected="source data at test time, which this strategy needs with these options",
            found="a stream without them",
            fix="Take its source-free options (`clgym show` lists them), or a source that is here",
        )
    given: Message = {
        "batch_size": message["batch_size"],
        "source_data": source if needs.source_data else None,
    }
    if needs.classifier is None:
        return given, {}, None
    wanted = Wanted(
        tuple(facts["image_shape"]),
        tuple(message["classes"]),
        tuple(facts["mean"]),
        tuple(facts["std"]),
        message["fingerprint"],
        message["data_root"] and Path(message["data_root"]),
    )
    classifier, name = resolve(needs.classifier, wanted, source, device, report)
    given["classifier"] = classifier
    found = {"name": name, "sha256": identity(classifier)}
    return given, found, Passes(classifier.backbone)


def _source(message: Message, device: torch.device) -> SourceData | None:
    if not message["home"]:
        return None
    return SourceData(
        [Path(path) for path in message["home"]],
        message["home_labels"],
        1.0 / message["home_max"],
        message["resize"],
        device,
        message["info"]["seed"],
    )


def prepared(images: np.ndarray, side: int | None, device: torch.device) -> Tensor:
    """A batch off the wire, uint8 [n, H, W, C], as float32 [n, C, H, W] in [0, 1]."""
    pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
    pixels = pixels if side is None else resize(pixels, side)
    return pixels.float().div_(255).contiguous()
