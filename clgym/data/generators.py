"""Generators of random numbers: torch's from a named stream, and the process's global ones.

The global generators are those of torch, NumPy, Python and a GPU: they are seeded, read and
restored.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor

from clgym.draws import sequence

__all__ = [
    "GeneratorStates",
    "StepGenerators",
    "generator_states",
    "seed_generators",
    "set_generators",
    "torch_generator",
    "untouched_generators",
]


class GeneratorStates(TypedDict):
    """States of all global generators."""

    torch: Tensor
    numpy: Tensor
    """Keys of the Mersenne Twister, int64."""
    numpy_rest: list[int | float]
    """Position in the keys, whether a Gaussian number is stored, and that number."""
    python: list[Any]
    """Result of `random.getstate`: version, internal state, Gaussian."""
    cuda: NotRequired[Tensor]


_AT_ONCE = 32
"""Maximum number of generators that are made at once."""

_WORDS = slice(3, 627)
"""Place of the Mersenne Twister's 624 words in the state of torch's CPU generator, in int64."""


def torch_generator(
    seed: int,
    *name: str,
    experience: int | None = None,
    epoch: int | None = None,
    step: int | None = None,
    device: torch.device | str = "cpu",
) -> torch.Generator:
    """A torch generator that draws from a named stream; `clgym.draws.sequence` has the arguments.

    Its draws on a GPU differ from those on a CPU.
    """
    draws = sequence(seed, *name, experience=experience, epoch=epoch, step=step)
    return _keyed(torch.Generator(device), draws)


def _keyed(generator: torch.Generator, draws: np.random.SeedSequence) -> torch.Generator:
    """Set a generator to the beginning of a stream.

    torch seeds a CPU's Mersenne Twister by 32 bits: of the hundred thousand streams of a long run,
    several would be equal. Therefore its whole state is filled.
    """
    generator.manual_seed(int(draws.generate_state(1, np.uint64)[0]))
    if generator.device.type == "cpu":
        words = np.random.PCG64(draws).random_raw(312).astype("<u8", copy=False).view("<u4")
        state = generator.get_state()
        state.numpy().view(np.int64)[_WORDS] = words
        generator.set_state(state)
    return generator


class StepGenerators:
    """Generators of one experience's streams; those of the steps to come are made several at once.

    Their draws are those of `torch_generator`. Between the other work of a step, making a single
    generator takes about five times as long as each of many, since the processor's caches have lost
    what it needs.
    """

    def __init__(self, seed: int, experience: int) -> None:
        """Give generators of the experience of this index in the run of this seed."""
        self._seed, self._experience = seed, experience
        self._ready: dict[str, _Ready] = {}

    def of(self, *name: str, epoch: int | None, step: int | None) -> torch.Generator:
        """A generator at the beginning of a stream; `torch_generator` has the arguments."""
        if step is None:
            return self._make(name, epoch, None)
        ready = self._ready.setdefault(str(name), _Ready())
        if (epoch, step) != (ready.epoch, ready.step):
            if (epoch, step + 1) != (ready.epoch, ready.step):  # it is no second draw of a step
                self._ready[str(name)] = _Ready(epoch, step + 1)
            return self._make(name, epoch, step)
        if not ready.generators:
            ready.size = min(2 * ready.size, _AT_ONCE)
            steps = reversed(range(step, step + ready.size))
            ready.generators = [self._make(name, epoch, later) for later in steps]
        ready.step = step + 1
        return ready.generators.pop()

    def _make(self, name: tuple[str, ...], epoch: int | None, step: int | None) -> torch.Generator:
        return torch_generator(
            self._seed, *name, experience=self._experience, epoch=epoch, step=step
        )


@dataclass
class _Ready:
    """Generators of a stream for the steps from ``step`` on; the first one is the last here."""

    epoch: int | None = None
    step: int | None = None
    size: int = 1
    """Number of generators made last: it doubles, since a stream may end soon."""
    generators: list[torch.Generator] = field(default_factory=list)


def seed_generators(
    seed: int, *name: str, experience: int | None = None, step: int | None = None
) -> None:
    """Seed all global generators by a named stream: equal arguments give equal draws."""
    draws = sequence(seed, *name, experience=experience, step=step)
    for_torch, for_numpy, for_python = draws.spawn(3)
    if torch.accelerator.is_available():  # without one, torch takes milliseconds to find that out
        torch.manual_seed(int(for_torch.generate_state(1, np.uint64)[0]))
    _keyed(torch.default_generator, for_torch)
    np.random.seed(for_numpy.generate_state(8))
    random.seed(int.from_bytes(for_python.generate_state(8).astype("<u4").tobytes(), "little"))


def generator_states(device: torch.device) -> GeneratorStates:
    """States of all global generators, the device's included, as tensors and plain values."""
    numpy_state: Any = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    states: GeneratorStates = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(numpy_state[1].astype(np.int64)),
        "numpy_rest": [int(numpy_state[2]), int(numpy_state[3]), float(numpy_state[4])],
        "python": [version, list(internal), gauss],
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_generators(states: GeneratorStates, device: torch.device) -> None:
    """Restore the states that `generator_states` returned."""
    torch.set_rng_state(states["torch"])
    keys = states["numpy"].numpy().astype(np.uint32)
    position, has_gauss, gauss = states["numpy_rest"]
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), float(gauss)))
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


@contextmanager
def untouched_generators(device: torch.device) -> Iterator[None]:
    """Restore the global generators at the end: evaluating must not change later training."""
    before = generator_states(device)
    try:
        yield
    finally:
        set_generators(before, device)
