"""Weight files: their locations, and their tensors without wrappers.

A file is safetensors, or one that ``torch.load(weights_only=True)`` reads: only tensors and plain
values are ever unpickled. Training scripts wrap a network's state: in a dictionary beside the
optimizer's (``state_dict``, ``model_state_dict``, ``model``), and under a prefix (``module.`` of
DataParallel, ``_orig_mod.`` of ``torch.compile``, ``model.`` of Lightning). These wrappers are
removed. If averaged weights (EMA) exist beside the raw ones, they are used, as in timm.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from clgym.data.root import data_root as root_of
from clgym.errors import BadSource
from clgym.models.places import note_place

__all__ = ["WeightFile", "digest_of", "find_file", "load", "read", "unfit", "weight_folder"]

_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema")
_RAW = ("state_dict", "model_state_dict", "model", "network", "net", "module")
_PREFIXES = ("module.", "_orig_mod.", "model.")
_AVERAGED_PREFIXES = ("model_ema.", "ema_model.", "ema.")
_ASIDE = ("criterion.", "loss.", "loss_fn.", "n_averaged")
"""Tensors that training modules keep beside the network: class weights of a loss, counters of
averages."""
_LFS = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class WeightFile:
    """Content of a weight file."""

    path: Path
    state: dict[str, Tensor]
    """Tensors by the network's own names."""
    averaged: str = ""
    """Name of the averaged weights that were used although raw ones exist, too; else empty."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Facts stated in the file: ``mean`` and ``std`` per channel, ``architecture``."""


def weight_folder(data_root: Path | None = None) -> Path:
    """Folder of weights in the data root."""
    return root_of(data_root) / "weights"


def find_file(file: str, data_root: Path | None = None) -> Path | None:
    """Find the file by its path, else by its name in the data root's ``weights/`` folder."""
    places = (Path(file).expanduser(), weight_folder(data_root) / file)
    note_place(*places)
    return next((path for path in places if path.is_file()), None)


def digest_of(state: Mapping[str, Tensor]) -> str:
    """Hexadecimal SHA-256 of tensors: sorted names, each with dtype, shape and bytes."""
    total = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        tensor = tensor.detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.numpy().tobytes())
    return total.hexdigest()


def unfit(path: Path, found: str, fix: str = "Give the file that belongs to the network") -> Any:
    """Return the error for a weight file with unexpected content."""
    return BadSource(
        expected=f"weights in {path.name} that fit the network",
        found=found.splitlines()[0][:200] if found else "nothing",
        fix=fix,
    )


def load(module: nn.Module, file: WeightFile, state: dict[str, Tensor] | None = None) -> None:
    """Load the file's tensors, or the given ones, into a network.

    Raises:
        BadSource: Tensors are missing, left over or of another shape.
    """
    try:
        module.load_state_dict(file.state if state is None else state)
    except RuntimeError as error:
        raise unfit(file.path, " ".join(str(error).split())) from error


def read(path: Path) -> WeightFile:
    """Read the network's tensors, floats as float32, and the facts that the file states.

    Raises:
        BadSource: The file holds something else, or contains NaN.
    """
    with path.open("rb") as file:
        if file.read(len(_LFS)) == _LFS:
            raise unfit(path, "a git-lfs pointer instead of the file", "Run `git lfs pull` there")
    if path.suffix == ".safetensors":
        held, facts = _safetensors(path)
    else:
        held, facts = _pickled(path), {}
    held, averaged = _state_in(held)
    if not isinstance(held, Mapping) or not all(isinstance(v, Tensor) for v in held.values()):
        fix = "Give a safetensors file, or one that torch.load(weights_only=True) reads"
        raise unfit(path, "no dictionary of tensors", fix)
    held, prefix = _without_prefixes(dict(held))
    state = {k: v.float() if v.is_floating_point() else v for k, v in held.items()}
    _check_numbers(path, state)
    return WeightFile(path, state, averaged or prefix, {**_facts_beside(path), **facts})


def _safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    try:
        with safe_open(path, "pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return state, _parsed(file.metadata() or {})
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise unfit(path, str(error)) from error


def _pickled(path: Path) -> Any:
    try:
        # timm's checkpoints contain the options of their training in a class without code.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, OSError, KeyError) as error:
        raise unfit(path, str(error)) from error
    except Exception as error:  # pickle's UnpicklingError has no common base with the others
        fix = "Save the network's state_dict() alone, as safetensors"
        raise unfit(path, f"{type(error).__name__}: more than tensors", fix) from error


def _state_in(held: Any) -> tuple[Any, str]:
    """The dictionary of tensors in a checkpoint, and the name of averaged ones, if used."""
    averaged = ""
    while isinstance(held, Mapping):
        inside = [key for key in (*_AVERAGED, *_RAW) if isinstance(held.get(key), Mapping)]
        if not inside:
            break
        if inside[0] in _AVERAGED and any(key in _RAW for key in inside):
            averaged = inside[0]
        held = held[inside[0]]
    return held, averaged


def _without_prefixes(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The state without the common prefix of its names, and the name of averaged ones, if used."""
    averaged = ""
    while True:
        own = {k: v for k, v in state.items() if not k.startswith(_ASIDE)}
        # Averaged weights first: `ema.` may contain the same names as `model.`.
        for prefix in (*_AVERAGED_PREFIXES, *_PREFIXES):
            inside = {k.removeprefix(prefix): v for k, v in own.items() if k.startswith(prefix)}
            if not inside:
                continue
            others = [k for k in own if not k.startswith(prefix)]
            if prefix in _AVERAGED_PREFIXES and all(k.startswith(_PREFIXES) for k in others):
                averaged = prefix.removesuffix(".") if others else averaged
                break
            if not others:
                break
        else:
            return state, averaged
        state = inside


def _check_numbers(path: Path, state: dict[str, Tensor]) -> None:
    """Refuse weights with NaN, which a diverged training leaves."""
    for key, value in state.items():
        if value.is_floating_point() and value.isnan().any():
            fix = "Give a file from before the training diverged, or download it again"
            raise unfit(path, f"NaN in {key}", fix)


def _facts_beside(path: Path) -> dict[str, object]:
    """Facts of a hub's ``config.json`` about the ``model.safetensors`` beside it."""
    if path.stem not in ("model", "pytorch_model"):
        return {}
    try:
        held = json.loads(path.with_name("config.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return _parsed(held) if isinstance(held, dict) else {}


def _parsed(held: Mapping[str, Any]) -> dict[str, object]:
    """``mean``, ``std`` and ``architecture``, of safetensors' metadata or of timm's config.json."""
    values = {key: _value(value) for key, value in held.items()}
    inner = values.get("pretrained_cfg")
    values |= inner if isinstance(inner, dict) else {}
    facts = {key: _numbers(values.get(key)) for key in ("mean", "std")}
    named = values.get("architecture")
    found = {**facts, "architecture": named if isinstance(named, str) else None}
    return {key: value for key, value in found.items() if value is not None}


def _value(value: Any) -> Any:
    """Parse a value of safetensors' metadata, which is always text."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _numbers(value: Any) -> tuple[float, ...] | None:
    if not isinstance(value, list | tuple) or not value:
        return None
    if not all(isinstance(part, int | float) for part in value):
        return None
    return tuple(float(part) for part in value)
