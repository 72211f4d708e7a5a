"""Pretrained networks by name, with the identity of their weights.

A name says which network and where its weights come from::

    vit_base_patch16_224.augreg_in21k       timm's tag; `clgym fetch` has brought the weights
    deit_tiny_patch16_224@FILE              weights from a file: safetensors, or torch weights_only
    vit_tiny_patch16_224@random             random weights, always the same: for tests
    mobilenetv2_100[pad_type=same]@FILE     arguments of timm's constructor in brackets
    run@FOLDER                              the network that a finished run has trained
    deit_tiny_patch16_224@sha256:HEX        weights that an earlier run read: how records name them
"""

import ast
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clgym.data.store import cache_dir
from clgym.errors import BadConfig, BadSource, Incompatible, MissingData, UnknownName, near
from clgym.files import canonical_json, sha256, write_atomic
from clgym.models.pretraining import KNOWN, seen_in
from clgym.models.run_networks import RUN, RunNetwork, state_file

__all__ = ["Backbone", "Fit", "Frozen", "Identity", "digest", "fetch", "identify", "load"]

Fit = Literal["stretch", "crop"]


@dataclass(frozen=True)
class Frozen:
    """A pretrained network and what its input looks like."""

    name: str
    """Network and weights, as the module's docstring says."""
    size: int | None = 224
    """Side of the input in pixels; position embeddings are interpolated to it. None: the side that
    the weights were trained at."""
    fit: Fit = "crop"
    """stretch: bilinear to the side; crop: shorter side to 8/7 of it, bicubic, centre cut out."""
    normalise: bool = False
    """Subtract the mean and divide by the deviation that the weights were trained with."""


@dataclass(frozen=True)
class Identity:
    """What a record keeps of a backbone."""

    name: str
    """Without a path: `load` finds the weights by it as long as their file stays in place."""
    weights: str
    """`digest` of the network, its head taken off, at its native input size."""
    pretraining: tuple[str, ...]
    """Image sets that the weights have seen; empty if unknown or none."""
    licence: str
    check: Literal["known", "differs", "unverified", "random"]
    """Whether `clgym.models.pretraining.KNOWN` has these weights, or others under this tag."""
    width: int
    """Length of a feature vector."""
    parameters: int


class Backbone(nn.Module):
    """A network without its head: images in [0, 1] to features, in evaluation mode, frozen."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, frozen: Frozen) -> None:
        """Freeze ``model``: a timm network with ``num_classes=0``, or a run's."""
        super().__init__()
        self.model: Any = model.eval().requires_grad_(False)
        self.frozen, self.size = frozen, frozen.size or _side(model)
        self.channels: int = getattr(model, "channels", 3)
        facts: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
        for name, plain in (("mean", 0.0), ("std", 1.0)):
            values = facts.get(name, plain) if frozen.normalise else plain
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    @property
    def width(self) -> int:
        """Length of a feature vector."""
        return self.model.num_features

    def prepare(self, images: Tensor) -> Tensor:
        """Images [n, 1 or 3, H, W] in [0, 1] as the network is fed: [n, 3, size, size].

        Raises:
            Incompatible: other channels than the network takes.
        """
        return self.normalised(_FITS[self.frozen.fit](images, self.size))

    def normalised(self, images: Tensor) -> Tensor:
        """Images of the right size, made three-channelled, scaled where that is asked for."""
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
        """Features [n, width] of images in [0, 1]; of a ViT the class token after the last norm."""
        return self.model(self.prepare(images))


def _side(model: Any) -> int:
    """Of the images that the weights were trained with."""
    return model.side if isinstance(model, RunNetwork) else model.pretrained_cfg["input_size"][-1]


def _stretch(images: Tensor, size: int) -> Tensor:
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)


def _crop(images: Tensor, size: int) -> Tensor:
    """As torchvision does on 8-bit images: Resize(8/7 size, bicubic), CenterCrop(size)."""
    height, width = images.shape[-2:]
    short = round(size * 8 / 7)
    scale = short / min(height, width)
    if scale != 1:
        sides = [
            short if side == min(height, width) else int(side * scale) for side in (height, width)
        ]
        # First across, then down, both rounded to 8 bits: noisy images overshoot in between.
        for shape in ((height, sides[1]), (sides[0], sides[1])):
            images = F.interpolate(images, shape, mode="bicubic", antialias=True)
            images = (images * 255).round().clamp(0, 255) / 255
    top, left = (round((side - size) / 2) for side in images.shape[-2:])
    return images[..., top : top + size, left : left + size]


