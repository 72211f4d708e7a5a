"""Looks around when it is set up, and tells what it found by the error that it ends with."""

import resource
import sys
import tempfile
from pathlib import Path

import numpy as np

from clgym.strategies.nmc import NMC

LOOK = "limits"


def limits():
    """Whether programs can gain no rights; most open files, processes and bytes of memory."""
    status = Path("/proc/self/status").read_text()
    kinds = (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_AS)
    return "NoNewPrivs:\t1" in status, *(resource.getrlimit(kind)[1] for kind in kinds)


def temporary_file():
    """The path of a temporary file that it leaves."""
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(b"x")
    return file.name


def images(split):
    """The shape of the images of a split, whose path the learner above knows."""
    frame = sys._getframe()
    while "self" not in frame.f_locals or not hasattr(frame.f_locals["self"], "_rows"):
        frame = frame.f_back
    return np.load(getattr(frame.f_locals["self"]._rows._sources[0], split), mmap_mode="r").shape


LOOKS = {
    "limits": limits,
    "temporary_file": temporary_file,
    "train": lambda: images("train"),
    "test": lambda: images("test"),
}
TESTING = False  # whether it looks when it is tested, or when it is set up to train


class Attacker(NMC):
    def setup(self, info):
        super().setup(info)
        if not TESTING:
            self.look()

    def predict(self, batch):
        self.look()

    def look(self):
        try:
            found = LOOKS[LOOK]()
        except BaseException as error:
            raise RuntimeError(f"REFUSED {type(error).__name__} {error}") from None
        raise RuntimeError(f"GOT {found}")
