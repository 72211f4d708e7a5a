"""The process's global random generators: torch, NumPy, Python and a GPU's, read and put back."""

import random
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "GeneratorStates",
    "generator_states",
    "seed_generators",
    "set_generators",
    "untouched_generators",
]


class GeneratorStates(TypedDict):
    """Where all generators stand."""

    torch: Tensor
    numpy: Tensor
    """Keys of the Mersenne Twister, int64."""
    numpy_rest: list[int | float]
    """Position, whether a Gaussian is left over, and that."""
    python: list[Any]
    """What `random.getstate` gives: version, internal state, Gaussian."""
    cuda: NotRequired[Tensor]


def seed_generators(*key: int) -> None:
    """Key all of them by whole numbers: equal keys, equal draws from here on."""
    torch_seed, numpy_seed, python_seed = np.random.SeedSequence(list(key)).generate_state(3)
    torch.manual_seed(int(torch_seed))  # pyright: ignore[reportUnknownMemberType]  # torch's gap
    np.random.seed(int(numpy_seed))
    random.seed(int(python_seed))


def generator_states(device: torch.device) -> GeneratorStates:
    """Where they stand, the device's own too, as tensors and plain values."""
    numpy_state: Any = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    states: GeneratorStates = {
        "torch": torch.get_rng_state(),
        "numpy": torch.as_tensor(numpy_state[1].astype(np.int64)),
        "numpy_rest": [int(numpy_state[2]), int(numpy_state[3]), float(numpy_state[4])],
        "python": [version, list(internal), gauss],
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_generators(states: GeneratorStates, device: torch.device) -> None:
    """Put them where `generator_states` found them."""
    torch.set_rng_state(states["torch"])
    keys = states["numpy"].numpy().astype(np.uint32)
    position, has_gauss, gauss = states["numpy_rest"]
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), float(gauss)))
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


@contextmanager
def untouched_generators(device: torch.device) -> Generator[None, None, None]:
    """Leave them as they were: evaluating must not change later training."""
    before = generator_states(device)
    try:
        yield
    finally:
        set_generators(before, device)