_FITS: dict[str, Callable[[Tensor, int], Tensor]] = {"stretch": _stretch, "crop": _crop}


# --- names ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Name:
    architecture: str
    """timm's name, with the tag where the weights are timm's."""
    arguments: dict[str, Any]
    weights: str | None
    """What follows the @; None means timm's own."""

    @property
    def bare(self) -> str:
        pairs = ",".join(f"{k}={v}" for k, v in sorted(self.arguments.items()))
        return self.architecture + (f"[{pairs}]" if pairs else "")


def _parse(name: str) -> _Name:
    found = re.fullmatch(r"([\w.]+)(?:\[([^\]]*)\])?(?:@(.+))?", name)
    if found is None or (found[1] == RUN and (found[2] or not found[3])):
        raise BadConfig(
            expected="a backbone such as TAG, NAME@FILE, NAME[argument=value]@FILE or run@FOLDER",
            found=repr(name),
            fix="Give --backbone another value",
        )
    pairs = [pair.partition("=") for pair in (found[2] or "").split(",") if pair]
    return _Name(found[1], {k.strip(): _value(v) for k, _, v in pairs}, found[3])


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text.strip()


def _check_known(name: _Name) -> None:
    """Refuse what timm does not have, and a bare name where only a tag says which weights.

    Raises:
        UnknownName: no such network, or no such weights of it.
    """
    import timm

    architecture = name.architecture.partition(".")[0]
    if not timm.is_model(architecture):
        raise UnknownName(
            expected="a network of timm",
            found=repr(architecture),
            fix=f"{near(architecture, timm.list_models())}Give --backbone another name",
        )
    tags = timm.list_pretrained(f"{architecture}.*")
    if name.weights is None and name.architecture not in tags:
        raise UnknownName(
            expected=f"a tag of {architecture}'s weights ({', '.join(tags) or 'it has none'})",
            found=repr(name.architecture),
            fix="A bare name means other weights in other versions of timm: give --backbone a tag, "
            "NAME@FILE or NAME@random",
        )


# --- weights -------------------------------------------------------------------------------------


def digest(model: nn.Module) -> str:
    """SHA-256 of a network's state: names in order, each with dtype, shape and bytes."""
    state = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        tensor = tensor.detach().cpu().contiguous()
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        state.update(tensor.numpy().tobytes())
    return state.hexdigest()


