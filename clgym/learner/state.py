"""Learner states on disk: safetensors with the nesting as JSON beside the tensors. No pickle."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from clgym.errors import BadOutput
from clgym.files import write_atomic

__all__ = ["read_state", "write_state"]


def write_state(path: Path, state: dict[str, Any]) -> bytes:
    """Write nested dicts, lists and tuples of tensors and plain values; return the bytes.

    Raises:
        TypeError: a value of another kind; the message names its place.
        BadOutput: the file cannot be written.
    """
    tensors: dict[str, torch.Tensor] = {}
    tree = _pack(state, tensors, "state")
    data = save(tensors, metadata={"tree": json.dumps(tree)})
    write_atomic(path, data)
    return data


def read_state(path: Path) -> dict[str, Any]:
    """Read what `write_state` wrote; tensors on the CPU.

    Raises:
        BadOutput: the file is not a state.
    """
    try:
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        tree = json.loads(header["__metadata__"]["tree"])
        return _unpack(tree, load(data))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise BadOutput(
            expected=f"a state file at {path.name}",
            found=f"{type(error).__name__}: {error}",
            fix="Delete the output folder and run again",
        ) from error


def _pack(value: Any, tensors: dict[str, torch.Tensor], place: str) -> Any:
    if isinstance(value, torch.Tensor):
        # A clone: safetensors refuses tensors that share memory.
        tensors[str(len(tensors))] = value.detach().cpu().clone().contiguous()
        return {"$tensor": str(len(tensors) - 1)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        items = [_pack(v, tensors, f"{place}[{i}]") for i, v in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, dict):
        return {
            "$dict": [
                [_pack(k, tensors, place), _pack(v, tensors, f"{place}.{k}")]
                for k, v in value.items()
            ]
        }
    raise TypeError(f"{place} is a {type(value).__name__}: a state holds tensors and plain values")


def _unpack(tree: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(tree, list):
        return [_unpack(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if "$tensor" in tree:
        return tensors[tree["$tensor"]]
    if "$tuple" in tree:
        return tuple(_unpack(item, tensors) for item in tree["$tuple"])
    return {_unpack(k, tensors): _unpack(v, tensors) for k, v in tree["$dict"]}
