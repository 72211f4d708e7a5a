"""What it costs a worker to shut itself in: seconds of the one call, in a fork that has torch.

    python benchmarks/sandbox.py [--rounds 50] [--sandbox landlock]

Workers are forks of a process that has imported torch, so this cost is what the sandbox adds to the
start of each. Nothing is added to a step: the kernel checks files when they are opened. Exit code 1
if the median is above 50 ms.
"""

import argparse
import os
import statistics
import struct
import sys
import tempfile
import time
from pathlib import Path

import torch

from clgym.engines.sandbox import Confinement, confine

LIMIT = 0.05


def once(confinement: Confinement) -> tuple[float, float]:
    """Wall and processor seconds of shutting in a fork of this process."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            wall, cpu = time.perf_counter(), time.process_time()
            confine(confinement, ())
            spent = time.perf_counter() - wall, time.process_time() - cpu
            os.write(writer, struct.pack("dd", *spent))
        finally:  # the parent's clean-up is not the child's
            os._exit(0)
    os.close(writer)
    told = os.read(reader, 16)
    if len(told) != 16:
        raise SystemExit("the sandbox could not be entered")
    found = struct.unpack("dd", told)
    os.close(reader)
    os.waitpid(child, 0)
    return found


def main() -> int:
    """Measure and print; 1 if it is too slow."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--sandbox", default="landlock", choices=["landlock", "none"])
    options = parser.parse_args()
    torch.zeros(1)
    with tempfile.TemporaryDirectory() as folder:
        shut = Confinement(sandbox=options.sandbox, scratch=Path(folder))
        walls, cpus = zip(*(once(shut) for _ in range(options.rounds)), strict=True)
    median = statistics.median(walls)
    for name, values in (("wall", walls), ("processor", cpus)):
        ms = sorted(1000 * value for value in values)
        print(f"{name}: {statistics.median(ms):.1f} ms (from {ms[0]:.1f} to {ms[-1]:.1f})")
    return 1 if median > LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
