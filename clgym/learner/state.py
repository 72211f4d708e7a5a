"""Learner states on disk: safetensors with the nesting as JSON beside the tensors. No pickle."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from clgym.codec import pack, unpack
from clgym.errors import BadOutput
from clgym.files import write_atomic

__all__ = ["read_state", "write_state"]


def write_state(path: Path, state: dict[str, Any]) -> bytes:
    """Write nested dicts, lists and tuples of tensors and plain values; return the bytes.

    Raises:
        Unpackable: a value of another kind; the message names its place.
        BadOutput: the file cannot be written.
    """
    leaves: list[torch.Tensor] = []
    tree = pack(state, torch.Tensor, leaves, "state")
    # Clones: safetensors refuses tensors that share memory.
    tensors = {str(i): t.detach().cpu().clone().contiguous() for i, t in enumerate(leaves)}
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
        tensors = load(data)
        return unpack(tree, [tensors[str(i)] for i in range(len(tensors))])
    except (OSError, ValueError, TypeError, LookupError, SafetensorError) as error:
        raise BadOutput(
            expected=f"a state file at {path.name}",
            found=f"{type(error).__name__}: {error}",
            fix="Delete the output folder and run again",
        ) from error
