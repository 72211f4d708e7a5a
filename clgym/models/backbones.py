"""Pretrained networks by name, with the identity of their weights.

A name says which network and where its weights come from::

    vit_base_patch16_224.augreg_in21k       timm's tag; `clgym fetch` has brought the weights
    deit_tiny_patch16_224@FILE              weights from a file, by its path or its name in the
                                            data root's weights/: see `clgym.models.weight_files`
    vit_tiny_patch16_224@random             random weights, always the same: for tests
    mobilenetv2_100[pad_type=same]@FILE     arguments of timm's constructor in brackets
    NAME[mean=0.5x0.5x0.5,std=...]@FILE     what the images are normalised by, per channel
    run@FOLDER                              the network that a finished run has trained
    deit_tiny_patch16_224@sha256:HEX        weights that an earlier run read: how records name them

Arguments that known weights need are added to the name: padding as in TensorFlow, and their
normalisation if it differs from the architecture's. A safetensors file, or the ``config.json``
beside it, may state ``mean`` and ``std``, too.
"""

import contextlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clgym._moved import report_renamed
from clgym.errors import BadOutput, Incompatible
from clgym.files import canonical_json, dump_checked, load_checked, sha256, write_atomic
from clgym.messages import BackboneIdentity
from clgym.models.backbone_weights import digest, fetch, native, notes, weights_file
from clgym.models.loaders import HeadlessNetwork, loader_of
from clgym.models.names import Name, parse
from clgym.models.places import note_place
from clgym.models.pretraining import KNOWN, seen_in
from clgym.models.timm_networks import check_known
from clgym.strategy import Fit, Frozen

__all__ = ["Backbone", "Fit", "Frozen", "digest", "fetch", "identify", "load"]

report_renamed(__name__)


class Backbone(nn.Module):
    """A network without its head: images in [0, 1] to features, in evaluation mode, frozen."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, frozen: Frozen) -> None:
        """Freeze ``model``: a timm network with ``num_classes=0``, or the network of a run.

        Raises:
            Incompatible: The network does not take images of ``frozen.size``.
        """
        super().__init__()
        self.model: Any = model.eval().requires_grad_(False)
        self.frozen, self.size = frozen, frozen.size or _side(model)
        self.channels = _channels(model)
        facts: dict[str, object] = getattr(model, "pretrained_cfg", None) or {}
        for name, plain in (("mean", 0.0), ("std", 1.0)):
            values = facts.get(name, plain) if frozen.normalise else plain
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
        self.width = measured_width(model, self.channels, self.size, frozen.name)
        """Length of a feature vector."""

    def prepare(self, images: Tensor) -> Tensor:
        """Convert images [n, 1 or 3, H, W] in [0, 1] to the network's input [n, 3, size, size].

        Raises:
            Incompatible: The network takes another number of channels.
        """
        return self.normalised(_FITS[self.frozen.fit](images, self.size))

    def normalised(self, images: Tensor) -> Tensor:
        """Convert images of the right size to the network's channels; normalise them if set."""
        if images.shape[1] == 1:
            images = images.expand(-1, self.channels, -1, -1)
        if images.shape[1] != self.channels:
            raise Incompatible(
                expected=f"images of {self.channels} channel(s), as {self.frozen.name} takes them",
                found=f"{images.shape[1]} channels",
                fix="Give --backbone a network for such images",
            )
        return (images - self.mean) / self.std if self.frozen.normalise else images

    def forward(self, images: Tensor) -> Tensor:
        """Features [n, width] of images in [0, 1]; for a ViT, the normalised class token."""
        return self.model(self.prepare(images))


def measured_width(model: Any, channels: int, side: int, name: str) -> int:
    """Measure the length of a feature vector by one forward pass: networks name it differently.

    Raises:
        Incompatible: The network does not take such images, or returns no feature vectors.
    """
    place = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            made = model.eval()(torch.zeros(1, channels, side, side, device=place))
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        raise Incompatible(
            expected=f"an input side that {name} takes",
            found=f"{side} ({' '.join(str(error).split())[:120]})",
            fix="Give --image-size another value",
        ) from error
    if not isinstance(made, Tensor) or made.ndim != 2:
        shape = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise Incompatible(
            expected=f"one feature vector an image from {name}",
            found=f"{shape} for one image",
            fix="Give --backbone another network",
        )
    return made.shape[1]


def _channels(model: Any) -> int:
    """Number of channels of the images that the network takes."""
    if isinstance(model, HeadlessNetwork):
        return model.channels
    return model.pretrained_cfg["input_size"][0]


def _side(model: Any) -> int:
    """Side in pixels of the images that the weights were trained with."""
    if isinstance(model, HeadlessNetwork):
        return model.side
    return model.pretrained_cfg["input_size"][-1]


def _stretch(images: Tensor, size: int) -> Tensor:
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)


