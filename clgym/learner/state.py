"""Learner states on disk: safetensors with the nesting as JSON beside the tensors. No pickle.

Each carries a checksum (`clgym.checksums`): a state that changed on disk is refused, never loaded.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from clgym.checksums import Damaged, check_safetensors, with_checksum
from clgym.codec import pack, unpack
from clgym.errors import BadOutput
from clgym.files import write_atomic

__all__ = ["read_state", "state_digest", "write_state"]


def state_digest(state: dict[str, Any]) -> str:
    """SHA-256 of nested dicts, lists and tuples of tensors and plain values, hex.

    Raises:
        Unpackable: a value of another kind; the message names its place.
    """
    leaves: list[torch.Tensor] = []
    tree = pack(state, torch.Tensor, leaves, "state")
    shapes = [(str(leaf.dtype), tuple(leaf.shape)) for leaf in leaves]
    found = hashlib.sha256(json.dumps([tree, shapes]).encode())
    for leaf in leaves:
        found.update(leaf.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


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
    data = with_checksum(save(tensors, metadata={"tree": json.dumps(tree)}))
    write_atomic(path, data)
    return data


def read_state(path: Path) -> dict[str, Any]:
    """Read what `write_state` wrote; tensors on the CPU.

    States of clgym 0.1 without a checksum are read, too.

    Raises:
        BadOutput: the file is not a state, or not byte for byte the one that was written.
    """
    try:
        data = path.read_bytes()
        metadata = check_safetensors(data)
        if metadata.keys() != {"tree"}:
            raise Damaged("its metadata are not those of a state")
        tensors = load(data)
        return unpack(json.loads(metadata["tree"]), [tensors[str(i)] for i in range(len(tensors))])
    except (OSError, ValueError, TypeError, LookupError, RecursionError, SafetensorError) as error:
        raise BadOutput(
            expected=f"a state file at {path.name}",
            found=f"{type(error).__name__}: {error}",
            fix="Delete the output folder and run again",
        ) from error
