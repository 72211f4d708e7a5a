"""All measurements, kind by kind."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from clgym.bench.adapting import adaptation_cases
from clgym.bench.extracting import extraction_cases
from clgym.bench.learning import learning_cases
from clgym.bench.measure import Measurement, interleaved, load_average
from clgym.bench.programs import programs
from clgym.bench.report import Report, machine
from clgym.bench.stepped import plain_torch
from clgym.check.tiny import workspace

__all__ = ["KINDS", "measure"]

Told = Callable[[Measurement], None]
_STEPS = {"learning": learning_cases, "adaptation": adaptation_cases, "features": extraction_cases}
KINDS = (*_STEPS, "programs")


def measure(
    kinds: Sequence[str] = KINDS,
    *,
    device: str = "cpu",
    threads: int = 1,
    quick: bool = False,
    rounds: int | None = None,
    on_measured: Told = lambda measured: None,
) -> Report:
    """Carry out all measurements of some kinds.

    Args:
        kinds: Names from `KINDS`.
        device: Device of networks and images.
        threads: Number of torch threads of both sides.
        quick: Whether to use fewer rounds over less work.
        rounds: Number of rounds of steps; None: 4 if quick, else 15.
        on_measured: Called with each measurement.
    """
    import torch

    found: list[Measurement] = []
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        with workspace() as folder:
            for one in _measured(kinds, folder, device, threads, quick, rounds):
                found.append(one)
                on_measured(one)
    finally:
        torch.set_num_threads(before)
    return Report(machine(device, threads, quick, load_average()), tuple(found))


def _measured(
    kinds: Sequence[str], folder: Path, device: str, threads: int, quick: bool, rounds: int | None
) -> Iterator[Measurement]:
    for kind in kinds:
        if kind == "programs":
            for some in programs(folder / kind, device, threads, quick):
                yield from some
            continue
        for prepare in _STEPS[kind](folder / kind, device, threads, quick):
            for case in prepare():
                yield interleaved(case, rounds or (4 if quick else 15), device, plain_torch)
