"""Learner states on disk: safetensors with the nesting as JSON beside the tensors. No pickle.

Each carries a checksum (`clgym.checksums`): a state that changed on disk is refused, never loaded.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NotRequired, TypedDict, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from clgym.checksums import Damaged, check_safetensors, with_checksum
from clgym.codec import Tree, pack, unpack
from clgym.data.generators import GeneratorStates
from clgym.data.memory import MemoryState
from clgym.errors import BadOutput
from clgym.files import write_atomic
from clgym.learner.kept_images import SignatureState
from clgym.learner.logged import LogState
from clgym.learner.probing import ProbeState
from clgym.strategy import State

__all__ = ["LearnerState", "read_learner", "read_state", "state_fingerprint", "write_state"]


_COLUMNS = 512
"""Number of sums that stand for a tensor; see `state_fingerprint`."""


def state_fingerprint(state: Mapping[str, object]) -> str:
    """A fingerprint of nested dicts, lists and tuples of tensors and plain values, hex.

    It tells whether a state changed: a number that changes, changes it. Of each tensor it covers
    the bytes as 512 sums of 64-bit words, made where the tensor lies at the speed of memory: a
    hash of all bytes would cost a short experience several percent.

    Raises:
        Unpackable: a value of another kind; the message names its place.
    """
    leaves: list[torch.Tensor] = []
    tree = pack(state, torch.Tensor, leaves, "state")
    shapes = [(str(leaf.dtype), tuple(leaf.shape)) for leaf in leaves]
    found = hashlib.sha256(json.dumps([tree, shapes]).encode())
    for leaf in leaves:
        found.update(_sums(leaf.detach()))
    return found.hexdigest()


def _sums(tensor: torch.Tensor) -> bytes:
    flat = tensor.reshape(-1).contiguous()
    if flat.storage_offset() * flat.element_size() % 8:
        flat = flat.clone()
    data = flat.view(torch.uint8)
    whole = len(data) // (8 * _COLUMNS) * 8 * _COLUMNS
    sums = data[:whole].view(torch.int64).reshape(-1, _COLUMNS).sum(0)
    return sums.cpu().numpy().tobytes() + data[whole:].cpu().numpy().tobytes()


class LearnerState(TypedDict):
    """What a learner's state file holds."""

    strategy: State
    memory: MemoryState
    generators: GeneratorStates
    facts: Mapping[str, Tree]
    """Fields of `clgym.messages.StreamFacts`, and ``scale``, which turns pixels into [0, 1]."""
    signatures: NotRequired[SignatureState]
    """Signatures of the images learned so far; see `clgym.learner.kept_images`."""
    probed: NotRequired[ProbeState]
    """Answers inside the experience so far."""
    logged: NotRequired[LogState]
    """Numbers that the strategy logged in the experience so far."""
    serving: NotRequired[list[str]]
    """Places that answers depend on; see `clgym.learner.holdings`."""


def write_state(path: Path, state: Mapping[str, object]) -> bytes:
    """Write nested dicts, lists and tuples of tensors and plain values; return the bytes.

    Raises:
        Unpackable: a value of another kind; the message names its place.
        BadOutput: the file cannot be written.
    """
    leaves: list[torch.Tensor] = []
    tree = pack(state, torch.Tensor, leaves, "state")
    # Clones: safetensors refuses tensors that share memory.
    tensors = {str(i): t.detach().cpu().clone().contiguous() for i, t in enumerate(leaves)}
    masks = {name: list(t.shape) for name, t in tensors.items() if t.dtype == torch.bool}
    tensors |= {name: _bits(tensors[name]) for name in masks}
    metadata = {"tree": json.dumps(tree)} | ({"masks": json.dumps(masks)} if masks else {})
    data = with_checksum(save(tensors, metadata=metadata))
    write_atomic(path, data)
    return data


def _bits(mask: torch.Tensor) -> torch.Tensor:
    """Eight entries a byte, uint8 [ceil(n / 8)]: masks of weights are large."""
    return torch.as_tensor(np.packbits(mask.numpy()))


def _mask(bits: torch.Tensor, shape: list[int]) -> torch.Tensor:
    """Undo `_bits`."""
    entries = np.unpackbits(bits.numpy(), count=math.prod(shape))
    return torch.as_tensor(entries.astype(bool)).view(shape)


def read_learner(path: Path) -> LearnerState:
    """Read the state of a learner.

    Raises:
        BadOutput: see `read_state`.
    """
    # Its checksum says that it is what the learner's side of a run wrote.
    return cast(LearnerState, read_state(path))


def read_state(path: Path) -> dict[str, Tree]:
    """Read what `write_state` wrote; tensors on the CPU.

    States of clgym 0.1 without a checksum are read, too.

    Raises:
        BadOutput: the file is not a state, or not byte for byte the one that was written.
    """
    try:
        data = path.read_bytes()
        metadata = check_safetensors(data)
        if not {"tree"} <= metadata.keys() <= {"tree", "masks"}:
            raise Damaged("its metadata are not those of a state")
        tensors = load(data)
        for name, shape in json.loads(metadata.get("masks", "{}")).items():
            tensors[name] = _mask(tensors[name], shape)
        leaves = [tensors[str(i)] for i in range(len(tensors))]
        state = unpack(json.loads(metadata["tree"]), leaves)
        if not isinstance(state, dict):
            raise Damaged(f"it holds a {type(state).__name__}")
        return state
    except (OSError, ValueError, TypeError, LookupError, RecursionError, SafetensorError) as error:
        raise BadOutput(
            expected=f"a state file at {path.name}",
            found=f"{type(error).__name__}: {error}",
            fix="Delete the output folder and run again",
        ) from error