def _crop(images: Tensor, size: int) -> Tensor:
    """Resize and crop like torchvision: Resize(8/7 size, bicubic), CenterCrop(size), 8-bit."""
    height, width = images.shape[-2:]
    short = round(size * 8 / 7)
    scale = short / min(height, width)
    if scale != 1:
        sides = [
            short if side == min(height, width) else int(side * scale) for side in (height, width)
        ]
        # First horizontally, then vertically, each rounded to 8 bits, since noisy images overshoot.
        for shape in ((height, sides[1]), (sides[0], sides[1])):
            images = F.interpolate(images, shape, mode="bicubic", antialias=True)
            images = (images * 255).round().clamp(0, 255) / 255
    top, left = (round((side - size) / 2) for side in images.shape[-2:])
    return images[..., top : top + size, left : left + size]


_FITS: dict[str, Callable[[Tensor, int], Tensor]] = {"stretch": _stretch, "crop": _crop}


def load(
    frozen: Frozen, device: torch.device | str = "cpu", data_root: Path | None = None
) -> Backbone:
    """Build the network for ``frozen.size`` and load its weights.

    Raises:
        BadConfig, UnknownName: timm has no network of that name.
        MissingData, BadSource: The weights are missing, or are not those of the name.
        Incompatible: The network takes only input of another size.
    """
    model, _ = native(parse(frozen.name), data_root)
    embed: Any = getattr(model, "patch_embed", None)
    own, size = getattr(embed, "img_size", None), frozen.size
    if size is not None and own is not None and tuple(own) != (size, size):
        patch = embed.patch_size[0]
        if not hasattr(model, "set_input_size") or size % patch:
            raise Incompatible(
                expected=f"an input side that {frozen.name} takes (a multiple of {patch})",
                found=str(size),
                fix="Give --image-size another value",
            )
        model.set_input_size((size, size))
    return Backbone(model, frozen).to(device)


def identify(frozen: Frozen, data_root: Path | None = None) -> BackboneIdentity:
    """Identify a backbone; its weights are read and hashed once for each file, size and time.

    Args:
        frozen: The backbone; the name of a file is also searched in the data root.
        data_root: Data root; None means ``CLGYM_DATA``, else the user's data folder.

    Raises:
        ClgymError: For the reasons of `load`.
    """
    name = parse(frozen.name)
    if name.weights is None:
        check_known(name)  # without the tag the file is unknown
    random = name.weights == "random" and loader_of(name.architecture) is None
    path = None if random else weights_file(name, data_root)
    facts: list[Any] = [2, name.bare, name.weights if path is None else None]
    if path is not None:
        stat, beside = path.stat(), path.with_name("config.json")
        note_place(path, beside)
        facts += [str(path.resolve()), stat.st_size, stat.st_mtime_ns]
        facts += [beside.stat().st_mtime_ns if beside.is_file() else None, name.is_recorded]
    note = notes() / "keys" / f"{sha256(canonical_json(facts))}.json"
    try:
        known = load_checked(note.read_bytes())
        identity = BackboneIdentity(**{**known, "pretraining": tuple(known["pretraining"])})
    except (OSError, ValueError):  # no note yet, or a damaged one
        identity = _identity(name, path, data_root)
        _write(note, asdict(identity))
    if path is not None:
        _write(notes() / "files" / f"{identity.weights}.json", {"file": str(path.resolve())})
    return identity


def _write(path: Path, facts: dict[str, object]) -> None:
    """Write a note, unless it is up to date; without permission to write, there is no note."""
    data = dump_checked(facts)
    with contextlib.suppress(OSError, BadOutput):
        if not path.is_file() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, data)


def _identity(name: Name, path: Path | None, data_root: Path | None) -> BackboneIdentity:
    model, name = native(name, data_root)
    weights = digest(model)
    known = KNOWN.get(weights)
    tag = name.architecture
    if path is None:
        portable, pretraining, licence, check = f"{name.bare}@random", (), "none", "random"
    elif name.weights is None:
        licence = model.pretrained_cfg.get("license") or "not stated"
        others = any(k.tag == tag for k in KNOWN.values())
        check = "known" if known else "differs" if others else "unverified"
        portable, pretraining = name.bare, seen_in(tag)
    else:
        portable, check = f"{name.bare}@sha256:{weights}", "known" if known else "unverified"
        pretraining, licence = (known.pretraining, known.licence) if known else ((), "not stated")
        if isinstance(model, HeadlessNetwork):
            pretraining = tuple(model.sources)
    parameters = sum(p.numel() for p in model.parameters())
    width = measured_width(model, _channels(model), _side(model), name.bare)
    return BackboneIdentity(
        name=portable,
        weights=weights,
        pretraining=pretraining,
        licence=licence,
        check=check,
        width=width,
        parameters=parameters,
    )
