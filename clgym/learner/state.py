"""Learner states on disk: safetensors with the nesting as JSON beside the tensors. No pickle.

Each contains a checksum (`clgym.checksums`), so that a state that changed on disk is refused.
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
    """Fingerprint of nested dicts, lists and tuples of tensors and plain values, hexadecimal.

    It changes if any number of the state changes. For each tensor it covers the bytes as 512 sums
    of 64-bit words, which are computed on the tensor's device at the speed of memory; hashing all
    bytes would take several percent of the time of a short experience.

    Raises:
        Unpackable: A value is of another kind; the message names its place.
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


class InsideState(TypedDict):
    """State of clgym's part of the learner, which is needed to continue inside an experience."""

    images: int
    """Number of training images of the experience so far."""
    probed: ProbeState
    """Tests inside the experience so far."""
    logged: LogState
    """Numbers that the strategy logged in the experience so far."""


class LearnerState(TypedDict):
    """Content of a learner's state file."""

    strategy: State
    memory: MemoryState
    generators: GeneratorStates
    facts: Mapping[str, Tree]
    """Fields of `clgym.messages.StreamFacts`, and ``scale``, which turns pixels into [0, 1]."""
    signatures: NotRequired[SignatureState]
    """Signatures of the images learned so far; see `clgym.learner.kept_images`."""
    inside: NotRequired[InsideState]
    """Present in a state that was saved inside an experience."""
    serving: NotRequired[list[str]]
    """Places that predictions depend on; see `clgym.learner.holdings`."""


def write_state(path: Path, state: Mapping[str, object]) -> bytes:
    """Write nested dicts, lists and tuples of tensors and plain values; return the bytes.

    Raises:
        Unpackable: A value is of another kind; the message names its place.
        BadOutput: The file cannot be written.
    """
    leaves: list[torch.Tensor] = []
    tree = pack(state, torch.Tensor, leaves, "state")
    # Clones, since safetensors refuses tensors that share memory.
    tensors = {str(i): t.detach().cpu().clone().contiguous() for i, t in enumerate(leaves)}
    masks = {name: list(t.shape) for name, t in tensors.items() if t.dtype == torch.bool}
    tensors |= {name: _bits(tensors[name]) for name in masks}
    metadata = {"tree": json.dumps(tree)} | ({"masks": json.dumps(masks)} if masks else {})
    data = with_checksum(save(tensors, metadata=metadata))
    write_atomic(path, data)
    return data


def _bits(mask: torch.Tensor) -> torch.Tensor:
    """Pack eight entries per byte, uint8 [ceil(n / 8)], since masks of weights are large."""
    return torch.as_tensor(np.packbits(mask.numpy()))


def _mask(bits: torch.Tensor, shape: list[int]) -> torch.Tensor:
    """Undo `_bits`."""
    entries = np.unpackbits(bits.numpy(), count=math.prod(shape))
    return torch.as_tensor(entries.astype(bool)).view(shape)


def read_learner(path: Path) -> LearnerState:
    """Read the state of a learner.

    Raises:
        BadOutput: See `read_state`.
    """
    # The checksum shows that the learner's side of a run wrote it.
    return cast(LearnerState, read_state(path))


def read_state(path: Path) -> dict[str, Tree]:
    """Read what `write_state` wrote; tensors on the CPU.

    States of clgym 0.1 without a checksum are read, too.

    Raises:
        BadOutput: The file is not a state, or was changed.
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
            fix="Delete the output folder and repeat the run",
        ) from error