def fetch(tag: str, progress: Callable[[str], None] = lambda line: None) -> Path:
    """Bring the weights of a timm tag into the hub's cache; the only way over the network.

    Raises:
        UnknownName: timm has no such weights.
        MissingData: they could not be got.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    _check_known(_Name(tag, {}, None))
    progress(f"getting {tag}")
    try:
        return Path(hf_hub_download(_hub_name(tag), _HUB_FILE))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise MissingData(
            expected=f"a download of {tag}",
            found=str(error).splitlines()[0],
            fix="Look at the connection, or get the file by hand and give NAME@FILE",
        ) from error


_HUB_FILE = "model.safetensors"


def _hub_name(tag: str) -> str:
    import timm

    facts: Any = timm.models.get_pretrained_cfg(tag)
    return facts.hf_hub_id


def _file(name: _Name) -> Path:
    """Where the weights lie.

    Raises:
        MissingData: nowhere.
    """
    weights = name.weights
    if weights is None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(_hub_name(name.architecture), _HUB_FILE)
        if not isinstance(found, str):
            raise MissingData(
                expected=f"the weights {name.architecture} on this machine",
                found="none in the hub's cache",
                fix=f"`clgym fetch {name.architecture}`, or give NAME@FILE",
            )
        return Path(found)
    if weights.startswith("sha256:"):
        note = _notes() / "files" / f"{weights.removeprefix('sha256:')}.json"
        path = Path(json.loads(note.read_text())["file"]) if note.is_file() else None
    elif name.architecture == RUN:
        return state_file(Path(weights).expanduser())
    else:
        path = Path(weights).expanduser()
    if path is None or not path.is_file():
        raise MissingData(
            expected=f"the weights of {name.bare}",
            found=f"no file for {weights}",
            fix=f"Give --backbone {'run@FOLDER' if name.architecture == RUN else 'NAME@FILE'}",
        )
    return path


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors of a weight file; nothing but tensors is ever unpickled.

    Raises:
        BadSource: the file holds something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, ValueError, EOFError, OSError, KeyError) as error:
        raise _bad_weights(path, str(error).splitlines()[0]) from error
    except Exception as error:  # pickle's UnpicklingError has no common base with the others
        raise _bad_weights(path, type(error).__name__) from error
    state = state.get("state_dict", state.get("model", state)) if isinstance(state, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise _bad_weights(path, "something else")
    return {k.removeprefix("module."): v for k, v in state.items()}


def _bad_weights(path: Path, found: str) -> BadSource:
    return BadSource(
        expected=f"weights as tensors in {path.name}",
        found=found,
        fix="Give a safetensors file, or one that torch.load(weights_only=True) reads",
    )


def _native(name: _Name) -> nn.Module:
    """The network at its native input size, its weights in, its head off."""
    import timm

    if name.architecture == RUN:
        return RunNetwork.load(_file(name))
    _check_known(name)
    arguments = {**name.arguments, "num_classes": 0}
    if name.weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return _create(timm.create_model, name.architecture, **arguments)
    if name.weights is None:  # timm's own file, which timm knows how to read
        overlay = {"file": str(_file(name))}
        return timm.create_model(
            name.architecture, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0
        )
    model = _create(timm.create_model, name.architecture, **arguments)
    _fill(model, _file(name), name)
    return model


def _fill(model: Any, path: Path, name: _Name) -> None:
    """Load weights strictly, but for the head's.

    Raises:
        BadSource: some are missing, left over or of another shape.
    """
    state, own = _read(path), model.state_dict()
    heads = model.pretrained_cfg.get("classifier") or ()
    heads = tuple(f"{h}." for h in ([heads] if isinstance(heads, str) else heads))
    fitting = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    bad = [k for k in own if k not in fitting]
    bad += [k for k in state if k not in own and not k.startswith(heads)]
    if bad:
        raise BadSource(
            expected=f"the weights of {name.bare} in {path.name}",
            found=f"{len(bad)} missing, left over or of another shape, such as {bad[0]}",
            fix="Name the network that the file belongs to",
        )
    model.load_state_dict(fitting)


def _create(make: Callable[..., nn.Module], *args: Any, **arguments: Any) -> nn.Module:
    try:
        return make(*args, **arguments)
    except TypeError as error:
        raise BadConfig(
            expected="arguments of timm's constructor in the brackets of --backbone",
            found=str(error),
            fix="Drop what it does not take",
        ) from error


def load(frozen: Frozen, device: torch.device | str = "cpu") -> Backbone:
    """Build the network for ``frozen.size`` and put its weights in.

    Raises:
        BadConfig, UnknownName: the name says nothing that timm has.
        MissingData, BadSource: the weights are not there, or are not what the name says.
        Incompatible: the network takes one input size only, another one.
    """
    model: Any = _native(_parse(frozen.name))
    embed: Any = getattr(model, "patch_embed", None)
    native, size = getattr(embed, "img_size", None), frozen.size
    if size is not None and native is not None and tuple(native) != (size, size):
        patch = embed.patch_size[0]
        if not hasattr(model, "set_input_size") or size % patch:
            raise Incompatible(
                expected=f"an input side that {frozen.name} takes (a multiple of {patch})",
                found=str(size),
                fix="Give --image-size another value",
            )
        model.set_input_size((size, size))
    return Backbone(model, frozen).to(device)


# --- identity ------------------------------------------------------------------------------------


def _notes() -> Path:
    return cache_dir() / "backbones"


def identify(frozen: Frozen) -> Identity:
    """Who a backbone is; its weights are read and hashed once for each file, size and time.

    Raises:
        ClgymError: as for `load`.
    """
    name = _parse(frozen.name)
    if name.weights is None:
        _check_known(name)  # without the tag there is no file to look for
    random = name.weights == "random" and name.architecture != RUN
    path = None if random else _file(name)
    facts: list[Any] = [1, name.bare, name.weights if path is None else None]
    if path is not None:
        stat = path.stat()
        facts += [str(path.resolve()), stat.st_size, stat.st_mtime_ns]
    note = _notes() / "keys" / f"{sha256(canonical_json(facts))}.json"
    if not note.is_file():
        identity = _identity(name, path)
        _write(note, asdict(identity))
    known = json.loads(note.read_text())
    identity = Identity(**{**known, "pretraining": tuple(known["pretraining"])})
    if path is not None:
        _write(_notes() / "files" / f"{identity.weights}.json", {"file": str(path.resolve())})
    return identity


def _write(path: Path, facts: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, canonical_json(facts))


def _identity(name: _Name, path: Path | None) -> Identity:
    model: Any = _native(name)
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
        if isinstance(model, RunNetwork):
            pretraining = tuple(model.sources)
    parameters = sum(p.numel() for p in model.parameters())
    return Identity(portable, weights, pretraining, licence, check, model.num_features, parameters)
