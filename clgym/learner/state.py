"""Learner states on disk: safetensors with the nesting as JSON beside the tensors. No pickle.

Each carries a checksum (`clgym.checksums`): a state that changed on disk is refused, never loaded.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NotRequired, TypedDict, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from clgym.checksums import Damaged, check_safetensors, with_checksum
from clgym.codec import Tree, pack, unpack
from clgym.data.generators import GeneratorStates
from clgym.data.memory import MemoryState
from clgym.errors import BadOutput
from clgym.files import write_atomic
from clgym.learner.probing import ProbeState
from clgym.strategy import State

__all__ = ["LearnerState", "read_learner", "read_state", "write_state"]


class LearnerState(TypedDict):
    """What a learner's state file holds."""

    strategy: State
    memory: MemoryState
    generators: GeneratorStates
    facts: Mapping[str, Tree]
    """Fields of `clgym.messages.StreamFacts`, and ``scale``, which turns pixels into [0, 1]."""
    probed: NotRequired[ProbeState]
    """Answers inside the experience so far."""


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
    data = with_checksum(save(tensors, metadata={"tree": json.dumps(tree)}))
    write_atomic(path, data)
    return data


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
        if metadata.keys() != {"tree"}:
            raise Damaged("its metadata are not those of a state")
        tensors = load(data)
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
